//! Proofs together with client assertions: a request that is refused spends neither.

use keyward::proto::admin as pb;
use keyward::proto::admin::credential::public_key::Keys;
use keyward::proto::admin::credential::{Kind, PublicKey, Registration};
use keyward::proto::token::issue_token_request::Credential as Credentials;
use keyward::proto::token::token_service_client::TokenServiceClient;
use keyward::proto::token::{ClientAssertion, IssueTokenRequest, IssueTokenResponse};
use reqwest::Method;
use serde_json::json;
use tonic::{Code, Request, Response, Status};

use super::nonces::REQUIRED;
use super::{GRPC_URL, ISSUE, PUBLIC, Prover, TOKEN_URL, claims_of, token};
use crate::harness::signer::Signer;
use crate::harness::{Admin, Answer, Backend, Keyward, mask, on_both_databases, reason};

on_both_databases!(
    same_assertion_passes_after_a_nonce_challenge,
    refused_request_spends_neither_proof_nor_assertion,
    limit_does_not_spend_a_proof,
);

const CRM: &str = "tenants/acme/applications/crm";

/// A client that signs assertions.
struct KeyClient {
    id: String,
    signer: Signer,
}

impl KeyClient {
    async fn new(admin: &mut Admin) -> Self {
        let signer = Signer::new("ES256");
        let keys = Keys::Jwks(json!({ "keys": [signer.jwk()] }).to_string());
        let request = pb::CreateCredentialRequest {
            parent: CRM.to_owned(),
            credential: Some(pb::Credential {
                kind: Kind::PublicKey.into(),
                registration: Some(Registration::PublicKey(PublicKey { keys: Some(keys) })),
                ..Default::default()
            }),
            request_id: String::new(),
        };
        let made = admin.credentials.create_credential(request).await.unwrap().into_inner();
        Self { id: made.credential.unwrap().client_id, signer }
    }

    fn assertion(&self, kw: &Keyward, id: &str) -> String {
        let now = kw.now().as_second();
        let claims = json!({
            "iss": self.id, "sub": self.id, "aud": "https://keyward.test",
            "iat": now, "exp": now + 60, "jti": id,
        });
        self.signer.token(&json!({}), &claims)
    }
}

async fn over_http(kw: &Keyward, assertion: &str, proof: &str, more: &[(&str, &str)]) -> Answer {
    let mut form = vec![
        ("grant_type", "client_credentials"),
        ("client_assertion_type", "urn:ietf:params:oauth:client-assertion-type:jwt-bearer"),
        ("client_assertion", assertion),
    ];
    form.extend(more);
    let request = kw.request(Method::POST, "/oauth2/token").header("DPoP", proof);
    kw.send(request.form(&form)).await
}

async fn over_grpc(
    kw: &Keyward,
    assertion: &str,
    proof: &str,
) -> Result<IssueTokenResponse, Status> {
    let assertion = ClientAssertion { client_id: String::new(), assertion: assertion.to_owned() };
    let mut request = Request::new(IssueTokenRequest {
        credential: Some(Credentials::ClientAssertion(assertion)),
        ..Default::default()
    });
    request.metadata_mut().insert("dpop", proof.parse().unwrap());
    let mut client = TokenServiceClient::new(connect(kw).await);
    client.issue_token(request).await.map(Response::into_inner)
}

async fn connect(kw: &Keyward) -> tonic::transport::Channel {
    crate::harness::connect(&kw.grpc()).await
}

async fn same_assertion_passes_after_a_nonce_challenge(backend: Backend) {
    let kw = backend.start_with(&[PUBLIC, REQUIRED]).await;
    let mut admin = kw.admin().await;
    admin.acme().await;
    let client = KeyClient::new(&mut admin).await;
    let prover = Prover::new();

    let assertion = client.assertion(&kw, "over HTTP");
    let challenge = over_http(&kw, &assertion, &prover.for_token(&kw), &[]).await;
    let error = (challenge.status.as_u16(), challenge.error());
    assert_eq!(error, (400, "use_dpop_nonce".to_owned()));
    let nonce = challenge.header("dpop-nonce");
    let proof = || prover.with_nonce(&kw, TOKEN_URL, nonce);
    let good = over_http(&kw, &assertion, &proof(), &[]).await;
    assert_eq!(good.status, 200, "{good:?}");
    let body = good.json();
    assert_eq!(body["token_type"], "DPoP");
    let claims = claims_of(body["access_token"].as_str().unwrap());
    assert_eq!(claims["cnf"]["jkt"], prover.thumbprint());
    let third = over_http(&kw, &assertion, &proof(), &[]).await;
    assert_eq!((third.status.as_u16(), third.error()), (401, "invalid_client".to_owned()));

    let assertion = client.assertion(&kw, "over gRPC");
    let url = format!("{GRPC_URL}{ISSUE}");
    let unaware = prover.sign(&prover.claims(&kw, "POST", &url));
    let status = over_grpc(&kw, &assertion, &unaware).await.unwrap_err();
    assert_eq!(reason(&status), "USE_DPOP_NONCE");
    let nonce = status.metadata().get("dpop-nonce").unwrap().to_str().unwrap();
    let proof = || prover.with_nonce(&kw, &url, nonce);
    assert_eq!(over_grpc(&kw, &assertion, &proof()).await.unwrap().token_type, "DPoP");
    let status = over_grpc(&kw, &assertion, &proof()).await.unwrap_err();
    assert_eq!((status.code(), &*reason(&status)), (Code::Unauthenticated, "INVALID_CLIENT"));
}

async fn refused_request_spends_neither_proof_nor_assertion(backend: Backend) {
    let kw = backend.start_with(&[PUBLIC]).await;
    let mut admin = kw.admin().await;
    let (_, crm) = admin.acme().await;
    let client = KeyClient::new(&mut admin).await;
    let prover = Prover::new();
    let (assertion, proof) = (client.assertion(&kw, "1"), prover.for_token(&kw));
    let secret_proof = prover.for_token(&kw);
    for (parameter, value, error) in [
        ("scope", "c", "invalid_scope"),
        ("audience", "https://other.test", "invalid_target"),
        ("grant_type", "client_credentials", "invalid_request"),
    ] {
        let more = [(parameter, value)];
        let refused = over_http(&kw, &assertion, &proof, &more).await;
        assert_eq!(refused.error(), error);
        let refused = token(&kw, &crm, &[&secret_proof], &more).await;
        assert_eq!(refused.error(), error);
    }
    let other = prover.for_token(&kw);
    assert_eq!(over_http(&kw, &assertion, &proof, &[]).await.status, 200);
    assert_eq!(token(&kw, &crm, &[&secret_proof], &[]).await.status, 200);
    // The proof is spent before the assertion, so that a client can repeat it with a new proof.
    let unspent = client.assertion(&kw, "2");
    let used = over_http(&kw, &unspent, &proof, &[]).await;
    assert_eq!(used.error(), "invalid_dpop_proof");
    assert_eq!(over_http(&kw, &unspent, &other, &[]).await.status, 200);
}

async fn limit_does_not_spend_a_proof(backend: Backend) {
    let kw = backend.start_with(&[PUBLIC]).await;
    let mut admin = kw.admin().await;
    let (_, crm) = admin.acme().await;
    let limits = Some(pb::Limits {
        tokens: 2,
        token_window: Some(prost_types::Duration { seconds: 5, nanos: 0 }),
        ..Default::default()
    });
    let application = pb::Application { name: CRM.to_owned(), limits, ..Default::default() };
    let request = pb::UpdateApplicationRequest {
        application: Some(application),
        update_mask: mask(&["limits"]),
    };
    admin.applications.update_application(request).await.unwrap();
    let prover = Prover::new();
    let used = prover.for_token(&kw);
    assert_eq!(token(&kw, &crm, &[&used], &[]).await.status, 200);
    // A proof that was used before does not count.
    for _ in 0..3 {
        assert_eq!(token(&kw, &crm, &[&used], &[]).await.error(), "invalid_dpop_proof");
    }
    assert_eq!(token(&kw, &crm, &[&prover.for_token(&kw)], &[]).await.status, 200);
    let proof = prover.for_token(&kw);
    assert_eq!(token(&kw, &crm, &[&proof], &[]).await.status, 429);
    kw.advance(11);
    assert_eq!(token(&kw, &crm, &[&proof], &[]).await.status, 200);
    assert_eq!(token(&kw, &crm, &[&proof], &[]).await.error(), "invalid_dpop_proof");
}
