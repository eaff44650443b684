//! Sealing what must be kept and must not be read: AES-256-GCM under a key derived
//! from the master key, bound to the name of what it is.

use aws_lc_rs::aead::{AES_256_GCM, Aad, Nonce, RandomizedNonceKey};
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use zeroize::Zeroizing;

use super::MasterKey;
use crate::error::{Error, Result};

const NONCE_LENGTH: usize = 12;

/// Seals and opens.
#[derive(Debug)]
pub struct Sealer {
    key: RandomizedNonceKey,
    key_id: String,
}

impl Sealer {
    /// A sealer under the master key.
    pub fn new(master: &MasterKey) -> Result<Self> {
        let key = RandomizedNonceKey::new(&AES_256_GCM, master.derive("sealing")?.as_slice())
            .map_err(|_| Error::internal("no sealing key"))?;
        Ok(Self { key, key_id: master.id()? })
    }

    /// Seals `plain` as that which `name` is: `{key id}.{base64url}`.
    pub fn seal(&self, name: &str, plain: &[u8]) -> Result<String> {
        let mut sealed = plain.to_vec();
        let nonce = self
            .key
            .seal_in_place_append_tag(Aad::from(name.as_bytes()), &mut sealed)
            .map_err(|_| Error::internal("sealing failed"))?;
        let mut bytes = nonce.as_ref().to_vec();
        bytes.append(&mut sealed);
        Ok(format!("{}.{}", self.key_id, URL_SAFE_NO_PAD.encode(bytes)))
    }

    /// Opens what was sealed as `name`.
    pub fn open(&self, name: &str, sealed: &str) -> Result<Zeroizing<Vec<u8>>> {
        let (key_id, text) = sealed.split_once('.').unwrap_or_default();
        if key_id != self.key_id {
            return Err(Error::internal(format!(
                "{name} was sealed under master key {key_id}, and this is master key {}",
                self.key_id
            )));
        }
        let broken = || Error::internal(format!("{name} cannot be opened: it was altered"));
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
    fn what_was_sealed_opens_under_its_name_and_key_alone() {
        let sealed = sealer(1).seal("signing-keys/a", b"private").unwrap();
        assert_eq!(sealer(1).open("signing-keys/a", &sealed).unwrap().as_slice(), b"private");
        assert!(sealer(1).open("signing-keys/b", &sealed).is_err());
        assert!(sealer(2).open("signing-keys/a", &sealed).is_err());
        for cut in 0..sealed.len() {
            assert!(sealer(1).open("signing-keys/a", &sealed[..cut]).is_err(), "{cut}");
        }
    }
}
