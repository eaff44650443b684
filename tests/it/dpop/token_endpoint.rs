//! Proofs at the token endpoint, over HTTP and gRPC.

use futures_util::future::join_all;
use keyward::proto::admin as pb;
use reqwest::Method;
use serde_json::json;
use tonic::Code;

use super::{GRPC_URL, ISSUE, PUBLIC, Prover, TOKEN_URL, claims_of, issue, token};
use crate::harness::signer::ALGORITHMS;
use crate::harness::{
    Backend, Credential, Keyward, fresh_database, mask, on_both_databases, reason,
};

on_both_databases!(
    token_for_a_proof_is_bound_to_its_key,
    proof_is_accepted_once_by_all_replicas,
    refused_client_spends_no_proof,
);

async fn token_for_a_proof_is_bound_to_its_key(backend: Backend) {
    let kw = backend.start_with(&[PUBLIC]).await;
    let (_, crm) = kw.admin().await.acme().await;
    for algorithm in ["ES256", "EdDSA", "PS256"] {
        let prover = Prover::of(algorithm);
        let cnf = json!({ "jkt": prover.thumbprint() });
        let answer = token(&kw, &crm, &[&prover.for_token(&kw)], &[]).await;
        assert_eq!(answer.status, 200, "{answer:?}");
        let body = answer.json();
        assert_eq!(body["token_type"], "DPoP");
        assert_eq!(claims_of(body["access_token"].as_str().unwrap())["cnf"], cnf);
        assert_eq!(answer.header("dpop-nonce"), "", "nonces are off");

        let proof = prover.sign(&prover.claims(&kw, "POST", &format!("{GRPC_URL}{ISSUE}")));
        let issued = issue(&kw, &crm, &[&proof]).await.unwrap();
        assert!(issued.metadata().get("dpop-nonce").is_none());
        let issued = issued.into_inner();
        assert_eq!(issued.token_type, "DPoP");
        assert_eq!(claims_of(&issued.access_token)["cnf"], cnf);
    }
    // Without a proof, a token is bound to nothing.
    let body = token(&kw, &crm, &[], &[]).await.json();
    assert_eq!(body["token_type"], "Bearer");
    assert!(claims_of(body["access_token"].as_str().unwrap()).get("cnf").is_none());
}

async fn proof_is_accepted_once_by_all_replicas(backend: Backend) {
    let first = backend.start_with(&[PUBLIC]).await;
    let second = match backend {
        Backend::Sqlite => None,
        Backend::Postgres => Some(first.join().await),
    };
    let servers = [&first, second.as_ref().unwrap_or(&first)];
    let (_, crm) = first.admin().await.acme().await;
    let prover = Prover::new();
    let proof = prover.for_token(&first);
    let requests = (0..12).map(|n| {
        let (kw, crm, proof) = (servers[n % 2], &crm, proof.as_str());
        async move { token(kw, crm, &[proof], &[]).await }
    });
    let answers = join_all(requests).await;
    let good = answers.iter().filter(|answer| answer.status == 200).count();
    assert_eq!(good, 1, "{answers:?}");
    for answer in answers.iter().filter(|answer| answer.status != 200) {
        assert_eq!((answer.status.as_u16(), answer.error().as_str()), (400, "invalid_dpop_proof"));
    }
    // Also when the minute is nearly over, and for as long as it would pass.
    for seconds in [59, 9, 1] {
        first.advance(seconds);
        let again = token(&first, &crm, &[&proof], &[]).await;
        assert_eq!(again.error(), "invalid_dpop_proof");
        assert!(again.body.contains("used before"), "{again:?}");
    }
    // Another key may have the same id.
    let other = Prover::new();
    assert_eq!(token(&first, &crm, &[&other.for_token(&first)], &[]).await.status, 200);
}

async fn refused_client_spends_no_proof(backend: Backend) {
    let kw = backend.start_with(&[PUBLIC]).await;
    let (_, crm) = kw.admin().await.acme().await;
    let prover = Prover::new();
    let proof = prover.for_token(&kw);
    let wrong = Credential { secret: crm.secret.to_uppercase(), ..crm.clone() };
    assert_eq!(token(&kw, &wrong, &[&proof], &[]).await.error(), "invalid_client");
    assert_eq!(token(&kw, &crm, &[&proof], &[]).await.status, 200);
    assert_eq!(token(&kw, &crm, &[&proof], &[]).await.error(), "invalid_dpop_proof");
}

/// The status and error of each test of the FAPI conformance suite, and of its neighbours.
#[tokio::test(flavor = "multi_thread")]
async fn wrong_proofs_have_the_error_of_the_rfc() {
    let kw = Backend::Sqlite.start_with(&[PUBLIC]).await;
    let (_, crm) = kw.admin().await.acme().await;
    let prover = Prover::new();
    let now = kw.now().as_second();
    let at = |second| prover.sign(&prover.claims_at(second, "POST", TOKEN_URL));
    for (ahead, status) in [(-10, 200), (0, 200), (8, 200), (10, 200), (11, 400), (62, 400)] {
        let answer = token(&kw, &crm, &[&at(now + ahead)], &[]).await;
        assert_eq!(answer.status, status, "{ahead} s: {answer:?}");
        assert!(status == 200 || answer.error() == "invalid_dpop_proof", "{ahead} s: {answer:?}");
    }
    let (one, two) = (prover.for_token(&kw), prover.for_token(&kw));
    for proofs in [&[one.as_str(), &two][..], &[&one, &one], &["x"], &[""]] {
        let answer = token(&kw, &crm, proofs, &[]).await;
        assert_eq!((answer.status.as_u16(), answer.error().as_str()), (400, "invalid_dpop_proof"));
        let status = issue(&kw, &crm, proofs).await.unwrap_err();
        assert_eq!(status.code(), Code::InvalidArgument, "{proofs:?}");
        assert_eq!(reason(&status), "INVALID_DPOP_PROOF");
    }
    assert_eq!(token(&kw, &crm, &[&one], &[]).await.status, 200, "it was not spent");
    let of_get = prover.sign(&prover.claims(&kw, "GET", TOKEN_URL));
    assert_eq!(token(&kw, &crm, &[&of_get], &[]).await.error(), "invalid_dpop_proof");
}

/// The URL of the settings counts, on both wires, whatever the request says about its address.
#[tokio::test(flavor = "multi_thread")]
async fn url_of_a_proof_is_the_public_one() {
    let settings = [PUBLIC, ("issuer", "https://api.test/svc")];
    let kw = Backend::Sqlite.start_with(&settings).await;
    let (_, crm) = kw.admin().await.acme().await;
    let prover = Prover::new();
    let public = "https://api.test/svc/oauth2/token";
    let cases = [
        (public, true),
        ("HTTPS://API.Test:443/svc/oauth2/token?x#y", true),
        ("https://api.test/oauth2/token", false),
        ("https://api.test/svc/oauth2/introspect", false),
        ("https://evil.test/svc/oauth2/token", false),
    ];
    let internal = kw.url("/oauth2/token");
    for (url, accepted) in cases.into_iter().chain([(internal.as_str(), false)]) {
        // With and without the prefix that a proxy may have removed.
        for path in ["/oauth2/token", "/svc/oauth2/token"] {
            let proof = prover.sign(&prover.claims(&kw, "POST", url));
            let request = kw
                .request(Method::POST, path)
                .header("DPoP", proof)
                .header("X-Forwarded-Host", "evil.test")
                .header("X-Forwarded-Proto", "https")
                .header("Forwarded", "host=evil.test;proto=https")
                .basic_auth(&crm.client_id, Some(&crm.secret))
                .form(&[("grant_type", "client_credentials")]);
            let answer = kw.send(request).await;
            assert_eq!(answer.status == 200, accepted, "{url} at {path}: {answer:?}");
        }
    }
    let wire = format!("{}{ISSUE}", kw.grpc());
    for (url, accepted) in [
        (format!("{GRPC_URL}{ISSUE}"), true),
        (format!("{GRPC_URL}:443{ISSUE}"), true),
        (wire, false),
        (public.to_owned(), false),
        (format!("{GRPC_URL}/keyward.token.v1.TokenService/RevokeToken"), false),
        (GRPC_URL.to_owned(), false),
    ] {
        let proof = prover.sign(&prover.claims(&kw, "POST", &url));
        assert_eq!(issue(&kw, &crm, &[&proof]).await.is_ok(), accepted, "{url}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn proof_is_unavailable_without_the_database_and_then_accepted() {
    let kw = Keyward::start(Some(fresh_database().await), &[PUBLIC]).await;
    let (_, crm) = kw.admin().await.acme().await;
    let prover = Prover::new();
    // The client is known and cached; only the proof needs the database.
    assert_eq!(token(&kw, &crm, &[], &[]).await.status, 200);
    kw.sql("alter table spent_tokens rename to away", None).await.unwrap();
    let proof = prover.for_token(&kw);
    for _ in 0..2 {
        let answer = token(&kw, &crm, &[&proof], &[]).await;
        assert_eq!(
            (answer.status.as_u16(), answer.error().as_str()),
            (503, "temporarily_unavailable")
        );
    }
    let over_grpc = prover.sign(&prover.claims(&kw, "POST", &format!("{GRPC_URL}{ISSUE}")));
    let unavailable = issue(&kw, &crm, &[&over_grpc]).await.unwrap_err();
    assert_eq!(unavailable.code(), Code::Unavailable);
    kw.sql("alter table away rename to spent_tokens", None).await.unwrap();
    assert_eq!(token(&kw, &crm, &[&proof], &[]).await.status, 200);
}

#[tokio::test(flavor = "multi_thread")]
async fn metadata_lists_the_algorithms_of_proofs() {
    let kw = Backend::Sqlite.start().await;
    let metadata =
        kw.send(kw.request(Method::GET, "/.well-known/oauth-authorization-server")).await;
    assert_eq!(metadata.json()["dpop_signing_alg_values_supported"], json!(ALGORITHMS));
}

#[tokio::test(flavor = "multi_thread")]
async fn policy_can_require_a_proof() {
    let kw = Backend::Sqlite.start_with(&[PUBLIC]).await;
    let mut admin = kw.admin().await;
    let (_, crm) = admin.acme().await;
    let tenant = pb::Tenant {
        name: "tenants/acme".to_owned(),
        policy: Some(pb::Policy { require_bound_tokens: true, ..Default::default() }),
        ..Default::default()
    };
    let request = pb::UpdateTenantRequest { tenant: Some(tenant), update_mask: mask(&["policy"]) };
    admin.tenants.update_tenant(request).await.unwrap();
    let missing = token(&kw, &crm, &[], &[]).await;
    assert_eq!((missing.status.as_u16(), missing.error().as_str()), (400, "invalid_request"));
    assert_eq!(reason(&issue(&kw, &crm, &[]).await.unwrap_err()), "POLICY");
    let answer = token(&kw, &crm, &[&Prover::new().for_token(&kw)], &[]).await;
    assert_eq!(answer.status, 200, "{answer:?}");
}
