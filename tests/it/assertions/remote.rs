//! Keys at the address of a client (`jwks_uri`).

use futures_util::future::join_all;
use keyward::proto::admin::credential::public_key::Keys;
use serde_json::{Value, json};
use tonic::Code;

use super::{CRM, NO_BUDGET, Party, accepted, exchange, issue, jwks, refused, register};
use crate::harness::signer::{Signer, base64url};
use crate::harness::{Backend, Keyward, on_both_databases, reason};
use crate::outbound::stub::{Reply, StubHost};

on_both_databases!(client_replaces_its_keys_without_a_call);

struct Remote {
    kw: Keyward,
    host: StubHost,
    party: Party,
}

fn set(keys: &[Value]) -> Reply {
    Reply::json("", &jwks(keys))
}

fn failure() -> Reply {
    Reply::with("500 Fault", "", "")
}

impl Remote {
    async fn start(backend: Backend, reply: Reply, signer: Signer) -> Self {
        let host = StubHost::start(reply).await;
        let file = host.ca_file().to_str().unwrap().to_owned();
        let settings = [
            NO_BUDGET,
            ("outbound.allowed_networks", "127.0.0.0/8, ::1"),
            ("outbound.ca_file", file.as_str()),
        ];
        let kw = backend.start_with(&settings).await;
        let mut admin = kw.admin().await;
        admin.acme().await;
        let url = host.url("localhost");
        let credential = register(&mut admin, CRM, Keys::JwksUri(url)).await;
        Self { kw, host, party: Party { credential, signer, kid: "first" } }
    }

    fn signed(&self, signer: &Signer, header: &Value) -> String {
        signer.token(header, &self.party.claims(&self.kw))
    }
}

async fn client_replaces_its_keys_without_a_call(backend: Backend) {
    let (old, new) = (Signer::new("ES256"), Signer::new("PS256"));
    let old_jwk = old.jwk_with(&[("kid", "first")]);
    let new_jwk = new.jwk_with(&[("kid", "second")]);
    let remote = Remote::start(backend, set(std::slice::from_ref(&old_jwk)), old).await;
    let (kw, party) = (&remote.kw, &remote.party);
    assert_eq!(remote.host.requests(), 0, "registering fetches nothing");
    accepted(kw, "first", || party.assertion(kw)).await;
    assert_eq!(remote.host.requests(), 1, "fetched once");
    let by_new = || remote.signed(&new, &json!({ "kid": "second" }));

    remote.host.answer(set(&[old_jwk, new_jwk.clone()]));
    accepted(kw, "the new key", by_new).await;
    accepted(kw, "the old key", || party.assertion(kw)).await;
    assert_eq!(remote.host.requests(), 2);

    remote.host.answer(set(&[new_jwk]));
    kw.advance(5 * 60);
    accepted(kw, "the new key", by_new).await;
    refused(kw, "the old key is gone", || party.assertion(kw)).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn keys_without_ids_are_replaced_too() {
    let (old, new) = (Signer::new("ES256"), Signer::new("ES256"));
    let remote = Remote::start(Backend::Sqlite, set(&[old.jwk()]), old).await;
    let kw = &remote.kw;
    accepted(kw, "old", || remote.signed(&remote.party.signer, &json!({}))).await;
    remote.host.answer(set(&[new.jwk()]));
    accepted(kw, "new", || remote.signed(&new, &json!({}))).await;
    refused(kw, "old", || remote.signed(&remote.party.signer, &json!({}))).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn keys_that_are_not_understood_disable_no_others() {
    let signer = Signer::new("ES256");
    let mut padded = Signer::new("RS256").jwk_with(&[("kid", "rsa")]);
    padded["n"] = format!("{}=", padded["n"].as_str().unwrap()).into();
    let keys = [
        json!({ "kty": "AKP", "alg": "ML-DSA-44", "pub": "AAAA", "kid": "first" }),
        padded,
        json!("text"),
        Signer::new("PS256").jwk_with(&[("kid", "first")]),
        signer.jwk_with(&[("kid", "first")]),
        json!({ "kty": "RSA", "e": "AQAB", "n": base64url([0xFF; 128]), "kid": "small" }),
    ];
    let remote = Remote::start(Backend::Sqlite, set(&keys), signer).await;
    accepted(&remote.kw, "mixed", || remote.party.assertion(&remote.kw)).await;
    let skipped: u64 = remote.kw.metric("keyward_outbound_skipped_keys_total").await;
    assert_eq!(skipped, 4);
    let fetched: u64 = remote.kw.metric("keyward_outbound_fetches_total{result=\"ok\"}").await;
    assert_eq!(fetched, 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn keys_that_cannot_be_fetched_are_unavailable() {
    let signer = Signer::new("ES256");
    let jwk = signer.jwk_with(&[("kid", "first")]);
    let remote = Remote::start(Backend::Sqlite, failure(), signer).await;
    let (kw, party) = (&remote.kw, &remote.party);
    let assertion = party.assertion(kw);
    let unavailable = async |assertion: &str| {
        let answer = exchange(kw, assertion).await;
        assert_eq!(answer.status, 503, "{}", answer.body);
        assert_eq!(answer.error(), "temporarily_unavailable");
        let status = issue(kw, assertion).await.unwrap_err();
        assert_eq!((status.code(), reason(&status).as_str()), (Code::Unavailable, "UNAVAILABLE"));
    };
    unavailable(&assertion).await;
    remote.host.answer(set(&[jwk]));
    kw.advance(10);
    assert_eq!(exchange(kw, &assertion).await.status, 200, "it was not spent");

    // A known key works while the host is away. With an unknown one nothing can be said.
    remote.host.answer(failure());
    let unknown = || remote.signed(&party.signer, &json!({ "kid": "second" }));
    unavailable(&unknown()).await;
    accepted(kw, "a known key", || party.assertion(kw)).await;
    kw.advance(6 * 60);
    accepted(kw, "a known key that is stale", || party.assertion(kw)).await;
    let stale: u64 = kw.metric("keyward_outbound_stale_key_sets_total").await;
    assert!(stale >= 2, "{stale}");
    kw.advance(24 * 3600);
    unavailable(&party.assertion(kw)).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn storm_of_unknown_key_ids_fetches_once_in_thirty_seconds() {
    let signer = Signer::new("ES256");
    let jwk = signer.jwk_with(&[("kid", "first")]);
    let remote = Remote::start(Backend::Sqlite, set(&[jwk]), signer).await;
    let (kw, party) = (&remote.kw, &remote.party);
    accepted(kw, "known", || party.assertion(kw)).await;
    let forger = Signer::new("ES256");
    for round in 1..=3 {
        let storm = (0..60).map(async |n| {
            let header = json!({ "kid": format!("unknown-{n}") });
            exchange(kw, &remote.signed(&forger, &header)).await.error()
        });
        assert!(join_all(storm).await.iter().all(|error| error == "invalid_client"));
        assert_eq!(remote.host.requests(), 1 + round, "round {round}");
        accepted(kw, "known", || party.assertion(kw)).await;
        kw.advance(30);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn internal_host_is_not_reached() {
    let signer = Signer::new("ES256");
    let jwk = signer.jwk_with(&[("kid", "first")]);
    let host = StubHost::start(set(&[jwk])).await;
    let kw = Backend::Sqlite.start_with(&[NO_BUDGET]).await;
    let mut admin = kw.admin().await;
    admin.acme().await;
    // A name can lead to an internal address: that is found when it is used.
    let url = host.url("localhost");
    let credential = register(&mut admin, CRM, Keys::JwksUri(url)).await;
    let party = Party { credential, signer, kid: "first" };
    assert_eq!(exchange(&kw, &party.assertion(&kw)).await.status, 503);
    assert_eq!(host.connections(), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn server_does_not_start_without_its_authorities() {
    let folder = tempfile::TempDir::new().unwrap();
    let file = folder.path().join("ca.pem");
    for content in [None, Some("no PEM")] {
        if let Some(content) = content {
            std::fs::write(&file, content).unwrap();
        }
        let settings = [("outbound.ca_file", file.to_str().unwrap())];
        let error = Keyward::refused(folder.path(), &settings).await.to_string();
        assert!(error.contains("outbound.ca_file") && error.contains("ca.pem"), "{error}");
    }
}
