//! When a token passes, and until when it is remembered.

use std::time::Duration;

use jiff::Timestamp;
use keyward::internals::jose::{JwtRefusal, SignedJwt, TimeRule};
use proptest::prelude::*;
use serde_json::{Value, json};

use crate::harness::signer::base64url;
use crate::properties::cases;

const NOW: i64 = 1_700_000_000;
const ASSERTION: TimeRule =
    TimeRule { requires_expiry: true, max_age: None, max_lifetime: Some(Duration::from_mins(5)) };
const PROOF: TimeRule =
    TimeRule { requires_expiry: false, max_age: Some(Duration::from_mins(1)), max_lifetime: None };

fn at(second: i64) -> Timestamp {
    Timestamp::from_second(second).unwrap()
}

/// Checks a token with these claims. Its signature does not matter for that.
fn check(rule: TimeRule, claims: &Value, now: i64) -> Result<Timestamp, JwtRefusal> {
    let token = format!("{}.{}.AA", base64url(r#"{"alg":"ES256"}"#), base64url(claims.to_string()));
    let jwt = SignedJwt::parse(&token)?;
    rule.check(jwt.unverified_claims(), at(now))?;
    rule.passes_until(jwt.unverified_claims())
}

#[test]
fn clock_of_the_signer_may_be_ten_seconds_ahead() {
    for claim in ["iat", "nbf"] {
        for (ahead, is_taken) in
            [(-10, true), (0, true), (8, true), (10, true), (11, false), (62, false)]
        {
            let claims = json!({ claim: NOW + ahead, "exp": NOW + 60 });
            let refused = Err(JwtRefusal::InFuture(claim));
            let checked = check(ASSERTION, &claims, NOW).map(drop);
            assert_eq!(checked, if is_taken { Ok(()) } else { refused }, "{claim} {ahead} s ahead");
        }
        let fraction = json!({ claim: 1_700_000_010.5, "exp": NOW + 60 });
        assert_eq!(check(ASSERTION, &fraction, NOW).unwrap_err(), JwtRefusal::InFuture(claim));
    }
    for (ahead, is_taken) in [(-59, true), (-10, true), (8, true), (10, true), (62, false)] {
        let checked = check(PROOF, &json!({ "iat": NOW + ahead }), NOW);
        assert_eq!(checked.is_ok(), is_taken, "{ahead} s ahead");
    }
}

#[test]
fn expired_old_or_long_lived_token_is_refused() {
    let refused = |rule, claims: Value| check(rule, &claims, NOW).map(drop).unwrap_err();
    assert_eq!(refused(ASSERTION, json!({})), JwtRefusal::ClaimMissing("exp"));
    assert_eq!(refused(PROOF, json!({})), JwtRefusal::ClaimMissing("iat"));
    assert_eq!(refused(PROOF, json!({ "exp": NOW + 9 })), JwtRefusal::ClaimMissing("iat"));
    assert_eq!(refused(ASSERTION, json!({ "exp": NOW })), JwtRefusal::Expired);
    assert_eq!(refused(PROOF, json!({ "iat": NOW, "exp": NOW })), JwtRefusal::Expired);
    assert_eq!(refused(PROOF, json!({ "iat": NOW - 60 })), JwtRefusal::TooOld);
    assert_eq!(refused(ASSERTION, json!({ "exp": NOW + 301 })), JwtRefusal::LivesTooLong);
    let long = json!({ "iat": NOW - 200, "exp": NOW + 101 });
    assert_eq!(refused(ASSERTION, long), JwtRefusal::LivesTooLong);
    assert_eq!(check(ASSERTION, &json!({ "exp": NOW + 300 }), NOW), Ok(at(NOW + 300)));
    assert_eq!(
        check(ASSERTION, &json!({ "iat": NOW - 200, "exp": NOW + 100 }), NOW),
        Ok(at(NOW + 100))
    );
    assert_eq!(check(PROOF, &json!({ "iat": NOW - 59 }), NOW), Ok(at(NOW + 1)));
}

fn rules() -> impl Strategy<Value = TimeRule> {
    let span = || prop::option::of((1_u64..120).prop_map(Duration::from_secs));
    (any::<bool>(), span(), span()).prop_map(|(requires_expiry, max_age, max_lifetime)| TimeRule {
        requires_expiry,
        max_age,
        max_lifetime,
    })
}

fn times() -> impl Strategy<Value = Value> {
    let time = || prop::option::of(NOW - 150..NOW + 150);
    (time(), time(), time()).prop_map(|(iat, nbf, exp)| {
        let all = [("iat", iat), ("nbf", nbf), ("exp", exp)];
        let there =
            all.into_iter().filter_map(|(name, time)| Some((name.to_owned(), time?.into())));
        Value::Object(there.collect())
    })
}

proptest! {
    #![proptest_config(cases(4000))]

    /// What is remembered until `passes_until` is remembered for as long as it passes.
    #[test]
    fn no_token_passes_after_it_is_forgotten(rule in rules(), claims in times(), wait in 0_i64..300) {
        if let Ok(until) = check(rule, &claims, NOW) {
            prop_assert!(until > at(NOW));
            let later = check(rule, &claims, NOW + wait);
            if at(NOW + wait) >= until {
                prop_assert!(later.is_err(), "passes {wait} s later, but is forgotten");
            } else {
                prop_assert_eq!(later, Ok(until), "what passes keeps passing until then");
            }
        }
    }
}
