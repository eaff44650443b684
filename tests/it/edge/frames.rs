//! Floods of HTTP/2 control frames.

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use super::served::Served;
use crate::harness::in_time;

/// Far more than any client sends, and than the kernel buffers.
const MANY: usize = 3_000_000;

fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let length = u32::try_from(payload.len()).unwrap().to_be_bytes();
    let mut bytes = vec![length[1], length[2], length[3], kind, flags];
    bytes.extend(stream.to_be_bytes());
    bytes.extend_from_slice(payload);
    bytes
}

#[tokio::test(flavor = "multi_thread")]
async fn flood_of_control_frames_ends_the_connection() {
    let server = Served::start("true", &[]);
    for (name, flood) in [
        ("PING", frame(6, 0, 0, &[0; 8])),
        ("PING ACK", frame(6, 1, 0, &[0; 8])),
        ("SETTINGS", frame(4, 0, 0, &[])),
        ("PRIORITY", frame(2, 0, 1, &[0, 0, 0, 0, 1])),
        ("unknown", frame(0xfa, 0, 0, &[])),
    ] {
        for address in [server.grpc, server.http] {
            let stream = TcpStream::connect(address).await.unwrap();
            let (mut reader, mut writer) = stream.into_split();
            let writing = tokio::spawn({
                let flood = flood.repeat(1000);
                async move {
                    let mut begin = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".to_vec();
                    begin.extend(frame(4, 0, 0, &[]));
                    writer.write_all(&begin).await.unwrap();
                    for _ in 0..MANY / 1000 {
                        if writer.write_all(&flood).await.is_err() {
                            return true;
                        }
                    }
                    false
                }
            });
            let mut answer = Vec::new();
            let ended =
                async { while reader.read_buf(&mut answer).await.is_ok_and(|count| count > 0) {} };
            in_time(format!("the connection ends: {name}"), ended).await;
            assert!(in_time(name, writing).await.unwrap(), "it ends early: {name}");
        }
    }
    assert_eq!(server.refused("control_frames").await, 10);
    assert!(!server.admin.token(&server.grpc_url()).await.is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn flooding_client_reads_enhance_your_calm() {
    let server = Served::start("true", &[]);
    let mut stream = TcpStream::connect(server.grpc).await.unwrap();
    let mut begin = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".to_vec();
    begin.extend(frame(4, 0, 0, &[]));
    // Not more than the server reads before it ends the connection: with unread data the kernel
    // resets the connection, and the GOAWAY frame is lost.
    begin.extend(frame(2, 0, 1, &[0, 0, 0, 0, 1]).repeat(500));
    stream.write_all(&begin).await.unwrap();
    let mut answer = Vec::new();
    in_time("it ends", stream.read_to_end(&mut answer)).await.unwrap();
    let goaway = frame(7, 0, 0, &[0, 0, 0, 0, 0, 0, 0, 0xb]);
    assert!(answer.ends_with(&goaway), "{answer:?}");
}
