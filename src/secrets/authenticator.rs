//! Message authentication codes for data that is stored where others can write.

use aws_lc_rs::{constant_time, hmac};
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;

use super::MasterKeys;
use crate::error::{Error, Result};

/// Truncated HMAC-SHA-256: half of it, which RFC 2104, section 5 allows.
const LENGTH: usize = 16;

/// Creates and verifies codes. All replicas derive the same keys.
#[derive(Debug)]
pub struct Authenticator {
    /// The key of new codes.
    primary: hmac::Key,
    /// All keys of codes that are accepted.
    accepted: Vec<hmac::Key>,
}

impl Authenticator {
    /// An authenticator for one purpose, with keys derived from the master keys.
    pub fn new(master_keys: &MasterKeys, purpose: &'static str) -> Result<Self> {
        let accepted = master_keys.each(|master| {
            let key = master.derive(purpose)?;
            Ok(hmac::Key::new(hmac::HMAC_SHA256, key.as_slice()))
        })?;
        let primary = accepted.first().ok_or_else(|| Error::internal("no master key"))?.clone();
        Ok(Self { primary, accepted })
    }

    /// The code of a message with several parts. Each part is preceded by its length, so that the
    /// parts cannot run together.
    pub fn code(&self, parts: &[&str]) -> String {
        encoded(&self.primary, parts)
    }

    /// The codes of the message by each key, the one by the primary key first.
    pub fn codes(&self, parts: &[&str]) -> Vec<String> {
        self.accepted.iter().map(|key| encoded(key, parts)).collect()
    }

    /// Whether `code` is the code of the message.
    pub fn accepts(&self, parts: &[&str], code: &str) -> bool {
        let Ok(code) = URL_SAFE_NO_PAD.decode(code) else { return false };
        let is_right = |key| {
            let right = tag(key, parts);
            constant_time::verify_slices_are_equal(&code, &right.as_ref()[..LENGTH]).is_ok()
        };
        self.accepted.iter().any(is_right)
    }
}

fn encoded(key: &hmac::Key, parts: &[&str]) -> String {
    URL_SAFE_NO_PAD.encode(&tag(key, parts).as_ref()[..LENGTH])
}

fn tag(key: &hmac::Key, parts: &[&str]) -> hmac::Tag {
    let mut context = hmac::Context::with_key(key);
    for part in parts {
        context.update(&(part.len() as u64).to_be_bytes());
        context.update(part.as_bytes());
    }
    context.sign()
}

#[cfg(test)]
mod tests {
    use base64::engine::general_purpose::STANDARD;

    use super::*;
    use crate::secrets::MasterKey;

    fn key(byte: u8) -> MasterKey {
        MasterKey::parse(&STANDARD.encode([byte; 32])).unwrap()
    }

    #[test]
    fn code_by_an_additional_key_is_accepted() {
        let both = MasterKeys::new(key(2), Some(key(1))).unwrap();
        let both = Authenticator::new(&both, "one").unwrap();
        let [old, new] = [1, 2].map(|byte| Authenticator::new(&key(byte).into(), "one").unwrap());
        let message = &["row", "list", "7"];
        assert!(both.accepts(message, &old.code(message)));
        assert!(new.accepts(message, &both.code(message)), "the primary key makes codes");
        assert!(!old.accepts(message, &both.code(message)));
        assert_eq!(both.codes(message), [new.code(message), old.code(message)]);
    }

    #[test]
    fn code_is_accepted_only_for_its_message() {
        let master = key(7);
        let ours = Authenticator::new(&master.clone().into(), "one").unwrap();
        let code = ours.code(&["row", "list", "7"]);
        assert!(ours.accepts(&["row", "list", "7"], &code));
        for other in [&["row", "list", "8"][..], &["row", "list7", ""], &["row", "list"], &[]] {
            assert!(!ours.accepts(other, &code), "{other:?}");
        }
        for bad in ["", "!", &code[1..], &format!("{code}AA")] {
            assert!(!ours.accepts(&["row", "list", "7"], bad), "{bad}");
        }
        let other = Authenticator::new(&master.into(), "other").unwrap();
        assert!(!other.accepts(&["row", "list", "7"], &code));
    }
}
