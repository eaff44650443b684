//! Tokens and key sets that others sent: whatever they are, they are read or refused.

use std::sync::LazyLock;

use keyward::internals::jose::{KeySet, PublicKey, SignedJwt};
use proptest::collection::vec;
use proptest::prelude::*;
use serde_json::{Value, json};

use super::cases;
use crate::harness::signer::{Signer, base64url};

static SIGNER: LazyLock<Signer> = LazyLock::new(|| Signer::new("ES256"));

static KEYS: LazyLock<KeySet> = LazyLock::new(|| {
    KeySet::parse_jwks(json!({ "keys": [SIGNER.jwk()] }).to_string().as_bytes()).unwrap()
});

/// Any JSON, often with names and values that mean something here.
fn json_value() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        any::<f64>().prop_map(|number| json!(number)),
        any::<String>().prop_map(Value::from),
        prop::sample::select(vec!["ES256", "RSA", "EC", "OKP", "P-256", "Ed25519", "AQAB", "sig"])
            .prop_map(Value::from),
        vec(any::<u8>(), 0..300).prop_map(|bytes| base64url(bytes).into()),
    ];
    let name = prop_oneof![
        any::<String>(),
        prop::sample::select(vec![
            "alg", "kid", "typ", "jwk", "crit", "kty", "crv", "x", "y", "n", "e", "use", "keys",
            "iss", "sub", "aud", "exp", "iat", "nbf", "jti",
        ])
        .prop_map(str::to_owned),
    ];
    leaf.prop_recursive(4, 40, 10, move |inner| {
        prop_oneof![
            vec(inner.clone(), 0..6).prop_map(Value::from),
            vec((name.clone(), inner), 0..8)
                .prop_map(|members| Value::Object(members.into_iter().collect())),
        ]
    })
}

fn part() -> impl Strategy<Value = String> {
    prop_oneof![
        any::<String>(),
        "[A-Za-z0-9_-]{0,60}",
        json_value().prop_map(|value| base64url(value.to_string())),
        Just(base64url(r#"{"alg":"ES256"}"#)),
    ]
}

proptest! {
    #![proptest_config(cases(3000))]

    #[test]
    fn any_text_is_read_or_refused_and_never_verifies(parts in vec(part(), 0..5)) {
        if let Ok(jwt) = SignedJwt::parse(&parts.join(".")) {
            prop_assert!(jwt.verify_with(&KEYS).is_err());
            drop(jwt.verify_with_jwk());
        }
    }

    #[test]
    fn any_claims_are_read_or_refused(claims in json_value(), header in json_value()) {
        let header = if header.is_object() { header } else { json!({}) };
        if let Ok(jwt) = SignedJwt::parse(&SIGNER.token(&header, &claims)) {
            let read = jwt.unverified_claims();
            let as_parsed: Value = serde_json::from_str(&claims.to_string()).unwrap();
            prop_assert_eq!(Some(read.members()), as_parsed.as_object());
            for (name, was_read) in [
                ("exp", read.expiry().is_some()),
                ("iat", read.issued_at().is_some()),
                ("nbf", read.not_before().is_some()),
                ("aud", read.audiences().is_ok()),
                ("jti", read.token_id().is_ok()),
            ] {
                prop_assert_eq!(claims.get(name).is_some(), was_read, "{} counts as absent", name);
            }
        }
    }

    #[test]
    fn any_key_is_read_or_refused(value in json_value(), bytes in vec(any::<u8>(), 0..200)) {
        drop(PublicKey::parse(&value));
        let set = json!({ "keys": [value, SIGNER.jwk()] }).to_string();
        let fetched = KeySet::parse_fetched(set.as_bytes()).unwrap();
        prop_assert_eq!(fetched.keys.keys().len() + fetched.skipped, 2);
        drop(KeySet::parse_jwks(set.as_bytes()));
        drop(KeySet::parse_jwks(&bytes));
        drop(KeySet::parse_fetched(&bytes));
        drop(KeySet::parse_pem(&String::from_utf8_lossy(&bytes)));
        let block = format!(
            "-----BEGIN PUBLIC KEY-----\n{}\n-----END PUBLIC KEY-----\n", base64url(&bytes)
        );
        prop_assert!(KeySet::parse_pem(&block).is_err());
    }
}
