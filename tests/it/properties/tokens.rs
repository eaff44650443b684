//! Access tokens: the parser, and what it accepts.

use std::sync::LazyLock;

use jiff::Timestamp;
use keyward::internals::domain::Confirmation;
use keyward::internals::keys::jwt::{Audiences, MAX_LENGTH, sign, verify, verify_signed};
use keyward::internals::keys::signing::generate;
use keyward::internals::keys::{Claims, Rejection, SigningAlgorithm, SigningKey};
use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::Index;

use super::cases;

const ISSUER: &str = "https://keyward.test";

static KEY: LazyLock<SigningKey> = LazyLock::new(|| {
    let algorithm = SigningAlgorithm::EdDsa;
    let pkcs8 = generate(algorithm).unwrap();
    SigningKey::from_pkcs8(algorithm, &pkcs8, 1, Timestamp::UNIX_EPOCH).unwrap()
});

fn claims() -> impl Strategy<Value = Claims> {
    let texts = (any::<String>(), any::<String>(), any::<String>(), "[a-z ]{0,40}", "[a-z]{1,9}");
    let lists = (vec(any::<String>(), 0..3), vec("[a-z]{1,9}", 0..3), any::<[i64; 3]>());
    let bound = prop::option::of((prop::option::of(any::<String>()), any::<Option<String>>()));
    (texts, lists, any::<(i64, i64)>(), bound).prop_map(|(texts, lists, (iat, exp), bound)| {
        let (sub, client_id, jti, scope, tenant) = texts;
        let (audiences, roles, epochs) = lists;
        let (iss, aud) = (ISSUER.to_owned(), Audiences::new(audiences));
        let cnf = bound.map(|(key, certificate)| Box::new(Confirmation { key, certificate }));
        Claims {
            iss,
            sub,
            aud,
            client_id,
            iat,
            exp,
            jti,
            scope,
            tenant,
            roles,
            epochs: Some(epochs),
            cnf,
            act: None,
            parents: None,
        }
    })
}

/// Texts with the form of a token.
fn almost_a_token() -> impl Strategy<Value = String> {
    let header = sign(&KEY, &some_claims()).unwrap().split('.').next().unwrap().to_owned();
    let part =
        prop_oneof!["[A-Za-z0-9_-]{0,40}", Just(header), Just("e30".to_owned()), "[ -~]{0,9}"];
    vec(part, 0..5).prop_map(|parts| parts.join("."))
}

fn some_claims() -> Claims {
    Claims {
        iss: ISSUER.to_owned(),
        sub: "tenants/acme/applications/crm".to_owned(),
        aud: Audiences::One("acme".to_owned()),
        client_id: "0".repeat(32),
        iat: 1000,
        exp: 1900,
        jti: "id".to_owned(),
        scope: "a b".to_owned(),
        tenant: "acme".to_owned(),
        roles: Vec::new(),
        epochs: Some([0, 1, 2]),
        cnf: None,
        act: None,
        parents: None,
    }
}

fn checked(token: &str) -> Result<Claims, Rejection> {
    verify_signed(token, [&KEY.public].into_iter(), ISSUER).map(|(claims, _)| claims)
}

proptest! {
    #![proptest_config(cases(256))]

    #[test]
    fn signed_claims_are_read_as_they_were(claims in claims()) {
        let token = sign(&KEY, &claims).unwrap();
        let expected = if token.len() > MAX_LENGTH { Err(Rejection::TooLong) } else { Ok(claims) };
        prop_assert_eq!(checked(&token), expected);
    }

    #[test]
    fn text_that_was_not_signed_is_refused(
        text in prop_oneof![almost_a_token(), any::<String>()],
    ) {
        prop_assert!(checked(&text).is_err());
    }

    #[test]
    fn token_with_a_changed_character_is_refused(at in any::<Index>(), to in "[ -~]") {
        let token = sign(&KEY, &some_claims()).unwrap();
        let at = at.index(token.len());
        let mut changed = token.clone();
        changed.replace_range(at..=at, &to);
        prop_assert_eq!(checked(&changed).is_ok(), changed == token);
    }

    #[test]
    fn token_is_accepted_from_its_issue_to_the_second_before_its_end(second in 0_i64..3000) {
        let token = sign(&KEY, &some_claims()).unwrap();
        let now = Timestamp::from_second(second).unwrap();
        let verdict = verify(&token, [&KEY.public].into_iter(), ISSUER, now).map(drop);
        match second {
            1000..1900 => prop_assert_eq!(verdict, Ok(())),
            1900.. => prop_assert_eq!(verdict, Err(Rejection::Expired)),
            // Clocks may differ a little.
            _ => prop_assert!(matches!(verdict, Ok(()) | Err(Rejection::NotYetValid))),
        }
    }
}
