//! Versions, protocols, and clients that speak something else.

use std::net::SocketAddr;
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_rustls::rustls::ClientConfig;
use tonic::transport::{Certificate, Channel, ClientTlsConfig};
use tonic_health::pb::HealthCheckRequest;
use tonic_health::pb::health_client::HealthClient;

use super::certificates::{Authority, Files};
use super::client::{HTTP1, HTTP2, TlsTestClient, VERSIONS, connect, get};
use super::{PATIENCE, TlsKeyward};
use crate::harness::{Backend, Keyward, until};

const OK: &str = "HTTP/1.1 200 OK";

/// A server with TLS on all listeners, by the short form of the settings.
async fn everywhere() -> (Keyward, Authority, Files) {
    let authority = Authority::new("server authority");
    let files = Files::with(&authority.server());
    let (certificate, key) = (files.path("tls.crt"), files.path("tls.key"));
    let settings = [("tls.certificate", certificate.as_str()), ("tls.key", key.as_str())];
    (Backend::Sqlite.start_with(&settings).await, authority, files)
}

async fn grpc(kw: &Keyward, authority: &Authority) -> Channel {
    let tls = ClientTlsConfig::new().ca_certificate(Certificate::from_pem(authority.pem()));
    let url = format!("https://{}", kw.server().grpc);
    Channel::from_shared(url).unwrap().tls_config(tls).unwrap().connect().await.unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn all_listeners_speak_tls_1_2_and_1_3() {
    let (kw, authority, _files) = everywhere().await;
    let server = kw.server();
    for version in VERSIONS {
        let client = TlsTestClient::new(&authority).version(version);
        let client = client.alpn(HTTP1);
        let mut http = client.connect(server.http).await.unwrap();
        assert_eq!(get(&mut http).await.unwrap(), OK);
        client.connect(server.ops).await.unwrap();
        client.alpn(HTTP2).connect(server.grpc).await.unwrap();
    }
    let mut health = HealthClient::new(grpc(&kw, &authority).await);
    health.check(HealthCheckRequest::default()).await.unwrap();
}

/// What `openssl s_client` prints of a handshake, or nothing if it fails.
async fn s_client(server: SocketAddr, arguments: &'static str) -> Option<String> {
    let ran = tokio::task::spawn_blocking(move || {
        Command::new("openssl")
            .args(["s_client", "-connect", &server.to_string()])
            .args(arguments.split(' '))
            .stdin(Stdio::null())
            .output()
            .expect("no openssl program is installed; `tests/run` installs it, or says how")
    });
    let output = ran.await.unwrap();
    output.status.success().then(|| String::from_utf8_lossy(&output.stdout).into_owned())
}

#[tokio::test(flavor = "multi_thread")]
async fn openssl_negotiates_versions_and_protocols() {
    let (kw, _authority, _files) = everywhere().await;
    let (grpc, http, ops) = (kw.server().grpc, kw.server().http, kw.server().ops);
    for (server, arguments, shows) in [
        (grpc, "-tls1_2 -alpn h2", "ALPN protocol: h2"),
        (grpc, "-tls1_3 -alpn http/1.1,h2", "ALPN protocol: h2"),
        (http, "-tls1_2 -alpn http/1.1", "ALPN protocol: http/1.1"),
        (http, "-tls1_3 -alpn h2,http/1.1", "ALPN protocol: h2"),
        (ops, "-tls1_3 -alpn http/1.1", "ALPN protocol: http/1.1"),
        (http, "-tls1_3", "No ALPN negotiated"),
    ] {
        let shown = s_client(server, arguments).await;
        let shown = shown.unwrap_or_else(|| panic!("{arguments} fails"));
        assert!(shown.contains(shows), "{arguments}: {shown}");
    }
    let refused = [
        (grpc, "-alpn http/1.1"),
        (http, "-tls1_1 -cipher DEFAULT@SECLEVEL=0"),
        (http, "-tls1_2 -cipher AES128-SHA"),
    ];
    for (server, arguments) in refused {
        assert!(s_client(server, arguments).await.is_none(), "{arguments} is accepted");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn grpc_listener_closes_connection_without_alpn() {
    let (kw, authority, _files) = everywhere().await;
    let client = TlsTestClient::new(&authority);
    let mut stream = client.connect(kw.server().grpc).await.unwrap();
    let read = timeout(PATIENCE, stream.read(&mut [0; 1])).await.expect("it is closed");
    assert!(matches!(read, Ok(0) | Err(_)));
}

#[tokio::test(flavor = "multi_thread")]
async fn negotiated_http_1_1_cannot_become_http_2() {
    let tls = TlsKeyward::start(None, &[]).await;
    let mut stream = tls.client().alpn(HTTP1).connect(tls.http()).await.unwrap();
    stream.write_all(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0").await.unwrap();
    let mut answer = Vec::new();
    let read = timeout(PATIENCE, stream.read_to_end(&mut answer)).await.expect("it is closed");
    let is_http1 = answer.is_empty() || answer.starts_with(b"HTTP/1.1 4");
    assert!(is_http1, "{read:?}: {answer:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn plaintext_client_learns_that_port_uses_tls() {
    let (kw, _authority, _files) = everywhere().await;
    let answer_to = async |server: SocketAddr, request: &[u8]| {
        let mut stream = TcpStream::connect(server).await.unwrap();
        stream.write_all(request).await.unwrap();
        let mut answer = Vec::new();
        let read = timeout(PATIENCE, stream.read_to_end(&mut answer)).await;
        read.expect("it is closed").unwrap();
        String::from_utf8_lossy(&answer).into_owned()
    };
    for server in [kw.server().grpc, kw.server().http, kw.server().ops] {
        let answer = answer_to(server, b"GET / HTTP/1.1\r\nHost: x\r\n\r\n").await;
        assert!(answer.starts_with("HTTP/1.1 400 "), "{answer}");
        assert!(answer.contains("use https://"), "{answer}");
        let answer = answer_to(server, b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n").await;
        assert!(answer.ends_with("this port uses TLS: use https"), "{answer}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn closed_connection_ends_with_close_notify() {
    let tls = TlsKeyward::start(None, &[]).await;
    for version in VERSIONS {
        let client = tls.client().alpn(HTTP1).version(version);
        let mut stream = client.connect(tls.http()).await.unwrap();
        let request = b"GET /oauth2/jwks HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n";
        stream.write_all(request).await.unwrap();
        let mut answer = Vec::new();
        // rustls fails here with `UnexpectedEof` if there is no close_notify.
        timeout(PATIENCE, stream.read_to_end(&mut answer)).await.unwrap().unwrap();
        assert!(answer.starts_with(OK.as_bytes()));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn answer_of_many_records_arrives_whole() {
    let tls = TlsKeyward::start(None, &[]).await;
    let client = tls.client().alpn(HTTP1);
    let mut stream = client.connect(tls.http()).await.unwrap();
    let answers = 500;
    let request = b"GET /oauth2/jwks HTTP/1.1\r\nHost: x\r\n\r\n".repeat(answers);
    let (mut read, mut write) = tokio::io::split(&mut stream);
    let sent = async { write.write_all(&request).await.unwrap() };
    let received = async {
        let (mut bytes, mut found) = (Vec::new(), 0);
        while found < answers {
            assert_ne!(read.read_buf(&mut bytes).await.unwrap(), 0);
            found = bytes.windows(OK.len()).filter(|part| *part == OK.as_bytes()).count();
        }
    };
    timeout(PATIENCE, async { tokio::join!(sent, received) }).await.expect("all are answered");
}

/// Sends requests, on a new connection after each last answer, until the server is gone. Panics if
/// one is lost.
async fn keep_asking(config: Arc<ClientConfig>, server: SocketAddr, answered: Arc<AtomicUsize>) {
    const REQUEST: &[u8] = b"GET /oauth2/jwks HTTP/1.1\r\nHost: x\r\n\r\n";
    // A handshake in progress when the server stops has sent no request.
    while let Ok(mut stream) = connect(Arc::clone(&config), server).await {
        loop {
            stream.write_all(REQUEST).await.unwrap();
            let mut answer = Vec::new();
            while !answer.ends_with(b"}") {
                let read = timeout(PATIENCE, stream.read_buf(&mut answer)).await;
                let count = read.expect("a request is answered").expect("and not reset");
                assert_ne!(count, 0, "a request is lost");
            }
            answered.fetch_add(1, Ordering::Relaxed);
            let answer = String::from_utf8(answer).unwrap().to_lowercase();
            if answer.contains("\r\nconnection: close\r\n") {
                let end = stream.read(&mut [0; 1]).await;
                assert_eq!(end.expect("close_notify"), 0, "it is closed after its last answer");
                break;
            }
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn aging_tls_connections_and_shutdown_lose_no_request() {
    let settings = [("limits.connection_age", "100ms"), ("limits.drain_time", "0s")];
    let tls = TlsKeyward::start(None, &settings).await;
    let answered = Arc::new(AtomicUsize::new(0));
    let config = tls.client().alpn(HTTP1).config();
    let clients: Vec<_> = (0..8)
        .map(|_| {
            let (config, answered) = (Arc::clone(&config), Arc::clone(&answered));
            tokio::spawn(keep_asking(config, tls.http(), answered))
        })
        .collect();
    until("they are busy", async || answered.load(Ordering::Relaxed) > 2_000).await;
    timeout(PATIENCE, tls.kw.stop()).await.expect("it stops");
    for client in clients {
        timeout(PATIENCE, client).await.expect("there is no server").unwrap();
    }
}
