//! The master keys of a server. The primary key writes: it seals, hashes and signs. An additional
//! key only opens and verifies, so that the primary key can be changed while servers run.

use super::MasterKey;
use crate::domain::Fault;
use crate::error::Result;

/// The primary key, and the additional one if there is one.
#[derive(Clone, Debug)]
pub struct MasterKeys {
    primary: MasterKey,
    additional: Option<MasterKey>,
}

impl MasterKeys {
    /// The error is for an additional key that is the primary one.
    pub fn new(primary: MasterKey, additional: Option<MasterKey>) -> Result<Self, Fault> {
        if let Some(other) = &additional
            && *other == primary
        {
            return Err(Fault::new(
                "the additional master key is the same as the master key: set the other key, or \
                 remove the setting",
            ));
        }
        Ok(Self { primary, additional })
    }

    /// The key that writes.
    pub fn primary(&self) -> &MasterKey {
        &self.primary
    }

    /// All keys, the primary one first.
    pub fn all(&self) -> impl Iterator<Item = &MasterKey> {
        std::iter::once(&self.primary).chain(&self.additional)
    }

    /// The ids of all keys, that of the primary one first.
    pub fn ids(&self) -> Result<Vec<String>> {
        self.all().map(MasterKey::id).collect()
    }

    /// What `make` makes of each key, of the primary one first.
    pub fn each<T>(&self, make: impl FnMut(&MasterKey) -> Result<T>) -> Result<Vec<T>> {
        self.all().map(make).collect()
    }
}

impl From<MasterKey> for MasterKeys {
    fn from(primary: MasterKey) -> Self {
        Self { primary, additional: None }
    }
}
