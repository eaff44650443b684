//! Claims that a tenant adds to all of its tokens.

use std::collections::BTreeMap;
use std::sync::Arc;

use serde::de::IgnoredAny;
use serde::{Deserialize, Serialize};

use super::Fault;
use super::registered_claims::is_reserved;

/// Claims with fixed values, by name. They have been checked; the names mean nothing else in a token.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(transparent)]
pub struct TokenClaims {
    all: BTreeMap<String, ClaimValue>,
    /// The same as a JSON object, which each token gets. Empty if there are none.
    #[serde(skip)]
    json: Arc<str>,
}

/// The value of a claim.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum ClaimValue {
    Flag(bool),
    Number(i64),
    Text(String),
    Texts(Vec<String>),
}

/// A member of the payload of a token.
#[derive(Deserialize)]
#[serde(untagged)]
enum Member {
    Own(ClaimValue),
    Other(IgnoredAny),
}

impl TokenClaims {
    pub const MAX_CLAIMS: usize = 16;
    /// The maximum of characters of a name.
    const MAX_NAME: usize = 128;
    /// The maximum size of all claims as JSON: tokens are sent in headers.
    const MAX_BYTES: usize = 1024;

    /// Checks claims. The fault names the claim.
    pub fn new(claims: impl IntoIterator<Item = (String, ClaimValue)>) -> Result<Self, Fault> {
        let mut all = BTreeMap::new();
        for (name, value) in claims {
            require_name(&name)?;
            all.insert(name, value);
        }
        if all.len() > Self::MAX_CLAIMS {
            return Err(Fault::new(format!("must have at most {} claims", Self::MAX_CLAIMS)));
        }
        let claims = Self::of(all);
        if claims.json().len() > Self::MAX_BYTES {
            return Err(Fault::new(format!("must be at most {} bytes as JSON", Self::MAX_BYTES)));
        }
        Ok(claims)
    }

    fn of(all: BTreeMap<String, ClaimValue>) -> Self {
        if all.is_empty() {
            return Self::default();
        }
        // Texts, numbers and lists of texts can always be serialized.
        let json = serde_json::to_string(&all).unwrap_or_default().into();
        Self { all, json }
    }

    pub fn is_empty(&self) -> bool {
        self.all.is_empty()
    }

    pub fn iter(&self) -> impl Iterator<Item = (&str, &ClaimValue)> {
        self.all.iter().map(|(name, value)| (name.as_str(), value))
    }

    /// The form in the database and in tokens: a JSON object.
    pub fn json(&self) -> &str {
        if self.is_empty() { "{}" } else { &self.json }
    }

    /// The claims in the payload of a token. Other claims are left out.
    pub fn in_token(payload: &[u8]) -> Self {
        let all: BTreeMap<String, Member> = serde_json::from_slice(payload).unwrap_or_default();
        let own = all.into_iter().filter_map(|(name, member)| match member {
            Member::Own(value) if require_name(&name).is_ok() => Some((name, value)),
            _ => None,
        });
        Self::of(own.collect())
    }

    /// Reads the form in the database. Names that have got a meaning since they were stored are left
    /// out, so that a token never carries them.
    pub fn from_json(text: &str) -> Result<Self, Fault> {
        let all: BTreeMap<String, ClaimValue> = serde_json::from_str(text)
            .map_err(|error| Fault::new(format!("is not readable: {error}")))?;
        let kept = all.into_iter().filter(|(name, _)| require_name(name).is_ok());
        Ok(Self::of(kept.collect()))
    }
}

/// ASCII alone, so that no name looks like another. A URL can be a name, which no other party uses
/// (RFC 7519, section 4.2).
fn require_name(name: &str) -> Result<(), Fault> {
    let fits = |byte: u8| byte.is_ascii_alphanumeric() || b"_-.:/".contains(&byte);
    let starts = name.bytes().next().is_some_and(|byte| byte.is_ascii_alphabetic());
    if !starts || name.len() > TokenClaims::MAX_NAME || !name.bytes().all(fits) {
        return Err(Fault::new(format!(
            "has the name {name:?}: a name must be 1 to {} letters, digits and `_-.:/`, and begin \
             with a letter",
            TokenClaims::MAX_NAME
        )));
    }
    if is_reserved(name) {
        return Err(Fault::new(format!(
            "has the name {name:?}, which is reserved: use one of your own, such as a URL"
        )));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::super::registered_claims::{OURS, REGISTERED};
    use super::*;

    fn named(name: &str) -> Result<TokenClaims, Fault> {
        TokenClaims::new([(name.to_owned(), ClaimValue::Flag(true))])
    }

    #[test]
    fn names_with_a_meaning_are_refused_and_never_read() {
        let reserved = REGISTERED.split_whitespace().chain(OURS.split_whitespace());
        let mut count = 0;
        for name in reserved.chain(["keyward", "keyward_level", "KEYWARD.x", "Sub", "CNF"]) {
            assert!(named(name).is_err(), "{name}");
            let stored = format!("{{\"{name}\":\"x\",\"region\":\"nz\"}}");
            let read = TokenClaims::from_json(&stored).unwrap();
            assert_eq!(read.json(), r#"{"region":"nz"}"#, "{name}");
            count += 1;
        }
        assert!(count > 150, "{count}");
    }

    #[test]
    fn names_that_only_look_different_are_refused() {
        for name in [
            "",
            "sub\0",
            "ѕub",
            "aud ",
            " aud",
            "a b",
            "1st",
            "_x",
            "é",
            "a\"b",
            "a\\b",
            "act\u{200b}",
        ] {
            assert!(named(name).is_err(), "{name:?}");
        }
        let long = "a".repeat(TokenClaims::MAX_NAME);
        for name in ["region", "https://acme.example/tier", "x-tier", "data.center", &long] {
            assert!(named(name).is_ok(), "{name:?}");
        }
        assert!(named(&format!("{long}a")).is_err());
    }

    #[test]
    fn claims_are_bounded_and_read_back() {
        let many = |count: usize| {
            TokenClaims::new((0..count).map(|n| (format!("claim{n}"), ClaimValue::Number(1))))
        };
        assert!(many(TokenClaims::MAX_CLAIMS).is_ok());
        assert!(many(TokenClaims::MAX_CLAIMS + 1).is_err());
        let text =
            |length| TokenClaims::new([("a".to_owned(), ClaimValue::Text("x".repeat(length)))]);
        assert!(text(1000).is_ok());
        assert!(text(1024).is_err());
        let claims = TokenClaims::new([
            ("flag".to_owned(), ClaimValue::Flag(false)),
            ("number".to_owned(), ClaimValue::Number(-7)),
            ("text".to_owned(), ClaimValue::Text("\"é\n".to_owned())),
            ("texts".to_owned(), ClaimValue::Texts(vec!["a".to_owned(), String::new()])),
        ])
        .unwrap();
        assert_eq!(TokenClaims::from_json(claims.json()).unwrap(), claims);
        assert!(TokenClaims::from_json(r#"{"a":{"b":1}}"#).is_err());
    }
}
