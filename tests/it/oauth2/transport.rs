//! Malformed HTTP/1.1 requests: an error in JSON, and no side effects.

use std::net::SocketAddr;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::harness::{Backend, in_time};

/// The bytes that the server sends until it closes the connection.
async fn answer(server: SocketAddr, request: &[u8]) -> String {
    let mut stream = TcpStream::connect(server).await.unwrap();
    stream.write_all(request).await.unwrap();
    let mut answer = Vec::new();
    let read = in_time("the connection ends", stream.read_to_end(&mut answer)).await;
    read.expect("it is closed, and not reset");
    String::from_utf8(answer).unwrap()
}

fn assert_refused(answer: &str, status: &str) {
    assert!(answer.starts_with(&format!("HTTP/1.1 {status} ")), "{answer}");
    let (head, body) = answer.split_once("\r\n\r\n").unwrap();
    let head = head.to_lowercase();
    for line in ["content-type: application/json", "cache-control: no-store", "connection: close"] {
        assert!(head.contains(line), "{line}: {answer}");
    }
    assert!(head.contains(&format!("content-length: {}", body.len())), "{answer}");
    let body: serde_json::Value = serde_json::from_str(body).unwrap();
    assert_eq!(body["error"], "invalid_request", "{answer}");
    assert!(body["error_description"].is_string(), "{answer}");
}

#[tokio::test(flavor = "multi_thread")]
async fn malformed_request_is_refused_in_json() {
    let kw = Backend::Sqlite.start().await;
    let long = format!("GET / HTTP/1.1\r\nHost: x\r\nX-Long: {}\r\n\r\n", "x".repeat(9_000));
    let many = format!("GET / HTTP/1.1\r\nHost: x\r\n{}\r\n", "X-Many: x\r\n".repeat(70));
    for (request, status) in [
        (long.as_str(), "431"),
        (&many, "431"),
        ("GET / HTTP/1.1\r\nHost: x\r\nno colon\r\n\r\n", "400"),
        ("GET /\u{1} HTTP/1.1\r\nHost: x\r\n\r\n", "400"),
        ("GET / HTTP/9.9\r\nHost: x\r\n\r\n", "400"),
        ("POST / HTTP/1.1\r\nHost: x\r\nContent-Length: many\r\n\r\n", "400"),
        ("POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: gzip\r\n\r\n", "400"),
    ] {
        assert_refused(&answer(kw.server().http, request.as_bytes()).await, status);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn request_with_two_lengths_is_refused() {
    let kw = Backend::Sqlite.start().await;
    let begin = "POST /oauth2/token HTTP/1.1\r\nHost: x\r\n\
        Content-Type: application/x-www-form-urlencoded\r\n";
    for lengths in [
        "Content-Length: 4\r\nTransfer-Encoding: chunked\r\n",
        "transfer-encoding: chunked\r\ncontent-length: 4\r\n",
        "Content-Length: 4\r\nContent-Length: 5\r\n",
    ] {
        let request = format!("{begin}{lengths}\r\n0\r\n\r\n");
        assert_refused(&answer(kw.server().http, request.as_bytes()).await, "400");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn http_1_1_requires_exactly_one_host() {
    let kw = Backend::Sqlite.start().await;
    let (http, ops) = (kw.server().http, kw.server().ops);
    for hosts in ["", "Host: x\r\nHost: x\r\n", "Host: a b\r\n", "Host: u@x\r\n"] {
        let request = format!("GET /oauth2/jwks HTTP/1.1\r\n{hosts}Connection: close\r\n\r\n");
        assert_refused(&answer(http, request.as_bytes()).await, "400");
        let request = format!("GET /livez HTTP/1.1\r\n{hosts}Connection: close\r\n\r\n");
        let refused = answer(ops, request.as_bytes()).await;
        assert!(refused.starts_with("HTTP/1.1 400 "), "{refused}");
    }
    for good in [
        "GET /oauth2/jwks HTTP/1.0\r\n\r\n",
        "GET /oauth2/jwks HTTP/1.1\r\nHost:\r\nConnection: close\r\n\r\n",
        "GET /oauth2/jwks HTTP/1.1\r\nHost: [::1]:8080\r\nConnection: close\r\n\r\n",
    ] {
        let served = answer(http, good.as_bytes()).await;
        assert!(served.starts_with("HTTP/1.") && served.contains(" 200 OK"), "{served}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn answer_arrives_although_the_body_is_not_read() {
    let kw = Backend::Sqlite.start().await;
    // Refused because of its type, before the body is read. Data that the client still sends must
    // not reset the connection before it has read the answer.
    let mut request = b"POST /oauth2/token HTTP/1.1\r\nHost: x\r\nContent-Type: text/plain\r\n\
        Content-Length: 3000000\r\n\r\n"
        .to_vec();
    request.resize(request.len() + 3_000_000, b'x');
    let mut stream = TcpStream::connect(kw.server().http).await.unwrap();
    let (mut read, mut write) = stream.split();
    let mut answer = Vec::new();
    let send = async { write.write_all(&request).await.is_ok() };
    let (_, got) = tokio::join!(send, in_time("the answer ends", read.read_to_end(&mut answer)));
    got.ok();
    assert!(answer.starts_with(b"HTTP/1.1 415 "), "{}", String::from_utf8_lossy(&answer));
}
