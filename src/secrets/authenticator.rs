//! Message authentication codes for data that is stored where others can write.

use aws_lc_rs::{constant_time, hmac};
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;

use super::MasterKey;
use crate::error::Result;

/// Truncated HMAC-SHA-256: half of it, which RFC 2104, section 5 allows.
const LENGTH: usize = 16;

/// Creates and verifies codes. All replicas derive the same key.
#[derive(Debug)]
pub struct Authenticator(hmac::Key);

impl Authenticator {
    /// An authenticator for one purpose, with a key derived from the master key.
    pub fn new(master: &MasterKey, purpose: &'static str) -> Result<Self> {
        let key = master.derive(purpose)?;
        Ok(Self(hmac::Key::new(hmac::HMAC_SHA256, key.as_slice())))
    }

    /// The code of a message with several parts. Each part is preceded by its length, so that the
    /// parts cannot run together.
    pub fn code(&self, parts: &[&str]) -> String {
        URL_SAFE_NO_PAD.encode(&self.tag(parts).as_ref()[..LENGTH])
    }

    /// Whether `code` is the code of the message.
    pub fn accepts(&self, parts: &[&str], code: &str) -> bool {
        let Ok(code) = URL_SAFE_NO_PAD.decode(code) else { return false };
        constant_time::verify_slices_are_equal(&code, &self.tag(parts).as_ref()[..LENGTH]).is_ok()
    }

    fn tag(&self, parts: &[&str]) -> hmac::Tag {
        let mut context = hmac::Context::with_key(&self.0);
        for part in parts {
            context.update(&(part.len() as u64).to_be_bytes());
            context.update(part.as_bytes());
        }
        context.sign()
    }
}

#[cfg(test)]
mod tests {
    use base64::engine::general_purpose::STANDARD;

    use super::*;

    #[test]
    fn code_is_accepted_only_for_its_message() {
        let master = MasterKey::parse(&STANDARD.encode([7; 32])).unwrap();
        let ours = Authenticator::new(&master, "one").unwrap();
        let code = ours.code(&["row", "list", "7"]);
        assert!(ours.accepts(&["row", "list", "7"], &code));
        for other in [&["row", "list", "8"][..], &["row", "list7", ""], &["row", "list"], &[]] {
            assert!(!ours.accepts(other, &code), "{other:?}");
        }
        for bad in ["", "!", &code[1..], &format!("{code}AA")] {
            assert!(!ours.accepts(&["row", "list", "7"], bad), "{bad}");
        }
        let other = Authenticator::new(&master, "other").unwrap();
        assert!(!other.accepts(&["row", "list", "7"], &code));
    }
}
