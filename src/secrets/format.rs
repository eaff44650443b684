//! The format of secrets: `kws_` and 49 characters (client secret), or `kwk_`, the credential's id,
//! `_` and 49 characters (API key). Of the 49 characters, 43 are random (256 bits) and 6 are the
//! CRC32 of everything before them, so that a mistyped or truncated secret is refused without a
//! database query or a hash. All characters are `[A-Za-z0-9_]`, which form encoding does not
//! change.

use std::fmt;

use zeroize::{Zeroize, ZeroizeOnDrop};

use super::random;
use crate::domain::{CredentialId, SecretKind, pasted};
use crate::error::Result;

const RANDOM_LENGTH: usize = 43;
const CHECKSUM_LENGTH: usize = 6;

/// A secret in plain text. It does not implement `PartialEq`, because the time of a comparison
/// would reveal a matching prefix.
#[derive(Clone, Zeroize, ZeroizeOnDrop)]
pub struct Secret(String);

impl Secret {
    /// Takes a secret as the caller sent it, without the surrounding text of a paste.
    pub fn new(presented: impl Into<String>) -> Self {
        let mut presented = presented.into();
        let meant = pasted(&presented);
        if meant.len() == presented.len() {
            return Self(presented);
        }
        let secret = Self(meant.to_owned());
        presented.zeroize();
        secret
    }

    /// The plain text, for the response that shows it and for hashing.
    pub fn expose(&self) -> &str {
        &self.0
    }

    /// The plain text, for the response that shows it.
    pub fn into_exposed(mut self) -> String {
        std::mem::take(&mut self.0)
    }

    /// The last four characters, which may be shown.
    pub fn last_four(&self) -> String {
        let skip = self.0.chars().count().saturating_sub(4);
        self.0.chars().skip(skip).collect()
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret(…)")
    }
}

/// The prefixes of secrets, by kind.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Prefixes {
    pub client_secret: String,
    pub api_key: String,
}

impl Default for Prefixes {
    fn default() -> Self {
        Self { client_secret: "kws".to_owned(), api_key: "kwk".to_owned() }
    }
}

impl Prefixes {
    pub fn generate(&self, kind: SecretKind, credential: &CredentialId) -> Result<Secret> {
        let mut text = self.beginning(kind, credential);
        // Reserves the full length, because a reallocation would leave parts of the secret in
        // memory.
        text.reserve_exact(RANDOM_LENGTH + CHECKSUM_LENGTH);
        random::push_base62(&mut text, RANDOM_LENGTH)?;
        let checksum = checksum(&text);
        text.push_str(&checksum);
        Ok(Secret(text))
    }

    /// Whether this can be a secret of the credential. Only then is it hashed.
    pub fn is_plausible(
        &self,
        secret: &Secret,
        kind: SecretKind,
        credential: &CredentialId,
    ) -> bool {
        let rest = match kind {
            SecretKind::ClientSecret => after(&secret.0, &self.client_secret),
            SecretKind::ApiKey => {
                after(&secret.0, &self.api_key).and_then(|rest| after(rest, credential.as_str()))
            }
        };
        rest.is_some_and(|rest| well_formed(&secret.0, rest))
    }

    /// The credential id in a bearer string that has the format of an API key.
    pub fn credential_of_api_key(&self, presented: &str) -> Option<CredentialId> {
        let (id, rest) = after(presented, &self.api_key)?.split_once('_')?;
        let id = CredentialId::parse(id).ok()?;
        well_formed(presented, rest).then_some(id)
    }

    /// Whether a bearer string has the prefix of an API key, well-formed or not.
    pub fn looks_like_api_key(&self, presented: &str) -> bool {
        after(presented, &self.api_key).is_some()
    }

    fn beginning(&self, kind: SecretKind, credential: &CredentialId) -> String {
        match kind {
            SecretKind::ClientSecret => format!("{}_", self.client_secret),
            SecretKind::ApiKey => format!("{}_{credential}_", self.api_key),
        }
    }
}

fn checksum(text: &str) -> String {
    random::base62(crc32fast::hash(text.as_bytes()))
}

/// The text after a part and its underscore.
fn after<'a>(text: &'a str, part: &str) -> Option<&'a str> {
    text.strip_prefix(part)?.strip_prefix('_')
}

/// Whether `rest` has the right length and alphabet, and ends with the checksum of `text`.
fn well_formed(text: &str, rest: &str) -> bool {
    rest.len() == RANDOM_LENGTH + CHECKSUM_LENGTH
        && rest.bytes().all(|b| b.is_ascii_alphanumeric())
        && rest[RANDOM_LENGTH..] == checksum(&text[..text.len() - CHECKSUM_LENGTH])
}

#[cfg(test)]
mod tests {
    use super::*;

    const ID: &str = "0123456789abcdef0123456789abcdef";
    const KINDS: [SecretKind; 2] = [SecretKind::ClientSecret, SecretKind::ApiKey];

    fn id() -> CredentialId {
        CredentialId::parse(ID).unwrap()
    }

    #[test]
    fn generated_secret_is_plausible_and_altered_ones_are_not() {
        let prefixes = Prefixes::default();
        for kind in KINDS {
            let secret = prefixes.generate(kind, &id()).unwrap();
            let text = secret.expose();
            assert!(text.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_'), "{text}");
            assert!(prefixes.is_plausible(&secret, kind, &id()));

            let mut flipped = text.to_owned().into_bytes();
            flipped[text.len() - 20] ^= 1;
            let spoiled = [
                String::new(),
                text[..text.len() - 1].to_owned(),
                format!("{text}0"),
                format!("{text}\0"),
                text.replacen('k', "x", 1),
                String::from_utf8(flipped).unwrap(),
                "é".repeat(text.len() / 2),
            ];
            for bad in spoiled {
                assert!(!prefixes.is_plausible(&Secret::new(bad.clone()), kind, &id()), "{bad}");
            }
        }
    }

    #[test]
    fn api_key_contains_its_credential_id() {
        let prefixes = Prefixes::default();
        let key = prefixes.generate(SecretKind::ApiKey, &id()).unwrap();
        assert_eq!(prefixes.credential_of_api_key(key.expose()), Some(id()));
        let other = key.expose().replace("0123", "3210");
        assert_eq!(prefixes.credential_of_api_key(&other), None, "the checksum covers the id");
        let secret = prefixes.generate(SecretKind::ClientSecret, &id()).unwrap();
        assert_eq!(prefixes.credential_of_api_key(secret.expose()), None);
    }

    #[test]
    fn secrets_are_unique_and_hidden_in_debug_output() {
        let prefixes = Prefixes::default();
        let one = prefixes.generate(SecretKind::ClientSecret, &id()).unwrap();
        let two = prefixes.generate(SecretKind::ClientSecret, &id()).unwrap();
        assert_ne!(one.expose(), two.expose());
        assert_eq!(format!("{one:?}"), "Secret(…)");
        assert!(one.expose().ends_with(&one.last_four()));
    }
}
