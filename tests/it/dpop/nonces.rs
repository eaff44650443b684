//! Nonces of the server in proofs (RFC 9449, sections 8 and 9).

use keyward::proto::access::check_access_response::Outcome;
use keyward::proto::access::{CheckAccessRequest, DpopProof, Possession, RequiredScopes};
use reqwest::Method;
use tonic::Code;
use tonic_types::StatusExt;

use super::{GRPC_URL, ISSUE, PUBLIC, Prover, TOKEN_URL, issue, token};
use crate::harness::{Backend, Keyward, fresh_database, on_both_databases, reason};

on_both_databases!(challenge_spends_nothing_and_its_nonce_is_accepted);

pub(super) const REQUIRED: (&str, &str) = ("dpop.nonce", "required");

impl Prover {
    /// A new proof with this nonce.
    pub(super) fn with_nonce(&self, kw: &Keyward, url: &str, nonce: &str) -> String {
        let mut claims = self.claims(kw, "POST", url);
        claims["nonce"] = nonce.into();
        self.sign(&claims)
    }
}

async fn challenge_spends_nothing_and_its_nonce_is_accepted(backend: Backend) {
    let kw = backend.start_with(&[PUBLIC, REQUIRED]).await;
    let (_, crm) = kw.admin().await.acme().await;
    let prover = Prover::new();
    let challenge = token(&kw, &crm, &[&prover.for_token(&kw)], &[]).await;
    assert_eq!((challenge.status.as_u16(), challenge.error().as_str()), (400, "use_dpop_nonce"));
    let nonce = challenge.header("dpop-nonce").to_owned();
    let proof = prover.with_nonce(&kw, TOKEN_URL, &nonce);
    let good = token(&kw, &crm, &[&proof], &[]).await;
    assert_eq!(good.status, 200, "{good:?}");
    assert_ne!(good.header("dpop-nonce"), "", "a nonce for the next proof");
    assert_eq!(token(&kw, &crm, &[&proof], &[]).await.error(), "invalid_dpop_proof", "used");

    // The same nonce for other requests, on the other wire too, until it is five minutes old.
    let grpc_url = format!("{GRPC_URL}{ISSUE}");
    kw.advance(299);
    let issued = issue(&kw, &crm, &[&prover.with_nonce(&kw, &grpc_url, &nonce)]).await.unwrap();
    assert!(issued.metadata().get("dpop-nonce").is_some());
    kw.advance(1);
    let old = issue(&kw, &crm, &[&prover.with_nonce(&kw, &grpc_url, &nonce)]).await.unwrap_err();
    assert_eq!((old.code(), reason(&old).as_str()), (Code::FailedPrecondition, "USE_DPOP_NONCE"));
    let next = old.metadata().get("dpop-nonce").unwrap().to_str().unwrap().to_owned();
    let info = old.get_details_error_info().unwrap();
    assert_eq!(info.metadata.get("dpop-nonce"), Some(&next));
    assert!(issue(&kw, &crm, &[&prover.with_nonce(&kw, &grpc_url, &next)]).await.is_ok());
    // Without a proof there is no nonce.
    assert_eq!(token(&kw, &crm, &[], &[]).await.header("dpop-nonce"), "");
}

#[tokio::test(flavor = "multi_thread")]
async fn nonce_of_another_replica_is_accepted_and_a_made_up_one_is_not() {
    let [one, other] = Keyward::replicas(None, &[PUBLIC, REQUIRED]).await;
    let (_, crm) = one.admin().await.acme().await;
    let prover = Prover::new();
    let challenge = token(&one, &crm, &[&prover.for_token(&one)], &[]).await;
    let nonce = challenge.header("dpop-nonce");
    let proof = prover.with_nonce(&other, TOKEN_URL, nonce);
    assert_eq!(token(&other, &crm, &[&proof], &[]).await.status, 200);
    let stranger = Keyward::start(Some(fresh_database().await), &[PUBLIC, REQUIRED]).await;
    let (_, client) = stranger.admin().await.acme().await;
    let foreign = prover.with_nonce(&stranger, TOKEN_URL, nonce);
    assert_eq!(token(&stranger, &client, &[&foreign], &[]).await.error(), "use_dpop_nonce");
    for made_up in ["", "x", "1780315200.x", &nonce[1..]] {
        let proof = prover.with_nonce(&one, TOKEN_URL, made_up);
        assert_eq!(token(&one, &crm, &[&proof], &[]).await.error(), "use_dpop_nonce", "{made_up}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn calls_with_a_token_are_challenged_too() {
    let kw = Backend::Sqlite.start_with(&[PUBLIC, REQUIRED]).await;
    let mut admin = kw.admin().await;
    let (_, crm) = admin.acme().await;
    let prover = Prover::new();
    let challenge = token(&kw, &crm, &[&prover.for_token(&kw)], &[]).await;
    let nonce = challenge.header("dpop-nonce").to_owned();
    let form = &[("audience", "keyward")];
    let proof = prover.with_nonce(&kw, TOKEN_URL, &nonce);
    let bound = token(&kw, &crm, &[&proof], form).await.json()["access_token"].clone();
    let bound = bound.as_str().unwrap();

    let url = "https://keyward.test/oauth2/introspect";
    let proof = prover.with_token(&kw, ("POST", url), bound);
    let request = kw
        .request(Method::POST, "/oauth2/introspect")
        .header("Authorization", format!("DPoP {bound}"))
        .header("DPoP", &proof)
        .form(&[("token", bound)]);
    let answer = kw.send(request).await;
    assert_eq!((answer.status.as_u16(), answer.error().as_str()), (401, "use_dpop_nonce"));
    assert_ne!(answer.header("dpop-nonce"), "");
    let challenge = answer.header("www-authenticate");
    assert!(
        challenge.starts_with("DPoP realm=\"keyward\", error=\"use_dpop_nonce\""),
        "{challenge}"
    );

    let ask = |proof: String| CheckAccessRequest {
        token: bound.to_owned(),
        requirement: Some(keyward::proto::access::check_access_request::Requirement::Scopes(
            RequiredScopes::default(),
        )),
        audience: "keyward".to_owned(),
        possession: Some(Possession {
            dpop: Some(DpopProof { proof, http_method: "GET".to_owned(), url: url.to_owned() }),
            ..Default::default()
        }),
        ..Default::default()
    };
    let get = ("GET", url);
    let question = ask(prover.with_token(&kw, get, bound));
    let refused = admin.access.check_access(question).await.unwrap().into_inner();
    assert_eq!(refused.outcome(), Outcome::NotPossessed, "{refused:?}");
    let mut claims = prover.claims(&kw, "GET", url);
    claims["ath"] = super::hash(bound).into();
    claims["nonce"] = refused.dpop_nonce.into();
    let allowed = admin.access.check_access(ask(prover.sign(&claims))).await.unwrap().into_inner();
    assert_eq!(allowed.outcome(), Outcome::Allowed, "{allowed:?}");
}
