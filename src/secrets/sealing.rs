//! Encryption at rest: AES-256-GCM with a key derived from the master key. The name of the sealed
//! item is authenticated, so that sealed values cannot be swapped.

use aws_lc_rs::aead::{AES_256_GCM, Aad, Nonce, RandomizedNonceKey};
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use zeroize::Zeroizing;

use super::{MasterKey, MasterKeys};
use crate::error::{Error, Result};

const NONCE_LENGTH: usize = 12;

/// Encrypts and decrypts data at rest.
#[derive(Debug)]
pub struct Sealer {
    primary: SealingKey,
    additional: Vec<SealingKey>,
}

#[derive(Debug)]
struct SealingKey {
    id: String,
    key: RandomizedNonceKey,
}

impl Sealer {
    /// A sealer with keys derived from the master keys.
    pub fn new(master_keys: &MasterKeys) -> Result<Self> {
        let mut keys = master_keys.each(SealingKey::new)?;
        Ok(Self { primary: keys.remove(0), additional: keys })
    }

    /// The id of the master key that seals.
    pub fn key_id(&self) -> &str {
        &self.primary.id
    }

    /// Encrypts `plain` for the item `name`. The format is `{key id}.{base64url}`.
    pub fn seal(&self, name: &str, plain: &[u8]) -> Result<String> {
        let mut sealed = plain.to_vec();
        let key = &self.primary;
        let nonce = key
            .key
            .seal_in_place_append_tag(Aad::from(name.as_bytes()), &mut sealed)
            .map_err(|_| Error::internal("encryption failed"))?;
        let mut bytes = nonce.as_ref().to_vec();
        bytes.append(&mut sealed);
        Ok(format!("{}.{}", key.id, URL_SAFE_NO_PAD.encode(bytes)))
    }

    /// Decrypts what was sealed for `name`, with the key that the value names.
    pub fn open(&self, name: &str, sealed: &str) -> Result<Zeroizing<Vec<u8>>> {
        let (key_id, text) = sealed.split_once('.').unwrap_or_default();
        let mut keys = std::iter::once(&self.primary).chain(&self.additional);
        let Some(key) = keys.find(|key| key.id == key_id) else {
            return Err(self.unknown_key(name, key_id));
        };
        let broken = || Error::internal(format!("{name} cannot be decrypted: it was altered"));
        let bytes = URL_SAFE_NO_PAD.decode(text).map_err(|_| broken())?;
        let (nonce, sealed) = bytes.split_at_checked(NONCE_LENGTH).ok_or_else(broken)?;
        let nonce = Nonce::try_assume_unique_for_key(nonce).map_err(|_| broken())?;
        let mut buffer = Zeroizing::new(sealed.to_vec());
        let length = key
            .key
            .open_in_place(nonce, Aad::from(name.as_bytes()), &mut buffer)
            .map_err(|_| broken())?
            .len();
        buffer.truncate(length);
        Ok(buffer)
    }

    /// The same value, sealed with the primary key. `None`: it is already.
    pub fn rewrap(&self, name: &str, sealed: &str) -> Result<Option<String>> {
        if sealed.split_once('.').is_some_and(|(key_id, _)| key_id == self.primary.id) {
            return Ok(None);
        }
        let plain = self.open(name, sealed)?;
        self.seal(name, &plain).map(Some)
    }

    fn unknown_key(&self, name: &str, key_id: &str) -> Error {
        let held: Vec<_> = self.additional.iter().map(|key| key.id.as_str()).collect();
        let also = if held.is_empty() {
            String::new()
        } else {
            format!(", and the additional one is {}", held.join(" "))
        };
        Error::internal(format!(
            "{name} was sealed with master key {key_id}, but this is master key {}{also}",
            self.primary.id
        ))
    }
}

impl SealingKey {
    fn new(master: &MasterKey) -> Result<Self> {
        let key = RandomizedNonceKey::new(&AES_256_GCM, master.derive("sealing")?.as_slice())
            .map_err(|_| Error::internal("the sealing key could not be created"))?;
        Ok(Self { id: master.id()?, key })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(byte: u8) -> MasterKey {
        let text = base64::engine::general_purpose::STANDARD.encode([byte; 32]);
        MasterKey::parse(&text).unwrap()
    }

    fn sealer(byte: u8) -> Sealer {
        Sealer::new(&key(byte).into()).unwrap()
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

    #[test]
    fn additional_key_opens_and_does_not_seal() {
        let both = MasterKeys::new(key(2), Some(key(1))).unwrap();
        let both = Sealer::new(&both).unwrap();
        let old = sealer(1).seal("a", b"private").unwrap();
        assert_eq!(both.open("a", &old).unwrap().as_slice(), b"private");
        assert!(both.open("b", &old).is_err(), "the name is part of it");
        let new = both.rewrap("a", &old).unwrap().unwrap();
        assert_eq!(sealer(2).open("a", &new).unwrap().as_slice(), b"private");
        assert!(sealer(1).open("a", &new).is_err());
        assert_eq!(both.rewrap("a", &new).unwrap(), None, "it is current");
        let unknown = sealer(3).seal("a", b"private").unwrap();
        let Err(Error::Internal(cause)) = both.rewrap("a", &unknown) else { panic!("it opens") };
        let id = |byte| key(byte).id().unwrap();
        assert_eq!(
            cause.to_string(),
            format!(
                "a was sealed with master key {}, but this is master key {}, and the additional \
                 one is {}",
                id(3),
                id(2),
                id(1)
            )
        );
        assert!(MasterKeys::new(key(1), Some(key(1))).is_err(), "it is the same key");
    }
}
