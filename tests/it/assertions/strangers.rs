//! What wrong assertions cost, and what they tell.

use serde_json::json;

use super::{Party, accepted, exchange, issue, start};
use crate::harness::signer::Signer;
use crate::harness::{Backend, Keyward, on_both_databases};

on_both_databases!(source_with_many_wrong_assertions_is_refused);

const ATTACKER: &str = "192.0.2.66";
const BEHIND_PROXY: (&str, &str) = ("trusted_proxies", "127.0.0.0/8");

/// Exchanges an assertion from this address.
async fn from(kw: &Keyward, address: &str, assertion: &str) -> crate::harness::Answer {
    let form = [
        ("grant_type", "client_credentials"),
        ("client_assertion_type", super::ASSERTION_TYPE),
        ("client_assertion", assertion),
    ];
    let request = kw.request(reqwest::Method::POST, "/oauth2/token");
    kw.send(request.header("x-forwarded-for", address).form(&form)).await
}

async fn source_with_many_wrong_assertions_is_refused(backend: Backend) {
    let settings = [BEHIND_PROXY, ("secrets.wrong_secrets_of_source", "6")];
    let (kw, mut admin, party) = start(backend, &settings).await;
    let other = Party::new(&mut admin, "EdDSA").await;
    let stranger = Signer::new("ES256");
    assert_eq!(from(&kw, ATTACKER, &party.assertion(&kw)).await.status, 200);
    let spent = party.assertion(&kw);
    assert_eq!(from(&kw, ATTACKER, &spent).await.status, 200);
    for number in 0..6 {
        let wrong = match number {
            // A used one, one of an unknown client, one that is no JWT, and forged ones.
            0 => spent.clone(),
            1 => party.with(&kw, "sub", json!("0".repeat(32))),
            2 => "a.b.c".to_owned(),
            _ => stranger.token(&json!({ "kid": party.kid }), &party.claims(&kw)),
        };
        let answer = from(&kw, ATTACKER, &wrong).await;
        assert_eq!(answer.error(), "invalid_client", "{number}");
    }
    for assertion in [party.assertion(&kw), other.assertion(&kw), "a.b.c".to_owned()] {
        let answer = from(&kw, ATTACKER, &assertion).await;
        assert_eq!(answer.status, 429, "{}", answer.body);
        assert_eq!(answer.header("ratelimit-policy"), "\"wrong-secrets\";q=6;w=60");
    }
    assert_eq!(from(&kw, "198.51.100.1", &party.assertion(&kw)).await.status, 200);
    kw.advance(62);
    assert_eq!(from(&kw, ATTACKER, &party.assertion(&kw)).await.status, 200);
}

#[tokio::test(flavor = "multi_thread")]
async fn right_assertions_use_no_budget() {
    let settings = [("secrets.wrong_secrets_of_source", "1"), ("secrets.wrong_secrets", "1")];
    let (kw, _, party) = start(Backend::Sqlite, &settings).await;
    for _ in 0..10 {
        accepted(&kw, "right", || party.assertion(&kw)).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn every_refusal_is_the_same_answer() {
    let (kw, mut admin, party) = start(Backend::Sqlite, &[super::NO_BUDGET]).await;
    let (secret, _) =
        admin.credential(super::CRM, keyward::proto::admin::credential::Kind::ClientSecret).await;
    let named = |id: &str| {
        let mut claims = party.claims(&kw);
        claims["iss"] = json!(id);
        claims["sub"] = json!(id);
        party.sign(&claims)
    };
    let stranger = Signer::new("ES256");
    let forged = stranger.token(&json!({ "kid": party.kid }), &party.claims(&kw));
    let spent = party.assertion(&kw);
    issue(&kw, &spent).await.unwrap();
    let mut seen = Vec::new();
    for assertion in [
        named(&"0".repeat(32)),
        named("malformed"),
        named(&secret.client_id),
        forged,
        spent,
        party.with(&kw, "aud", json!("other")),
        party.signer.token(&json!({ "kid": "other" }), &party.claims(&kw)),
        "x".to_owned(),
    ] {
        let mut answer = exchange(&kw, &assertion).await;
        answer.headers.remove("date");
        let status = issue(&kw, &assertion).await.unwrap_err();
        let mut headers = status.metadata().clone().into_headers();
        headers.remove("date");
        seen.push(format!(
            "{} {:?} {} {:?} {} {:?} {headers:?}",
            answer.status,
            answer.headers,
            answer.body,
            status.code(),
            status.message(),
            status.details(),
        ));
    }
    seen.dedup();
    assert_eq!(seen.len(), 1, "{seen:#?}");
}
