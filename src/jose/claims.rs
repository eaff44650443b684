//! The claims of a token (RFC 7519, section 4.1).

use std::time::Duration;

use jiff::Timestamp;
use serde_json::{Map, Value};

use super::JwtRefusal;

/// The maximum length of `jti`, which is remembered.
const MAX_ID: usize = 256;
/// The maximum length of `iss`, `sub` and of one audience.
const MAX_TEXT: usize = 1024;
const MAX_AUDIENCES: usize = 32;

const ID: &str = "a string of 1 to 256 characters";
const TEXT: &str = "a string of 1 to 1024 characters";
const AUDIENCE: &str = "a string, or an array of 1 to 32 strings, of 1 to 1024 characters";
const DATE: &str = "a number of seconds since 1970, not negative, before the year 10000";
const ANY_TEXT: &str = "a string";

/// The claims of a token. The registered claims are typed when they are read: one of the wrong type
/// makes the token invalid, whether it is needed or not, and never counts as absent.
#[derive(Clone, Debug, PartialEq)]
pub struct JwtClaims {
    audiences: Vec<String>,
    expiry: Option<Timestamp>,
    issued_at: Option<Timestamp>,
    not_before: Option<Timestamp>,
    members: Map<String, Value>,
}

impl JwtClaims {
    pub(super) fn read(members: Map<String, Value>) -> Result<Self, JwtRefusal> {
        for (name, max, form) in
            [("iss", MAX_TEXT, TEXT), ("sub", MAX_TEXT, TEXT), ("jti", MAX_ID, ID)]
        {
            if members.get(name).is_some_and(|value| !is_text(value, max)) {
                return Err(JwtRefusal::ClaimType(name, form));
            }
        }
        let date = |name: &'static str| {
            members.get(name).map(|value| numeric_date(name, value)).transpose()
        };
        Ok(Self {
            audiences: members.get("aud").map_or_else(|| Ok(Vec::new()), audiences)?,
            expiry: date("exp")?,
            issued_at: date("iat")?,
            not_before: date("nbf")?,
            members,
        })
    }

    /// The issuer.
    pub fn issuer(&self) -> Result<&str, JwtRefusal> {
        self.text("iss")
    }

    /// The subject.
    pub fn subject(&self) -> Result<&str, JwtRefusal> {
        self.text("sub")
    }

    /// The token's id, of 1 to 256 characters.
    pub fn token_id(&self) -> Result<&str, JwtRefusal> {
        self.text("jti")
    }

    /// The audiences, at least one.
    pub fn audiences(&self) -> Result<&[String], JwtRefusal> {
        if self.audiences.is_empty() {
            return Err(JwtRefusal::ClaimMissing("aud"));
        }
        Ok(&self.audiences)
    }

    /// Checks that the token is for this audience and for no other: a string, or an array of one.
    /// A token with two audiences could be used by one of them at the other.
    pub fn check_only_audience(&self, audience: &str) -> Result<(), JwtRefusal> {
        match self.audiences()? {
            [only] if only == audience => Ok(()),
            _ => Err(JwtRefusal::Audience),
        }
    }

    /// `exp`.
    pub fn expiry(&self) -> Option<Timestamp> {
        self.expiry
    }

    /// `iat`.
    pub fn issued_at(&self) -> Option<Timestamp> {
        self.issued_at
    }

    /// `nbf`.
    pub fn not_before(&self) -> Option<Timestamp> {
        self.not_before
    }

    /// A required claim that is a string.
    pub fn text(&self, name: &'static str) -> Result<&str, JwtRefusal> {
        self.optional_text(name)?.ok_or(JwtRefusal::ClaimMissing(name))
    }

    /// A claim that is a string, if it is there.
    pub fn optional_text(&self, name: &'static str) -> Result<Option<&str>, JwtRefusal> {
        match self.members.get(name) {
            None => Ok(None),
            Some(Value::String(text)) => Ok(Some(text)),
            Some(_) => Err(JwtRefusal::ClaimType(name, ANY_TEXT)),
        }
    }

    /// All claims, as they are in the token.
    #[cfg(feature = "server")]
    pub fn members(&self) -> &Map<String, Value> {
        &self.members
    }
}

fn is_text(value: &Value, max: usize) -> bool {
    value.as_str().is_some_and(|text| !text.is_empty() && text.chars().count() <= max)
}

fn audiences(value: &Value) -> Result<Vec<String>, JwtRefusal> {
    let values = match value {
        Value::Array(values) => values.as_slice(),
        one => std::slice::from_ref(one),
    };
    let are_texts = values.iter().all(|value| is_text(value, MAX_TEXT));
    if !(1..=MAX_AUDIENCES).contains(&values.len()) || !are_texts {
        return Err(JwtRefusal::ClaimType("aud", AUDIENCE));
    }
    Ok(values.iter().filter_map(Value::as_str).map(str::to_owned).collect())
}

/// A `NumericDate` (RFC 7519, section 2): seconds, whole or with a fraction.
fn numeric_date(name: &'static str, value: &Value) -> Result<Timestamp, JwtRefusal> {
    let since_1970 = match value {
        Value::Number(number) => match number.as_u64() {
            Some(seconds) => Some(Duration::from_secs(seconds)),
            // Not finite, negative or too large: an error.
            None => number.as_f64().and_then(|secs| Duration::try_from_secs_f64(secs).ok()),
        },
        _ => None,
    };
    since_1970
        .and_then(|span| Timestamp::UNIX_EPOCH.checked_add(span).ok())
        .ok_or(JwtRefusal::ClaimType(name, DATE))
}
