//! Tokens that the signer did not make, or that mean another thing to another reader.

use aws_lc_rs::hmac;
use keyward::internals::jose::{JwtRefusal, SignedJwt};
use serde_json::{Value, json};

use super::{registered, verify};
use crate::harness::signer::{ALGORITHMS, Signer, base64url};

fn claims() -> Value {
    json!({"iss": "c", "sub": "c", "aud": "https://keyward.test", "jti": "1", "exp": 2000})
}

#[test]
fn every_accepted_algorithm_verifies_its_own_signatures() {
    for algorithm in ALGORITHMS {
        let signer = Signer::new(algorithm);
        let keys = registered(&[signer.jwk()]);
        let token = signer.token(&json!({}), &claims());
        assert_eq!(verify(&token, &keys), Ok(()), "{algorithm}");
        let stranger = Signer::new(algorithm).token(&json!({}), &claims());
        assert_eq!(verify(&stranger, &keys), Err(JwtRefusal::Signature), "{algorithm}");
    }
}

#[test]
fn both_names_of_ed25519_are_one_algorithm() {
    for (in_key, in_header) in
        [("EdDSA", "Ed25519"), ("Ed25519", "EdDSA"), ("Ed25519", "Ed25519"), ("EdDSA", "EdDSA")]
    {
        let signer = Signer::new("Ed25519");
        let keys = registered(&[signer.jwk_with(&[("alg", in_key)])]);
        let token = signer.token(&json!({ "alg": in_header }), &claims());
        assert_eq!(verify(&token, &keys), Ok(()), "{in_key} {in_header}");
    }
}

#[test]
fn unsigned_and_symmetric_tokens_are_refused() {
    let signer = Signer::new("RS256");
    let keys = registered(&[signer.jwk()]);
    for name in ["none", "None", "nOnE", "HS256", "HS384", "HS512", "RS512", "ES256K", "ES512", ""]
    {
        let header = base64url(json!({ "alg": name }).to_string());
        let message = format!("{header}.{}", base64url(claims().to_string()));
        for signature in [String::new(), base64url("x")] {
            let refused = verify(&format!("{message}.{signature}"), &keys);
            assert!(refused.is_err(), "{name}");
        }
    }
    // The public key is public: with it as the secret of an HMAC, anyone could sign.
    let message =
        format!("{}.{}", base64url(r#"{"alg":"HS256"}"#), base64url(claims().to_string()));
    for secret in [signer.pem(), signer.jwk().to_string(), signer.jwk()["n"].to_string()] {
        let key = hmac::Key::new(hmac::HMAC_SHA256, secret.as_bytes());
        let tag = base64url(hmac::sign(&key, message.as_bytes()));
        assert_eq!(verify(&format!("{message}.{tag}"), &keys), Err(JwtRefusal::Algorithm));
    }
}

#[test]
fn algorithm_of_another_key_type_is_refused() {
    for algorithm in ALGORITHMS {
        let signer = Signer::new(algorithm);
        let keys = registered(&[signer.jwk_with(&[("kid", "k")])]);
        for other in ALGORITHMS {
            let token = signer.token(&json!({ "alg": other, "kid": "k" }), &claims());
            let ed = |name: &str| name.starts_with("Ed");
            let is_same = other == algorithm || (ed(other) && ed(algorithm));
            assert_eq!(verify(&token, &keys).is_ok(), is_same, "{algorithm} signed as {other}");
        }
    }
    // A key that names its algorithm is for no other.
    let signer = Signer::new("RS256");
    let keys = registered(&[signer.jwk_with(&[("kid", "k"), ("alg", "PS256")])]);
    let token = signer.token(&json!({ "kid": "k" }), &claims());
    assert_eq!(verify(&token, &keys), Err(JwtRefusal::OtherAlgorithm));
}

#[test]
fn header_extensions_are_refused_and_keys_in_it_ignored() {
    let (signer, stranger) = (Signer::new("ES256"), Signer::new("ES256"));
    let keys = registered(&[signer.jwk()]);
    let with = |header: Value| verify(&signer.token(&header, &claims()), &keys);
    for (member, value) in [
        ("crit", json!(["exp"])),
        ("crit", json!([])),
        ("crit", json!(null)),
        ("crit", json!("b64")),
        ("b64", json!(false)),
        ("b64", json!(true)),
    ] {
        let refused = Err(JwtRefusal::HeaderUnsupported(member));
        assert_eq!(with(json!({ member: value })), refused, "{member}");
    }
    for value in [json!(null), json!(1), json!([]), json!({}), json!(true), json!("")] {
        for member in ["alg", "typ", "kid"] {
            let refused = with(json!({ member: value.clone() }));
            let is_type = matches!(refused, Err(JwtRefusal::HeaderType(name, _)) if name == member);
            assert!(is_type, "{member} = {value}: {refused:?}");
        }
    }
    let hostile = json!({
        "jku": "https://evil.test/jwks", "x5u": "https://evil.test/x5u",
        "x5c": ["MAA="], "jwk": stranger.jwk(),
    });
    assert_eq!(with(hostile.clone()), Ok(()), "the registered key signed it");
    let forged = stranger.token(&hostile, &claims());
    assert_eq!(
        verify(&forged, &keys),
        Err(JwtRefusal::Signature),
        "jwk is not a key of the signer"
    );
}

#[test]
fn repeated_members_are_refused() {
    let signer = Signer::new("ES256");
    let keys = registered(&[signer.jwk()]);
    for (header, claims) in [
        (r#"{"alg":"ES256","alg":"ES256"}"#, r#"{"sub":"a"}"#),
        (r#"{"alg":"ES256","typ":"JWT","t\u0079p":"JWT"}"#, r#"{"sub":"a"}"#),
        (r#"{"alg":"ES256"}"#, r#"{"sub":"a","sub":"b"}"#),
        (r#"{"alg":"ES256"}"#, r#"{"sub":"a","act":{"sub":"a","sub":"b"}}"#),
        (r#"["ES256"]"#, r#"{"sub":"a"}"#),
        (r#"{"alg":"ES256"}"#, r#"["sub"]"#),
        (r#"{"alg":"ES256"}"#, "null"),
        (r#"{"alg":"ES256"}"#, r#"{"sub":"a"}{}"#),
        (r#"{"alg":"ES256"}"#, r#"{"exp":1e400}"#),
    ] {
        let refused = verify(&signer.token_of_texts(header, claims), &keys);
        let expected = [JwtRefusal::HeaderNotObject, JwtRefusal::ClaimsNotObject];
        assert!(refused.is_err_and(|refusal| expected.contains(&refusal)), "{header} {claims}");
    }
}

#[test]
fn token_has_one_form_only() {
    for algorithm in ["ES256", "RS256"] {
        let signer = Signer::new(algorithm);
        let keys = registered(&[signer.jwk()]);
        let token = signer.token(&json!({}), &claims());
        let [header, payload, signature] = token.split('.').collect::<Vec<_>>()[..] else {
            panic!("three parts");
        };
        let mut forms = vec![
            format!("{token}."),
            format!(".{token}"),
            format!("{token}.{signature}"),
            format!(" {token}"),
            format!("{token}\n"),
            format!("{token}\0"),
            format!("{header}..{payload}.{signature}"),
            format!("{header}.{payload}"),
            format!("{header}.{payload}."),
            format!("{header}..{signature}"),
            format!(".{payload}.{signature}"),
            token.replace('.', ""),
            token.replace(['-', '_'], "+"),
            String::new(),
            "..".to_owned(),
            ".".repeat(1000),
        ];
        for extra in ["=", "==", " ", "\n", "\r\n", "\t", "%3D", "\u{e9}"] {
            forms.push(format!("{header}{extra}.{payload}.{signature}"));
            forms.push(format!("{header}.{payload}{extra}.{signature}"));
            forms.push(format!("{header}.{payload}.{signature}{extra}"));
            forms.push(format!("{header}.{payload}.{}{extra}{}", &signature[..9], &signature[9..]));
        }
        assert_eq!(verify(&token, &keys), Ok(()));
        for form in forms.iter().filter(|form| **form != token) {
            assert!(verify(form, &keys).is_err(), "{form:?}");
        }
        for position in 0..token.len() {
            let mut bytes = token.clone().into_bytes();
            bytes[position] ^= 1;
            if let Ok(altered) = String::from_utf8(bytes) {
                assert!(verify(&altered, &keys).is_err(), "byte {position}");
            }
            assert!(verify(&token[..position], &keys).is_err(), "cut to {position}");
        }
    }
}

#[test]
fn long_token_is_refused_before_it_is_parsed() {
    let signer = Signer::new("ES256");
    let keys = registered(&[signer.jwk()]);
    for text in ["a".repeat(3_000_000), ".".repeat(1_000_000)] {
        assert_eq!(verify(&text, &keys), Err(JwtRefusal::TooLong));
    }
    let long = signer.token(&json!({}), &json!({ "x": "a".repeat(16 * 1024) }));
    assert_eq!(verify(&long, &keys), Err(JwtRefusal::TooLong));
    let fits = signer.token(&json!({}), &json!({ "x": "a".repeat(11 * 1024) }));
    assert_eq!(verify(&fits, &keys), Ok(()));
}

#[test]
fn proof_of_a_key_verifies_with_the_key_in_its_header_only() {
    for algorithm in ALGORITHMS {
        let (signer, stranger) = (Signer::new(algorithm), Signer::new(algorithm));
        let proof = signer.token(&json!({ "jwk": signer.jwk(), "typ": "dpop+jwt" }), &claims());
        let proof = SignedJwt::parse(&proof).unwrap();
        let (verified, key) = proof.verify_with_jwk().unwrap();
        assert_eq!(verified.claims().token_id(), Ok("1"));
        assert_eq!(key, registered(&[signer.jwk()]).keys()[0]);
        let refused = |jwk: Value| {
            let proof = signer.token(&json!({ "jwk": jwk }), &claims());
            SignedJwt::parse(&proof).unwrap().verify_with_jwk().map(drop).unwrap_err()
        };
        assert_eq!(refused(stranger.jwk()), JwtRefusal::Signature);
        for private in ["d", "p", "q", "dp", "dq", "qi", "oth", "k"] {
            assert_eq!(refused(signer.jwk_with(&[(private, "AA")])), JwtRefusal::HeaderKey);
        }
        for jwk in [json!(null), json!("x"), json!([]), json!({}), json!({"kty": "oct", "k": "AA"})]
        {
            assert_eq!(refused(jwk), JwtRefusal::HeaderKey);
        }
        let without = signer.token(&json!({}), &claims());
        let without = SignedJwt::parse(&without).unwrap().verify_with_jwk().map(drop);
        assert_eq!(without, Err(JwtRefusal::HeaderMissing("jwk")));
    }
    let (ec, rsa) = (Signer::new("ES256"), Signer::new("RS256"));
    let mixed = ec.token(&json!({ "jwk": rsa.jwk() }), &claims());
    let mixed = SignedJwt::parse(&mixed).unwrap().verify_with_jwk().map(drop);
    assert_eq!(mixed, Err(JwtRefusal::NoKeyFits));
}
