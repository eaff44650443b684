//! The token endpoint.

use reqwest::Method;
use serde_json::json;

use crate::harness::{Backend, Credential, on_both_databases};

on_both_databases!(
    basic_and_post_both_get_a_token,
    token_answer_has_exact_members,
    form_encoded_and_raw_basic_are_the_same,
    repeated_resource_is_accepted,
    api_key_works_as_client_secret,
    failed_clients_get_identical_answers,
);

async fn basic_and_post_both_get_a_token(backend: Backend) {
    let kw = backend.start().await;
    let (_, crm) = kw.admin().await.acme().await;
    let basic = kw.token_for(&crm, &[("scope", "a")]).await;
    assert_eq!(basic.status, 200, "{basic:?}");
    let form = [
        ("grant_type", "client_credentials"),
        ("client_id", crm.client_id.as_str()),
        ("client_secret", crm.secret.as_str()),
        ("unknown_parameters", "are ignored"),
    ];
    let post = kw.post("/oauth2/token", &form).await;
    assert_eq!(post.status, 200, "{post:?}");
    assert_eq!(post.json()["scope"], "a b");
}

async fn token_answer_has_exact_members(backend: Backend) {
    let kw = backend.start().await;
    let (_, crm) = kw.admin().await.acme().await;
    let answer = kw.token_for(&crm, &[("scope", "b a")]).await;
    assert_eq!(answer.header("content-type"), "application/json");
    assert_eq!(answer.header("cache-control"), "no-store");
    let mut body = answer.json();
    let token = body["access_token"].take();
    assert_eq!(token.as_str().unwrap().split('.').count(), 3);
    let expected = json!({
        "access_token": null,
        "token_type": "Bearer",
        "expires_in": 900,
        "scope": "a b",
    });
    assert_eq!(body, expected);
}

async fn form_encoded_and_raw_basic_are_the_same(backend: Backend) {
    let kw = backend.start().await;
    let (_, crm) = kw.admin().await.acme().await;
    let encode = |text: &str| text.replace('_', "%5F").replace('k', "%6b");
    let encoded = Credential { client_id: encode(&crm.client_id), secret: encode(&crm.secret) };
    for client in [&crm, &encoded] {
        assert_eq!(kw.token_for(client, &[]).await.status, 200);
    }
    let request = kw
        .request(Method::POST, "/oauth2/token")
        .basic_auth(&crm.client_id, Some(&crm.secret))
        .header("content-type", "application/x-www-form-urlencoded;charset=UTF-8")
        .body("grant_type=client_credentials");
    assert_eq!(kw.send(request).await.status, 200);
}

async fn repeated_resource_is_accepted(backend: Backend) {
    let kw = backend.start().await;
    let (_, crm) = kw.admin().await.acme().await;
    let form =
        [("resource", "tenants/acme"), ("audience", "keyward"), ("audience", "tenants/acme")];
    assert_eq!(kw.token_for(&crm, &form).await.status, 200);
    let answer = kw.token_for(&crm, &[("resource", "https://elsewhere.example")]).await;
    assert_eq!((answer.status.as_u16(), answer.error().as_str()), (400, "invalid_target"));
}

async fn api_key_works_as_client_secret(backend: Backend) {
    let kw = backend.start().await;
    let mut admin = kw.admin().await;
    admin.acme().await;
    let kind = keyward::proto::admin::credential::Kind::ApiKey;
    let (credential, key) = admin.credential("tenants/acme/applications/crm", kind).await;
    let client = Credential { client_id: credential.client_id, secret: key.secret };
    assert_eq!(kw.token_for(&client, &[]).await.status, 200);
}

async fn failed_clients_get_identical_answers(backend: Backend) {
    let kw = backend.start().await;
    let mut admin = kw.admin().await;
    let (_, crm) = admin.acme().await;
    admin.tenant("other", &["a"]).await;
    let application = admin.application("other", "x", &["a"]).await;
    let kind = keyward::proto::admin::credential::Kind::ClientSecret;
    let (_, other) = admin.credential(&application.name, kind).await;
    let request = keyward::proto::admin::UpdateApplicationRequest {
        application: Some(keyward::proto::admin::Application {
            name: application.name,
            disabled: true,
            ..Default::default()
        }),
        update_mask: Some(prost_types::FieldMask { paths: vec!["disabled".to_owned()] }),
    };
    admin.applications.update_application(request).await.unwrap();
    let client =
        |id: &str, secret: &str| Credential { client_id: id.to_owned(), secret: secret.to_owned() };
    let failures = [
        client(&crm.client_id, &other.secret),
        client(&other.client_id, &crm.secret),
        client(&"0".repeat(32), &crm.secret),
        client("unknown", "nothing"),
        client(&crm.client_id, &crm.secret[1..]),
        client(&crm.client_id, &format!("{}x", crm.secret)),
        client(&crm.client_id, &format!("{}&x", crm.secret)),
        client(&crm.client_id, &format!("{}=x", crm.secret)),
        client(&crm.client_id, &format!("&{}", crm.secret)),
        other.clone(),
    ];
    let mut seen = Vec::new();
    for failure in &failures {
        let before = kw.server().service.hashes().get();
        let answer = kw.token_for(failure, &[]).await;
        let hashes = kw.server().service.hashes().get() - before;
        // A well-formed secret costs one hash, whatever is wrong with it.
        let has_the_form =
            failure.client_id.len() == 32 && failure.secret.len() == crm.secret.len();
        assert_eq!(hashes, u64::from(has_the_form), "{failure:?}");
        assert_eq!((answer.status.as_u16(), answer.error().as_str()), (401, "invalid_client"));
        assert!(answer.header("www-authenticate").starts_with("Basic "));
        let mut headers = answer.headers.clone();
        headers.remove("date");
        seen.push(format!("{headers:?} {}", answer.body));
    }
    seen.dedup();
    assert_eq!(seen.len(), 1, "{seen:#?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn authorization_details_are_refused_by_name() {
    let kw = Backend::Sqlite.start().await;
    let (_, crm) = kw.admin().await.acme().await;
    let answer = kw.token_for(&crm, &[("authorization_details", "[{\"type\":\"x\"}]")]).await;
    assert_eq!(answer.status, 400);
    assert_eq!(answer.error(), "invalid_authorization_details");
    assert!(answer.body.contains("scope"), "{}", answer.body);
}
