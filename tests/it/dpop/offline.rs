//! The offline verifier with tokens that are bound to a key.

use http::{Request, Response, StatusCode};
use keyward::proto::admin::credential::Kind;
use keyward::verifier::{Refusal, SenderProof, Settings, Verifier, VerifierCredential};
use tower::{Layer, Service, service_fn};

use super::{PUBLIC, Prover};
use crate::harness::{Backend, Keyward, PATIENCE};

const URL: &str = "https://api.acme.test/v1/calls";

async fn verifier(kw: &Keyward) -> Verifier {
    let mut admin = kw.admin().await;
    let application = admin.application("system", "gateway", &["keyward.verify"]).await;
    let (_, client) = admin.credential(&application.name, Kind::ClientSecret).await;
    let credential = VerifierCredential::client_secret(client.client_id, client.secret);
    let settings = Settings::new(kw.grpc(), credential, "https://keyward.test", "tenants/acme");
    Verifier::connect(Settings { clock: kw.clock(), ready_within: PATIENCE, ..settings })
        .await
        .unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn bound_token_is_verified_with_a_proof_only() {
    let kw = Backend::Sqlite.start_with(&[PUBLIC]).await;
    let (_, crm) = kw.admin().await.acme().await;
    let verifier = verifier(&kw).await;
    let (prover, thief) = (Prover::new(), Prover::new());
    let bound = prover.token(&kw, &crm, "").await;
    let plain = crm.token(&kw.grpc()).await;
    let get = ("GET", URL);
    let with = |proof: String, method: &str, url: &str| SenderProof::dpop(proof, method, url);
    let proof = || prover.with_token(&kw, get, &bound);

    let refused = verifier.verify(&bound).unwrap_err();
    assert_eq!(refused, Refusal::ProofRequired);
    assert!(refused.to_string().contains("no DPoP proof"), "{refused}");
    let sender = with(proof(), "GET", "https://API.acme.test:443/v1/calls?page=2");
    assert_eq!(verifier.verify_bound(&bound, &sender).unwrap().tenant(), "acme");
    assert!(verifier.verify_bound(&plain, &SenderProof::default()).is_ok());

    let of_thief = with(thief.with_token(&kw, get, &bound), "GET", URL);
    assert_eq!(verifier.verify_bound(&bound, &of_thief), Err(Refusal::OtherKey));
    let of_plain = with(prover.with_token(&kw, get, &plain), "GET", URL);
    assert_eq!(verifier.verify_bound(&plain, &of_plain), Err(Refusal::NotBoundToKey));
    let certificate = SenderProof::certificate(b"a certificate");
    assert_eq!(verifier.verify_bound(&bound, &certificate), Err(Refusal::ProofRequired));
    let without_hash = prover.sign(&prover.claims(&kw, "GET", URL));
    for (sender, claim) in [
        (with(proof(), "POST", URL), "htm"),
        (with(proof(), "GET", "https://api.acme.test/v1/users"), "htu"),
        (with(without_hash, "GET", URL), "ath"),
        (of_plain, "ath"),
    ] {
        let refused = verifier.verify_bound(&bound, &sender).unwrap_err();
        let Refusal::InvalidProof { fault } = &refused else { panic!("{refused:?}") };
        assert!(fault.contains(claim), "{fault}");
        assert!(!refused.is_temporary());
    }
    let old = with(proof(), "GET", URL);
    kw.advance(70);
    assert!(matches!(verifier.verify_bound(&bound, &old), Err(Refusal::InvalidProof { .. })));
}

#[tokio::test(flavor = "multi_thread")]
async fn layer_takes_proofs_from_the_extensions() {
    let kw = Backend::Sqlite.start_with(&[PUBLIC]).await;
    let (_, crm) = kw.admin().await.acme().await;
    let layer = verifier(&kw).await.layer(&["a"]);
    let prover = Prover::new();
    let bound = prover.token(&kw, &crm, "").await;
    let plain = crm.token(&kw.grpc()).await;
    let cases = [
        ("DPoP", &bound, true, StatusCode::OK),
        ("dpop", &bound, true, StatusCode::OK),
        ("DPOP", &bound, true, StatusCode::OK),
        ("dpop", &bound, false, StatusCode::UNAUTHORIZED),
        ("DPoP", &bound, false, StatusCode::UNAUTHORIZED),
        ("Bearer", &bound, true, StatusCode::UNAUTHORIZED),
        ("Bearer", &bound, false, StatusCode::UNAUTHORIZED),
        ("DPoP", &plain, true, StatusCode::UNAUTHORIZED),
        ("DPoP", &plain, false, StatusCode::UNAUTHORIZED),
        ("bearer", &bound, true, StatusCode::UNAUTHORIZED),
        ("bearer", &plain, true, StatusCode::OK),
        ("BEARER", &plain, false, StatusCode::OK),
        ("Bearer", &plain, true, StatusCode::OK),
        ("Bearer", &plain, false, StatusCode::OK),
    ];
    for (scheme, token, with_proof, expected) in cases {
        let mut request = Request::new(());
        let authorization = format!("{scheme} {token}").parse().unwrap();
        request.headers_mut().insert("authorization", authorization);
        if with_proof {
            let proof = prover.with_token(&kw, ("GET", URL), token);
            request.extensions_mut().insert(SenderProof::dpop(proof, "GET", URL));
        }
        let inner =
            service_fn(async |_| Ok::<_, std::convert::Infallible>(Response::new(String::new())));
        let Ok(response) = layer.layer(inner).call(request).await;
        assert_eq!(response.status(), expected, "{scheme} {with_proof}");
        if expected == StatusCode::UNAUTHORIZED {
            let challenges = response.headers().get_all("www-authenticate");
            let names_dpop = |value: &http::HeaderValue| value.as_bytes().starts_with(b"DPoP ");
            assert!(challenges.iter().any(names_dpop), "{:?}", response.headers());
        }
    }
}
