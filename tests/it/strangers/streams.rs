//! Streams with and without authentication.

use keyward::proto::access::key_service_client::KeyServiceClient;
use keyward::proto::access::{WatchJwksRequest, WatchJwksResponse, WatchRevocationsRequest};
use keyward::proto::admin::credential::Kind;
use keyward::verifier::{Settings, Verifier, VerifierCredential};
use tonic::transport::Channel;
use tonic::{Code, Request, Status, Streaming};
use tonic_types::StatusExt;

use super::{BEHIND_PROXY, from};
use crate::harness::{Backend, Keyward, PATIENCE, connect, in_time, reason, until};

/// The number of streams per connection.
const EACH: usize = 100;

type Stream = Streaming<WatchJwksResponse>;

async fn watch(channel: &Channel, request: Request<WatchJwksRequest>) -> Result<Stream, Status> {
    let mut keys = KeyServiceClient::new(channel.clone());
    keys.watch_jwks(request).await.map(tonic::Response::into_inner)
}

/// Opens streams, and keeps them with their connections.
async fn open(
    kw: &Keyward,
    number: usize,
    request: impl Fn() -> Request<WatchJwksRequest>,
) -> (Vec<Stream>, Vec<Status>) {
    let (mut open, mut refused) = (Vec::new(), Vec::new());
    let mut channel = connect(&kw.grpc()).await;
    for _ in 0..number {
        match watch(&channel, request()).await {
            Ok(stream) => open.push(stream),
            Err(status) => refused.push(status),
        }
        if open.len() % EACH == EACH - 1 {
            channel = connect(&kw.grpc()).await;
        }
    }
    (open, refused)
}

fn with_bearer(bearer: &str) -> Request<WatchJwksRequest> {
    let mut request = Request::new(WatchJwksRequest {});
    request.metadata_mut().insert("authorization", format!("Bearer {bearer}").parse().unwrap());
    request
}

#[tokio::test(flavor = "multi_thread")]
async fn anonymous_streams_of_one_source_do_not_block_others() {
    let kw = Backend::Sqlite.start_with(&[BEHIND_PROXY]).await;
    let mut admin = kw.admin().await;
    let gateway = admin.application("system", "gateway", &["keyward.verify"]).await;
    let (_, key) = admin.credential(&gateway.name, Kind::ApiKey).await;

    let (held, refused) = open(&kw, 1100, || Request::new(WatchJwksRequest {})).await;
    assert_eq!(held.len() + refused.len(), 1100);
    assert!(held.len() < 200, "one source has {} streams", held.len());
    for status in refused {
        assert_eq!((status.code(), &*reason(&status)), (Code::ResourceExhausted, "OVERLOADED"));
        assert!(status.get_details_retry_info().unwrap().retry_delay.is_some());
    }
    // The same source, with an authenticated caller.
    let settings = Settings {
        clock: kw.clock(),
        ready_within: PATIENCE,
        ..Settings::new(
            kw.grpc(),
            VerifierCredential::api_key(key.secret),
            "https://keyward.test",
            "tenants/acme",
        )
    };
    let verifier = Verifier::connect(settings).await.expect("a verifier starts");
    // Another source.
    let channel = connect(&kw.grpc()).await;
    let mut other = watch(&channel, from("198.51.100.1", WatchJwksRequest {})).await.unwrap();
    assert!(other.message().await.unwrap().is_some());
    // Places are given back.
    drop(held);
    until("places are given back", async || {
        watch(&channel, Request::new(WatchJwksRequest {})).await.is_ok()
    })
    .await;
    drop(verifier);
}

#[tokio::test(flavor = "multi_thread")]
async fn streams_of_one_application_do_not_block_others() {
    let kw = Backend::Sqlite.start().await;
    let mut admin = kw.admin().await;
    let mut keys = Vec::new();
    for id in ["leaked", "other"] {
        let application = admin.application("system", id, &["keyward.verify"]).await;
        keys.push(admin.credential(&application.name, Kind::ApiKey).await.1.secret);
    }
    let (held, refused) = open(&kw, 1030, || with_bearer(&keys[0])).await;
    assert_eq!((held.len(), refused.len()), (1024, 6));
    assert!(refused.iter().all(|status| reason(status) == "OVERLOADED"));
    let channel = connect(&kw.grpc()).await;
    let mut other = watch(&channel, with_bearer(&keys[1])).await.expect("another application");
    assert!(other.message().await.unwrap().is_some());
    watch(&channel, Request::new(WatchJwksRequest {})).await.expect("and one without a name");
    let revocations = admin.revocations.watch_revocations(WatchRevocationsRequest::default());
    revocations.await.expect("streams of another kind are counted apart");
}

#[tokio::test(flavor = "multi_thread")]
async fn stream_ends_when_callers_credential_is_deleted() {
    let kw = Backend::Sqlite.start().await;
    let mut admin = kw.admin().await;
    let gateway = admin.application("system", "gateway", &["keyward.verify"]).await;
    let (credential, key) = admin.credential(&gateway.name, Kind::ApiKey).await;
    let channel = connect(&kw.grpc()).await;
    let mut known = watch(&channel, with_bearer(&key.secret)).await.unwrap();
    let mut stranger = watch(&channel, Request::new(WatchJwksRequest {})).await.unwrap();
    for stream in [&mut known, &mut stranger] {
        assert!(stream.message().await.unwrap().is_some());
    }
    let request = keyward::proto::admin::DeleteCredentialRequest {
        name: credential.name,
        ..Default::default()
    };
    admin.credentials.delete_credential(request).await.unwrap();
    let ended = in_time("it ends", known.message()).await;
    assert_eq!(ended.unwrap_err().code(), Code::Unauthenticated);
    let status = watch(&channel, with_bearer(&key.secret)).await.unwrap_err();
    assert_eq!((status.code(), &*reason(&status)), (Code::Unauthenticated, "UNAUTHENTICATED"));
}

#[tokio::test(flavor = "multi_thread")]
async fn application_without_the_scope_counts_as_its_source() {
    let kw = Backend::Sqlite.start().await;
    let mut admin = kw.admin().await;
    admin.acme().await;
    let (_, key) = admin.credential("tenants/acme/applications/crm", Kind::ApiKey).await;
    let (_held, refused) = open(&kw, 200, || with_bearer(&key.secret)).await;
    assert!(!refused.is_empty(), "a tenant's application has no places of its own");
    let gateway = admin.application("system", "gateway", &["keyward.verify"]).await;
    let (_, key) = admin.credential(&gateway.name, Kind::ApiKey).await;
    let channel = connect(&kw.grpc()).await;
    watch(&channel, with_bearer(&key.secret)).await.expect("one that may verify does");
}
