//! The kind of a credential is binding, and its state decides.

use keyward::proto::admin as pb;
use keyward::proto::admin::credential::Kind;
use keyward::proto::token::issue_token_request::Credential as Proof;
use keyward::proto::token::{ClientAssertion, ClientCertificate, ClientSecret};
use reqwest::Method;
use serde_json::json;

use super::{CRM, NO_BUDGET, Party, accepted, exchange, issue, issue_with, post, refused, start};
use crate::harness::signer::Signer;
use crate::harness::{Backend, Credential, Keyward, mask, on_both_databases, reason};

on_both_databases!(ended_client_is_refused, removed_key_is_refused_with_its_tokens);

const GRANT: (&str, &str) = ("grant_type", "client_credentials");
const PATHS: [&str; 3] = ["/oauth2/token", "/oauth2/introspect", "/oauth2/revoke"];

#[tokio::test(flavor = "multi_thread")]
async fn client_with_a_key_has_no_other_method() {
    let (kw, mut admin, party) = start(Backend::Sqlite, &[NO_BUDGET]).await;
    let (_, other) = admin.credential(CRM, Kind::ClientSecret).await;
    let (_, key) = admin.credential(CRM, Kind::ApiKey).await;
    let id = party.id();
    let unsigned = format!("{}.{}.", unsigned_header(), payload(&kw, &party));
    // A secret with the right form, for another client and for this one.
    let for_this = other.secret.replace(&other.client_id, id);
    for path in PATHS {
        let token = ("token", "x");
        let forms: [Vec<(&str, &str)>; 7] = [
            vec![GRANT, token],
            vec![GRANT, token, ("client_id", id)],
            vec![GRANT, token, ("client_id", id), ("client_secret", "")],
            vec![GRANT, token, ("client_id", id), ("client_secret", "kws_x")],
            vec![GRANT, token, ("client_id", id), ("client_secret", other.secret.as_str())],
            vec![GRANT, token, ("client_id", id), ("client_secret", for_this.as_str())],
            vec![GRANT, token, ("client_id", id), ("client_secret", key.secret.as_str())],
        ];
        for form in forms {
            let answer = kw.post(path, &form).await;
            assert_eq!(answer.error(), "invalid_client", "{path} {form:?}");
        }
        for secret in ["", "x", &other.secret, &for_this, &key.secret] {
            let request = kw.request(Method::POST, path);
            let request = request.basic_auth(id, Some(secret)).form(&[GRANT, token]);
            assert_eq!(kw.send(request).await.error(), "invalid_client", "{path} Basic");
        }
        let answer = post(&kw, path, &unsigned, &[GRANT, token]).await;
        assert_eq!(answer.error(), "invalid_client", "{path} alg none");
    }
    let client_id = id.to_owned();
    let proofs = [
        Proof::ClientCertificate(ClientCertificate { client_id: client_id.clone() }),
        Proof::ClientSecret(ClientSecret {
            client_id: client_id.clone(),
            client_secret: String::new(),
        }),
        Proof::ClientSecret(ClientSecret {
            client_id: client_id.clone(),
            client_secret: other.secret.clone(),
        }),
        Proof::ClientSecret(ClientSecret { client_id: client_id.clone(), client_secret: for_this }),
        Proof::ClientAssertion(ClientAssertion { client_id, assertion: unsigned }),
        Proof::ApiKey(party.assertion(&kw)),
    ];
    for (number, proof) in proofs.into_iter().enumerate() {
        let status = issue_with(&kw, proof, &[]).await.unwrap_err();
        assert_eq!(reason(&status), "INVALID_CLIENT", "{number}");
    }
    accepted(&kw, "its own method", || party.assertion(&kw)).await;
}

fn unsigned_header() -> String {
    crate::harness::signer::base64url(r#"{"alg":"none"}"#)
}

fn payload(kw: &Keyward, party: &Party) -> String {
    crate::harness::signer::base64url(party.claims(kw).to_string())
}

#[tokio::test(flavor = "multi_thread")]
async fn client_with_a_secret_has_no_assertions() {
    let (kw, mut admin, party) = start(Backend::Sqlite, &[NO_BUDGET]).await;
    for kind in [Kind::ClientSecret, Kind::ApiKey] {
        let (credential, Credential { secret, .. }) = admin.credential(CRM, kind).await;
        // Signed by a known key, and with the secret as a key of HMAC.
        let mut claims = party.claims(&kw);
        claims["iss"] = json!(credential.client_id);
        claims["sub"] = json!(credential.client_id);
        refused(&kw, "a key of another client", || party.sign(&claims)).await;
        refused(&kw, "HMAC", || hmac(&claims.to_string(), &secret)).await;
        let form = [GRANT, ("client_id", credential.client_id.as_str())];
        let answer = post(&kw, "/oauth2/token", &party.assertion(&kw), &form).await;
        assert_eq!(answer.error(), "invalid_client");
    }
}

fn hmac(claims: &str, secret: &str) -> String {
    let header = jsonwebtoken::Header::new(jsonwebtoken::Algorithm::HS256);
    let key = jsonwebtoken::EncodingKey::from_secret(secret.as_bytes());
    let claims: serde_json::Value = serde_json::from_str(claims).unwrap();
    jsonwebtoken::encode(&header, &claims, &key).unwrap()
}

async fn update(
    admin: &mut crate::harness::Admin,
    credential: pb::Credential,
    fields: &[&str],
) -> Result<pb::Credential, tonic::Status> {
    let request =
        pb::UpdateCredentialRequest { credential: Some(credential), update_mask: mask(fields) };
    let answer = admin.credentials.update_credential(request).await?;
    Ok(answer.into_inner().credential.unwrap())
}

async fn ended_client_is_refused(backend: Backend) {
    let (kw, mut admin, party) = start(backend, &[NO_BUDGET]).await;
    let named = pb::Credential { name: party.credential.name.clone(), ..Default::default() };
    let disabled = |disabled| pb::Credential { disabled, ..named.clone() };
    let token = issue(&kw, &party.assertion(&kw)).await.unwrap();
    update(&mut admin, disabled(true), &["disabled"]).await.unwrap();
    refused(&kw, "disabled", || party.assertion(&kw)).await;
    assert!(!admin.is_active(&token).await);
    update(&mut admin, disabled(false), &["disabled"]).await.unwrap();
    accepted(&kw, "enabled", || party.assertion(&kw)).await;

    let application = |disabled| pb::UpdateApplicationRequest {
        application: Some(pb::Application { name: CRM.to_owned(), disabled, ..Default::default() }),
        update_mask: mask(&["disabled"]),
    };
    admin.applications.update_application(application(true)).await.unwrap();
    refused(&kw, "disabled application", || party.assertion(&kw)).await;
    admin.applications.update_application(application(false)).await.unwrap();

    let end = kw.now().as_second() + 100;
    let expire_time = Some(prost_types::Timestamp { seconds: end, nanos: 0 });
    let ends = pb::Credential { expire_time, ..named.clone() };
    update(&mut admin, ends, &["expire_time"]).await.unwrap();
    accepted(&kw, "not expired", || party.assertion(&kw)).await;
    kw.advance(100);
    refused(&kw, "expired", || party.assertion(&kw)).await;

    let other = Party::new(&mut admin, "ES384").await;
    accepted(&kw, "there", || other.assertion(&kw)).await;
    let name = other.credential.name.clone();
    let delete = pb::DeleteCredentialRequest { name, etag: String::new() };
    admin.credentials.delete_credential(delete).await.unwrap();
    refused(&kw, "deleted", || other.assertion(&kw)).await;
}

async fn removed_key_is_refused_with_its_tokens(backend: Backend) {
    let (kw, mut admin, mut party) = start(backend, &[NO_BUDGET]).await;
    let token = issue(&kw, &party.assertion(&kw)).await.unwrap();
    let (old, new) = (party.signer, Signer::new("EdDSA"));
    let (old_jwk, new_jwk) =
        (old.jwk_with(&[("kid", "first")]), new.jwk_with(&[("kid", "second")]));
    let with = |keys: &[serde_json::Value]| {
        let keys = pb::credential::public_key::Keys::Jwks(super::jwks(keys));
        let keys = pb::credential::PublicKey { keys: Some(keys) };
        pb::Credential {
            name: party.credential.name.clone(),
            registration: Some(pb::credential::Registration::PublicKey(keys)),
            ..Default::default()
        }
    };
    let both = with(&[old_jwk, new_jwk.clone()]);
    let only = with(&[new_jwk]);
    update(&mut admin, both, &["public_key"]).await.unwrap();
    assert!(admin.is_active(&token).await, "a key was added");
    party.signer = old;
    accepted(&kw, "the old key", || party.assertion(&kw)).await;
    let signed_by_new = |claims: &serde_json::Value| new.token(&json!({ "kid": "second" }), claims);
    accepted(&kw, "the new key", || signed_by_new(&party.claims(&kw))).await;
    update(&mut admin, only, &["public_key"]).await.unwrap();
    refused(&kw, "the old key", || party.assertion(&kw)).await;
    assert!(!admin.is_active(&token).await, "a key was removed");
    accepted(&kw, "the new key", || signed_by_new(&party.claims(&kw))).await;
    let answer = exchange(&kw, &signed_by_new(&party.claims(&kw))).await;
    let token = answer.json()["access_token"].as_str().unwrap().to_owned();
    assert!(admin.is_active(&token).await);
}
