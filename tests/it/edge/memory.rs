//! The memory for large requests, with and without authentication.

use std::time::Duration;

use futures_util::future::join_all;
use keyward::internals::domain::{CredentialId, SecretKind};
use keyward::internals::secrets::Prefixes;
use keyward::proto::{access, admin};
use prost::Message;
use tonic::Code;

use super::served::Served;
use crate::grpc::raw::call_with;

const APPLY: &str = "/keyward.admin.v1.TenantService/ApplyProfile";
const BATCH: &str = "/keyward.access.v1.AccessService/BatchCheckAccess";
/// The bound: the additional memory compared with the idle server.
const MAX_KIB: u64 = 64 * 1024;

/// A profile of 1 MiB that consists of empty scopes.
fn profile() -> Vec<u8> {
    let profile =
        admin::Profile { scopes: vec![admin::Scope::default(); 524_000], ..Default::default() };
    admin::ApplyProfileRequest { profile: Some(profile), ..Default::default() }.encode_to_vec()
}

fn batch() -> Vec<u8> {
    let requests = vec![access::CheckAccessRequest::default(); 32_000];
    access::BatchCheckAccessRequest { requests }.encode_to_vec()
}

/// A well-formed API key that does not exist.
fn random_key(number: usize) -> String {
    let id = CredentialId::parse(&format!("{number:032x}")).unwrap();
    let key = Prefixes::default().generate(SecretKind::ApiKey, &id).unwrap();
    format!("Bearer {}", key.expose())
}

/// The status codes of concurrent calls.
async fn codes(
    server: &Served,
    path: &str,
    bytes: &[u8],
    authorizations: &[Option<String>],
) -> Vec<Code> {
    let url = server.grpc_url();
    let calls = authorizations.iter().map(|authorization| {
        let url = &url;
        async move {
            let metadata: Vec<_> =
                authorization.iter().map(|value| ("authorization", value.as_str())).collect();
            call_with(url, path, bytes.to_vec(), &metadata)
                .await
                .map_or_else(|s| s.code(), |_| Code::Ok)
        }
    });
    join_all(calls).await
}

#[tokio::test(flavor = "multi_thread")]
async fn large_unauthenticated_requests_use_bounded_memory() {
    keyward::internals::server::raise_limit();
    let settings = [
        ("KEYWARD_SECRETS_HASH_QUEUE", "1"),
        ("KEYWARD_SECRETS_WRONG_SECRETS", "0"),
        ("KEYWARD_LIMITS_REQUEST_TIMEOUT", "5m"),
    ];
    let server = Served::start("true", &settings);
    // Every hashing thread has allocated its memory.
    let keys: Vec<_> = (0..16).map(|n| Some(random_key(n))).collect();
    codes(&server, BATCH, &[], &keys).await;
    codes(&server, BATCH, &[], &keys).await;
    let idle = server.forget_peak();

    let (profile, batch) = (profile(), batch());
    let keys: Vec<_> = (100..300).map(|n| Some(random_key(n))).collect();
    let nonsense = vec![Some("Bearer x".to_owned()); 48];
    let nothing = vec![None; 48];
    for (path, bytes, authorizations) in [
        (APPLY, &profile, &keys[..24]),
        (APPLY, &profile, &keys[..]),
        (APPLY, &profile, &nonsense),
        (APPLY, &profile, &nothing),
        (BATCH, &batch, &keys),
        (BATCH, &batch, &nonsense),
        (BATCH, &batch, &nothing),
    ] {
        let codes = codes(&server, path, bytes, authorizations).await;
        let refused = [Code::Unauthenticated, Code::ResourceExhausted];
        assert!(codes.iter().all(|code| refused.contains(code)), "{path}: {codes:?}");
        let peak = server.peak();
        let count = authorizations.len();
        assert!(peak <= idle + MAX_KIB, "{path} {count}: {idle} KiB -> {peak} KiB");
    }

    let client = reqwest::Client::new();
    let form = "a&".repeat(30_000);
    let url = format!("http://{}/oauth2/token", server.http);
    let forms = (0..200).map(|_| {
        let content = ("content-type", "application/x-www-form-urlencoded");
        client.post(&url).header(content.0, content.1).body(form.clone()).send()
    });
    for answer in join_all(forms).await {
        let answer = answer.unwrap();
        assert!([400, 429].contains(&answer.status().as_u16()), "{}", answer.status());
        assert_eq!(answer.headers()["content-type"], "application/json");
    }
    let peak = server.peak();
    assert!(peak <= idle + MAX_KIB, "forms: {idle} KiB -> {peak} KiB");
}

#[tokio::test(flavor = "multi_thread")]
async fn message_with_large_decoded_size_is_refused_undecoded() {
    let server = Served::start("true", &[("KEYWARD_LIMITS_REQUEST_TIMEOUT", "5m")]);
    let token = server.admin.exchange(&server.grpc_url(), &[], &["keyward"]).await.unwrap();
    let authorization = Some(format!("Bearer {}", token.access_token));
    tokio::time::timeout(Duration::from_mins(5), async {
        codes(&server, BATCH, &[], std::slice::from_ref(&authorization)).await;
        let idle = server.forget_peak();
        let callers = vec![authorization; 24];
        for (path, bytes) in [(APPLY, profile()), (BATCH, batch())] {
            let codes = codes(&server, path, &bytes, &callers).await;
            let refused = |code: &Code| *code == Code::ResourceExhausted;
            assert!(codes.iter().all(refused), "{path}: {codes:?}");
            let peak = server.peak();
            assert!(peak <= idle + MAX_KIB, "{path}: {idle} KiB -> {peak} KiB");
        }
    })
    .await
    .unwrap();
}
