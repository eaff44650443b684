//! What an assertion must say.

use keyward::proto::token::ClientAssertion;
use keyward::proto::token::issue_token_request::Credential as Proof;
use serde_json::{Value, json};

use super::{ISSUER, NO_BUDGET, accepted, issue_with, post, refused, start};
use crate::harness::signer::{ALGORITHMS, Signer};
use crate::harness::{Backend, on_both_databases, reason};

on_both_databases!(token_is_issued_for_an_assertion);

async fn token_is_issued_for_an_assertion(backend: Backend) {
    let (kw, mut admin, party) = start(backend, &[]).await;
    let answer = super::exchange(&kw, &party.assertion(&kw)).await;
    assert_eq!(answer.status, 200, "{}", answer.body);
    let body = answer.json();
    assert_eq!((&body["token_type"], &body["scope"]), (&json!("Bearer"), &json!("a b")));
    for token in [
        body["access_token"].as_str().unwrap().to_owned(),
        super::issue(&kw, &party.assertion(&kw)).await.unwrap(),
    ] {
        let info = admin.introspect(&token).await;
        assert!(info.active);
        assert_eq!(info.client_id, party.id());
    }
    kw.server().service.usage.write().await.unwrap();
    let name = party.credential.name.clone();
    let request = keyward::proto::admin::GetCredentialRequest { name };
    let shown = admin.credentials.get_credential(request).await.unwrap().into_inner();
    assert!(shown.credential.unwrap().last_use_time.is_some());
}

#[tokio::test(flavor = "multi_thread")]
async fn each_algorithm_is_accepted() {
    let (kw, mut admin, _) = start(Backend::Sqlite, &[]).await;
    for algorithm in ALGORITHMS {
        let party = super::Party::new(&mut admin, algorithm).await;
        accepted(&kw, algorithm, || party.assertion(&kw)).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn audience_and_type_decide_what_passes() {
    let (kw, _, party) = start(Backend::Sqlite, &[NO_BUDGET]).await;
    let endpoint = format!("{ISSUER}/oauth2/token");
    let audiences = [
        (json!(ISSUER), true),
        (json!([ISSUER]), true),
        (json!([ISSUER, endpoint]), false),
        (json!([ISSUER, ISSUER]), false),
        (json!(endpoint), false),
        (json!([endpoint]), false),
        (json!(format!("{ISSUER}/")), false),
        (json!("keyward"), false),
        (json!([]), false),
        (Value::Null, false),
    ];
    let types = [
        (None, true),
        (Some("JWT"), true),
        (Some("jwt"), true),
        (Some("client-authentication+jwt"), true),
        (Some("at+jwt"), false),
        (Some("dpop+jwt"), false),
        (Some("secevent+jwt"), false),
    ];
    for (audience, right_audience) in &audiences {
        for (typ, right_type) in types {
            let mut header = json!({ "kid": party.kid });
            if let Some(typ) = typ {
                header["typ"] = typ.into();
            }
            let assertion = || {
                let mut claims = party.claims(&kw);
                claims["aud"] = audience.clone();
                if audience.is_null() {
                    claims.as_object_mut().unwrap().remove("aud");
                }
                party.signer.token(&header, &claims)
            };
            let case = format!("aud {audience}, typ {typ:?}");
            if *right_audience && right_type {
                accepted(&kw, &case, assertion).await;
            } else {
                refused(&kw, &case, assertion).await;
            }
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn claim_of_wrong_type_is_refused() {
    let (kw, _, party) = start(Backend::Sqlite, &[NO_BUDGET]).await;
    let now = kw.now().as_second();
    let (text, number) = (json!(now.to_string()), json!(now));
    for claim in ["iat", "nbf", "exp"] {
        let odd = [text.clone(), json!(true), json!([now]), json!({}), json!(-1), json!(1e300)];
        for value in odd {
            let case = format!("{claim} {value}");
            refused(&kw, &case, || party.with(&kw, claim, value.clone())).await;
        }
    }
    for claim in ["iss", "sub", "jti", "aud"] {
        for value in [number.clone(), json!(true), json!({}), json!([[]]), json!("")] {
            let case = format!("{claim} {value}");
            refused(&kw, &case, || party.with(&kw, claim, value.clone())).await;
        }
    }
    for claim in ["iss", "sub", "jti", "aud", "iat", "exp"] {
        refused(&kw, claim, || party.with(&kw, claim, Value::Null)).await;
        // `null` is not absent: it is of the wrong type.
        let null = || {
            let mut claims = party.claims(&kw);
            claims[claim] = Value::Null;
            party.sign(&claims)
        };
        refused(&kw, claim, null).await;
    }
    for value in [json!("x".repeat(257)), json!(["id"])] {
        refused(&kw, "jti", || party.with(&kw, "jti", value.clone())).await;
    }
    let fraction: f64 = now.to_string().parse().unwrap();
    accepted(&kw, "fraction", || party.with(&kw, "iat", json!(fraction - 0.5))).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn times_decide_what_passes() {
    let (kw, _, party) = start(Backend::Sqlite, &[NO_BUDGET]).await;
    // Seconds from now: iat, nbf, exp.
    let cases = [
        (0, None, 60, true),
        (8, None, 60, true),
        (10, None, 60, true),
        (11, None, 70, false),
        (62, None, 120, false),
        (0, Some(10), 60, true),
        (0, Some(11), 60, false),
        (0, Some(62), 120, false),
        (-599, None, 1, true),
        (-600, None, 60, false),
        (-86_400, None, 60, false),
        (-60, None, 0, false),
        (-60, None, -1, false),
        (0, None, 3600, true),
        (0, None, 3601, false),
        (-10, None, 3591, false),
        (0, None, 86_400 * 365, false),
    ];
    for (iat, nbf, exp, passes) in cases {
        let case = format!("iat {iat}, nbf {nbf:?}, exp {exp}");
        let assertion = || {
            let (mut claims, now) = (party.claims(&kw), kw.now().as_second());
            claims["iat"] = json!(now + iat);
            claims["exp"] = json!(now + exp);
            if let Some(nbf) = nbf {
                claims["nbf"] = json!(now + nbf);
            }
            party.sign(&claims)
        };
        if passes {
            accepted(&kw, &case, assertion).await;
        } else {
            refused(&kw, &case, assertion).await;
        }
    }
    let late = party.assertion(&kw);
    kw.advance(60);
    refused(&kw, "it expired on the way", || late.clone()).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn client_must_be_named_alike() {
    let (kw, mut admin, party) = start(Backend::Sqlite, &[NO_BUDGET]).await;
    let other = super::Party::new(&mut admin, "ES256").await;
    for claim in ["iss", "sub"] {
        for name in [other.id(), "unknown", ISSUER, &party.id().to_uppercase()] {
            refused(&kw, claim, || party.with(&kw, claim, json!(name))).await;
        }
    }
    let grant = ("grant_type", "client_credentials");
    for (client_id, passes) in
        [(party.id(), true), ("", true), (other.id(), false), ("x", false), ("*", false)]
    {
        let form = [grant, ("client_id", client_id)];
        let answer = post(&kw, "/oauth2/token", &party.assertion(&kw), &form).await;
        assert_eq!(answer.status.as_u16(), if passes { 200 } else { 401 }, "{client_id}");
        let message =
            ClientAssertion { client_id: client_id.to_owned(), assertion: party.assertion(&kw) };
        let issued = issue_with(&kw, Proof::ClientAssertion(message), &[]).await;
        assert_eq!(issued.is_ok(), passes, "{client_id}");
        if let Err(status) = issued {
            assert_eq!(reason(&status), "INVALID_CLIENT");
        }
    }
    let stolen = || other.signer.token(&json!({ "kid": party.kid }), &party.claims(&kw));
    refused(&kw, "the key of another client", stolen).await;
    let stranger = Signer::new("ES256");
    let jwk = stranger.jwk();
    let header = json!({ "jwk": jwk, "jku": "https://evil.example/jwks" });
    refused(&kw, "its own key", || stranger.token(&header, &party.claims(&kw))).await;
    for odd in ["", ".", "..", "...", "a.b.c", "eyJhbGciOiJub25lIn0.e30."] {
        if odd.is_empty() {
            continue;
        }
        refused(&kw, odd, || odd.to_owned()).await;
    }
    refused(&kw, "dots", || ".".repeat(20_000)).await;
    refused(&kw, "long", || format!("{}{}", party.assertion(&kw), "A".repeat(20_000))).await;
}
