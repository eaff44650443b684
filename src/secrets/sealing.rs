//! Encryption at rest: AES-256-GCM with a key derived from the master key. The name of the sealed
//! item is authenticated, so that sealed values cannot be swapped.

use aws_lc_rs::aead::{AES_256_GCM, Aad, Nonce, RandomizedNonceKey};
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use zeroize::Zeroizing;

use super::MasterKey;
use crate::error::{Error, Result};

const NONCE_LENGTH: usize = 12;

/// Encrypts and decrypts data at rest.
#[derive(Debug)]
pub struct Sealer {
    key: RandomizedNonceKey,
    key_id: String,
}

impl Sealer {
    /// A sealer with a key derived from the master key.
    pub fn new(master: &MasterKey) -> Result<Self> {
        let key = RandomizedNonceKey::new(&AES_256_GCM, master.derive("sealing")?.as_slice())
            .map_err(|_| Error::internal("the sealing key could not be created"))?;
        Ok(Self { key, key_id: master.id()? })
    }

    /// Encrypts `plain` for the item `name`. The format is `{key id}.{base64url}`.
    pub fn seal(&self, name: &str, plain: &[u8]) -> Result<String> {
        let mut sealed = plain.to_vec();
        let nonce = self
            .key
            .seal_in_place_append_tag(Aad::from(name.as_bytes()), &mut sealed)
            .map_err(|_| Error::internal("encryption failed"))?;
        let mut bytes = nonce.as_ref().to_vec();
        bytes.append(&mut sealed);
        Ok(format!("{}.{}", self.key_id, URL_SAFE_NO_PAD.encode(bytes)))
    }

    /// Decrypts what was sealed for `name`.
    pub fn open(&self, name: &str, sealed: &str) -> Result<Zeroizing<Vec<u8>>> {
        let (key_id, text) = sealed.split_once('.').unwrap_or_default();
        if key_id != self.key_id {
            return Err(Error::internal(format!(
                "{name} was sealed with master key {key_id}, but this is master key {}",
                self.key_id
            )));
        }
        let broken = || Error::internal(format!("{name} cannot be decrypted: it was altered"));
        let bytes = URL_SAFE_NO_PAD.decode(text).map_err(|_| broken())?;
        let (nonce, sealed) = bytes.split_at_checked(NONCE_LENGTH).ok_or_else(broken)?;
        let nonce = Nonce::try_assume_unique_for_key(nonce).map_err(|_| broken())?;
        let mut buffer = Zeroizing::new(sealed.to_vec());
        let length = self
            .key
            .open_in_place(nonce, Aad::from(name.as_bytes()), &mut buffer)
            .map_err(|_| broken())?
            .len();
        buffer.truncate(length);
        Ok(buffer)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sealer(byte: u8) -> Sealer {
        let text = base64::engine::general_purpose::STANDARD.encode([byte; 32]);
        Sealer::new(&MasterKey::parse(&text).unwrap()).unwrap()
    }

    #[test]
    fn sealed_data_opens_only_with_its_name_and_key() {
        let sealed = sealer(1).seal("signing-keys/a", b"private").unwrap();
        assert_eq!(sealer(1).open("signing-keys/a", &sealed).unwrap().as_slice(), b"private");
        assert!(sealer(1).open("signing-keys/b", &sealed).is_err());
        assert!(sealer(2).open("signing-keys/a", &sealed).is_err());
        for cut in 0..sealed.len() {
            assert!(sealer(1).open("signing-keys/a", &sealed[..cut]).is_err(), "{cut}");
        }
    }
}
