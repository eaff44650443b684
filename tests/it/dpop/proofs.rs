//! The rules of section 4.3, one by one, and the examples of RFC 9449.

use std::time::Duration;

use jiff::Timestamp;
use keyward::internals::clock::later;
use keyward::internals::jose::{
    DpopProof, JwtRefusal, MAX_PROOF_AGE, MAX_PROOF_LENGTH, ProofFault, ProvenRequest,
};
use serde_json::{Value, json};

use super::{Prover, hash};
use crate::harness::signer::{ALGORITHMS, Signer, base64url};

const URL: &str = "https://api.example/svc/token";
const IAT: i64 = 1_780_000_000;

fn at(second: i64) -> Timestamp {
    Timestamp::from_second(second).unwrap()
}

fn check(proof: &str, token: Option<&str>) -> Result<DpopProof, ProofFault> {
    DpopProof::check(proof, ProvenRequest { method: "POST", url: URL, token }, at(IAT))
}

/// The verdict on a proof whose header and claims were changed.
fn changed(change: impl Fn(&mut Value, &mut Value)) -> Result<DpopProof, ProofFault> {
    let prover = Prover::new();
    let (mut header, mut claims) = (prover.header(), prover.claims_at(IAT, "POST", URL));
    change(&mut header, &mut claims);
    check(&prover.signer.token(&header, &claims), None)
}

#[test]
fn examples_of_the_rfc_are_accepted() {
    // Figures 2 and 13. The jkt is that of figure 8.
    const HEADER: &str = "eyJ0eXAiOiJkcG9wK2p3dCIsImFsZyI6IkVTMjU2IiwiandrIjp7Imt0eSI6IkVDIiwieCI6\
        Imw4dEZyaHgtMzR0VjNoUklDUkRZOXpDa0RscEJoRjQyVVFVZldWQVdCRnMiLCJ5IjoiOVZFNGpmX09rX282NHpiVFRs\
        Y3VOSmFqSG10NnY5VERWclUwQ2R2R1JEQSIsImNydiI6IlAtMjU2In19";
    let for_token = format!(
        "{HEADER}.eyJqdGkiOiItQndDM0VTYzZhY2MybFRjIiwiaHRtIjoiUE9TVCIsImh0dSI6Imh0dHBzOi8vc2VydmVyLm\
         V4YW1wbGUuY29tL3Rva2VuIiwiaWF0IjoxNTYyMjYyNjE2fQ.2-GxA6T8lP4vfrg8v-FdWP0A0zdrj8igiMLvqRMUv\
         wnQg4PtFLbdLXiOSsX0x7NVY-FNyJK70nfbV37xRZT3Lg"
    );
    let for_resource = format!(
        "{HEADER}.eyJqdGkiOiJlMWozVl9iS2ljOC1MQUVCIiwiaHRtIjoiR0VUIiwiaHR1IjoiaHR0cHM6Ly9yZXNvdXJjZS\
         5leGFtcGxlLm9yZy9wcm90ZWN0ZWRyZXNvdXJjZSIsImlhdCI6MTU2MjI2MjYxOCwiYXRoIjoiZlVIeU8ycjJaM0Ra\
         NTNFc05yV0JiMHhXWG9hTnk1OUlpS0NBcWtzbVFFbyJ9.2oW9RP35yRqzhrtNP86L-Ey71EOptxRimPPToA1plemAg\
         R6pxHF8y6-yqyVnmcw6Fy1dqd-jfxSYoMxhAJpLjA"
    );
    let jkt = "0ZcOCORZNYy-DWpqq30jZyJGHTN0d2HglBV3uiguA4I";
    let request =
        ProvenRequest { method: "POST", url: "https://server.example.com/token", token: None };
    let proof = DpopProof::check(&for_token, request, at(1_562_262_616)).unwrap();
    assert_eq!((proof.key.as_str(), proof.id.as_str()), (jkt, "-BwC3ESc6acc2lTc"));
    let request = ProvenRequest {
        method: "GET",
        url: "https://resource.example.org/protectedresource",
        token: Some("Kz~8mXK1EalYznwH-LC-1fBAo.4Ljp~zsPE_NeO.gxU"),
    };
    let proof = DpopProof::check(&for_resource, request, at(1_562_262_618)).unwrap();
    assert_eq!((proof.key.as_str(), proof.id.as_str()), (jkt, "e1j3V_bKic8-LAEB"));
    let other = ProvenRequest { token: Some("another token"), ..request };
    let refused = DpopProof::check(&for_resource, other, at(1_562_262_618));
    assert_eq!(refused, Err(ProofFault::TokenHash));
}

#[test]
fn keys_of_all_algorithms_are_accepted() {
    for algorithm in ALGORITHMS {
        let prover = Prover::of(algorithm);
        let proof = check(&prover.sign(&prover.claims_at(IAT, "POST", URL)), None).unwrap();
        assert_eq!(proof.key, prover.thumbprint(), "{algorithm}");
    }
}

#[test]
fn each_member_of_the_header_is_checked() {
    use JwtRefusal::{Algorithm, HeaderKey, HeaderMissing, HeaderUnsupported, NoKeyFits, Type};
    assert!(changed(|_, _| {}).is_ok());
    let ed = Signer::new("EdDSA").jwk();
    let private = {
        let mut jwk = Signer::new("ES256").jwk();
        jwk["d"] = "AAAA".into();
        jwk
    };
    let symmetric = json!({ "kty": "oct", "k": "AAAA" });
    let cases = [
        ("typ", Value::Null, HeaderMissing("typ")),
        ("typ", json!("JWT"), Type),
        ("typ", json!("at+jwt"), Type),
        ("alg", json!("none"), Algorithm),
        ("alg", json!("HS256"), Algorithm),
        ("jwk", Value::Null, HeaderMissing("jwk")),
        ("jwk", ed, NoKeyFits),
        ("jwk", private, HeaderKey),
        ("jwk", symmetric, HeaderKey),
        ("jwk", json!("a string"), HeaderKey),
        ("jwk", Signer::new("ES256").jwk(), JwtRefusal::Signature),
        ("crit", json!(["exp"]), HeaderUnsupported("crit")),
    ];
    for (name, value, expected) in cases {
        let verdict = changed(|header, _| match &value {
            Value::Null => drop(header.as_object_mut().unwrap().remove(name)),
            value => header[name] = value.clone(),
        });
        assert_eq!(verdict, Err(ProofFault::Jwt(expected)), "{name}: {value}");
    }
}

#[test]
fn each_claim_is_required_and_typed() {
    for name in ["jti", "htm", "htu", "iat"] {
        let verdict = changed(|_, claims| drop(claims.as_object_mut().unwrap().remove(name)));
        assert_eq!(verdict, Err(ProofFault::Jwt(JwtRefusal::ClaimMissing(name))), "{name}");
        for wrong in [json!(null), json!(true), json!({}), json!(["POST"]), json!(-1)] {
            let verdict = changed(|_, claims| claims[name] = wrong.clone());
            let fault = verdict.unwrap_err();
            let typed =
                matches!(fault, ProofFault::Jwt(JwtRefusal::ClaimType(of, _)) if of == name);
            assert!(typed, "{name} = {wrong}: {fault:?}");
        }
    }
    for wrong in [json!("1780000000"), json!(1e300)] {
        assert!(changed(|_, claims| claims["iat"] = wrong.clone()).is_err(), "{wrong}");
    }
    for wrong in [String::new(), "x".repeat(257)] {
        assert!(changed(|_, claims| claims["jti"] = wrong.clone().into()).is_err());
    }
    assert!(changed(|_, claims| claims["nonce"] = json!(7)).is_err());
    let other = changed(|_, claims| claims["htm"] = "post".into());
    assert_eq!(other, Err(ProofFault::Method("POST".to_owned())), "methods have one case");
}

#[test]
fn forms_that_are_no_single_proof_are_refused() {
    let prover = Prover::new();
    let proof = prover.sign(&prover.claims_at(IAT, "POST", URL));
    let (message, signature) = proof.rsplit_once('.').unwrap();
    for bad in [
        String::new(),
        "x".to_owned(),
        format!("{proof},{proof}"),
        format!("{proof}, {proof}"),
        format!("{proof}."),
        format!(" {proof}"),
        format!("{proof}="),
        format!("{message}."),
        format!("{message}.{}", base64url([0; 64])),
        format!("{}.{signature}", message.replace('.', "..")),
    ] {
        assert!(check(&bad, None).is_err(), "{bad}");
    }
    let long = format!("{proof}{}", "A".repeat(MAX_PROOF_LENGTH));
    assert_eq!(check(&long, None), Err(ProofFault::TooLong));
}

#[test]
fn url_is_compared_in_its_normal_form() {
    for same in [
        "HTTPS://API.Example:443/svc/token",
        "https://api.example/svc/token?grant=1#x",
        "https://api.example/svc/./x/../token",
        "https://api.example/%73vc/token",
    ] {
        assert!(changed(|_, claims| claims["htu"] = same.into()).is_ok(), "{same}");
    }
    for other in [
        "https://api.example/token",
        "https://api.example:8443/svc/token",
        "http://api.example/svc/token",
        "https://api.example/svc/token/",
        "https://api.example/svc%2Ftoken",
        "https://api.example.evil/svc/token",
        "https://user@api.example/svc/token",
        "/svc/token",
        "",
        "not a URL",
    ] {
        let verdict = changed(|_, claims| claims["htu"] = other.into());
        assert_eq!(verdict, Err(ProofFault::Url(URL.to_owned())), "{other}");
    }
}

#[test]
fn proof_is_accepted_from_ten_seconds_ahead_to_the_end_of_its_age() {
    let max = i64::try_from(MAX_PROOF_AGE.as_secs()).unwrap();
    for (age, accepted) in [
        (-62, false),
        (-11, false),
        (-10, true),
        (-8, true),
        (0, true),
        (10, true),
        (60, true),
        (max - 1, true),
        (max, false),
        (3_600, false),
    ] {
        let verdict = changed(|_, claims| claims["iat"] = (IAT - age).into());
        assert_eq!(verdict.is_ok(), accepted, "{age} s old: {verdict:?}");
        if let Ok(proof) = verdict {
            assert_eq!(proof.until, later(at(IAT - age), Duration::from_secs(max.unsigned_abs())));
        }
    }
    // `exp` and `nbf` are no claims of proofs, but what they say counts.
    assert!(changed(|_, claims| claims["exp"] = IAT.into()).is_err());
    assert!(changed(|_, claims| claims["nbf"] = (IAT + 11).into()).is_err());
}

#[test]
fn hash_of_the_token_is_required_with_a_token() {
    let prover = Prover::new();
    let claims = prover.claims_at(IAT, "POST", URL);
    let missing = check(&prover.sign(&claims), Some("token"));
    assert_eq!(missing, Err(ProofFault::Jwt(JwtRefusal::ClaimMissing("ath"))));
    for (text, accepted) in [
        (hash("token"), true),
        (hash("other"), false),
        (format!("{}=", hash("token")), false),
        ("token".to_owned(), false),
        (String::new(), false),
    ] {
        let mut claims = claims.clone();
        claims["ath"] = text.clone().into();
        let verdict = check(&prover.sign(&claims), Some("token"));
        assert_eq!(verdict.is_ok(), accepted, "{text}");
    }
}
