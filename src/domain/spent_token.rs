//! One-time tokens: what a server remembers of those that it accepted.

use std::fmt::{self, Debug};
use std::time::Duration;

use aws_lc_rs::digest::{self, SHA256, SHA256_OUTPUT_LEN};
use jiff::Timestamp;
use strum::IntoStaticStr;

use super::MAX_CLOCK_LEAD;
use crate::clock::later;

/// How long a spent token is remembered after the last moment at which it would still be accepted:
/// as far as the clocks of servers may differ.
const CLOCK_TOLERANCE: Duration = Duration::from_secs(MAX_CLOCK_LEAD);

/// What a one-time token is for. The ids of one purpose say nothing about those of another.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, IntoStaticStr)]
#[strum(serialize_all = "snake_case", const_into_str)]
pub enum OneTimePurpose {
    /// Authenticates a client (RFC 7523).
    ClientAssertion,
    /// Is exchanged for a token.
    SubjectToken,
    /// Proves the possession of a key (RFC 9449).
    DpopProof,
}

/// Identifies a one-time token: a hash of its purpose, of who made it, and of its id (`jti`).
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct OneTimeKey([u8; SHA256_OUTPUT_LEN]);

impl OneTimeKey {
    /// The key of the token with this id. Each part is preceded by its length, so that parts cannot
    /// run together.
    pub fn new(purpose: OneTimePurpose, owner: &str, id: &str) -> Self {
        let mut context = digest::Context::new(&SHA256);
        for part in [purpose.into_str(), owner, id] {
            context.update(&(part.len() as u64).to_be_bytes());
            context.update(part.as_bytes());
        }
        let mut hash = [0; SHA256_OUTPUT_LEN];
        hash.copy_from_slice(context.finish().as_ref());
        Self(hash)
    }

    /// The hash in lower-case hexadecimal.
    pub fn to_hex(self) -> String {
        const DIGITS: &[u8; 16] = b"0123456789abcdef";
        let digits = self.0.iter().flat_map(|byte| [byte >> 4, byte & 0x0f]);
        digits.map(|digit| char::from(DIGITS[usize::from(digit)])).collect()
    }

    /// The key with this hash, if it has the right length.
    pub fn from_bytes(hash: &[u8]) -> Option<Self> {
        hash.try_into().ok().map(Self)
    }
}

impl Debug for OneTimeKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.to_hex())
    }
}

/// A one-time token that is spent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SpentToken {
    pub key: OneTimeKey,
    /// Until when it is remembered.
    pub expires_at: Timestamp,
}

impl SpentToken {
    /// A token that would be accepted until this moment, by its own times.
    pub fn new(key: OneTimeKey, until: Timestamp) -> Self {
        Self { key, expires_at: later(until, CLOCK_TOLERANCE) }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;
    use OneTimePurpose::{ClientAssertion, DpopProof, SubjectToken};

    #[test]
    fn keys_differ_in_each_part() {
        let parts = [
            (ClientAssertion, "a", "bc"),
            (SubjectToken, "a", "bc"),
            (DpopProof, "a", "bc"),
            (ClientAssertion, "ab", "c"),
            (ClientAssertion, "", "abc"),
            (ClientAssertion, "abc", ""),
            (ClientAssertion, "a", "bd"),
            (ClientAssertion, "a\0b", "c"),
        ];
        let keys: HashSet<_> =
            parts.map(|(purpose, owner, id)| OneTimeKey::new(purpose, owner, id)).into();
        assert_eq!(keys.len(), parts.len());
    }

    #[test]
    fn key_is_the_same_in_each_version() {
        // Servers of two versions run beside each other: a changed key would be spent twice.
        let key = OneTimeKey::new(DpopProof, "owner", "id");
        assert_eq!(
            key.to_hex(),
            "09928ce7f98f0d92ac1e8023f851ce74be75c63cb196bd4340785b03a38f50bd"
        );
        let bytes = key.0;
        assert_eq!(OneTimeKey::from_bytes(&bytes), Some(key));
        assert_eq!(OneTimeKey::from_bytes(&bytes[1..]), None);
    }
}
