//! What secrets look like: `kws_` and 49 characters (client secret), or `kwk_`, the
//! credential's id, `_` and 49 characters (API key). Of the 49, 43 are random (256
//! bits) and 6 are the CRC32 of all that stands before them, so that a mistyped or cut
//! secret is refused without asking the database or computing a hash. All characters
//! are `[A-Za-z0-9_]`: form-encoded and plain are the same.

use std::fmt;

use zeroize::{Zeroize, ZeroizeOnDrop};

use super::random;
use crate::domain::{CredentialId, CredentialKind, pasted};
use crate::error::Result;

const RANDOM_LENGTH: usize = 43;
const CHECKSUM_LENGTH: usize = 6;

/// A secret in the clear. It has no `==`, whose time would tell how much of it is right.
#[derive(Clone, Zeroize, ZeroizeOnDrop)]
pub struct Secret(String);

impl Secret {
    /// Takes what a caller presents as a secret, without what came along when it was pasted.
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

    /// The secret itself: for the one response that tells it, and for its hash.
    pub fn expose(&self) -> &str {
        &self.0
    }

    /// The secret itself, for the one response that tells it.
    pub fn into_exposed(mut self) -> String {
        std::mem::take(&mut self.0)
    }

    /// Its last four characters, which may be shown.
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

/// What secrets begin with, by kind.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Prefixes {
    /// Of client secrets.
    pub client_secret: String,
    /// Of API keys.
    pub api_key: String,
}

impl Default for Prefixes {
    fn default() -> Self {
        Self { client_secret: "kws".to_owned(), api_key: "kwk".to_owned() }
    }
}

impl Prefixes {
    /// Makes a secret for a credential.
    pub fn generate(&self, kind: CredentialKind, credential: &CredentialId) -> Result<Secret> {
        let mut text = self.beginning(kind, credential);
        // Room for all of it, so that no half of a secret is left behind by a move.
        text.reserve_exact(RANDOM_LENGTH + CHECKSUM_LENGTH);
        random::push_base62(&mut text, RANDOM_LENGTH)?;
        let checksum = checksum(&text);
        text.push_str(&checksum);
        Ok(Secret(text))
    }

    /// Whether this could be a secret of that credential: only then is it worth a hash.
    pub fn is_plausible(
        &self,
        secret: &Secret,
        kind: CredentialKind,
        credential: &CredentialId,
    ) -> bool {
        let rest = match kind {
            CredentialKind::ClientSecret => after(&secret.0, &self.client_secret),
            CredentialKind::ApiKey => {
                after(&secret.0, &self.api_key).and_then(|rest| after(rest, credential.as_str()))
            }
        };
        rest.is_some_and(|rest| well_formed(&secret.0, rest))
    }

    /// The credential that a bearer string names, if it has the form of an API key.
    pub fn credential_of_api_key(&self, presented: &str) -> Option<CredentialId> {
        let (id, rest) = after(presented, &self.api_key)?.split_once('_')?;
        let id = CredentialId::parse(id).ok()?;
        well_formed(presented, rest).then_some(id)
    }

    /// Whether a bearer string claims to be an API key, well-formed or not.
    pub fn looks_like_api_key(&self, presented: &str) -> bool {
        after(presented, &self.api_key).is_some()
    }

    fn beginning(&self, kind: CredentialKind, credential: &CredentialId) -> String {
        match kind {
            CredentialKind::ClientSecret => format!("{}_", self.client_secret),
            CredentialKind::ApiKey => format!("{}_{credential}_", self.api_key),
        }
    }
}

fn checksum(text: &str) -> String {
    random::base62(crc32fast::hash(text.as_bytes()))
}

/// What follows a part and its underscore.
fn after<'a>(text: &'a str, part: &str) -> Option<&'a str> {
    text.strip_prefix(part)?.strip_prefix('_')
}

/// Whether the rest of a text has the right length and alphabet, and the checksum of all of it.
fn well_formed(text: &str, rest: &str) -> bool {
    rest.len() == RANDOM_LENGTH + CHECKSUM_LENGTH
        && rest.bytes().all(|b| b.is_ascii_alphanumeric())
        && rest[RANDOM_LENGTH..] == checksum(&text[..text.len() - CHECKSUM_LENGTH])
}

#[cfg(test)]
mod tests {
    use super::*;

    const ID: &str = "0123456789abcdef0123456789abcdef";
    const KINDS: [CredentialKind; 2] = [CredentialKind::ClientSecret, CredentialKind::ApiKey];

    fn id() -> CredentialId {
        CredentialId::parse(ID).unwrap()
    }

    #[test]
    fn a_secret_is_plausible_as_made_and_in_no_other_form() {
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
    fn an_api_key_names_its_credential_and_no_other() {
        let prefixes = Prefixes::default();
        let key = prefixes.generate(CredentialKind::ApiKey, &id()).unwrap();
        assert_eq!(prefixes.credential_of_api_key(key.expose()), Some(id()));
        let other = key.expose().replace("0123", "3210");
        assert_eq!(prefixes.credential_of_api_key(&other), None, "the checksum covers the id");
        let secret = prefixes.generate(CredentialKind::ClientSecret, &id()).unwrap();
        assert_eq!(prefixes.credential_of_api_key(secret.expose()), None);
    }

    #[test]
    fn secrets_do_not_repeat_and_do_not_print() {
        let prefixes = Prefixes::default();
        let one = prefixes.generate(CredentialKind::ClientSecret, &id()).unwrap();
        let two = prefixes.generate(CredentialKind::ClientSecret, &id()).unwrap();
        assert_ne!(one.expose(), two.expose());
        assert_eq!(format!("{one:?}"), "Secret(…)");
        assert!(one.expose().ends_with(&one.last_four()));
    }
}
