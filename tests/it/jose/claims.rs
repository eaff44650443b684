//! The types of claims, the audience and the type of a token.

use keyward::internals::jose::{JwtClaims, JwtRefusal, SignedJwt};
use serde_json::{Value, json};

use crate::harness::signer::Signer;

const ISSUER: &str = "https://keyward.test";

/// Reads the claims of a token with these claims in its payload.
fn read<T>(
    claims: &str,
    check: impl Fn(&JwtClaims) -> Result<T, JwtRefusal>,
) -> Result<T, JwtRefusal> {
    let token = Signer::new("EdDSA").token_of_texts(r#"{"alg":"EdDSA"}"#, claims);
    check(SignedJwt::parse(&token)?.unverified_claims())
}

fn is_read(claim: &str, value: &str) -> Result<(), JwtRefusal> {
    read(&format!("{{\"{claim}\":{value}}}"), |_| Ok(()))
}

#[test]
fn claim_of_wrong_type_is_refused_and_never_absent() {
    let not_texts = ["null", "true", "0", "1.5", "[]", "[\"a\"]", "{}", "\"\""];
    let not_dates = [
        "null",
        "true",
        "false",
        "[]",
        "[1]",
        "{}",
        "\"\"",
        "\"1700000000\"",
        "\"99999999999\"",
        "-1",
        "-0.5",
        "-1e9",
        "253402300800",
        "9999999999999",
        "18446744073709551615",
        "18446744073709551616",
        "1e300",
    ];
    let not_audiences = [
        "null",
        "true",
        "1",
        "{}",
        "[]",
        "\"\"",
        "[\"\"]",
        "[1]",
        "[null]",
        "[[\"a\"]]",
        "[\"a\",1]",
    ];
    let cases = [
        (&["iss", "sub", "jti"][..], &not_texts[..]),
        (&["exp", "iat", "nbf"], &not_dates),
        (&["aud"], &not_audiences),
    ];
    for (claims, values) in cases {
        for (claim, value) in claims.iter().flat_map(|claim| values.iter().map(move |v| (claim, v)))
        {
            let refused = is_read(claim, value);
            let is_type = matches!(refused, Err(JwtRefusal::ClaimType(name, _)) if name == *claim);
            assert!(is_type, "{claim} = {value}: {refused:?}");
        }
    }
    for claim in ["exp", "iat", "nbf"] {
        assert_eq!(is_read(claim, "1e400"), Err(JwtRefusal::ClaimsNotObject), "{claim}");
        for value in ["0", "1", "1700000000", "1700000000.5", "1.7e9", "253402207200"] {
            assert_eq!(is_read(claim, value), Ok(()), "{claim} = {value}");
        }
    }
}

#[test]
fn texts_are_bounded() {
    for (claim, max) in [("jti", 256), ("sub", 1024), ("iss", 1024), ("aud", 1024)] {
        for (length, is_taken) in [(1, true), (max, true), (max + 1, false)] {
            let value = format!("\"{}\"", "\u{e9}".repeat(length));
            assert_eq!(is_read(claim, &value).is_ok(), is_taken, "{claim} of {length}");
        }
    }
    let audiences = |count: usize| json!(vec!["a"; count]).to_string();
    assert_eq!(is_read("aud", &audiences(32)), Ok(()));
    assert!(is_read("aud", &audiences(33)).is_err());
}

#[test]
fn missing_claim_is_named() {
    let missing = |claim| Err(JwtRefusal::ClaimMissing(claim));
    assert_eq!(read("{}", |claims| claims.issuer().map(drop)), missing("iss"));
    assert_eq!(read("{}", |claims| claims.subject().map(drop)), missing("sub"));
    assert_eq!(read("{}", |claims| claims.token_id().map(drop)), missing("jti"));
    assert_eq!(read("{}", |claims| claims.audiences().map(drop)), missing("aud"));
    assert_eq!(read("{}", |claims| claims.text("htm").map(drop)), missing("htm"));
    let refused = read(r#"{"htm":null}"#, |claims| claims.optional_text("htm").map(drop));
    assert!(matches!(refused, Err(JwtRefusal::ClaimType("htm", _))));
    assert_eq!(JwtRefusal::ClaimMissing("jti").to_string(), "the claim jti is missing");
}

#[test]
fn fraction_of_a_second_counts() {
    let of =
        |text: &str| read(text, |claims| Ok(claims.expiry().unwrap().as_microsecond())).unwrap();
    assert_eq!(of(r#"{"exp":1.5}"#), 1_500_000);
    assert_eq!(of(r#"{"exp":1700000000}"#), 1_700_000_000_000_000);
}

#[test]
fn audience_must_be_the_issuer_alone() {
    for (aud, is_taken) in [
        (json!(ISSUER), true),
        (json!([ISSUER]), true),
        (json!([ISSUER, "https://other.test"]), false),
        (json!(["https://other.test", ISSUER]), false),
        (json!([ISSUER, ISSUER]), false),
        (json!(format!("{ISSUER}/oauth2/token")), false),
        (json!(format!("{ISSUER}/")), false),
        (json!(ISSUER.to_uppercase()), false),
        (json!("https://keyward.test.evil.test"), false),
    ] {
        let checked =
            read(&json!({ "aud": aud }).to_string(), |claims| claims.check_only_audience(ISSUER));
        assert_eq!(checked, if is_taken { Ok(()) } else { Err(JwtRefusal::Audience) }, "{aud}");
    }
}

#[test]
fn type_of_an_assertion_is_checked() {
    let signer = Signer::new("EdDSA");
    let of = |header: Value| {
        let token = signer.token(&header, &json!({}));
        let jwt = SignedJwt::parse(&token).unwrap();
        let assertion = jwt.header().check_type(&["JWT", "client-authentication+jwt"], true);
        (assertion, jwt.header().check_type(&["dpop+jwt"], false))
    };
    assert_eq!(of(json!({})), (Ok(()), Err(JwtRefusal::HeaderMissing("typ"))));
    for typ in ["JWT", "jwt", "client-authentication+jwt", "application/Client-Authentication+JWT"]
    {
        assert_eq!(of(json!({ "typ": typ })), (Ok(()), Err(JwtRefusal::Type)), "{typ}");
    }
    for typ in ["dpop+jwt", "DPoP+jwt", "application/dpop+jwt"] {
        assert_eq!(of(json!({ "typ": typ })), (Err(JwtRefusal::Type), Ok(())), "{typ}");
    }
    for typ in
        ["at+jwt", "application/at+jwt", "JOSE", "text/dpop+jwt", "application/", "JWT ", "é"]
    {
        let both = (Err(JwtRefusal::Type), Err(JwtRefusal::Type));
        assert_eq!(of(json!({ "typ": typ })), both, "{typ}");
    }
}
