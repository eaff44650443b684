//! The wire: health, reflection, deadlines, sizes, and what is no RPC.

use std::time::Duration;

use keyward::proto::token::IssueTokenRequest;
use prost::Message;
use tonic::Code;
use tonic_health::pb::HealthCheckRequest;
use tonic_health::pb::health_client::HealthClient;
use tonic_reflection::pb::v1::ServerReflectionRequest;
use tonic_reflection::pb::v1::server_reflection_client::ServerReflectionClient;
use tonic_reflection::pb::v1::server_reflection_request::MessageRequest;
use tonic_reflection::pb::v1::server_reflection_response::MessageResponse;

use super::raw::call;
use crate::harness::{Backend, connect};

#[tokio::test(flavor = "multi_thread")]
async fn health_says_serving() {
    let kw = Backend::Sqlite.start().await;
    let mut client = HealthClient::new(connect(&kw.grpc()).await);
    let answer = client.check(HealthCheckRequest { service: String::new() }).await.unwrap();
    let serving = tonic_health::pb::health_check_response::ServingStatus::Serving;
    assert_eq!(answer.into_inner().status(), serving);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_stops_though_somebody_watches_and_somebody_says_nothing() {
    let kw = Backend::Sqlite.start_with(&[("limits.shutdown_grace", "10m")]).await;
    let mut client = HealthClient::new(connect(&kw.grpc()).await);
    let request = HealthCheckRequest { service: String::new() };
    let mut watch = client.watch(request).await.unwrap().into_inner();
    watch.message().await.unwrap().unwrap();
    let _silent = tokio::net::TcpStream::connect(kw.server().grpc).await.unwrap();
    let stopped = tokio::time::timeout(Duration::from_mins(1), kw.stop()).await;
    assert!(stopped.is_ok(), "it waits for neither");
}

#[tokio::test(flavor = "multi_thread")]
async fn reflection_lists_every_service() {
    let kw = Backend::Sqlite.start().await;
    let mut client = ServerReflectionClient::new(connect(&kw.grpc()).await);
    let request = ServerReflectionRequest {
        host: String::new(),
        message_request: Some(MessageRequest::ListServices(String::new())),
    };
    let mut answers =
        client.server_reflection_info(tokio_stream::once(request)).await.unwrap().into_inner();
    let answer = answers.message().await.unwrap().unwrap();
    let Some(MessageResponse::ListServicesResponse(list)) = answer.message_response else {
        panic!("{answer:?}");
    };
    let names: Vec<_> = list.service.into_iter().map(|service| service.name).collect();
    for service in [
        "grpc.health.v1.Health",
        "keyward.access.v1.KeyService",
        "keyward.admin.v1.ApplicationService",
        "keyward.admin.v1.CredentialService",
        "keyward.admin.v1.ScopeService",
        "keyward.admin.v1.TenantService",
        "keyward.token.v1.TokenService",
    ] {
        assert!(names.iter().any(|name| name == service), "{service} in {names:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_deadline_that_passes_is_deadline_exceeded() {
    let kw = Backend::Sqlite.start().await;
    let request =
        IssueTokenRequest { credential: kw.admin_credential().proof(), ..Default::default() };
    // The hash of the secret takes far longer than the millisecond there is. The clients
    // here enforce their deadlines themselves; this one only tells it.
    let client = reqwest::Client::builder().http2_prior_knowledge().build().unwrap();
    let answer = client
        .post(format!("{}/keyward.token.v1.TokenService/IssueToken", kw.grpc()))
        .header("content-type", "application/grpc")
        .header("te", "trailers")
        .header("grpc-timeout", "1m")
        .body(frame(&request))
        .send()
        .await
        .unwrap();
    let header = |name: &str| answer.headers().get(name).unwrap().to_str().unwrap().to_owned();
    assert_eq!(header("grpc-status"), (Code::DeadlineExceeded as i32).to_string());
    assert_eq!(header("grpc-message"), "the%20deadline%20passed");
}

/// A message as it stands on the wire.
fn frame(message: &impl Message) -> Vec<u8> {
    let message = message.encode_to_vec();
    let length = u32::try_from(message.len()).unwrap().to_be_bytes();
    [&[0][..], &length, &message].concat()
}

#[tokio::test(flavor = "multi_thread")]
async fn request_over_64_kib_is_refused_undecoded() {
    let kw = Backend::Sqlite.start().await;
    let token = kw.admin_credential().exchange(&kw.grpc(), &[], &["keyward"]).await.unwrap();
    let authorization = format!("Bearer {}", token.access_token);
    // A profile is a file, and may be larger.
    for (path, most) in [
        ("/keyward.token.v1.TokenService/IssueToken", 64),
        ("/keyward.admin.v1.EndpointService/ListEndpoints", 64),
        ("/keyward.admin.v1.TenantService/UpdateTenant", 64),
        ("/keyward.admin.v1.TenantService/ApplyProfile", 1024),
    ] {
        let bytes = vec![0; (most + 1) * 1024];
        let answer = call(&kw.grpc(), path, bytes, Some(&authorization)).await;
        let status = answer.unwrap_err();
        assert_eq!(status.code(), Code::OutOfRange, "{path}: {status:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_unknown_method_is_unimplemented_and_another_path_is_not_found() {
    let kw = Backend::Sqlite.start().await;
    for path in ["/keyward.token.v1.TokenService/Nothing", "/nobody.Nothing/Nothing"] {
        let status = call(&kw.grpc(), path, Vec::new(), None).await.unwrap_err();
        assert_eq!(status.code(), Code::Unimplemented, "{path}");
    }
    let client = reqwest::Client::builder().http2_prior_knowledge().build().unwrap();
    let answer = client.get(format!("{}/index.html", kw.grpc())).send().await.unwrap();
    assert_eq!(answer.status(), 404);
    assert_eq!(answer.headers().get("grpc-status"), None);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stranger_who_talks_nonsense_ends_alone() {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    let kw = Backend::Sqlite.start().await;
    for (address, nonsense) in [
        (kw.server().grpc, &b"GET / HTTP/1.1\r\n\r\n"[..]),
        (kw.server().grpc, &[0xff; 100]),
        (kw.server().http, &[0x16, 3, 1, 0, 0xff]),
    ] {
        let mut stream = tokio::net::TcpStream::connect(address).await.unwrap();
        stream.write_all(nonsense).await.unwrap();
        stream.shutdown().await.unwrap();
        let mut answer = Vec::new();
        let end = stream.read_to_end(&mut answer);
        tokio::time::timeout(Duration::from_secs(5), end).await.expect("the connection ends").ok();
    }
    assert!(!kw.admin_credential().token(&kw.grpc()).await.is_empty());
}
