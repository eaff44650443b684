//! Names of signing keys.

use std::fmt;

use super::Fault;
use crate::error::Result;

/// `signingKeys/{kid}`. The id is the key's `kid` in the key set and in tokens.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SigningKeyName(String);

impl SigningKeyName {
    const COLLECTION: &'static str = "signingKeys/";
    const MAX_LENGTH: usize = 128;

    /// The name of the key with this `kid`.
    pub fn of(kid: &str) -> Result<Self, Fault> {
        let allowed = |b: u8| b.is_ascii_alphanumeric() || b == b'-' || b == b'_';
        if (1..=Self::MAX_LENGTH).contains(&kid.len()) && kid.bytes().all(allowed) {
            Ok(Self(kid.to_owned()))
        } else {
            Err(Fault::new("must be a key id: 1 to 128 of A-Z a-z 0-9 - _"))
        }
    }

    /// Parses a resource name.
    pub fn parse(name: &str) -> Result<Self, Fault> {
        let kid = name.strip_prefix(Self::COLLECTION);
        kid.and_then(|kid| Self::of(kid).ok())
            .ok_or_else(|| Fault::new("must be signingKeys/{kid}"))
    }

    /// The key id.
    pub fn kid(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for SigningKeyName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}{}", Self::COLLECTION, self.0)
    }
}
