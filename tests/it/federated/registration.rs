//! What a credential of the kind `federated` is registered with.

use keyward::proto::admin as pb;
use keyward::proto::admin::credential::federated::{Claim, Keys};
use keyward::proto::admin::credential::{Federated, Kind, Registration};
use serde_json::json;
use tonic::Status;
use tonic_types::StatusExt;

use super::{
    CRM, ISSUER, SERVER, accepted, claims, equals, jwks, key_of, prefix, register, request, start,
    trust,
};
use crate::harness::signer::Signer;
use crate::harness::{Backend, mask, on_both_databases, reason};

on_both_databases!(trust_is_shown_as_it_is_stored, faulty_trust_is_refused_by_field);

fn stored(credential: &pb::Credential) -> Federated {
    match &credential.registration {
        Some(Registration::Federated(trust)) => trust.clone(),
        other => panic!("{other:?}"),
    }
}

async fn trust_is_shown_as_it_is_stored(backend: Backend) {
    let (kw, mut admin, _) = start(backend, &[super::NO_BUDGET]).await;
    let signer = Signer::new("RS256");
    let whole = Federated {
        keys: Some(Keys::Pem(signer.pem())),
        audiences: vec!["keyward".to_owned()],
        claims: vec![equals("a", "1"), prefix("sub", "job:x/"), equals("/a/b~1c", "2")],
        ..trust(None)
    };
    let made = register(&mut admin, CRM, whole.clone()).await;
    let keys = Some(Keys::Jwks(jwks(&[signer.jwk()])));
    assert_eq!(stored(&made), Federated { keys, ..whole });
    let get = pb::GetCredentialRequest { name: made.name.clone() };
    let shown = admin.credentials.get_credential(get).await.unwrap().into_inner();
    assert_eq!(shown.credential.unwrap(), made);
    assert!(made.secrets.is_empty() && !made.viewable);

    let by_pem = register(&mut admin, CRM, trust(Some(Keys::Pem(signer.pem())))).await;
    let token = signer.token(&json!({ "kid": "any" }), &claims(&kw));
    accepted(&kw, "PEM", &by_pem.client_id, &token).await;
    // The same trust is no change.
    let same = pb::Credential {
        name: by_pem.name.clone(),
        registration: Some(Registration::Federated(stored(&by_pem))),
        ..Default::default()
    };
    let request =
        pb::UpdateCredentialRequest { credential: Some(same), update_mask: mask(&["federated"]) };
    let same = admin.credentials.update_credential(request).await.unwrap().into_inner();
    assert_eq!(same.credential.unwrap().etag, by_pem.etag);
}

/// The invalid fields.
fn fields(status: &Status) -> Vec<String> {
    assert_eq!(reason(status), "INVALID_FIELD");
    let violations = status.get_details_bad_request().unwrap().field_violations;
    violations.into_iter().map(|violation| violation.field).collect()
}

fn text(status: &Status) -> String {
    status.get_details_bad_request().unwrap().field_violations[0].description.clone()
}

async fn faulty_trust_is_refused_by_field(backend: Backend) {
    let (kw, mut admin, platform) = start(backend, &[super::NO_BUDGET]).await;
    let good = trust(Some(key_of(&platform.signer)));
    let issuer = |issuer: &str| Federated { issuer: issuer.to_owned(), ..good.clone() };
    let found = |issuer: &str| Federated { issuer: issuer.to_owned(), ..trust(None) };
    let subject = |subject: &str| Federated { subject: subject.to_owned(), ..good.clone() };
    let keys = |keys: Keys| Federated { keys: Some(keys), ..good.clone() };
    let audiences = |all: &[&str]| Federated {
        audiences: all.iter().map(|one| (*one).to_owned()).collect(),
        ..good.clone()
    };
    let claims = |claims: Vec<Claim>| Federated { claims, ..good.clone() };
    let private = {
        let mut jwk = platform.signer.jwk();
        jwk["d"] = json!("AAAA");
        jwks(&[jwk])
    };
    let cases: Vec<(Federated, &str)> = vec![
        (issuer(""), "issuer"),
        (issuer("*"), "issuer"),
        (issuer("https://*.example"), "issuer"),
        (issuer("kubernetes/serviceaccount"), "issuer"),
        (issuer("http://issuer.example"), "issuer"),
        (issuer("https://issuer.example?a=b"), "issuer"),
        (issuer("https://issuer.example#a"), "issuer"),
        (issuer("https://user@issuer.example"), "issuer"),
        (issuer("https://issuer.example "), "issuer"),
        (issuer("https://issuer.example\n"), "issuer"),
        (issuer("https://iss\u{fc}er.example"), "issuer"),
        (issuer(&format!("https://issuer.example/{}", "a".repeat(1024))), "issuer"),
        (issuer(SERVER), "issuer"),
        (found("https://127.0.0.1"), "issuer"),
        (found("https://[::1]"), "issuer"),
        (found("https://10.0.0.1/id"), "issuer"),
        (found("https://169.254.169.254"), "issuer"),
        (subject(""), "subject"),
        (subject("*"), "subject"),
        (subject("repo:acme/app:*"), "subject"),
        (subject("a\0"), "subject"),
        (subject(&"a".repeat(1025)), "subject"),
        (keys(Keys::Jwks(String::new())), "jwks"),
        (keys(Keys::Jwks("{}".to_owned())), "jwks.keys"),
        (keys(Keys::Jwks(private)), "jwks.keys[0].d"),
        (keys(Keys::Pem("no PEM".to_owned())), "pem"),
        (keys(Keys::JwksUri("http://issuer.example/keys".to_owned())), "jwks_uri"),
        (keys(Keys::JwksUri("https://10.0.0.1/keys".to_owned())), "jwks_uri"),
        (audiences(&[""]), "audiences[0]"),
        (audiences(&["a", "*"]), "audiences[1]"),
        (audiences(&["a"; 17]), "audiences"),
        (claims(vec![equals("", "a")]), "claims[0].name"),
        (claims(vec![equals("a", "b"), equals("aud", "a")]), "claims[1].name"),
        (claims(vec![equals("iss", ISSUER)]), "claims[0].name"),
        (claims(vec![equals("/a/", "b")]), "claims[0].name"),
        (claims(vec![equals("/a~2", "b")]), "claims[0].name"),
        (claims(vec![equals("a", "")]), "claims[0].equals"),
        (claims(vec![equals("a", "refs/heads/*")]), "claims[0].equals"),
        (claims(vec![prefix("sub", "repo:acme")]), "claims[0].prefix"),
        (claims(vec![prefix("sub", "repo:acme@")]), "claims[0].prefix"),
        (claims(vec![prefix("sub", "repo:")]), "claims[0].prefix"),
        (claims(vec![prefix("ref", "/")]), "claims[0].prefix"),
        (claims(vec![prefix("ref", "refs/heads/*")]), "claims[0].prefix"),
        (claims(vec![Claim { name: "a".to_owned(), condition: None }]), "claims[0]"),
        (claims(vec![equals("a", "b"); 17]), "claims"),
    ];
    for (trust, field) in cases {
        let expected = format!("credential.federated.{field}");
        let shown = format!("{trust:?}").chars().take(300).collect::<String>();
        let status = admin.credentials.create_credential(request(CRM, trust.clone())).await;
        assert_eq!(fields(&status.unwrap_err()), [expected.as_str()], "{shown}");
        let change = pb::UpdateCredentialRequest {
            credential: Some(pb::Credential {
                name: platform.name.clone(),
                registration: Some(Registration::Federated(trust)),
                ..Default::default()
            }),
            update_mask: mask(&["federated"]),
        };
        let status = admin.credentials.update_credential(change).await.unwrap_err();
        assert_eq!(fields(&status), [expected], "{shown}");
    }
    for wildcard in [subject("repo:acme/app:*"), claims(vec![equals("ref", "refs/heads/*")])] {
        let status = admin.credentials.create_credential(request(CRM, wildcard)).await.unwrap_err();
        assert!(text(&status).contains("prefix"), "{status:?}");
    }
    // All that is wrong is said at once.
    let many = Federated { issuer: "*".to_owned(), ..claims(vec![equals("aud", "")]) };
    let status = admin.credentials.create_credential(request(CRM, many)).await.unwrap_err();
    let expected = ["issuer", "claims[0].name", "claims[0].equals"];
    assert_eq!(fields(&status), expected.map(|field| format!("credential.federated.{field}")));

    let mut without = request(CRM, good.clone());
    without.credential.as_mut().unwrap().registration = None;
    let status = admin.credentials.create_credential(without).await.unwrap_err();
    assert_eq!(fields(&status), ["credential.federated"]);
    for kind in [Kind::ClientSecret, Kind::ApiKey] {
        let mut other = request(CRM, good.clone());
        other.credential.as_mut().unwrap().kind = kind.into();
        let status = admin.credentials.create_credential(other).await.unwrap_err();
        assert_eq!(fields(&status), ["credential.federated"]);
    }
    accepted(&kw, "unchanged", &platform.client_id, &platform.token(&kw)).await;
    // An issuer whose keys are given may be one that cannot be reached.
    for unreachable in
        ["https://kubernetes.default.svc.cluster.local", "https://10.0.0.1", "https://a/"]
    {
        register(&mut admin, CRM, issuer(unreachable)).await;
    }
}
