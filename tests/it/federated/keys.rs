//! The keys of issuers: where they are found, and what counts while they cannot be.

use futures_util::future::join_all;
use keyward::proto::admin::credential::Federated;
use keyward::proto::admin::credential::federated::Keys;
use serde_json::{Value, json};

use super::{
    CRM, KID, NO_BUDGET, Platform, accepted, changed, claims, equals, jwks, post_token, refused,
    register, start, trust, undecided,
};
use crate::harness::signer::Signer;
use crate::harness::{Admin, Backend, Keyward, on_both_databases};
use crate::outbound::stub::{Reply, StubHost};

on_both_databases!(issuer_rotates_its_keys_without_a_call, clusters_with_one_issuer_are_apart);

const DISCOVERY: &str = "/.well-known/openid-configuration";

/// A server, and an issuer that it finds by discovery.
struct Discovered {
    kw: Keyward,
    admin: Admin,
    host: StubHost,
    issuer: String,
    client_id: String,
}

fn set(keys: &[Value]) -> Reply {
    Reply::json("", &jwks(keys))
}

fn failure() -> Reply {
    Reply::with("500 Fault", "", "")
}

fn metadata(issuer: &str, jwks_uri: &str) -> Reply {
    Reply::json("", &json!({ "issuer": issuer, "jwks_uri": jwks_uri }).to_string())
}

impl Discovered {
    async fn start(backend: Backend, reply: Reply) -> Self {
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
        let issuer = host.origin("localhost");
        host.route(DISCOVERY, metadata(&issuer, &host.url("localhost")));
        let made = register(&mut admin, CRM, Federated { issuer: issuer.clone(), ..trust(None) });
        let client_id = made.await.client_id;
        Self { kw, admin, host, issuer, client_id }
    }

    fn signed(&self, signer: &Signer, kid: &str) -> String {
        let claims = changed(claims(&self.kw), "iss", json!(self.issuer));
        signer.token(&json!({ "kid": kid }), &claims)
    }
}

async fn issuer_rotates_its_keys_without_a_call(backend: Backend) {
    let (old, new) = (Signer::new("RS256"), Signer::new("RS256"));
    let (old_jwk, new_jwk) =
        (old.jwk_with(&[("kid", "old"), ("use", "sig")]), new.jwk_with(&[("kid", "new")]));
    let case = Discovered::start(backend, set(std::slice::from_ref(&old_jwk))).await;
    let (kw, id) = (&case.kw, case.client_id.as_str());
    assert_eq!(case.host.requests(), 0, "registering fetches nothing");
    accepted(kw, "first", id, &case.signed(&old, "old")).await;
    assert_eq!(case.host.requests(), 2, "the metadata and the keys, once");
    case.host.answer(set(&[old_jwk, new_jwk.clone()]));
    accepted(kw, "the new key", id, &case.signed(&new, "new")).await;
    accepted(kw, "the old key", id, &case.signed(&old, "old")).await;
    assert_eq!(case.host.requests(), 4);
    // Now the keys are elsewhere, too.
    case.host.route("/keys", set(&[new_jwk]));
    let moved = format!("{}/keys", case.issuer);
    case.host.route(DISCOVERY, metadata(&case.issuer, &moved));
    kw.advance(5 * 60);
    accepted(kw, "the new key", id, &case.signed(&new, "new")).await;
    refused(kw, "the old key is gone", id, &case.signed(&old, "old")).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn issuer_that_disappears_is_used_for_a_day() {
    let signer = Signer::new("ES256");
    let jwk = signer.jwk_with(&[("kid", KID)]);
    let case = Discovered::start(Backend::Sqlite, set(&[jwk])).await;
    let (kw, id) = (&case.kw, case.client_id.as_str());
    accepted(kw, "there", id, &case.signed(&signer, KID)).await;
    case.host.route(DISCOVERY, failure());
    let unknown = case.signed(&signer, "other");
    undecided(kw, "an unknown key", id, &unknown).await;
    kw.advance(6 * 60);
    accepted(kw, "a known key that is stale", id, &case.signed(&signer, KID)).await;
    let stale: u64 = kw.metric("keyward_outbound_stale_key_sets_total").await;
    assert!(stale >= 4, "{stale}");
    kw.advance(24 * 3600);
    undecided(kw, "too old", id, &case.signed(&signer, KID)).await;
    case.host.route(DISCOVERY, metadata(&case.issuer, &case.host.url("localhost")));
    kw.advance(10);
    accepted(kw, "there again", id, &case.signed(&signer, KID)).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn metadata_of_another_issuer_count_for_nothing() {
    let signer = Signer::new("ES256");
    let case = Discovered::start(Backend::Sqlite, set(&[signer.jwk_with(&[("kid", KID)])])).await;
    let (kw, id, keys) = (&case.kw, case.client_id.as_str(), case.host.url("localhost"));
    let issuer = case.issuer.as_str();
    let wrong = [
        metadata("https://issuer.example", &keys),
        metadata(&format!("{issuer}/"), &keys),
        metadata(&issuer.to_uppercase(), &keys),
        metadata(issuer, "https://10.0.0.1/keys"),
        metadata(issuer, "http://localhost/keys"),
        metadata(issuer, "file:///etc/passwd"),
        metadata(issuer, ""),
        Reply::json("", &json!({ "issuer": issuer }).to_string()),
        Reply::json("", &json!({ "jwks_uri": keys }).to_string()),
        Reply::json("", "[]"),
        Reply::with("200 OK", "content-type: text/html\r\n", "<html>"),
        Reply::with("302 Found", "location: /jwks?of=a\r\n", ""),
    ];
    for (number, reply) in wrong.into_iter().enumerate() {
        case.host.route(DISCOVERY, reply);
        undecided(kw, &number.to_string(), id, &case.signed(&signer, KID)).await;
        kw.advance(10);
    }
    case.host.route(DISCOVERY, metadata(issuer, &keys));
    accepted(kw, "right", id, &case.signed(&signer, KID)).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn lookalikes_cause_no_fetch() {
    let signer = Signer::new("ES256");
    let mut case =
        Discovered::start(Backend::Sqlite, set(&[signer.jwk_with(&[("kid", KID)])])).await;
    let prefixed = Federated {
        issuer: case.issuer.clone(),
        subject: String::new(),
        claims: vec![super::prefix("sub", "repo:org/app:"), equals("env", "prod")],
        ..trust(None)
    };
    let prefixed = register(&mut case.admin, CRM, prefixed).await.client_id;
    let (kw, id) = (&case.kw, case.client_id.as_str());
    let issuer = case.issuer.as_str();
    let with = |changes: &[(&str, Value)]| {
        let mut all = changed(claims(kw), "iss", json!(issuer));
        for (name, value) in changes {
            all = changed(all, name, value.clone());
        }
        signer.token(&json!({ "kid": KID }), &all)
    };
    for lookalike in [
        format!("https://evil.test/?x={issuer}"),
        format!("{issuer}/"),
        format!("{issuer}.evil.test"),
        format!("{issuer}@evil.test"),
        issuer.replace("localhost", "LOCALHOST"),
        issuer.replace("localhost", "localhost."),
    ] {
        refused(kw, &lookalike, id, &with(&[("iss", json!(lookalike))])).await;
    }
    refused(kw, "sub", id, &with(&[("sub", json!("job:nightly-evil"))])).await;
    refused(kw, "aud", id, &with(&[("aud", json!("other"))])).await;
    refused(kw, "exp", id, &with(&[("exp", json!(kw.now().as_second()))])).await;
    for sub in ["repo:org/app-evil:ref:refs/heads/main", "repo:org/app", "xrepo:org/app:ref"] {
        let token = with(&[("sub", json!(sub)), ("env", json!("prod"))]);
        refused(kw, sub, &prefixed, &token).await;
    }
    let sub = json!("repo:org/app:ref:refs/heads/main");
    refused(kw, "env", &prefixed, &with(&[("sub", sub.clone())])).await;
    assert_eq!(case.host.connections(), 0);
    accepted(kw, "right", &prefixed, &with(&[("sub", sub), ("env", json!("prod"))])).await;
    assert_eq!(case.host.requests(), 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn storm_of_unknown_key_ids_fetches_once_in_thirty_seconds() {
    let (signer, forger) = (Signer::new("ES256"), Signer::new("ES256"));
    let case = Discovered::start(Backend::Sqlite, set(&[signer.jwk_with(&[("kid", KID)])])).await;
    let (kw, id) = (&case.kw, case.client_id.as_str());
    accepted(kw, "known", id, &case.signed(&signer, KID)).await;
    for round in 1..=3 {
        let storm = (0..60).map(async |n| {
            let token = case.signed(&forger, &format!("unknown-{n}"));
            post_token(kw, id, &token).await.error()
        });
        assert!(join_all(storm).await.iter().all(|error| error == "invalid_client"));
        assert_eq!(case.host.requests(), 2 + 2 * round, "round {round}");
        accepted(kw, "known", id, &case.signed(&signer, KID)).await;
        kw.advance(30);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn internal_issuer_is_not_reached() {
    let signer = Signer::new("ES256");
    let host = StubHost::start(set(&[signer.jwk_with(&[("kid", KID)])])).await;
    let kw = Backend::Sqlite.start_with(&[NO_BUDGET]).await;
    let mut admin = kw.admin().await;
    admin.acme().await;
    // A name can lead to an internal address: that is found when it is used.
    let issuer = host.origin("localhost");
    let made = register(&mut admin, CRM, Federated { issuer: issuer.clone(), ..trust(None) }).await;
    let token = signer.token(&json!({ "kid": KID }), &changed(claims(&kw), "iss", json!(issuer)));
    undecided(&kw, "internal", &made.client_id, &token).await;
    assert_eq!(host.connections(), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn keys_of_a_jwks_uri_need_no_discovery() {
    let signer = Signer::new("ES256");
    // As a SPIFFE bundle endpoint serves them.
    let keys = [
        signer.jwk_with(&[("kid", KID), ("use", "jwt-svid")]),
        Signer::new("ES256").jwk_with(&[("use", "x509-svid")]),
        json!({ "kty": "AKP", "alg": "ML-DSA-44", "pub": "AAAA", "kid": KID }),
    ];
    let mut case = Discovered::start(Backend::Sqlite, set(&keys)).await;
    let registered =
        Federated { keys: Some(Keys::JwksUri(case.host.url("localhost"))), ..trust(None) };
    let id = register(&mut case.admin, CRM, registered).await.client_id;
    let token = signer.token(&json!({ "kid": KID }), &claims(&case.kw));
    accepted(&case.kw, "jwks_uri", &id, &token).await;
    assert_eq!(case.host.requests(), 1);
    let skipped: u64 = case.kw.metric("keyward_outbound_skipped_keys_total").await;
    assert_eq!(skipped, 2);
}

/// Two clusters call themselves `https://kubernetes.default.svc.cluster.local`.
async fn clusters_with_one_issuer_are_apart(backend: Backend) {
    let (kw, mut admin, first) = start(backend, &[NO_BUDGET]).await;
    admin.application("acme", "other", &["a"]).await;
    let second = Platform::new(&mut admin, "tenants/acme/applications/other", trust).await;
    accepted(&kw, "first", &first.client_id, &first.token(&kw)).await;
    accepted(&kw, "second", &second.client_id, &second.token(&kw)).await;
    refused(&kw, "of the second", &first.client_id, &second.token(&kw)).await;
    refused(&kw, "of the first", &second.client_id, &first.token(&kw)).await;
    refused(&kw, "no client is named", "", &first.token(&kw)).await;
}
