//! Introspection (RFC 7662) and revocation (RFC 7009).

use keyward::proto::admin::DeleteCredentialRequest;
use keyward::proto::admin::credential::Kind;
use reqwest::Method;
use serde_json::{Value, json};

use crate::harness::{Answer, Backend, Credential, Keyward, on_both_databases};

on_both_databases!(
    active_token_has_all_members,
    inactive_token_has_only_active_false,
    introspection_requires_authentication,
    revoked_token_is_refused_immediately,
    bearer_token_can_introspect,
    introspection_can_be_answered_with_a_signed_jwt,
);

const INACTIVE: &str = "{\"active\":false}";

async fn token(kw: &Keyward, client: &Credential) -> String {
    let answer = kw.token_for(client, &[]).await;
    answer.json()["access_token"].as_str().unwrap().to_owned()
}

async fn introspect(kw: &Keyward, client: &Credential, token: &str) -> Answer {
    kw.post_as(client, "/oauth2/introspect", &[("token", token), ("token_type_hint", "x")]).await
}

async fn active_token_has_all_members(backend: Backend) {
    let kw = backend.start().await;
    let (credential, crm) = kw.admin().await.acme().await;
    let token = token(&kw, &crm).await;
    let answer = introspect(&kw, &crm, &token).await;
    assert_eq!(answer.status, 200);
    assert_eq!(answer.header("cache-control"), "no-store");
    let mut body = answer.json();
    assert_eq!(body["jti"].take().as_str().unwrap().len(), 32);
    let now = kw.now().as_second();
    let expected = json!({
        "active": true,
        "scope": "a b",
        "client_id": credential.client_id,
        "token_type": "Bearer",
        "exp": now + 900,
        "iat": now,
        "sub": "tenants/acme/applications/crm",
        "aud": "tenants/acme",
        "iss": "https://keyward.test",
        "jti": null,
        "tenant": "acme",
    });
    assert_eq!(body, expected);
}

async fn inactive_token_has_only_active_false(backend: Backend) {
    let kw = backend.start().await;
    let mut admin = kw.admin().await;
    let (credential, crm) = admin.acme().await;
    let (_, asker) = admin.credential("tenants/acme/applications/crm", Kind::ClientSecret).await;
    let application = admin.application("acme", "bi", &["a"]).await;
    let (_, bi) = admin.credential(&application.name, Kind::ClientSecret).await;
    let own = token(&kw, &crm).await;
    let foreign = token(&kw, &bi).await;
    let flipped = format!("{}x{}", &own[..200], &own[201..]);
    let cut = &own[..own.len() - 1];
    for inactive in ["x", "kwk_x", &flipped, cut, &foreign, &crm.secret] {
        let answer = introspect(&kw, &crm, inactive).await;
        assert_eq!((answer.status.as_u16(), answer.body.as_str()), (200, INACTIVE));
    }
    let request = DeleteCredentialRequest { name: credential.name, etag: String::new() };
    admin.credentials.delete_credential(request).await.unwrap();
    assert_eq!(introspect(&kw, &asker, &own).await.body, INACTIVE, "its credential is gone");
}

async fn introspection_requires_authentication(backend: Backend) {
    let kw = backend.start().await;
    let (_, crm) = kw.admin().await.acme().await;
    let token = token(&kw, &crm).await;
    for path in ["/oauth2/introspect", "/oauth2/revoke"] {
        let answer = kw.post(path, &[("token", &token)]).await;
        assert_eq!((answer.status.as_u16(), answer.error().as_str()), (401, "invalid_client"));
        let stranger = Credential { secret: "wrong".to_owned(), ..crm.clone() };
        let answer = kw.post_as(&stranger, path, &[("token", &token)]).await;
        assert_eq!((answer.status.as_u16(), answer.error().as_str()), (401, "invalid_client"));
        let answer = kw.post_as(&crm, path, &[]).await;
        assert_eq!((answer.status.as_u16(), answer.error().as_str()), (400, "invalid_request"));
    }
    assert_eq!(introspect(&kw, &crm, &token).await.json()["active"], true);
}

async fn revoked_token_is_refused_immediately(backend: Backend) {
    let kw = backend.start().await;
    let mut admin = kw.admin().await;
    let (_, crm) = admin.acme().await;
    let application = admin.application("acme", "bi", &["a"]).await;
    let (_, bi) = admin.credential(&application.name, Kind::ClientSecret).await;
    let token = token(&kw, &crm).await;
    let revoke = async |client: &Credential, token: &str| {
        kw.post_as(client, "/oauth2/revoke", &[("token", token)]).await
    };
    let answer = revoke(&bi, &token).await;
    assert_eq!((answer.status.as_u16(), answer.error().as_str()), (400, "unauthorized_client"));
    assert_eq!(introspect(&kw, &crm, &token).await.json()["active"], true);
    for token in [&token, &token, "unknown"] {
        let answer = revoke(&crm, token).await;
        assert_eq!((answer.status.as_u16(), answer.body.as_str()), (200, "{}"));
    }
    assert_eq!(introspect(&kw, &crm, &token).await.body, INACTIVE);
    let (_, key) = admin.credential("tenants/acme/applications/crm", Kind::ApiKey).await;
    let answer = revoke(&crm, &key.secret).await;
    assert_eq!((answer.status.as_u16(), answer.error().as_str()), (400, "unsupported_token_type"));
}

async fn bearer_token_can_introspect(backend: Backend) {
    let kw = backend.start().await;
    let (_, crm) = kw.admin().await.acme().await;
    let subject = token(&kw, &crm).await;
    let ask = async |bearer: &str| {
        let request = kw.request(Method::POST, "/oauth2/introspect").bearer_auth(bearer);
        kw.send(request.form(&[("token", &subject)])).await
    };
    let own = crm.exchange(&kw.grpc(), &[], &["keyward"]).await.unwrap().access_token;
    assert_eq!(ask(&own).await.json()["active"], true);
    let answer = ask("wrong").await;
    assert_eq!((answer.status.as_u16(), answer.error().as_str()), (401, "invalid_token"));
    assert!(answer.header("www-authenticate").starts_with("Bearer "));
}

/// The header and claims of a JWT that one of the published keys signed.
async fn signed(kw: &Keyward, jwt: &str) -> (jsonwebtoken::Header, Value) {
    let keys = kw.send(kw.request(Method::GET, "/oauth2/jwks")).await.json();
    let keys: jsonwebtoken::jwk::JwkSet = serde_json::from_value(keys).unwrap();
    let header = jsonwebtoken::decode_header(jwt).unwrap();
    let key = keys.find(header.kid.as_deref().unwrap()).unwrap();
    let key = jsonwebtoken::DecodingKey::from_jwk(key).unwrap();
    let mut rules = jsonwebtoken::Validation::new(header.alg);
    rules.set_required_spec_claims::<&str>(&[]);
    rules.validate_aud = false;
    rules.validate_exp = false;
    let claims = jsonwebtoken::decode::<Value>(jwt, &key, &rules).unwrap().claims;
    (header, claims)
}

async fn introspection_can_be_answered_with_a_signed_jwt(backend: Backend) {
    const JWT: &str = "application/token-introspection+jwt";
    let kw = backend.start().await;
    let mut admin = kw.admin().await;
    let (credential, crm) = admin.acme().await;
    let token = token(&kw, &crm).await;
    let ask = async |token: &str, accept: &str| {
        let request = kw.request(Method::POST, "/oauth2/introspect").header("accept", accept);
        let request = request.basic_auth(&crm.client_id, Some(&crm.secret));
        kw.send(request.form(&[("token", token)])).await
    };
    let plain = ask(&token, "application/json, */*").await;
    assert_eq!(plain.header("content-type"), "application/json");
    let answer = ask(&token, &format!("application/json;q=0.5, {JWT}")).await;
    assert_eq!((answer.status.as_u16(), answer.header("content-type")), (200, JWT));
    assert_eq!(answer.header("cache-control"), "no-store");
    let (header, claims) = signed(&kw, &answer.body).await;
    assert_eq!(header.typ.as_deref(), Some("token-introspection+jwt"));
    let expected = json!({
        "iss": "https://keyward.test",
        "aud": credential.client_id,
        "iat": kw.now().as_second(),
        "token_introspection": plain.json(),
    });
    assert_eq!(claims, expected);
    let unknown = ask("x", JWT).await;
    let (_, claims) = signed(&kw, &unknown.body).await;
    assert_eq!(claims["token_introspection"], json!({ "active": false }));
    // It has our signature, but is no access token.
    assert!(!admin.is_active(&answer.body).await);
    let request = kw.request(Method::POST, "/oauth2/introspect").bearer_auth(&answer.body);
    assert_eq!(kw.send(request.form(&[("token", &token)])).await.status, 401);
}
