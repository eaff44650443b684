//! Connections that end because of their age or a shutdown: no request is lost, and the last answer
//! says that it is the last.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tonic_health::pb::HealthCheckRequest;
use tonic_health::pb::health_check_response::ServingStatus;
use tonic_health::pb::health_client::HealthClient;

use crate::harness::{Backend, Keyward, connect, in_time, until};

const REQUEST: &[u8] = b"GET /oauth2/jwks HTTP/1.1\r\nHost: x\r\n\r\n";

/// Sends a request and reads its answer. Returns whether it was the last one. Panics if there is
/// none.
async fn ask(stream: &mut TcpStream) -> bool {
    stream.write_all(REQUEST).await.unwrap();
    let mut answer = Vec::new();
    while !answer.ends_with(b"}") {
        let read = in_time("a request is answered", stream.read_buf(&mut answer)).await;
        let count = read.expect("and not reset");
        assert_ne!(count, 0, "a request is lost: {}", String::from_utf8_lossy(&answer));
    }
    let answer = String::from_utf8(answer).unwrap();
    assert!(answer.starts_with("HTTP/1.1 200 "), "{answer}");
    answer.to_lowercase().contains("\r\nconnection: close\r\n")
}

/// Sends requests until an answer says that it is the last one. Then the connection is closed.
async fn ask_until_last(server: SocketAddr) -> usize {
    let mut stream = TcpStream::connect(server).await.unwrap();
    let mut asked = 1;
    while !ask(&mut stream).await {
        asked += 1;
    }
    assert_eq!(stream.read(&mut [0; 1]).await.unwrap(), 0, "it is closed after its last answer");
    asked
}

#[tokio::test(flavor = "multi_thread")]
async fn old_http_1_1_connection_announces_close() {
    let kw = Backend::Sqlite.start_with(&[("limits.connection_age", "200ms")]).await;
    let mut asked = 0;
    for _ in 0..10 {
        asked += ask_until_last(kw.server().http).await;
    }
    assert!(asked > 10, "connections are kept: {asked} requests on 10");
}

#[tokio::test(flavor = "multi_thread")]
async fn draining_server_is_not_ready_and_answers_requests() {
    let kw = Backend::Sqlite.start_with(&[("limits.drain_time", "1h")]).await;
    let mut kept = TcpStream::connect(kw.server().http).await.unwrap();
    assert!(!ask(&mut kept).await);
    let channel = connect(&kw.grpc()).await;
    let mut health = HealthClient::new(channel);
    let service = || HealthCheckRequest { service: "keyward.token.v1.TokenService".to_owned() };
    let mut watch = health.watch(service()).await.unwrap().into_inner();
    assert_eq!(watch.message().await.unwrap().unwrap().status(), ServingStatus::Serving);
    assert_eq!(kw.ops("/readyz").await, 200);

    let drained = async {
        until("it is not ready", async || kw.ops("/readyz").await == 503).await;
        assert_eq!(kw.ops("/livez").await, 200);
        assert_eq!(watch.message().await.unwrap().unwrap().status(), ServingStatus::NotServing);
        let answer = health.check(service()).await.unwrap().into_inner();
        assert_eq!(answer.status(), ServingStatus::NotServing);
        assert!(ask(&mut kept).await, "an answer on a kept connection is its last one");
        assert_eq!(ask_until_last(kw.server().http).await, 1, "and the first on a new one");
        assert!(!kw.admin_credential().token(&kw.grpc()).await.is_empty());
    };
    tokio::select! {
        () = kw.server().drain() => panic!("an hour has passed"),
        () = drained => {}
    }
    kw.stop().await;
    assert!(watch.message().await.unwrap().is_none(), "the stream of health ends in order");
}

/// Sends requests, on a new connection after each last answer, until the server is gone.
async fn keep_asking(server: SocketAddr, answered: Arc<AtomicUsize>) {
    while let Ok(mut stream) = TcpStream::connect(server).await {
        loop {
            let is_last = ask(&mut stream).await;
            answered.fetch_add(1, Ordering::Relaxed);
            if is_last {
                break;
            }
        }
    }
}

async fn assert_nothing_is_lost(kw: Keyward) {
    let answered = Arc::new(AtomicUsize::new(0));
    let clients: Vec<_> = (0..8)
        .map(|_| tokio::spawn(keep_asking(kw.server().http, Arc::clone(&answered))))
        .collect();
    until("they are busy", async || answered.load(Ordering::Relaxed) > 2_000).await;
    in_time("it stops", kw.stop()).await;
    for client in clients {
        in_time("there is no server", client).await.unwrap();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn aging_connections_and_shutdown_lose_no_request() {
    let settings = [("limits.connection_age", "100ms"), ("limits.drain_time", "0s")];
    Box::pin(assert_nothing_is_lost(Backend::Sqlite.start_with(&settings).await)).await;
}
