//! Connection limits per source.

use std::net::SocketAddr;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use super::connect_from;
use super::served::Served;
use crate::harness::until;

/// A connection on which a request was answered, if the server accepts it.
async fn answered(source: &str, server: SocketAddr) -> Option<TcpStream> {
    let mut stream = connect_from(source, server).await.ok()?;
    stream.write_all(b"GET /oauth2/jwks HTTP/1.1\r\nHost: x\r\n\r\n").await.ok()?;
    let mut answer = [0; 15];
    stream.read_exact(&mut answer).await.ok()?;
    (&answer == b"HTTP/1.1 200 OK").then_some(stream)
}

fn small() -> Served {
    let settings = [
        ("KEYWARD_LIMITS_MAX_CONNECTIONS", "16"),
        ("KEYWARD_LIMITS_SOURCE_CONNECTIONS", "4"),
        ("KEYWARD_TRUSTED_PROXIES", "127.0.0.77"),
    ];
    Served::start("true", &settings)
}

#[tokio::test(flavor = "multi_thread")]
async fn source_with_all_its_connections_does_not_block_others() {
    let server = small();
    let http = server.http;
    let mut held = Vec::new();
    for _ in 0..4 {
        held.push(answered("127.0.0.1", http).await.expect("a place of its own"));
    }
    assert!(answered("127.0.0.1", http).await.is_none(), "it has all of its places");
    assert!(answered("127.0.0.2", http).await.is_some(), "another source has its own");
    assert!(!server.admin.token(&server.grpc_url()).await.is_empty(), "gRPC has its own");
    assert_eq!(server.readiness().await, 200);
    assert!(server.refused("connection").await >= 1);

    held.clear();
    until("a place is free again", async || answered("127.0.0.1", http).await.is_some()).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn connections_are_reserved_for_known_sources() {
    let server = small();
    let http = server.http;
    // A caller authenticates from this source, so it is known.
    assert_eq!(server.token_from("127.0.0.9").await.status(), 200);
    let mut held = Vec::new();
    for source in ["127.0.0.1", "127.0.0.2", "127.0.0.3", "127.0.0.4"] {
        for _ in 0..4 {
            held.extend(answered(source, http).await);
        }
    }
    assert!(held.len() <= 12, "{} of 16 places are held by unknown sources", held.len());
    assert!(answered("127.0.0.5", http).await.is_none());
    assert!(answered("127.0.0.9", http).await.is_some());
}

#[tokio::test(flavor = "multi_thread")]
async fn trusted_proxy_has_no_per_source_budget() {
    let server = small();
    let mut held = Vec::new();
    for _ in 0..10 {
        held.push(answered("127.0.0.77", server.http).await.expect("a place"));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn server_survives_file_size_limit() {
    let mut server = Served::start("true", &[]);
    let token = server.admin.exchange(&server.grpc_url(), &[], &["keyward"]).await.unwrap();
    let pid = server.id().to_string();
    let limited = |size: &str| {
        let status = std::process::Command::new("prlimit")
            .args(["--pid", &pid, &format!("--fsize={size}:unlimited")])
            .status();
        assert!(status.unwrap().success());
    };
    limited("4096");
    let mut tenants = keyward::proto::admin::tenant_service_client::TenantServiceClient::new(
        crate::harness::bearer(&server.grpc_url(), &token.access_token).await,
    );
    let create = |id: &str| keyward::proto::admin::CreateTenantRequest {
        tenant_id: id.to_owned(),
        tenant: None,
    };
    assert!(tenants.create_tenant(create("one")).await.is_err(), "there is no room");
    assert!(server.is_running());
}
