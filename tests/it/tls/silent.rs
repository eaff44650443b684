//! Clients that do not finish their handshake.

use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::timeout;

use super::{PATIENCE, TlsKeyward};
use crate::harness::{pause, until};

const TIMEOUTS: &str =
    "keyward_tls_handshakes_total{face=\"http\",result=\"timeout\",version=\"none\"}";

#[tokio::test(flavor = "multi_thread")]
async fn silent_sockets_do_not_stop_new_handshakes() {
    let tls = TlsKeyward::start(None, &[("limits.first_request_timeout", "1h")]).await;
    let mut silent = Vec::new();
    for number in 0..200 {
        let mut stream = TcpStream::connect(tls.http()).await.unwrap();
        // Half of them send the beginning of a record.
        if number % 2 == 0 {
            stream.write_all(b"\x16\x03\x01\x02\x00\x01").await.unwrap();
        }
        silent.push(stream);
    }
    for _ in 0..20 {
        assert_eq!(tls.ask(None).await.unwrap(), "HTTP/1.1 200 OK");
    }
    assert_eq!(tls.kw.ops("/livez").await, 200);
}

#[tokio::test(flavor = "multi_thread")]
async fn unfinished_handshakes_end_at_their_deadline_and_are_counted() {
    let tls = TlsKeyward::start(None, &[("limits.first_request_timeout", "500ms")]).await;
    let mut silent = TcpStream::connect(tls.http()).await.unwrap();
    let mut begun = TcpStream::connect(tls.http()).await.unwrap();
    begun.write_all(b"\x16\x03\x01\x02\x00\x01").await.unwrap();
    let mut slow = TcpStream::connect(tls.http()).await.unwrap();
    let drip = async {
        let mut bytes = b"\x16\x03\x01\x02\x00\x01".iter().cycle();
        while slow.write_all(&[*bytes.next().unwrap()]).await.is_ok() {
            pause(Duration::from_millis(50)).await;
        }
    };
    timeout(PATIENCE, drip).await.expect("a byte at a time does not prolong it");
    for stream in [&mut silent, &mut begun] {
        let read = timeout(PATIENCE, stream.read(&mut [0; 64])).await.expect("it is closed");
        assert!(matches!(read, Ok(0) | Err(_)));
    }
    until("all are counted", async || tls.metric(TIMEOUTS).await == 3).await;
    drop(TcpStream::connect(tls.http()).await.unwrap());
    assert_eq!(tls.ask(None).await.unwrap(), "HTTP/1.1 200 OK");
    let metrics = tls.metrics().await;
    let broken = "result=\"broken\"";
    assert!(!metrics.contains(broken), "a probe without a byte is no failure: {metrics}");
}
