//! What services learn of tokens that are bound to a key: access checks.

use keyward::proto::access::check_access_request::Requirement;
use keyward::proto::access::check_access_response::Outcome;
use keyward::proto::access::{
    BatchCheckAccessRequest, CheckAccessRequest, CheckAccessResponse, DpopProof, Possession,
    RequiredScopes,
};
use keyward::proto::admin::credential::Kind;

use super::{PUBLIC, Prover};
use crate::harness::{Admin, Backend, on_both_databases, reason};

on_both_databases!(access_check_takes_the_proof_of_the_request);

const URL: &str = "https://api.acme.test/v1/calls";

fn question(token: &str, proof: Option<(&str, &str, &str)>) -> CheckAccessRequest {
    let dpop = proof.map(|(proof, method, url)| DpopProof {
        proof: proof.to_owned(),
        http_method: method.to_owned(),
        url: url.to_owned(),
    });
    CheckAccessRequest {
        token: token.to_owned(),
        requirement: Some(Requirement::Scopes(RequiredScopes {
            all_of: vec!["a".to_owned()],
            any_of: Vec::new(),
        })),
        possession: Some(Possession { dpop, ..Default::default() }),
        ..Default::default()
    }
}

async fn ask(admin: &mut Admin, question: CheckAccessRequest) -> CheckAccessResponse {
    admin.access.check_access(question).await.unwrap().into_inner()
}

async fn access_check_takes_the_proof_of_the_request(backend: Backend) {
    let kw = backend.start_with(&[PUBLIC]).await;
    let mut admin = kw.admin().await;
    let (_, crm) = admin.acme().await;
    let (prover, thief) = (Prover::new(), Prover::new());
    let bound = prover.token(&kw, &crm, "").await;
    let plain = crm.token(&kw.grpc()).await;
    let (_, key) = admin.credential("tenants/acme/applications/crm", Kind::ApiKey).await;
    let get = ("GET", URL);

    let proof = prover.with_token(&kw, get, &bound);
    let with_query = format!("{URL}?page=2");
    let peek = CheckAccessRequest { peek: true, ..question(&bound, Some((&proof, "GET", URL))) };
    let peeked = ask(&mut admin, peek.clone()).await;
    assert_eq!(peeked.outcome(), Outcome::Allowed, "{peeked:?}");
    let allowed = ask(&mut admin, question(&bound, Some((&proof, "GET", &with_query)))).await;
    assert_eq!(allowed.outcome(), Outcome::Allowed, "a peek spends nothing: {allowed:?}");
    assert_eq!(allowed.max_age.unwrap(), prost_types::Duration::default(), "it is not cached");

    let of_thief = thief.with_token(&kw, get, &bound);
    let without_hash = prover.sign(&prover.claims(&kw, "GET", URL));
    let of_plain = prover.with_token(&kw, get, &plain);
    let of_key = prover.with_token(&kw, get, &key.secret);
    let fresh = || prover.with_token(&kw, get, &bound);
    let two = format!("{}, {}", fresh(), fresh());
    let (one, other) = (fresh(), fresh());
    let cases = [
        ("no proof", bound.as_str(), None, "no DPoP proof"),
        ("used", &bound, Some((proof.as_str(), "GET", URL)), "used before"),
        ("another key", &bound, Some((&of_thief, "GET", URL)), "another key"),
        ("no hash", &bound, Some((&without_hash, "GET", URL)), "ath"),
        ("two", &bound, Some((&two, "GET", URL)), "three parts"),
        ("method", &bound, Some((&one, "POST", URL)), "htm"),
        ("URL", &bound, Some((&other, "GET", "https://api.acme.test/v1/users")), "htu"),
        ("not bound", &plain, Some((&of_plain, "GET", URL)), "bound to no key"),
        ("API key", &key.secret, Some((&of_key, "GET", URL)), "bound to no key"),
    ];
    for (what, token, proof, words) in cases {
        let answer = ask(&mut admin, question(token, proof)).await;
        assert_eq!(answer.outcome(), Outcome::NotPossessed, "{what}: {answer:?}");
        assert!(!answer.allowed && answer.message.contains(words), "{what}: {answer:?}");
        assert_eq!(answer.dpop_nonce, "");
    }
    // Refused proofs were not spent, and a batch spends each once.
    let again = question(&bound, Some((&one, "GET", URL)));
    let requests = vec![again.clone(), again, question(&plain, None)];
    let answers = admin.access.batch_check_access(BatchCheckAccessRequest { requests }).await;
    let answers = answers.unwrap().into_inner().responses;
    let allowed = answers[..2].iter().filter(|answer| answer.allowed).count();
    assert_eq!((allowed, answers[2].allowed), (1, true), "{answers:?}");

    for (proof, field) in [
        (("", "GET", URL), "possession.dpop.proof"),
        (("x", "", URL), "possession.dpop.http_method"),
        (("x", "GET", ""), "possession.dpop.url"),
    ] {
        let refused = admin.access.check_access(question(&bound, Some(proof))).await.unwrap_err();
        assert_eq!(reason(&refused), "INVALID_FIELD");
        assert!(refused.message().contains(field), "{refused:?}");
    }
}
