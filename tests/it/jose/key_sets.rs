//! Which keys are taken, and which one a token is verified with.

use keyward::internals::error::Error;
use keyward::internals::jose::{JwtRefusal, KeySet, MAX_KEY_SET_BYTES, PublicKey};
use serde_json::{Value, json};

use super::{registered, verify};
use crate::harness::signer::{ALGORITHMS, Signer, base64url};

fn document(keys: &[Value]) -> Vec<u8> {
    json!({ "keys": keys }).to_string().into_bytes()
}

/// The faults of a set that an administrator registers, as `place fault`.
fn faults(keys: &[Value]) -> Vec<String> {
    let Err(faults) = KeySet::parse_jwks(&document(keys)) else { return Vec::new() };
    faults.0.into_iter().map(|(place, fault)| format!("{place} {}", fault.0)).collect()
}

/// Keys that are not taken, each with the member that is wrong.
fn unusable() -> Vec<(&'static str, Value)> {
    let (ec, ed, rsa) = (Signer::new("ES256"), Signer::new("EdDSA"), Signer::new("RS256"));
    let with = |signer: &Signer, member: &str, value: Value| {
        let mut jwk = signer.jwk();
        jwk[member] = value;
        jwk
    };
    let modulus = |bytes: usize, first: u8| {
        let mut n = vec![0xff; bytes];
        n[0] = first;
        json!(base64url(n))
    };
    let x = ec.jwk()["x"].as_str().unwrap().to_owned();
    vec![
        ("", json!(null)),
        ("", json!("key")),
        ("kty", json!({})),
        ("kty", json!({"kty": "AKP", "alg": "ML-DSA-44", "pub": "AAAA"})),
        ("kty", with(&ec, "kty", json!("ec"))),
        ("kty", with(&ec, "kty", json!(1))),
        ("k", json!({"kty": "oct", "k": "AAAA"})),
        ("d", with(&ec, "d", json!("AAAA"))),
        ("d", with(&ed, "d", json!(null))),
        ("p", with(&rsa, "p", json!("AAAA"))),
        ("oth", with(&rsa, "oth", json!([]))),
        ("use", with(&ec, "use", json!("enc"))),
        ("use", with(&ec, "use", json!(null))),
        ("key_ops", with(&ec, "key_ops", json!(["encrypt"]))),
        ("key_ops", with(&ec, "key_ops", json!([]))),
        ("key_ops", with(&ec, "key_ops", json!("verify"))),
        ("alg", with(&ec, "alg", json!("ES384"))),
        ("alg", with(&ec, "alg", json!("HS256"))),
        ("alg", with(&rsa, "alg", json!("RSA-OAEP"))),
        ("alg", with(&rsa, "alg", json!("RS512"))),
        ("alg", with(&ed, "alg", json!(["EdDSA"]))),
        ("kid", with(&ec, "kid", json!(""))),
        ("kid", with(&ec, "kid", json!(7))),
        ("kid", with(&ec, "kid", json!("k".repeat(257)))),
        ("crv", with(&ec, "crv", json!("P-521"))),
        ("crv", with(&ec, "crv", json!("Ed25519"))),
        ("crv", with(&ed, "crv", json!("X25519"))),
        ("crv", with(&ed, "crv", json!("Ed448"))),
        ("x", with(&ec, "x", json!(null))),
        ("x", with(&ec, "x", json!(format!("{x}=")))),
        ("x", with(&ec, "x", json!(format!("{x}A")))),
        ("x", with(&ec, "x", ec.jwk()["y"].clone())),
        ("x", with(&ec, "crv", json!("P-384"))),
        ("y", with(&ec, "y", json!("AAAA"))),
        ("y", json!({"kty": "EC", "crv": "P-256", "x": x})),
        ("x", with(&ed, "x", json!(""))),
        ("n", with(&rsa, "n", json!(""))),
        ("n", with(&rsa, "n", modulus(255, 0xff))),
        ("n", with(&rsa, "n", modulus(256, 0x7f))),
        ("n", with(&rsa, "n", modulus(1025, 0x01))),
        ("n", with(&rsa, "n", modulus(257, 0))),
        ("n", with(&rsa, "n", json!(base64url([0xfe; 256])))),
        ("n", with(&rsa, "n", json!(format!("{}==", rsa.jwk()["n"].as_str().unwrap())))),
        ("e", with(&rsa, "e", json!("AQ"))),
        ("e", with(&rsa, "e", json!("AAEAAQ"))),
        ("e", with(&rsa, "e", json!("Ag"))),
        ("e", with(&rsa, "e", json!("AQAAAAE"))),
        ("e", with(&rsa, "e", json!(65537))),
    ]
}

#[test]
fn registered_key_that_cannot_be_used_is_refused_by_member() {
    for (member, jwk) in unusable() {
        let dot = if member.is_empty() { "" } else { "." };
        let good = Signer::new("ES256").jwk();
        let faults = faults(&[good, jwk.clone()]);
        assert_eq!(faults.len(), 1, "{jwk}: {faults:?}");
        assert!(faults[0].starts_with(&format!("keys[1]{dot}{member} ")), "{jwk}: {faults:?}");
    }
    let Err(faults) = KeySet::parse_jwks(&document(&[json!({}), json!(1)])) else { panic!() };
    let Error::InvalidFields(violations) = faults.of("public_key.jwks") else { panic!() };
    let fields: Vec<_> = violations.iter().map(|violation| violation.field.as_str()).collect();
    assert_eq!(fields, ["public_key.jwks.keys[0].kty", "public_key.jwks.keys[1]"]);
}

#[test]
fn good_key_works_beside_keys_that_are_not_understood() {
    let signer = Signer::new("ES256");
    let token = signer.token(&json!({ "kid": "good" }), &json!({ "sub": "a" }));
    for (member, jwk) in unusable() {
        for first in [true, false] {
            let good = signer.jwk_with(&[("kid", "good")]);
            let both = if first { [good, jwk.clone()] } else { [jwk.clone(), good] };
            let fetched = KeySet::parse_fetched(&document(&both)).unwrap();
            assert_eq!(fetched.skipped, 1, "{member} of {jwk}");
            assert_eq!(verify(&token, &fetched.keys), Ok(()));
        }
    }
    let all: Vec<_> = unusable().into_iter().map(|(_, jwk)| jwk).collect();
    let fetched = KeySet::parse_fetched(&document(&all)).unwrap();
    assert_eq!((fetched.keys.keys().len(), fetched.skipped), (0, all.len()));
    assert_eq!(verify(&token, &fetched.keys), Err(JwtRefusal::UnknownKey));
}

#[test]
fn one_id_may_name_keys_of_several_types() {
    let signers = ["ES256", "ES384", "EdDSA", "RS256"].map(Signer::new);
    let keys: Vec<_> = signers.iter().map(|signer| signer.jwk_with(&[("kid", "k")])).collect();
    let keys = registered(&keys);
    for signer in &signers {
        let token = signer.token(&json!({ "kid": "k" }), &json!({}));
        assert_eq!(verify(&token, &keys), Ok(()), "{}", signer.algorithm());
    }
    let (pss, pkcs1) = (Signer::new("PS256"), Signer::new("RS256"));
    let keys = registered(&[
        pss.jwk_with(&[("kid", "k"), ("alg", "PS256")]),
        pkcs1.jwk_with(&[("kid", "k"), ("alg", "RS256")]),
    ]);
    for signer in [pss, pkcs1] {
        assert_eq!(verify(&signer.token(&json!({ "kid": "k" }), &json!({})), &keys), Ok(()));
    }
}

#[test]
fn two_keys_of_one_id_and_type_are_ambiguous() {
    let (one, other) = (Signer::new("RS256"), Signer::new("RS256"));
    for algorithm in [None, Some("RS256")] {
        let first = one.jwk_with(&[("kid", "twice")]);
        let mut second = other.jwk_with(&[("kid", "twice")]);
        if let Some(algorithm) = algorithm {
            second["alg"] = algorithm.into();
        }
        let both = [first, second];
        let faults = faults(&both);
        assert!(faults[0].starts_with("keys[1].kid twice "), "{faults:?}");
        let fetched = KeySet::parse_fetched(&document(&both)).unwrap().keys;
        for signer in [&one, &other] {
            let token = signer.token(&json!({ "kid": "twice" }), &json!({}));
            assert_eq!(verify(&token, &fetched), Err(JwtRefusal::AmbiguousKey));
        }
    }
    // The same key twice in a fetched set is one key.
    let key = one.jwk_with(&[("kid", "k")]);
    let fetched = KeySet::parse_fetched(&document(&[key.clone(), key])).unwrap();
    assert_eq!(fetched.skipped, 1);
    assert_eq!(verify(&one.token(&json!({ "kid": "k" }), &json!({})), &fetched.keys), Ok(()));
}

#[test]
fn without_key_id_at_most_four_keys_are_tried() {
    let signers: Vec<_> = (0..5).map(|_| Signer::new("ES256")).collect();
    let named = |count: usize| {
        let keys = signers[..count].iter().enumerate();
        registered(
            &keys.map(|(n, key)| key.jwk_with(&[("kid", &n.to_string())])).collect::<Vec<_>>(),
        )
    };
    for signer in &signers[..4] {
        assert_eq!(verify(&signer.token(&json!({}), &json!({})), &named(4)), Ok(()));
    }
    let token = signers[0].token(&json!({}), &json!({}));
    assert_eq!(verify(&token, &named(5)), Err(JwtRefusal::KeyIdRequired));
    let token = Signer::new("RS256").token(&json!({}), &json!({}));
    assert_eq!(verify(&token, &named(4)), Err(JwtRefusal::NoKeyFits));
    // An id selects keys without one only if no key has it.
    let unnamed: Vec<_> = signers.iter().map(Signer::jwk).collect();
    assert!(faults(&unnamed)[0].starts_with("keys[4].kid is missing"));
    let keys = registered(&unnamed[..4]);
    assert_eq!(verify(&signers[3].token(&json!({"kid": "mine"}), &json!({})), &keys), Ok(()));
    let mixed = registered(&[signers[0].jwk(), signers[1].jwk_with(&[("kid", "k")])]);
    let token = signers[0].token(&json!({ "kid": "k" }), &json!({}));
    assert_eq!(verify(&token, &mixed), Err(JwtRefusal::Signature));
    let token = signers[0].token(&json!({ "kid": "other" }), &json!({}));
    assert_eq!(verify(&token, &named(2)), Err(JwtRefusal::UnknownKey));
}

#[test]
fn size_and_number_of_keys_are_bounded() {
    let one = |n: usize| json!({"kty": "OKP", "crv": "Ed25519", "kid": n.to_string(), "x": Signer::new("EdDSA").jwk()["x"]});
    let keys: Vec<_> = (0..33).map(one).collect();
    assert_eq!(registered(&keys[..32]).keys().len(), 32);
    assert_eq!(faults(&keys), ["keys must have at most 32 keys"]);
    assert_eq!(faults(&[]), ["keys must have at least one key"]);
    let fetched = KeySet::parse_fetched(&document(&keys)).unwrap();
    assert_eq!((fetched.keys.keys().len(), fetched.skipped), (32, 1));
    let mut long = document(&keys[..1]);
    long.resize(MAX_KEY_SET_BYTES, b' ');
    assert!(KeySet::parse_jwks(&long).is_ok() && KeySet::parse_fetched(&long).is_ok());
    long.push(b' ');
    assert!(KeySet::parse_jwks(&long).is_err() && KeySet::parse_fetched(&long).is_err());
    for text in
        ["", "null", "[]", "{}", r#"{"keys":{}}"#, r#"{"keys":null}"#, "<html>", "{\"keys\":["]
    {
        assert!(KeySet::parse_jwks(text.as_bytes()).is_err(), "{text}");
        assert!(KeySet::parse_fetched(text.as_bytes()).is_err(), "{text}");
    }
    assert!(KeySet::parse_jwks(br#"{"keys":[],"keys":[]}"#).is_err());
}

#[test]
fn pem_keys_are_the_keys_of_the_jwks() {
    let signers = ["ES256", "ES384", "EdDSA", "RS256"].map(Signer::new);
    let pem: String = signers.iter().map(Signer::pem).collect();
    let keys = KeySet::parse_pem(&pem).unwrap();
    assert_eq!(keys, registered(&signers.each_ref().map(Signer::jwk)));
    assert_eq!(
        keys,
        KeySet::parse_pem(&format!("comment\n{}", pem.replace('\n', "\r\n"))).unwrap()
    );
    for signer in &signers {
        let token = signer.token(&json!({ "kid": "any" }), &json!({}));
        assert_eq!(verify(&token, &keys), Ok(()), "{}", signer.algorithm());
    }
    let one = signers[0].pem();
    let private = rcgen::KeyPair::generate().unwrap().serialize_pem();
    for (text, says) in [
        (String::new(), "must have a PUBLIC KEY block"),
        ("text".to_owned(), "must have a PUBLIC KEY block"),
        (format!("{one}{private}"), "block 2: it is a private key"),
        (one.replace("PUBLIC KEY", "CERTIFICATE"), "block 1: it must be a PUBLIC KEY"),
        (one.replace("PUBLIC KEY", "RSA PUBLIC KEY"), "block 1: it must be a PUBLIC KEY"),
        (one[..60].to_owned(), "block 1: it must be valid base64"),
        (one.replace("MF", "M?"), "block 1: it must be valid base64"),
        (one.replace("MFk", "MFj"), "block 1: it must be a P-256"),
        (format!("{one}{one}"), "has a key twice: block 2"),
        ("x".repeat(MAX_KEY_SET_BYTES + 1), "at most 65536 bytes"),
    ] {
        let faults = KeySet::parse_pem(&text).unwrap_err();
        assert!(faults.0[0].1.0.contains(says), "{says}: {faults:?}");
    }
}

#[test]
fn stored_set_is_read_as_it_was() {
    let keys: Vec<_> = ALGORITHMS
        .iter()
        .map(|algorithm| Signer::new(algorithm).jwk_with(&[("kid", algorithm), ("alg", algorithm)]))
        .collect();
    let mut with_more = keys.clone();
    with_more[0]["x5c"] = json!(["MAA="]);
    with_more[1]["use"] = json!("sig");
    let set = registered(&with_more);
    let stored = set.to_jwks();
    assert_eq!(KeySet::from_stored(&stored).unwrap(), set);
    assert_eq!(KeySet::from_stored(&stored).unwrap().to_jwks(), stored);
    assert!(!stored.contains("x5c"));
    assert!(KeySet::from_stored("{}").is_err());
}

#[test]
fn thumbprints_are_those_of_the_rfcs() {
    let rsa = json!({
        "kty": "RSA", "e": "AQAB", "alg": "RS256", "kid": "2011-04-29",
        "n": "0vx7agoebGcQSuuPiLJXZptN9nndrQmbXEps2aiAFbWhM78LhWx4cbbfAAtVT86zwu1RK7aPFFxuhDR1L6tS\
              oc_BJECPebWKRXjBZCiFV4n3oknjhMstn64tZ_2W-5JsGY4Hc5n9yBXArwl93lqt7_RN5w6Cf0h4QyQ5v-65\
              YGjQR0_FDW2QvzqY368QQMicAtaSqzs8KJZgnYb9c7d0zgdAZHzu6qMQvRL5hajrn1n91CbOpbISD08qNLyr\
              dkt-bFTWhAI4vMQFh6WeZu0fM4lFd2NcRwr3XPksINHaQ-G_xBniIqbw0Ls1jF44-csFCur-kEgU8awapJzK\
              nqDKgw",
    });
    let ed25519 = json!({
        "kty": "OKP", "crv": "Ed25519", "x": "11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo",
    });
    let dpop = json!({
        "kty": "EC", "crv": "P-256", "x": "l8tFrhx-34tV3hRICRDY9zCkDlpBhF42UQUfWVAWBFs",
        "y": "9VE4jf_Ok_o64zbTTlcuNJajHmt6v9TDVrU0CdvGRDA",
    });
    for (jwk, thumbprint) in [
        (rsa, "NzbLsXh8uDCcd-6MNwXF4W_7noWXFZAfHkxZsRGC9Xs"), // RFC 7638, section 3.1
        (ed25519, "kPrK_qmxVWaYVA9wwBF6Iuo3vVzz7TxHCTwXBygrS4k"), // RFC 8037, appendix A.3
        (dpop, "0ZcOCORZNYy-DWpqq30jZyJGHTN0d2HglBV3uiguA4I"), // RFC 9449, section 6.1
    ] {
        assert_eq!(PublicKey::parse(&jwk).unwrap().thumbprint(), thumbprint);
    }
}
