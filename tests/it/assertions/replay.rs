//! An assertion is accepted once.

use keyward::proto::admin as pb;
use keyward::proto::token::ClientAssertion;
use keyward::proto::token::issue_token_request::Credential as Proof;
use serde_json::json;
use tonic::Code;

use super::{CRM, Party, accepted, exchange, issue, issue_with, post, refused, start};
use crate::harness::signer::Signer;
use crate::harness::{
    Backend, Keyward, Proxy, fresh_database, mask, on_both_databases, reason, until,
};

on_both_databases!(
    assertion_is_accepted_once_at_any_endpoint,
    forged_assertion_spends_nothing,
    refused_request_spends_nothing,
);

const GRANT: (&str, &str) = ("grant_type", "client_credentials");

async fn assertion_is_accepted_once_at_any_endpoint(backend: Backend) {
    let (kw, mut admin, party) = start(backend, &[]).await;
    let token = issue(&kw, &party.assertion(&kw)).await.unwrap();
    let about = [("token", token.as_str())];
    for path in ["/oauth2/token", "/oauth2/introspect", "/oauth2/revoke"] {
        let assertion = party.assertion(&kw);
        let form = [GRANT, about[0]];
        let first = post(&kw, path, &assertion, &form).await;
        assert_eq!(first.status, 200, "{path}: {}", first.body);
        if path == "/oauth2/introspect" {
            assert_eq!(first.json()["active"], true);
        }
        for again in ["/oauth2/token", "/oauth2/introspect", "/oauth2/revoke"] {
            let answer = post(&kw, again, &assertion, &form).await;
            assert_eq!(answer.error(), "invalid_client", "{path}, then {again}");
        }
        refused(&kw, path, || assertion.clone()).await;
        kw.advance(30);
        refused(&kw, "nor later", || assertion.clone()).await;
    }
    assert!(!admin.is_active(&token).await, "it was revoked");
    // Two clients do not share the ids.
    let other = Party::new(&mut admin, "EdDSA").await;
    for party in [&party, &other] {
        let assertion = party.with(&kw, "jti", json!("1"));
        assert_eq!(exchange(&kw, &assertion).await.status, 200);
        refused(&kw, "again", || party.with(&kw, "jti", json!("1"))).await;
    }
}

async fn forged_assertion_spends_nothing(backend: Backend) {
    let (kw, _, party) = start(backend, &[]).await;
    let stranger = Signer::new("ES256");
    let claims = party.claims(&kw);
    let forged = stranger.token(&json!({ "kid": party.kid }), &claims);
    refused(&kw, "forged", || forged.clone()).await;
    for (claim, value) in [("aud", json!("https://other.test")), ("exp", json!(1))] {
        let mut wrong = claims.clone();
        wrong[claim] = value;
        refused(&kw, claim, || party.sign(&wrong)).await;
    }
    let answer = exchange(&kw, &party.sign(&claims)).await;
    assert_eq!(answer.status, 200, "{}", answer.body);
}

async fn refused_request_spends_nothing(backend: Backend) {
    let (kw, mut admin, party) = start(backend, &[]).await;
    let limits = Some(pb::Limits { tokens: 2, ..Default::default() });
    let application = pb::Application { name: CRM.to_owned(), limits, ..Default::default() };
    let request = pb::UpdateApplicationRequest {
        application: Some(application),
        update_mask: mask(&["limits"]),
    };
    admin.applications.update_application(request).await.unwrap();

    let assertion = party.assertion(&kw);
    let scope = post(&kw, "/oauth2/token", &assertion, &[GRANT, ("scope", "c")]).await;
    assert_eq!(scope.error(), "invalid_scope");
    let audience = post(&kw, "/oauth2/token", &assertion, &[GRANT, ("audience", "other")]).await;
    assert_eq!(audience.error(), "invalid_target");
    let grant = post(&kw, "/oauth2/token", &assertion, &[("grant_type", "password")]).await;
    assert_eq!(grant.error(), "unsupported_grant_type");
    for path in ["/oauth2/introspect", "/oauth2/revoke"] {
        assert_eq!(post(&kw, path, &assertion, &[]).await.error(), "invalid_request");
    }
    let message = ClientAssertion { client_id: String::new(), assertion: assertion.clone() };
    let status = issue_with(&kw, Proof::ClientAssertion(message), &["c"]).await.unwrap_err();
    assert_eq!(reason(&status), "SCOPE_NOT_ALLOWED");
    assert_eq!(exchange(&kw, &assertion).await.status, 200);

    // Uses of a spent assertion do not count against the limit of tokens.
    for _ in 0..5 {
        assert_eq!(exchange(&kw, &assertion).await.error(), "invalid_client");
    }
    issue(&kw, &party.assertion(&kw)).await.unwrap();
    let assertion = party.assertion(&kw);
    assert_eq!(exchange(&kw, &assertion).await.status, 429);
    let status = issue(&kw, &assertion).await.unwrap_err();
    assert_eq!(reason(&status), "RATE_LIMITED");
    kw.advance(61);
    let claims = party.claims(&kw);
    let answer = exchange(&kw, &party.sign(&claims)).await;
    assert_eq!(answer.status, 200, "{}", answer.body);
}

#[tokio::test(flavor = "multi_thread")]
async fn limit_does_not_spend_an_assertion() {
    let (kw, mut admin, party) = start(Backend::Sqlite, &[]).await;
    let limits = Some(pb::Limits {
        tokens: 1,
        token_window: Some(prost_types::Duration { seconds: 5, nanos: 0 }),
        ..Default::default()
    });
    let application = pb::Application { name: CRM.to_owned(), limits, ..Default::default() };
    let request = pb::UpdateApplicationRequest {
        application: Some(application),
        update_mask: mask(&["limits"]),
    };
    admin.applications.update_application(request).await.unwrap();
    issue(&kw, &party.assertion(&kw)).await.unwrap();
    let assertion = party.assertion(&kw);
    assert_eq!(exchange(&kw, &assertion).await.status, 429);
    kw.advance(11);
    let answer = exchange(&kw, &assertion).await;
    assert_eq!(answer.status, 200, "{}", answer.body);
}

#[tokio::test(flavor = "multi_thread")]
async fn assertion_is_accepted_by_one_replica() {
    let [one, other] = Keyward::replicas(None, &[super::NO_BUDGET]).await;
    let mut admin = one.admin().await;
    admin.acme().await;
    let party = Party::new(&mut admin, "ES256").await;
    for round in 0..20 {
        let assertion = party.assertion(&one);
        let (first, second) = tokio::join!(issue(&one, &assertion), exchange(&other, &assertion));
        let accepted = usize::from(first.is_ok()) + usize::from(second.status == 200);
        assert_eq!(accepted, 1, "round {round}: {first:?} {second:?}");
        refused(&one, "again", || assertion.clone()).await;
        refused(&other, "again", || assertion.clone()).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn assertion_is_neither_accepted_nor_refused_without_the_database() {
    let url = fresh_database().await;
    let (start, database) = url.rsplit_once('/').unwrap();
    let server = start.rsplit_once('@').unwrap().1.parse().unwrap();
    let mut proxy = Proxy::to(server).await;
    let url = format!("postgres://keyward@{}/{database}", proxy.address);
    // What was read before stays good, so that the store of spent assertions is what is missing.
    let settings = [("database.acquire_timeout", "1s"), ("revocations.max_staleness", "10m")];
    let kw = Keyward::start(Some(url), &settings).await;
    let mut admin = kw.admin().await;
    admin.acme().await;
    let party = Party::new(&mut admin, "ES256").await;
    accepted(&kw, "before", || party.assertion(&kw)).await;
    let spent = party.assertion(&kw);
    issue(&kw, &spent).await.unwrap();

    proxy.cut().await;
    let unspent = party.assertion(&kw);
    for assertion in [&unspent, &spent] {
        let answer = exchange(&kw, assertion).await;
        assert_eq!(answer.status, 503, "{}", answer.body);
        assert_eq!(answer.error(), "temporarily_unavailable");
        let status = issue(&kw, assertion).await.unwrap_err();
        assert_eq!((status.code(), reason(&status).as_str()), (Code::Unavailable, "UNAVAILABLE"));
    }
    proxy.mend().await;
    until("the database answers", async || issue(&kw, &party.assertion(&kw)).await.is_ok()).await;
    refused(&kw, "it was spent before", || spent.clone()).await;
    // It may have been recorded without an answer. It is not accepted twice.
    let mut accepted = 0;
    for _ in 0..3 {
        accepted += u32::from(exchange(&kw, &unspent).await.status == 200);
    }
    assert!(accepted <= 1);
}
