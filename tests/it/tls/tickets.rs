//! Resumed sessions, which inherit the client's certificate from their first handshake.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;

use tokio_rustls::rustls::{ClientConfig, HandshakeKind};

use super::certificates::Authority;
use super::client::{HTTP1, VERSIONS, connect, get};
use super::{TlsKeyward, until};

/// Connects and asks. Returns whether the session was resumed.
async fn is_resumed(config: &Arc<ClientConfig>, server: SocketAddr) -> io::Result<bool> {
    let mut stream = connect(Arc::clone(config), server).await?;
    let is_resumed = stream.get_ref().1.handshake_kind() == Some(HandshakeKind::Resumed);
    get(&mut stream).await?;
    Ok(is_resumed)
}

#[tokio::test(flavor = "multi_thread")]
async fn ticket_of_removed_authority_is_refused() {
    for version in VERSIONS {
        let (one, two) = (Authority::new("one"), Authority::new("two"));
        let tls = TlsKeyward::start(Some(&one), &[]).await;
        let identity = one.client();
        let client = tls.client().identity(Some(&identity)).alpn(HTTP1).version(version);
        let config = client.config();
        assert!(!is_resumed(&config, tls.http()).await.unwrap());
        assert!(is_resumed(&config, tls.http()).await.unwrap(), "{version:?}: tickets work");
        tls.files.write("ca.crt", &two.pem());
        until("it is reloaded", async || tls.reloads("applied").await == 1).await;
        assert!(is_resumed(&config, tls.http()).await.is_err(), "{version:?}: with a ticket");
        assert!(is_resumed(&config, tls.http()).await.is_err(), "{version:?}: and without");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn added_authority_makes_tickets_worthless_and_clients_stay_accepted() {
    let (one, two) = (Authority::new("one"), Authority::new("two"));
    let tls = TlsKeyward::start(Some(&one), &[]).await;
    let identity = one.client();
    let config = tls.client().identity(Some(&identity)).alpn(HTTP1).config();
    assert!(!is_resumed(&config, tls.http()).await.unwrap());
    tls.files.write("ca.crt", &[one.pem(), two.pem()].concat());
    until("it is reloaded", async || tls.reloads("applied").await == 1).await;
    assert!(!is_resumed(&config, tls.http()).await.unwrap(), "a full handshake");
    assert!(is_resumed(&config, tls.http()).await.unwrap());
}

#[tokio::test(flavor = "multi_thread")]
async fn renewed_server_certificate_keeps_tickets() {
    let tls = TlsKeyward::start(None, &[]).await;
    let config = tls.client().alpn(HTTP1).config();
    assert!(!is_resumed(&config, tls.http()).await.unwrap());
    tls.files.put(&tls.authority.server());
    until("it is reloaded", async || tls.reloads("applied").await >= 1).await;
    assert!(is_resumed(&config, tls.http()).await.unwrap());
}

#[tokio::test(flavor = "multi_thread")]
async fn resumed_session_with_expired_client_certificate_is_refused() {
    for version in VERSIONS {
        let clients = Authority::new("clients");
        let tls = TlsKeyward::start(Some(&clients), &[]).await;
        let identity = clients.between((2020, 1, 1), (2026, 6, 2));
        let client = tls.client().identity(Some(&identity)).alpn(HTTP1).version(version);
        let config = client.config();
        assert!(!is_resumed(&config, tls.http()).await.unwrap());
        // The clock shows noon of the day before.
        tls.kw.advance(11 * 60 * 60);
        assert!(is_resumed(&config, tls.http()).await.unwrap(), "{version:?}: still valid");
        tls.kw.advance(2 * 60 * 60);
        assert!(is_resumed(&config, tls.http()).await.is_err(), "{version:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn ticket_of_one_replica_is_a_full_handshake_on_another() {
    let tls = TlsKeyward::start(None, &[]).await;
    let certificate = tls.files.path("tls.crt");
    let key = tls.files.path("tls.key");
    let other = super::Backend::Sqlite
        .start_with(&[("http.tls.certificate", &certificate), ("http.tls.key", &key)])
        .await;
    let config = tls.client().alpn(HTTP1).config();
    assert!(!is_resumed(&config, tls.http()).await.unwrap());
    assert!(!is_resumed(&config, other.server().http).await.unwrap());
}
