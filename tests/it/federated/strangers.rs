//! What wrong tokens cost, and what they tell.

use serde_json::json;

use super::{
    CRM, KID, NO_BUDGET, Platform, SUBJECT, accepted, claims, issue, post_token, register, start,
    trust,
};
use crate::harness::signer::Signer;
use crate::harness::{Answer, Backend, Keyward, on_both_databases};
use keyward::proto::admin::credential::{Federated, Kind};

on_both_databases!(source_with_many_wrong_tokens_is_refused);

const ATTACKER: &str = "192.0.2.66";

async fn from(kw: &Keyward, address: &str, client_id: &str, token: &str) -> Answer {
    let form = [
        ("grant_type", "client_credentials"),
        ("client_assertion_type", super::ASSERTION_TYPE),
        ("client_assertion", token),
        ("client_id", client_id),
    ];
    let request = kw.request(reqwest::Method::POST, "/oauth2/token");
    kw.send(request.header("x-forwarded-for", address).form(&form)).await
}

async fn source_with_many_wrong_tokens_is_refused(backend: Backend) {
    let settings = [("trusted_proxies", "127.0.0.0/8"), ("secrets.wrong_secrets_of_source", "6")];
    let (kw, _, platform) = start(backend, &settings).await;
    let (id, right) = (platform.client_id.as_str(), platform.token(&kw));
    let stranger = Signer::new("ES256");
    for number in 0..20 {
        let answer = from(&kw, ATTACKER, id, &right).await;
        assert_eq!(answer.status, 200, "{number}: right ones use no budget");
    }
    for number in 0..6 {
        let wrong = match number {
            0 => platform.with(&kw, "sub", json!("job:other")),
            1 => platform.with(&kw, "iss", json!("https://evil.test")),
            2 => "a.b.c".to_owned(),
            _ => stranger.token(&json!({ "kid": KID }), &claims(&kw)),
        };
        let answer = from(&kw, ATTACKER, id, &wrong).await;
        assert_eq!(answer.error(), "invalid_client", "{number}");
    }
    for token in [right.as_str(), "a.b.c"] {
        let answer = from(&kw, ATTACKER, id, token).await;
        assert_eq!(answer.status, 429, "{}", answer.body);
    }
    assert_eq!(from(&kw, "198.51.100.1", id, &right).await.status, 200);
    kw.advance(62);
    assert_eq!(from(&kw, ATTACKER, id, &right).await.status, 200);
}

#[tokio::test(flavor = "multi_thread")]
async fn every_refusal_is_the_same_answer() {
    let (kw, mut admin, platform) = start(Backend::Sqlite, &[NO_BUDGET]).await;
    let (secret, _) = admin.credential(CRM, Kind::ClientSecret).await;
    let stranger = Signer::new("ES256");
    let id = platform.client_id.as_str();
    let mut seen = Vec::new();
    for (client_id, token) in [
        (&*"0".repeat(32), platform.token(&kw)),
        ("malformed", platform.token(&kw)),
        ("", platform.token(&kw)),
        (&*secret.client_id, platform.token(&kw)),
        (id, stranger.token(&json!({ "kid": KID }), &claims(&kw))),
        (id, platform.with(&kw, "aud", json!("other"))),
        (id, platform.with(&kw, "sub", json!("other"))),
        (id, platform.with(&kw, "exp", json!(kw.now().as_second()))),
        (id, platform.signer.token(&json!({ "kid": "other" }), &claims(&kw))),
        (id, "x".to_owned()),
    ] {
        let mut answer = post_token(&kw, client_id, &token).await;
        answer.headers.remove("date");
        let status = issue(&kw, client_id, &token).await.unwrap_err();
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

/// Credentials of other tenants with the same issuer and subject change nothing.
#[tokio::test(flavor = "multi_thread")]
async fn trust_of_one_tenant_says_nothing_to_another() {
    let (kw, mut admin, platform) = start(Backend::Sqlite, &[NO_BUDGET]).await;
    admin.tenant("globex", &["a"]).await;
    admin.application("globex", "crm", &["a"]).await;
    let same = |keys| Federated { subject: SUBJECT.to_owned(), ..trust(keys) };
    let theirs = Platform::new(&mut admin, "tenants/globex/applications/crm", same).await;
    accepted(&kw, "ours", &platform.client_id, &platform.token(&kw)).await;
    accepted(&kw, "theirs", &theirs.client_id, &theirs.token(&kw)).await;
    super::refused(&kw, "theirs for ours", &platform.client_id, &theirs.token(&kw)).await;
    // One key, two tenants: the client id decides.
    let keys = super::key_of(&platform.signer);
    let shared = register(&mut admin, "tenants/globex/applications/crm", trust(Some(keys))).await;
    let token = issue(&kw, &shared.client_id, &platform.token(&kw)).await.unwrap();
    assert_eq!(admin.introspect(&token).await.tenant, "globex");
    let token = issue(&kw, &platform.client_id, &platform.token(&kw)).await.unwrap();
    assert_eq!(admin.introspect(&token).await.tenant, "acme");
}
