//! Page tokens (AIP-158): the position in a list, authenticated and bound to the call, so that a
//! token cannot be used to read another list.

use aws_lc_rs::hmac;
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;

use super::MasterKeys;
use crate::error::{Error, Result};

const TAG_LENGTH: usize = 32;

/// Creates and reads page tokens.
#[derive(Debug)]
pub struct PageTokens {
    /// The key of new tokens.
    primary: hmac::Key,
    /// All keys of tokens that are accepted.
    accepted: Vec<hmac::Key>,
}

impl PageTokens {
    /// Derives the keys from the master keys, so that all replicas accept the same tokens.
    pub fn new(master_keys: &MasterKeys) -> Result<Self> {
        let accepted = master_keys.each(|master| {
            let key = master.derive("page tokens")?;
            Ok(hmac::Key::new(hmac::HMAC_SHA256, key.as_slice()))
        })?;
        let primary = accepted.first().ok_or_else(|| Error::internal("no master key"))?.clone();
        Ok(Self { primary, accepted })
    }

    /// The token that continues after `cursor` in the list identified by `call`.
    pub fn seal(&self, call: &str, cursor: &str) -> String {
        let mut bytes = self.tag(call, cursor).as_ref().to_vec();
        bytes.extend_from_slice(cursor.as_bytes());
        URL_SAFE_NO_PAD.encode(bytes)
    }

    /// The cursor in a token that was created for the same `call`. `None` for an empty token.
    pub fn open(&self, call: &str, token: &str) -> Result<Option<String>> {
        if token.is_empty() {
            return Ok(None);
        }
        let bytes = URL_SAFE_NO_PAD.decode(token).map_err(|_| Error::InvalidPageToken)?;
        let (tag, cursor) = bytes.split_at_checked(TAG_LENGTH).ok_or(Error::InvalidPageToken)?;
        let cursor = std::str::from_utf8(cursor).map_err(|_| Error::InvalidPageToken)?;
        let message = message(call, cursor);
        let is_ours = self.accepted.iter().any(|key| hmac::verify(key, &message, tag).is_ok());
        is_ours.then(|| Some(cursor.to_owned())).ok_or(Error::InvalidPageToken)
    }

    fn tag(&self, call: &str, cursor: &str) -> hmac::Tag {
        hmac::sign(&self.primary, &message(call, cursor))
    }
}

/// Both parts. The length of the first one separates them.
fn message(call: &str, cursor: &str) -> Vec<u8> {
    let mut message = (call.len() as u64).to_be_bytes().to_vec();
    message.extend_from_slice(call.as_bytes());
    message.extend_from_slice(cursor.as_bytes());
    message
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
    fn page_token_of_an_additional_key_is_accepted() {
        let both = MasterKeys::new(key(2), Some(key(1))).unwrap();
        let both = PageTokens::new(&both).unwrap();
        let [old, new] = [1, 2].map(|byte| PageTokens::new(&key(byte).into()).unwrap());
        assert!(both.open("scopes", &old.seal("scopes", "b")).unwrap().is_some());
        let token = both.seal("scopes", "b");
        assert!(new.open("scopes", &token).unwrap().is_some(), "the primary key signs");
        assert!(old.open("scopes", &token).is_err());
    }

    #[test]
    fn page_token_is_accepted_only_by_its_own_call() {
        let tokens = PageTokens::new(&key(7).into()).unwrap();
        let token = tokens.seal("scopes of tenants/acme", "b");
        assert_eq!(tokens.open("scopes of tenants/acme", &token).unwrap().as_deref(), Some("b"));
        assert!(tokens.open("scopes of tenants/evil", &token).is_err());
        assert!(tokens.open("scopes of tenants/acmeb", &token).is_err());
        for bad in ["x", "!!", &token[1..], &token[..token.len() - 2], &format!("{token}AA")] {
            assert!(tokens.open("scopes of tenants/acme", bad).is_err(), "{bad}");
        }
        assert_eq!(tokens.open("anything", "").unwrap(), None);
    }
}
