//! The kind of a credential is binding, and its state decides.

use keyward::proto::admin as pb;
use keyward::proto::admin::credential::{Federated, Kind, Registration};
use keyward::proto::token::issue_token_request::Credential as Proof;
use keyward::proto::token::{ClientAssertion, ClientCertificate, ClientSecret};
use reqwest::Method;
use serde_json::json;
use tonic::Status;

use super::{
    CRM, ISSUER, NO_BUDGET, Platform, SERVER, accepted, claims, equals, issue, issue_with, post,
    post_token, refused, start, trust,
};
use crate::harness::signer::{Signer, base64url};
use crate::harness::{Admin, Backend, Credential, mask, on_both_databases, reason};

on_both_databases!(
    ended_client_is_refused,
    narrower_trust_revokes_tokens_and_wider_one_does_not,
    policy_can_allow_only_federated_credentials,
);

const GRANT: (&str, &str) = ("grant_type", "client_credentials");
const PATHS: [&str; 3] = ["/oauth2/token", "/oauth2/introspect", "/oauth2/revoke"];

#[tokio::test(flavor = "multi_thread")]
async fn client_with_a_platform_has_no_other_method() {
    let (kw, mut admin, platform) = start(Backend::Sqlite, &[NO_BUDGET]).await;
    let (_, other) = admin.credential(CRM, Kind::ClientSecret).await;
    let (_, key) = admin.credential(CRM, Kind::ApiKey).await;
    let id = platform.client_id.as_str();
    let for_this = other.secret.replace(&other.client_id, id);
    let now = kw.now().as_second();
    // What a client with a key of its own would sign.
    let own = json!({
        "iss": id, "sub": id, "aud": SERVER, "iat": now, "exp": now + 60, "jti": "1",
    });
    let own = platform.sign(&own);
    let text = claims(&kw).to_string();
    let unsigned = format!("{}.{}.", base64url(r#"{"alg":"none"}"#), base64url(text));
    for path in PATHS {
        let token = ("token", "x");
        let forms: [Vec<(&str, &str)>; 6] = [
            vec![GRANT, token],
            vec![GRANT, token, ("client_id", id)],
            vec![GRANT, token, ("client_id", id), ("client_secret", "")],
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
        for (assertion, why) in [(&own, "a key of its own"), (&unsigned, "alg none")] {
            let answer = post(&kw, path, (id, assertion), &[GRANT, token]).await;
            assert_eq!(answer.error(), "invalid_client", "{path} {why}");
        }
    }
    let client_id = id.to_owned();
    let secret = |client_secret: &str| {
        let client_secret = client_secret.to_owned();
        Proof::ClientSecret(ClientSecret { client_id: client_id.clone(), client_secret })
    };
    let proofs = [
        Proof::ClientCertificate(ClientCertificate { client_id: client_id.clone() }),
        secret(""),
        secret(&other.secret),
        secret(&for_this),
        Proof::ClientAssertion(ClientAssertion { client_id: client_id.clone(), assertion: own }),
        Proof::ClientAssertion(ClientAssertion { client_id: String::new(), assertion: unsigned }),
        Proof::ApiKey(platform.token(&kw)),
    ];
    for (number, proof) in proofs.into_iter().enumerate() {
        let status = issue_with(&kw, proof).await.unwrap_err();
        assert_eq!(reason(&status), "INVALID_CLIENT", "{number}");
    }
    // Two methods at once.
    let more = [GRANT, ("client_secret", other.secret.as_str())];
    let answer = post(&kw, "/oauth2/token", (id, &platform.token(&kw)), &more).await;
    assert_eq!(answer.error(), "invalid_request");
    accepted(&kw, "its own method", id, &platform.token(&kw)).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn token_of_a_platform_is_no_proof_of_other_clients() {
    let (kw, mut admin, platform) = start(Backend::Sqlite, &[NO_BUDGET]).await;
    let signer = Signer::new("ES256");
    let jwks = super::jwks(&[signer.jwk_with(&[("kid", super::KID)])]);
    let keys =
        pb::credential::PublicKey { keys: Some(pb::credential::public_key::Keys::Jwks(jwks)) };
    let request = pb::CreateCredentialRequest {
        parent: CRM.to_owned(),
        credential: Some(pb::Credential {
            kind: Kind::PublicKey.into(),
            registration: Some(Registration::PublicKey(keys)),
            ..Default::default()
        }),
        request_id: String::new(),
    };
    let made = admin.credentials.create_credential(request).await.unwrap().into_inner();
    let with_key = made.credential.unwrap().client_id;
    for kind in [Kind::ClientSecret, Kind::ApiKey] {
        let (credential, Credential { .. }) = admin.credential(CRM, kind).await;
        refused(&kw, "a secret", &credential.client_id, &platform.token(&kw)).await;
    }
    refused(&kw, "a key", &with_key, &platform.token(&kw)).await;
    let by_its_key = signer.token(&json!({ "kid": super::KID }), &claims(&kw));
    refused(&kw, "a key that signs a platform's token", &with_key, &by_its_key).await;
    refused(&kw, "a key of another client", &platform.client_id, &by_its_key).await;
    // It is no access token of this server either.
    let form = [("token", "x")];
    let bearer = kw.request(Method::POST, "/oauth2/introspect").bearer_auth(platform.token(&kw));
    assert_eq!(kw.send(bearer.form(&form)).await.status, 401);
}

async fn update(
    admin: &mut Admin,
    credential: pb::Credential,
    fields: &[&str],
) -> Result<pb::Credential, Status> {
    let request =
        pb::UpdateCredentialRequest { credential: Some(credential), update_mask: mask(fields) };
    let answer = admin.credentials.update_credential(request).await?;
    Ok(answer.into_inner().credential.unwrap())
}

async fn ended_client_is_refused(backend: Backend) {
    let (kw, mut admin, platform) = start(backend, &[NO_BUDGET]).await;
    let (id, token) = (platform.client_id.as_str(), platform.token(&kw));
    let named = pb::Credential { name: platform.name.clone(), ..Default::default() };
    let disabled = |disabled| pb::Credential { disabled, ..named.clone() };
    let ours = issue(&kw, id, &token).await.unwrap();
    update(&mut admin, disabled(true), &["disabled"]).await.unwrap();
    refused(&kw, "disabled", id, &token).await;
    assert!(!admin.is_active(&ours).await);
    update(&mut admin, disabled(false), &["disabled"]).await.unwrap();
    accepted(&kw, "enabled", id, &token).await;

    let end = kw.now().as_second() + 100;
    let expire_time = Some(prost_types::Timestamp { seconds: end, nanos: 0 });
    let ends = pb::Credential { expire_time, ..named.clone() };
    update(&mut admin, ends, &["expire_time"]).await.unwrap();
    accepted(&kw, "not expired", id, &token).await;
    kw.advance(100);
    refused(&kw, "expired", id, &token).await;

    let other = Platform::new(&mut admin, CRM, trust).await;
    let token = other.token(&kw);
    accepted(&kw, "there", &other.client_id, &token).await;
    let delete = pb::DeleteCredentialRequest { name: other.name.clone(), etag: String::new() };
    admin.credentials.delete_credential(delete).await.unwrap();
    refused(&kw, "deleted", &other.client_id, &token).await;
}

async fn narrower_trust_revokes_tokens_and_wider_one_does_not(backend: Backend) {
    let (kw, mut admin, platform) = start(backend, &[NO_BUDGET]).await;
    let (id, token) = (platform.client_id.as_str(), platform.token(&kw));
    let with = |change: &dyn Fn(Federated) -> Federated| pb::Credential {
        name: platform.name.clone(),
        registration: Some(Registration::Federated(change(trust(Some(super::key_of(
            &platform.signer,
        )))))),
        ..Default::default()
    };
    let narrow = with(&|trust| Federated { claims: vec![equals("env", "prod")], ..trust });
    let wide = with(&|trust| trust);
    let prod = platform.sign(&super::changed(claims(&kw), "env", json!("prod")));
    let ours = issue(&kw, id, &token).await.unwrap();
    update(&mut admin, narrow, &["federated"]).await.unwrap();
    assert!(!admin.is_active(&ours).await, "another condition");
    refused(&kw, "it lacks the claim", id, &token).await;
    accepted(&kw, "it has the claim", id, &prod).await;
    let ours = issue(&kw, id, &prod).await.unwrap();
    update(&mut admin, wide, &["federated"]).await.unwrap();
    assert!(admin.is_active(&ours).await, "a condition less");
    accepted(&kw, "as before", id, &token).await;
    let moved = with(&|trust| Federated { issuer: format!("{ISSUER}/other"), ..trust });
    update(&mut admin, moved, &["federated"]).await.unwrap();
    assert!(!admin.is_active(&ours).await, "another issuer");
    refused(&kw, "another issuer", id, &token).await;
    // A secret has no place in it.
    let rotate = pb::RotateCredentialRequest { name: platform.name.clone(), ..Default::default() };
    let status = admin.credentials.rotate_credential(rotate).await.unwrap_err();
    assert_eq!(reason(&status), "INVALID_FIELD");
    let request =
        pb::ListAuditEventsRequest { parent: "tenants/acme".to_owned(), ..Default::default() };
    let events = admin.audit.list_audit_events(request).await.unwrap().into_inner().events;
    let mut changes = events.iter().flat_map(|event| &event.changes);
    let change = changes.find(|change| change.field == "registration").unwrap();
    assert!(change.after.contains(&format!("{ISSUER}/other")), "{change:?}");
}

async fn policy_can_allow_only_federated_credentials(backend: Backend) {
    let (kw, mut admin, platform) = start(backend, &[NO_BUDGET]).await;
    let policy = pb::Policy {
        allowed_credential_kinds: vec!["federated".to_owned()],
        require_bound_tokens: true,
        ..Default::default()
    };
    let request = pb::UpdateTenantRequest {
        tenant: Some(pb::Tenant {
            name: "tenants/acme".to_owned(),
            policy: Some(policy),
            ..Default::default()
        }),
        update_mask: mask(&["policy"]),
    };
    admin.tenants.update_tenant(request).await.unwrap();
    let secret = pb::CreateCredentialRequest {
        parent: CRM.to_owned(),
        credential: Some(pb::Credential { kind: Kind::ClientSecret.into(), ..Default::default() }),
        request_id: String::new(),
    };
    let status = admin.credentials.create_credential(secret).await.unwrap_err();
    assert_eq!(reason(&status), "POLICY");
    let other = Platform::new(&mut admin, CRM, trust).await;
    // A platform's token is bound to nothing, so the new token must be.
    for platform in [&platform, &other] {
        let status = issue(&kw, &platform.client_id, &platform.token(&kw)).await.unwrap_err();
        assert_eq!(reason(&status), "POLICY");
        let answer = post_token(&kw, &platform.client_id, &platform.token(&kw)).await;
        assert_eq!(answer.error(), "invalid_request");
    }
    // A DPoP proof binds it.
    let prover = Signer::new("ES256");
    let header = json!({ "typ": "dpop+jwt", "jwk": prover.jwk() });
    let proof = json!({
        "jti": "1", "htm": "POST", "htu": format!("{SERVER}/oauth2/token"),
        "iat": kw.now().as_second(),
    });
    let token = other.token(&kw);
    let form = [
        GRANT,
        ("client_assertion_type", super::ASSERTION_TYPE),
        ("client_assertion", token.as_str()),
        ("client_id", other.client_id.as_str()),
    ];
    let request = kw.request(Method::POST, "/oauth2/token").form(&form);
    let answer = kw.send(request.header("DPoP", prover.token(&header, &proof))).await;
    assert_eq!(answer.status, 200, "{}", answer.body);
    assert_eq!(answer.json()["token_type"], "DPoP");
}
