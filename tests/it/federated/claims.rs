//! What a platform's token must say.

use serde_json::{Value, json};

use super::{
    CRM, ISSUER, NO_BUDGET, Platform, SERVER, SUBJECT, accepted, changed, claims, equals, key_of,
    post, refused, register, start, trust,
};
use crate::harness::signer::{ALGORITHMS, Signer, base64url};
use crate::harness::{Backend, on_both_databases};
use keyward::proto::admin::credential::Federated;

const HOUR: i64 = 3600;

on_both_databases!(token_of_the_platform_is_exchanged_until_it_expires);

async fn token_of_the_platform_is_exchanged_until_it_expires(backend: Backend) {
    let (kw, mut admin, platform) = start(backend, &[NO_BUDGET]).await;
    let (id, token) = (platform.client_id.as_str(), platform.token(&kw));
    accepted(&kw, "first", id, &token).await;
    let ours = super::issue(&kw, id, &token).await.unwrap();
    let info = admin.introspect(&ours).await;
    assert!(info.active);
    assert_eq!((&info.client_id, info.subject.as_str()), (&platform.client_id, CRM));
    for path in ["/oauth2/introspect", "/oauth2/revoke"] {
        let answer = post(&kw, path, (id, &token), &[("token", &ours)]).await;
        assert_eq!(answer.status, 200, "{path}: {}", answer.body);
    }
    assert!(!admin.is_active(&ours).await, "it was revoked");
    kw.server().service.usage.write().await.unwrap();
    let request = keyward::proto::admin::GetCredentialRequest { name: platform.name.clone() };
    let shown = admin.credentials.get_credential(request).await.unwrap().into_inner();
    assert!(shown.credential.unwrap().last_use_time.is_some());
    kw.advance(3599);
    accepted(&kw, "the last second", id, &token).await;
    kw.advance(1);
    refused(&kw, "expired", id, &token).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn each_algorithm_is_accepted() {
    let (kw, mut admin, _) = start(Backend::Sqlite, &[]).await;
    for algorithm in ALGORITHMS {
        let signer = Signer::new(algorithm);
        let made = register(&mut admin, CRM, trust(Some(key_of(&signer)))).await;
        let token = signer.token(&json!({ "kid": super::KID }), &claims(&kw));
        accepted(&kw, algorithm, &made.client_id, &token).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn client_id_is_required() {
    let (kw, _, platform) = start(Backend::Sqlite, &[NO_BUDGET]).await;
    let token = platform.token(&kw);
    refused(&kw, "without", "", &token).await;
    refused(&kw, "unknown", &"0".repeat(32), &token).await;
    refused(&kw, "malformed", "crm", &token).await;
    accepted(&kw, "with", &platform.client_id, &token).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn issuer_and_subject_are_compared_as_a_whole() {
    let (kw, _, platform) = start(Backend::Sqlite, &[NO_BUDGET]).await;
    let id = &platform.client_id;
    for issuer in [
        format!("{ISSUER}/"),
        ISSUER.to_uppercase(),
        format!("{ISSUER}.evil.test"),
        format!("https://evil.test/?x={ISSUER}"),
        ISSUER.replace("https", "http"),
        SERVER.to_owned(),
    ] {
        refused(&kw, &issuer, id, &platform.with(&kw, "iss", json!(issuer))).await;
    }
    for subject in
        ["job:nightly-evil", "job:night", "job:nightl", "Job:nightly", "job:nightly ", "*"]
    {
        refused(&kw, subject, id, &platform.with(&kw, "sub", json!(subject))).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn one_audience_must_be_registered() {
    let (kw, mut admin, platform) = start(Backend::Sqlite, &[NO_BUDGET]).await;
    let own = Platform::new(&mut admin, CRM, |keys| Federated {
        audiences: vec!["keyward".to_owned(), "api://keys".to_owned()],
        ..trust(keys)
    })
    .await;
    for (audience, by_default, by_name) in [
        (json!(SERVER), true, false),
        (json!([SERVER]), true, false),
        (json!(["other", SERVER]), true, false),
        (json!("keyward"), false, true),
        (json!(["api://keys", "other"]), false, true),
        (json!("Keyward"), false, false),
        (json!(format!("{SERVER}/")), false, false),
        (json!(["other"]), false, false),
        (json!([]), false, false),
        (Value::Null, false, false),
    ] {
        for (platform, is_right) in [(&platform, by_default), (&own, by_name)] {
            let token = platform.with(&kw, "aud", audience.clone());
            let case = format!("aud {audience}");
            if is_right {
                accepted(&kw, &case, &platform.client_id, &token).await;
            } else {
                refused(&kw, &case, &platform.client_id, &token).await;
            }
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn type_in_the_header_decides_what_passes() {
    let (kw, _, platform) = start(Backend::Sqlite, &[NO_BUDGET]).await;
    for (typ, is_right) in [
        (None, true),
        (Some("JWT"), true),
        (Some("jwt"), true),
        (Some("JOSE"), true),
        (Some("at+jwt"), false),
        (Some("dpop+jwt"), false),
        (Some("client-authentication+jwt"), false),
        (Some("logout+jwt"), false),
    ] {
        let mut header = json!({ "kid": super::KID });
        if let Some(typ) = typ {
            header["typ"] = typ.into();
        }
        let token = platform.signer.token(&header, &claims(&kw));
        let case = format!("{typ:?}");
        if is_right {
            accepted(&kw, &case, &platform.client_id, &token).await;
        } else {
            refused(&kw, &case, &platform.client_id, &token).await;
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn claim_of_wrong_type_is_refused() {
    let (kw, _, platform) = start(Backend::Sqlite, &[NO_BUDGET]).await;
    let (id, now) = (&platform.client_id, kw.now().as_second());
    let (text, number) = (json!(now.to_string()), json!(now));
    for claim in ["iat", "nbf", "exp"] {
        for value in [text.clone(), json!(true), json!([now]), json!({}), json!(-1), json!(1e300)] {
            let token = platform.with(&kw, claim, value.clone());
            refused(&kw, &format!("{claim} {value}"), id, &token).await;
        }
    }
    for claim in ["iss", "sub", "jti", "aud"] {
        for value in [number.clone(), json!(true), json!({}), json!([[]]), json!("")] {
            let token = platform.with(&kw, claim, value.clone());
            refused(&kw, &format!("{claim} {value}"), id, &token).await;
        }
    }
    for claim in ["iss", "sub", "aud", "exp"] {
        refused(&kw, claim, id, &platform.with(&kw, claim, Value::Null)).await;
        let mut null = claims(&kw);
        null[claim] = Value::Null;
        refused(&kw, claim, id, &platform.sign(&null)).await;
    }
    // SPIFFE requires only `sub`, `aud` and `exp`.
    for claim in ["iat", "nbf", "jti"] {
        accepted(&kw, claim, id, &platform.with(&kw, claim, Value::Null)).await;
    }
    let infinite = r#"{"exp":1e400}"#;
    let token = platform.signer.token_of_texts(r#"{"alg":"ES256"}"#, infinite);
    refused(&kw, "1e400", id, &token).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn times_decide_what_passes() {
    let (kw, _, platform) = start(Backend::Sqlite, &[NO_BUDGET]).await;
    // Seconds from now: iat, nbf, exp.
    for (iat, nbf, exp, is_right) in [
        (0, 0, 1, true),
        (0, 0, 0, false),
        (-HOUR, -HOUR, -1, false),
        (10, 0, HOUR, true),
        (11, 0, HOUR, false),
        (0, 10, HOUR, true),
        (0, 11, HOUR, false),
        // A managed identity of Azure, just before its end.
        (-24 * HOUR, -24 * HOUR, 300, true),
        (0, 0, 48 * HOUR, true),
        (0, 0, 48 * HOUR + 1, false),
        (-HOUR, 0, 47 * HOUR, true),
        (-HOUR, 0, 47 * HOUR + 1, false),
    ] {
        let now = kw.now().as_second();
        let mut claims = claims(&kw);
        claims["iat"] = json!(now + iat);
        claims["nbf"] = json!(now + nbf);
        claims["exp"] = json!(now + exp);
        let (case, token) = (format!("{iat} {nbf} {exp}"), platform.sign(&claims));
        if is_right {
            accepted(&kw, &case, &platform.client_id, &token).await;
        } else {
            refused(&kw, &case, &platform.client_id, &token).await;
        }
    }
    let forever = changed(claims(&kw), "exp", json!(kw.now().as_second() + 365 * 86_400));
    let forever = platform.sign(&changed(forever, "iat", Value::Null));
    refused(&kw, "a year, without iat", &platform.client_id, &forever).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn every_condition_must_be_met() {
    let (kw, mut admin, _) = start(Backend::Sqlite, &[NO_BUDGET]).await;
    let platform = Platform::new(&mut admin, CRM, |keys| Federated {
        subject: String::new(),
        claims: vec![
            super::prefix("sub", "job:acme/"),
            equals("repository_id", "17"),
            equals("/kubernetes.io/serviceaccount/uid", "u-1"),
            equals("protected", "true"),
        ],
        ..trust(keys)
    })
    .await;
    let right = json!({
        "sub": "job:acme/app", "repository_id": 17, "protected": true,
        "kubernetes.io": { "serviceaccount": { "uid": "u-1" } },
    });
    let with = |changes: &[(&str, Value)]| {
        let mut claims = claims(&kw);
        for (name, value) in right.as_object().unwrap() {
            claims[name] = value.clone();
        }
        for (name, value) in changes {
            claims = changed(claims, name, value.clone());
        }
        platform.sign(&claims)
    };
    accepted(&kw, "all", &platform.client_id, &with(&[])).await;
    accepted(&kw, "text", &platform.client_id, &with(&[("repository_id", json!("17"))])).await;
    for (name, value) in [
        ("sub", json!("job:acme-evil/app")),
        ("sub", json!("job:acme/")),
        ("sub", json!(SUBJECT)),
        ("sub", Value::Null),
        ("repository_id", json!(170)),
        ("repository_id", json!(["17"])),
        ("repository_id", json!("17 ")),
        ("repository_id", Value::Null),
        ("protected", json!(false)),
        ("protected", json!({})),
        ("kubernetes.io", json!({ "serviceaccount": { "uid": "u-2" } })),
        ("kubernetes.io", json!({ "serviceaccount": "u-1" })),
        ("kubernetes.io", json!([{ "serviceaccount": { "uid": "u-1" } }])),
        ("kubernetes.io", Value::Null),
    ] {
        let token = with(&[(name, value.clone())]);
        refused(&kw, &format!("{name} {value}"), &platform.client_id, &token).await;
    }
    let flat = json!({ "uid": "u-1" });
    let token = with(&[("kubernetes.io", Value::Null), ("kubernetes.io/serviceaccount", flat)]);
    refused(&kw, "a flat name", &platform.client_id, &token).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn forged_token_is_refused() {
    let (kw, _, platform) = start(Backend::Sqlite, &[NO_BUDGET]).await;
    let (id, right) = (platform.client_id.as_str(), claims(&kw));
    let text = right.to_string();
    let stranger = Signer::new("ES256");
    let with = |more: Value| {
        let mut header = json!({ "kid": super::KID });
        header.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        platform.signer.token(&header, &right)
    };
    let mut by_own_key = json!({ "kid": super::KID });
    by_own_key["jwk"] = stranger.jwk();
    let right_token = platform.sign(&right);
    let (message, _) = right_token.rsplit_once('.').unwrap();
    let twice = text.replacen('{', r#"{"sub":"job:other","#, 1);
    for (why, token) in [
        ("another key", stranger.token(&json!({ "kid": super::KID }), &right)),
        ("the key in the header", stranger.token(&by_own_key, &right)),
        ("another kid", platform.signer.token(&json!({ "kid": "other" }), &right)),
        ("none", format!("{}.{}.", base64url(r#"{"alg":"none"}"#), base64url(&text))),
        ("no signature", format!("{message}.")),
        ("crit", with(json!({ "crit": ["b64"], "b64": false }))),
        ("alg", platform.signer.token_of_texts(r#"{"alg":"RS256","kid":"first"}"#, &text)),
        ("HS256", platform.signer.token_of_texts(r#"{"alg":"HS256","kid":"first"}"#, &text)),
        ("a claim twice", platform.signer.token_of_texts(r#"{"alg":"ES256"}"#, &twice)),
        ("no JWT", "x".to_owned()),
        ("too long", format!("{right_token}{}", "A".repeat(17_000))),
    ] {
        refused(&kw, why, id, &token).await;
    }
}
