//! Connections that send only a part of a request.

use keyward::proto::admin as pb;
use keyward::proto::admin::tenant_service_client::TenantServiceClient;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use super::served::Served;
use crate::harness::{bearer, in_time};

/// Connections with half a request each.
async fn flood(server: std::net::SocketAddr, words: &[u8], count: usize) -> Vec<TcpStream> {
    let mut held = Vec::with_capacity(count);
    for _ in 0..count {
        let connected = in_time("a connection is accepted or refused", TcpStream::connect(server));
        let mut stream = connected.await.unwrap();
        // The oldest connections are closed to make room, and then this fails.
        stream.write_all(words).await.ok();
        held.push(stream);
    }
    held
}

#[tokio::test(flavor = "multi_thread")]
async fn half_requests_do_not_block_others_at_1024_descriptors() {
    keyward::internals::server::raise_limit();
    // A long time for the first request, so that the flood is still there when others connect.
    let settings = [("KEYWARD_LIMITS_FIRST_REQUEST_TIMEOUT", "5m")];
    let server = Served::start("ulimit -n 1024", &settings);
    let token = server.admin.exchange(&server.grpc_url(), &[], &["keyward"]).await.unwrap();
    let channel = bearer(&server.grpc_url(), &token.access_token).await;
    let mut established = TenantServiceClient::new(channel);
    established.list_tenants(pb::ListTenantsRequest::default()).await.unwrap();

    let _http = flood(server.http, b"POST /oauth2/token HTTP/1.1\r\nHo", 900).await;
    let _grpc = flood(server.grpc, b"PRI * HTTP/2.0\r\n", 700).await;

    assert_eq!(in_time("operations have places of their own", server.readiness()).await, 200);
    let listed = established.list_tenants(pb::ListTenantsRequest::default());
    in_time("an established call is answered", listed).await.unwrap();
    let url = server.grpc_url();
    let fresh = server.admin.exchange(&url, &[], &["keyward"]);
    in_time("a new connection is served", fresh).await.unwrap();
    let jwks = reqwest::get(format!("http://{}/oauth2/jwks", server.http));
    assert_eq!(in_time("the keys are served", jwks).await.unwrap().status(), 200);

    let log = server.log();
    assert!(log.contains("limit of open files"), "what cannot be met is logged: {log}");
    assert!(log.lines().count() < 100, "a flood does not fill the log: {log}");
}

#[tokio::test(flavor = "multi_thread")]
async fn connection_without_complete_request_is_closed() {
    let server = Served::start("true", &[("KEYWARD_LIMITS_FIRST_REQUEST_TIMEOUT", "1s")]);
    for (address, words) in [
        (server.http, &b""[..]),
        (server.http, b"GET /oauth2/jwks HTTP/1.1\r\nHost: x\r\n"),
        (server.http, b"PRI * HTTP/2.0\r\n"),
        (server.grpc, b"PRI * HTTP/2.0\r\n"),
        // The header of the next request has started.
        (server.http, b"GET /oauth2/jwks HTTP/1.1\r\nHost: x\r\n\r\nGET /"),
    ] {
        let mut stream = TcpStream::connect(address).await.unwrap();
        stream.write_all(words).await.unwrap();
        if words.ends_with(b"GET /") {
            let mut answer = [0; 15];
            stream.read_exact(&mut answer).await.unwrap();
            assert_eq!(&answer, b"HTTP/1.1 200 OK");
            stream.write_all(b"oauth2/jw").await.unwrap();
        }
        let mut rest = Vec::new();
        let end = stream.read_to_end(&mut rest);
        let reported = String::from_utf8_lossy(words);
        in_time(format!("the connection is closed: {reported}"), end).await.ok();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn idle_connection_after_a_request_stays_open() {
    let server = Served::start("true", &[("KEYWARD_LIMITS_FIRST_REQUEST_TIMEOUT", "200ms")]);
    let mut stream = TcpStream::connect(server.http).await.unwrap();
    let mut other = TcpStream::connect(server.http).await.unwrap();
    for _ in 0..3 {
        stream.write_all(b"GET /nothing HTTP/1.1\r\nHost: x\r\n\r\n").await.unwrap();
        let mut answer = Vec::new();
        while !answer.ends_with(b"}") {
            assert_ne!(stream.read_buf(&mut answer).await.unwrap(), 0, "it stays open");
        }
        // A connection without a request is closed meanwhile, so the time limit has passed.
        other.read_to_end(&mut Vec::new()).await.ok();
        other = TcpStream::connect(server.http).await.unwrap();
    }
}
