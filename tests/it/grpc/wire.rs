//! The protocol: health, reflection, deadlines, sizes, and requests that are not RPCs.

use keyward::proto::token::IssueTokenRequest;
use prost::Message;
use reqwest::header::{HeaderMap, HeaderName, HeaderValue};
use tonic::Code;
use tonic_health::pb::HealthCheckRequest;
use tonic_health::pb::health_check_response::ServingStatus;
use tonic_health::pb::health_client::HealthClient;
use tonic_types::StatusExt;

use super::raw::call;
use crate::harness::{Backend, Keyward, connect, in_time, reason};

#[tokio::test(flavor = "multi_thread")]
async fn health_says_serving() {
    let kw = Backend::Sqlite.start().await;
    let mut client = HealthClient::new(connect(&kw.grpc()).await);
    let answer = client.check(HealthCheckRequest { service: String::new() }).await.unwrap();
    assert_eq!(answer.into_inner().status(), ServingStatus::Serving);
}

#[tokio::test(flavor = "multi_thread")]
async fn every_service_has_a_health_status() {
    let kw = Backend::Sqlite.start().await;
    let mut client = HealthClient::new(connect(&kw.grpc()).await);
    let paths = super::raw::all_methods();
    let mut services: Vec<_> =
        paths.iter().map(|path| path.split('/').nth(1).unwrap().to_owned()).collect();
    services.dedup();
    services.push("grpc.health.v1.Health".to_owned());
    services.push("grpc.reflection.v1.ServerReflection".to_owned());
    for service in services {
        let request = HealthCheckRequest { service: service.clone() };
        let answer = client.check(request.clone()).await.unwrap().into_inner();
        assert_eq!(answer.status(), ServingStatus::Serving, "{service}");
        let mut watch = client.watch(request).await.unwrap().into_inner();
        let first = watch.message().await.unwrap().unwrap();
        assert_eq!(first.status(), ServingStatus::Serving, "{service}");
    }
    let unknown = HealthCheckRequest { service: "keyward.token.v1.Unknown".to_owned() };
    assert_eq!(client.check(unknown.clone()).await.unwrap_err().code(), Code::NotFound);
    let mut watch = client.watch(unknown).await.unwrap().into_inner();
    let first = watch.message().await.unwrap().unwrap();
    assert_eq!(first.status(), ServingStatus::ServiceUnknown);
}

#[tokio::test(flavor = "multi_thread")]
async fn server_stops_despite_open_streams_and_idle_connections() {
    let kw = Backend::Sqlite.start_with(&[("limits.shutdown_grace", "10m")]).await;
    let mut client = HealthClient::new(connect(&kw.grpc()).await);
    let request = HealthCheckRequest { service: String::new() };
    let mut watch = client.watch(request).await.unwrap().into_inner();
    watch.message().await.unwrap().unwrap();
    let _silent = tokio::net::TcpStream::connect(kw.server().grpc).await.unwrap();
    in_time("it waits for neither", kw.stop()).await;
}

/// Defines a test for one version of reflection.
macro_rules! reflection_test {
    ($test:ident, $version:ident) => {
        #[tokio::test(flavor = "multi_thread")]
        async fn $test() {
            use tonic_reflection::pb::$version::ServerReflectionRequest;
            use tonic_reflection::pb::$version::server_reflection_client::ServerReflectionClient;
            use tonic_reflection::pb::$version::server_reflection_request::MessageRequest;
            use tonic_reflection::pb::$version::server_reflection_response::MessageResponse;

            let kw = Backend::Sqlite.start().await;
            let mut client = ServerReflectionClient::new(connect(&kw.grpc()).await);
            let types = ["BadRequest", "ErrorInfo", "RetryInfo", "QuotaFailure", "ResourceInfo"];
            let symbols = types.map(|name| format!("google.rpc.{name}"));
            let symbols = symbols.map(MessageRequest::FileContainingSymbol).into_iter();
            let requests = [MessageRequest::ListServices(String::new())].into_iter().chain(symbols);
            let requests: Vec<_> = requests
                .map(|request| ServerReflectionRequest {
                    host: String::new(),
                    message_request: Some(request),
                })
                .collect();
            let stream = tokio_stream::iter(requests);
            let mut answers = client.server_reflection_info(stream).await.unwrap().into_inner();
            let answer = answers.message().await.unwrap().unwrap();
            let Some(MessageResponse::ListServicesResponse(list)) = answer.message_response else {
                panic!("{answer:?}");
            };
            assert_has_every_service(list.service.into_iter().map(|service| service.name));
            while let Some(answer) = answers.message().await.unwrap() {
                let Some(MessageResponse::FileDescriptorResponse(file)) = answer.message_response
                else {
                    panic!("{answer:?}");
                };
                let file = prost_types::FileDescriptorProto::decode(
                    file.file_descriptor_proto[0].as_slice(),
                );
                assert_eq!(file.unwrap().package(), "google.rpc");
            }
        }
    };
}

reflection_test!(reflection_v1_lists_every_service_and_knows_error_details, v1);
reflection_test!(reflection_v1alpha_lists_every_service_and_knows_error_details, v1alpha);

fn assert_has_every_service(names: impl Iterator<Item = String>) {
    let names: Vec<_> = names.collect();
    for service in [
        "grpc.reflection.v1.ServerReflection",
        "grpc.reflection.v1alpha.ServerReflection",
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
async fn passed_deadline_is_deadline_exceeded() {
    let kw = Backend::Sqlite.start().await;
    let request =
        IssueTokenRequest { credential: kw.admin_credential().proof(), ..Default::default() };
    // The hash of the secret takes far longer than a millisecond. gRPC clients would enforce the
    // deadline themselves; this client only sends it.
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
    assert_eq!(header("grpc-message"), "deadline%20exceeded");
}

/// A message with its frame header.
fn frame(message: &impl Message) -> Vec<u8> {
    let message = message.encode_to_vec();
    let length = u32::try_from(message.len()).unwrap().to_be_bytes();
    [&[0][..], &length, &message].concat()
}

#[tokio::test(flavor = "multi_thread")]
async fn request_over_64_kib_is_refused_before_decoding() {
    let kw = Backend::Sqlite.start().await;
    let token = kw.admin_credential().exchange(&kw.grpc(), &[], &["keyward"]).await.unwrap();
    let authorization = format!("Bearer {}", token.access_token);
    // A profile can be larger than other requests.
    for (path, max) in [
        ("/keyward.token.v1.TokenService/IssueToken", 64),
        ("/keyward.admin.v1.EndpointService/ListEndpoints", 64),
        ("/keyward.admin.v1.TenantService/UpdateTenant", 64),
        ("/keyward.admin.v1.TenantService/ApplyProfile", 1024),
    ] {
        let bytes = vec![0; (max + 1) * 1024];
        let answer = call(&kw.grpc(), path, bytes, Some(&authorization)).await;
        let status = answer.unwrap_err();
        assert_eq!(status.code(), Code::ResourceExhausted, "{path}: {status:?}");
        assert_eq!(reason(&status), "REQUEST_TOO_LARGE", "{path}");
        let info = status.get_details_error_info().unwrap();
        assert_eq!(info.metadata["max_bytes"], (max * 1024).to_string(), "{path}");
    }
}

/// A compressed message with its frame header.
fn compressed(message: &[u8]) -> Vec<u8> {
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::best());
    std::io::Write::write_all(&mut encoder, message).unwrap();
    let message = encoder.finish().unwrap();
    let length = u32::try_from(message.len()).unwrap().to_be_bytes();
    [&[1][..], &length, &message].concat()
}

/// Sends bytes as the body of a call. Returns the headers of the answer.
async fn post(kw: &Keyward, path: &str, encoding: &str, body: Vec<u8>) -> HeaderMap {
    let client = reqwest::Client::builder().http2_prior_knowledge().build().unwrap();
    let request = client
        .post(format!("{}{path}", kw.grpc()))
        .header("content-type", "application/grpc")
        .header("grpc-encoding", encoding)
        .header("te", "trailers");
    request.body(body).send().await.unwrap().headers().clone()
}

const ISSUE: &str = "/keyward.token.v1.TokenService/IssueToken";

#[tokio::test(flavor = "multi_thread")]
async fn gzip_request_is_accepted_within_its_limit() {
    let kw = Backend::Sqlite.start().await;
    let request =
        IssueTokenRequest { credential: kw.admin_credential().proof(), ..Default::default() };
    let encoded = request.encode_to_vec();
    // A successful call has its status in the trailers, after the message.
    let answer = post(&kw, ISSUE, "gzip", compressed(&encoded)).await;
    assert_eq!(answer.get("grpc-status"), None, "{answer:?}");
    // A message may be uncompressed although compression is announced.
    let answer = post(&kw, ISSUE, "gzip", frame(&request)).await;
    assert_eq!(answer.get("grpc-status"), None, "{answer:?}");

    let code = |answer: &HeaderMap| answer["grpc-status"].to_str().unwrap().parse::<i32>().unwrap();
    let bomb = compressed(&vec![0; 50_000_000]);
    assert!(bomb.len() < 60_000);
    let answer = post(&kw, ISSUE, "gzip", bomb).await;
    assert_eq!(code(&answer), Code::ResourceExhausted as i32, "{answer:?}");
    assert!(answer.contains_key("grpc-status-details-bin"), "{answer:?}");
    let mut broken = compressed(&encoded);
    let last = broken.len() - 1;
    broken[last] ^= 1;
    let answer = post(&kw, ISSUE, "gzip", broken).await;
    assert_eq!(code(&answer), Code::InvalidArgument as i32, "{answer:?}");
    let answer = post(&kw, ISSUE, "snappy", frame(&request)).await;
    assert_eq!(code(&answer), Code::Unimplemented as i32, "{answer:?}");
    assert_eq!(answer["grpc-accept-encoding"], "identity,gzip");
}

#[tokio::test(flavor = "multi_thread")]
async fn other_requests_get_an_http_answer() {
    let kw = Backend::Sqlite.start().await;
    let client = reqwest::Client::builder().http2_prior_knowledge().build().unwrap();
    let url = format!("{}{ISSUE}", kw.grpc());
    let send = async |method: reqwest::Method, kind: &str| {
        let request = client.request(method, &url).header("content-type", kind);
        request.body(frame(&IssueTokenRequest::default())).send().await.unwrap()
    };
    for kind in ["application/json", "application/grpc-web", "application/grpc+json", "text/grpc"] {
        let answer = send(reqwest::Method::POST, kind).await;
        assert_eq!(answer.status(), 415, "{kind}");
        assert_eq!(answer.headers().get("grpc-status"), None);
        assert_eq!(answer.headers()["accept"], "application/grpc");
    }
    for method in [reqwest::Method::GET, reqwest::Method::PUT, reqwest::Method::OPTIONS] {
        let answer = send(method, "application/grpc").await;
        assert_eq!(answer.status(), 405);
        assert_eq!(answer.headers()["allow"], "POST");
    }
    for kind in ["application/grpc", "application/grpc+proto", "Application/gRPC; charset=x"] {
        let answer = send(reqwest::Method::POST, kind).await;
        assert_eq!(answer.status(), 200, "{kind}");
        assert_eq!(answer.headers()["grpc-status"], "3", "an empty request has a fault");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn errors_fit_into_client_header_limits() {
    use keyward::proto::admin as pb;
    let kw = Backend::Sqlite.start().await;
    let mut admin = kw.admin().await;
    admin.tenant("acme", &["a"]).await;
    for text in ["\u{1f600}".repeat(200), "x".repeat(5_000), "\u{7}%".repeat(200)] {
        let paths = (0..10).map(|n| format!("{n}{text}")).collect();
        let request = pb::UpdateTenantRequest {
            tenant: Some(pb::Tenant { name: "tenants/acme".to_owned(), ..Default::default() }),
            update_mask: Some(prost_types::FieldMask { paths }),
        };
        let authorization = format!("Bearer {}", admin.token);
        let client = reqwest::Client::builder().http2_prior_knowledge().build().unwrap();
        let answer = client
            .post(format!("{}/keyward.admin.v1.TenantService/UpdateTenant", kw.grpc()))
            .header("content-type", "application/grpc")
            .header("te", "trailers")
            .header("authorization", authorization)
            .body(frame(&request))
            .send()
            .await
            .unwrap();
        assert_eq!(answer.headers()["grpc-status"], "3");
        let size = |(name, value): (&HeaderName, &HeaderValue)| {
            // The size as HPACK counts it (RFC 7541, section 4.1).
            name.as_str().len() + value.len() + 32
        };
        let all: usize = answer.headers().iter().map(size).sum();
        assert!(all < 8 * 1024, "{all}");
        let status = admin.tenants.update_tenant(request).await.unwrap_err();
        assert_eq!(reason(&status), "INVALID_FIELD");
        let first = &status.get_details_bad_request().unwrap().field_violations[0];
        assert_eq!(first.field, "update_mask");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn unknown_method_is_unimplemented_and_other_path_not_found() {
    let kw = Backend::Sqlite.start().await;
    for path in ["/keyward.token.v1.TokenService/Nothing", "/unknown.Nothing/Nothing"] {
        let status = call(&kw.grpc(), path, Vec::new(), None).await.unwrap_err();
        assert_eq!(status.code(), Code::Unimplemented, "{path}");
    }
    let client = reqwest::Client::builder().http2_prior_knowledge().build().unwrap();
    let answer = client.get(format!("{}/index.html", kw.grpc())).send().await.unwrap();
    assert_eq!(answer.status(), 404);
    assert_eq!(answer.headers().get("grpc-status"), None);
}

#[tokio::test(flavor = "multi_thread")]
async fn garbage_ends_only_its_own_connection() {
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
        in_time("the connection ends", end).await.ok();
    }
    assert!(!kw.admin_credential().token(&kw.grpc()).await.is_empty());
}
