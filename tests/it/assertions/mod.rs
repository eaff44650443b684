//! Clients that sign a JWT in place of a shared secret (`private_key_jwt`, RFC 7523).

mod ages;
mod claims;
mod exchange;
mod kinds;
mod registration;
mod remote;
mod replay;
mod strangers;

use std::sync::atomic::{AtomicUsize, Ordering};

use keyward::proto::admin as pb;
use keyward::proto::admin::credential::public_key::Keys;
use keyward::proto::admin::credential::{Kind, PublicKey, Registration};
use keyward::proto::token as tokens;
use keyward::proto::token::issue_token_request::Credential as Proof;
use keyward::proto::token::token_service_client::TokenServiceClient;
use serde_json::{Value, json};
use tonic::{Code, Status};

use crate::harness::signer::Signer;
use crate::harness::{Admin, Answer, Backend, Keyward, connect, reason};

const ISSUER: &str = "https://keyward.test";
const CRM: &str = "tenants/acme/applications/crm";
const ASSERTION_TYPE: &str = "urn:ietf:params:oauth:client-assertion-type:jwt-bearer";
/// No budget of failures: a table of wrong assertions comes from one address.
const NO_BUDGET: (&str, &str) = ("secrets.wrong_secrets_of_source", "0");

/// A client with a key.
struct Party {
    credential: pb::Credential,
    signer: Signer,
    kid: &'static str,
}

/// A new credential of the kind `public_key`, as it would be created.
fn request(application: &str, keys: Keys) -> pb::CreateCredentialRequest {
    let registration = Registration::PublicKey(PublicKey { keys: Some(keys) });
    pb::CreateCredentialRequest {
        parent: application.to_owned(),
        credential: Some(pb::Credential {
            kind: Kind::PublicKey.into(),
            registration: Some(registration),
            ..Default::default()
        }),
        request_id: String::new(),
    }
}

async fn register(admin: &mut Admin, application: &str, keys: Keys) -> pb::Credential {
    let made = admin.credentials.create_credential(request(application, keys)).await.unwrap();
    let made = made.into_inner();
    assert_eq!(made.secret, "", "there is no secret");
    made.credential.unwrap()
}

fn jwks(keys: &[Value]) -> String {
    json!({ "keys": keys }).to_string()
}

/// A server with the tenant acme, its application crm, and a client of it with a key.
async fn start(backend: Backend, settings: &[(&'static str, &str)]) -> (Keyward, Admin, Party) {
    let kw = backend.start_with(settings).await;
    let mut admin = kw.admin().await;
    admin.acme().await;
    let party = Party::new(&mut admin, "ES256").await;
    (kw, admin, party)
}

impl Party {
    /// A new client of the application crm.
    async fn new(admin: &mut Admin, algorithm: &'static str) -> Self {
        let (signer, kid) = (Signer::new(algorithm), "first");
        let keys = Keys::Jwks(jwks(&[signer.jwk_with(&[("kid", kid)])]));
        let credential = register(admin, CRM, keys).await;
        Self { credential, signer, kid }
    }

    fn id(&self) -> &str {
        &self.credential.client_id
    }

    /// Correct claims, with an id of their own.
    fn claims(&self, kw: &Keyward) -> Value {
        static NUMBER: AtomicUsize = AtomicUsize::new(0);
        let now = kw.now().as_second();
        json!({
            "iss": self.id(),
            "sub": self.id(),
            "aud": ISSUER,
            "iat": now,
            "exp": now + 60,
            "jti": format!("id-{}", NUMBER.fetch_add(1, Ordering::Relaxed)),
        })
    }

    fn sign(&self, claims: &Value) -> String {
        self.signer.token(&json!({ "kid": self.kid }), claims)
    }

    /// A correct assertion.
    fn assertion(&self, kw: &Keyward) -> String {
        self.sign(&self.claims(kw))
    }

    /// Correct claims with another value, or without the claim if that is `Null`.
    fn with(&self, kw: &Keyward, claim: &str, value: Value) -> String {
        let mut claims = self.claims(kw);
        if value.is_null() {
            claims.as_object_mut().unwrap().remove(claim);
        } else {
            claims[claim] = value;
        }
        self.sign(&claims)
    }
}

/// Posts an assertion and more parameters.
async fn post(kw: &Keyward, path: &str, assertion: &str, more: &[(&str, &str)]) -> Answer {
    let mut form = vec![("client_assertion_type", ASSERTION_TYPE), ("client_assertion", assertion)];
    form.extend(more);
    kw.post(path, &form).await
}

/// Exchanges an assertion over HTTP.
async fn exchange(kw: &Keyward, assertion: &str) -> Answer {
    post(kw, "/oauth2/token", assertion, &[("grant_type", "client_credentials")]).await
}

/// Exchanges an assertion over gRPC.
async fn issue(kw: &Keyward, assertion: &str) -> Result<String, Status> {
    let message =
        tokens::ClientAssertion { client_id: String::new(), assertion: assertion.to_owned() };
    issue_with(kw, Proof::ClientAssertion(message), &[]).await
}

async fn issue_with(kw: &Keyward, proof: Proof, scopes: &[&str]) -> Result<String, Status> {
    let request = tokens::IssueTokenRequest {
        credential: Some(proof),
        scopes: scopes.iter().map(|scope| (*scope).to_owned()).collect(),
        ..Default::default()
    };
    let answer = TokenServiceClient::new(connect(&kw.grpc()).await).issue_token(request).await?;
    Ok(answer.into_inner().access_token)
}

/// Both faces accept such an assertion.
async fn accepted(kw: &Keyward, why: &str, assertion: impl Fn() -> String) {
    let answer = exchange(kw, &assertion()).await;
    assert_eq!(answer.status, 200, "{why}: {}", answer.body);
    let issued = issue(kw, &assertion()).await;
    assert!(issued.is_ok(), "{why}: {issued:?}");
}

/// Both faces refuse such an assertion, as each wrong secret.
async fn refused(kw: &Keyward, why: &str, assertion: impl Fn() -> String) {
    let answer = exchange(kw, &assertion()).await;
    let error = (answer.status.as_u16(), answer.error());
    assert_eq!(error, (401, "invalid_client".to_owned()), "{why}");
    let status = issue(kw, &assertion()).await.unwrap_err();
    assert_eq!(status.code(), Code::Unauthenticated, "{why}");
    assert_eq!(reason(&status), "INVALID_CLIENT", "{why}");
    assert_eq!(status.message(), "client authentication failed", "{why}");
}
