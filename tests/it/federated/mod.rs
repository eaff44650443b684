//! Clients that present a token of their platform in place of a secret (workload identity).

mod claims;
mod exchange;
mod keys;
mod kinds;
mod recipes;
mod registration;
mod strangers;

use keyward::proto::admin as pb;
use keyward::proto::admin::credential::federated::claim::Condition;
use keyward::proto::admin::credential::federated::{Claim, Keys};
use keyward::proto::admin::credential::{Federated, Kind, Registration};
use keyward::proto::token as tokens;
use keyward::proto::token::issue_token_request::Credential as Proof;
use keyward::proto::token::token_service_client::TokenServiceClient;
use serde_json::{Value, json};
use tonic::{Code, Status};

use crate::harness::signer::Signer;
use crate::harness::{Admin, Answer, Backend, Keyward, connect, reason};

const SERVER: &str = "https://keyward.test";
const ISSUER: &str = "https://issuer.example";
const SUBJECT: &str = "job:nightly";
const CRM: &str = "tenants/acme/applications/crm";
const ASSERTION_TYPE: &str = "urn:ietf:params:oauth:client-assertion-type:jwt-bearer";
const KID: &str = "first";
/// No budget of failures: a table of wrong tokens comes from one address.
const NO_BUDGET: (&str, &str) = ("secrets.wrong_secrets_of_source", "0");

fn jwks(keys: &[Value]) -> String {
    json!({ "keys": keys }).to_string()
}

/// The public key of a platform, with its id.
fn key_of(signer: &Signer) -> Keys {
    Keys::Jwks(jwks(&[signer.jwk_with(&[("kid", KID)])]))
}

fn equals(name: &str, value: &str) -> Claim {
    Claim { name: name.to_owned(), condition: Some(Condition::Equals(value.to_owned())) }
}

fn prefix(name: &str, value: &str) -> Claim {
    Claim { name: name.to_owned(), condition: Some(Condition::Prefix(value.to_owned())) }
}

/// A trust in tokens with this subject, whose audience is the server.
fn trust(keys: Option<Keys>) -> Federated {
    Federated { issuer: ISSUER.to_owned(), keys, subject: SUBJECT.to_owned(), ..Default::default() }
}

/// A new credential, as it would be created.
fn request(application: &str, trust: Federated) -> pb::CreateCredentialRequest {
    pb::CreateCredentialRequest {
        parent: application.to_owned(),
        credential: Some(pb::Credential {
            kind: Kind::Federated.into(),
            registration: Some(Registration::Federated(trust)),
            ..Default::default()
        }),
        request_id: String::new(),
    }
}

async fn register(admin: &mut Admin, application: &str, trust: Federated) -> pb::Credential {
    let made = admin.credentials.create_credential(request(application, trust)).await.unwrap();
    let made = made.into_inner();
    assert_eq!(made.secret, "", "there is no secret");
    made.credential.unwrap()
}

/// A platform whose key is registered, and the client that its tokens are of.
struct Platform {
    client_id: String,
    name: String,
    signer: Signer,
}

/// A server with the tenant acme, its application crm, and a workload of it.
async fn start(backend: Backend, settings: &[(&'static str, &str)]) -> (Keyward, Admin, Platform) {
    let kw = backend.start_with(settings).await;
    let mut admin = kw.admin().await;
    admin.acme().await;
    let platform = Platform::new(&mut admin, CRM, trust).await;
    (kw, admin, platform)
}

impl Platform {
    /// A new client of an application, with a trust in this platform.
    async fn new(
        admin: &mut Admin,
        application: &str,
        trust: impl FnOnce(Option<Keys>) -> Federated,
    ) -> Self {
        let signer = Signer::new("ES256");
        let made = register(admin, application, trust(Some(key_of(&signer)))).await;
        Self { client_id: made.client_id, name: made.name, signer }
    }

    fn sign(&self, claims: &Value) -> String {
        self.signer.token(&json!({ "kid": KID }), claims)
    }

    /// A correct token.
    fn token(&self, kw: &Keyward) -> String {
        self.sign(&claims(kw))
    }

    /// A token with another value of a claim, or without the claim if that is `Null`.
    fn with(&self, kw: &Keyward, claim: &str, value: Value) -> String {
        self.sign(&changed(claims(kw), claim, value))
    }
}

/// Claims that the trust accepts.
fn claims(kw: &Keyward) -> Value {
    let now = kw.now().as_second();
    json!({
        "iss": ISSUER, "sub": SUBJECT, "aud": SERVER, "iat": now, "nbf": now, "exp": now + 3600,
        "jti": "always the same",
    })
}

/// Claims with another value of one, or without it if that is `Null`.
fn changed(mut claims: Value, claim: &str, value: Value) -> Value {
    if value.is_null() {
        claims.as_object_mut().unwrap().remove(claim);
    } else {
        claims[claim] = value;
    }
    claims
}

/// Posts a token as client authentication, with more parameters.
async fn post(
    kw: &Keyward,
    path: &str,
    (client_id, token): (&str, &str),
    more: &[(&str, &str)],
) -> Answer {
    let mut form = vec![("client_assertion_type", ASSERTION_TYPE), ("client_assertion", token)];
    if !client_id.is_empty() {
        form.push(("client_id", client_id));
    }
    form.extend(more);
    kw.post(path, &form).await
}

/// Gets an access token over HTTP.
async fn post_token(kw: &Keyward, client_id: &str, token: &str) -> Answer {
    post(kw, "/oauth2/token", (client_id, token), &[("grant_type", "client_credentials")]).await
}

/// Gets an access token over gRPC.
async fn issue(kw: &Keyward, client_id: &str, token: &str) -> Result<String, Status> {
    let message =
        tokens::ClientAssertion { client_id: client_id.to_owned(), assertion: token.to_owned() };
    issue_with(kw, Proof::ClientAssertion(message)).await
}

async fn issue_with(kw: &Keyward, proof: Proof) -> Result<String, Status> {
    let request = tokens::IssueTokenRequest { credential: Some(proof), ..Default::default() };
    let answer = TokenServiceClient::new(connect(&kw.grpc()).await).issue_token(request).await?;
    Ok(answer.into_inner().access_token)
}

/// Both faces accept the token, twice: it is not used up.
async fn accepted(kw: &Keyward, why: &str, client_id: &str, token: &str) {
    for _ in 0..2 {
        let answer = post_token(kw, client_id, token).await;
        assert_eq!(answer.status, 200, "{why}: {}", answer.body);
        let issued = issue(kw, client_id, token).await;
        assert!(issued.is_ok(), "{why}: {issued:?}");
    }
}

/// Both faces refuse the token, as each wrong secret.
async fn refused(kw: &Keyward, why: &str, client_id: &str, token: &str) {
    let answer = post_token(kw, client_id, token).await;
    let error = (answer.status.as_u16(), answer.error());
    assert_eq!(error, (401, "invalid_client".to_owned()), "{why}");
    let status = issue(kw, client_id, token).await.unwrap_err();
    assert_eq!(status.code(), Code::Unauthenticated, "{why}");
    assert_eq!(reason(&status), "INVALID_CLIENT", "{why}");
    assert_eq!(status.message(), "client authentication failed", "{why}");
}

/// Both faces cannot say whether the token is right.
async fn undecided(kw: &Keyward, why: &str, client_id: &str, token: &str) {
    let answer = post_token(kw, client_id, token).await;
    assert_eq!(answer.status, 503, "{why}: {}", answer.body);
    assert_eq!(answer.error(), "temporarily_unavailable", "{why}");
    let status = issue(kw, client_id, token).await.unwrap_err();
    assert_eq!((status.code(), reason(&status).as_str()), (Code::Unavailable, "UNAVAILABLE"));
}
