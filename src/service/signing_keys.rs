//! Signing keys: read, unsealed, and made when there are none or of another algorithm
//! than is wanted.

use std::sync::Arc;

use jiff::Timestamp;

use super::Service;
use crate::clock::later;
use crate::error::{Error, Result};
use crate::keys::signing::generate;
use crate::keys::{Jwks, KeyRing, SigningAlgorithm, SigningKey};
use crate::store::SigningKeyRow;

impl Service {
    /// The key set that verifiers need now.
    pub fn jwks(&self) -> Jwks {
        self.keys().jwks(self.now())
    }

    /// Reads the keys again: another replica may have added one. Keys that are known stay while
    /// their tokens may live, whatever the database has.
    pub async fn refresh_signing_keys(&self) -> Result<()> {
        let ring = self.read_signing_keys().await?.following(&self.keys(), self.now());
        *self.keys.write().map_err(|_| Error::internal("the key ring's lock is broken"))? =
            Arc::new(ring);
        Ok(())
    }

    /// The keys as they were last read.
    pub(super) fn keys(&self) -> Arc<KeyRing> {
        match self.keys.read() {
            Ok(keys) => Arc::clone(&keys),
            // A ring is replaced whole: whoever broke the lock left one that is whole.
            Err(broken) => Arc::clone(&broken.into_inner()),
        }
    }

    /// Makes the first key if there is none: it signs at once.
    pub async fn ensure_signing_key(&self) -> Result<()> {
        if self.keys().newest_generation() == 0 {
            // Replicas whose clocks are behind sign with it too.
            self.add_signing_key(Timestamp::UNIX_EPOCH).await?;
        }
        Ok(())
    }

    /// Makes a key of the wanted algorithm if the newest one is of another: it is published
    /// for a while before it signs.
    pub async fn follow_signing_algorithm(&self) -> Result<()> {
        if self.keys().newest_algorithm() == Some(self.signing_algorithm) {
            return Ok(());
        }
        let mut now = self.now();
        if self.clock.simulated().is_none()
            && let Some(database) = self.store.read().await?.time().await?
        {
            // By a clock that is behind, it would sign before others have seen it.
            now = now.max(database);
        }
        self.add_signing_key(later(now, KeyRing::NOTICE)).await
    }

    async fn add_signing_key(&self, activates_at: Timestamp) -> Result<()> {
        let generation = self.keys().newest_generation() + 1;
        let row = self.make_signing_key(generation, activates_at)?;
        let mut tx = self.store.begin().await?;
        // If another replica was faster, its key is as good.
        if tx.insert_signing_key(&row).await? {
            tx.commit().await?;
        }
        self.refresh_signing_keys().await
    }

    async fn read_signing_keys(&self) -> Result<KeyRing> {
        let rows = self.store.read().await?.list_signing_keys().await?;
        let keys = rows.iter().map(|row| self.unseal(row)).collect::<Result<_>>()?;
        Ok(KeyRing::new(keys))
    }

    fn unseal(&self, row: &SigningKeyRow) -> Result<SigningKey> {
        let algorithm = SigningAlgorithm::parse(&row.algorithm)
            .map_err(|fault| Error::internal(format!("algorithm of {} {}", row.id, fault.0)))?;
        let pkcs8 = self.sealer.open(&sealed_name(&row.id), &row.sealed_private_key)?;
        SigningKey::from_pkcs8(algorithm, &pkcs8, row.generation, row.activates_at)
    }

    fn make_signing_key(&self, generation: i64, activates_at: Timestamp) -> Result<SigningKeyRow> {
        let algorithm = self.signing_algorithm;
        let pkcs8 = generate(algorithm)?;
        let key = SigningKey::from_pkcs8(algorithm, &pkcs8, generation, activates_at)?;
        let id = key.public.jwk.kid;
        Ok(SigningKeyRow {
            generation,
            sealed_private_key: self.sealer.seal(&sealed_name(&id), &pkcs8)?,
            id,
            algorithm: algorithm.to_string(),
            created_at: self.now(),
            activates_at,
        })
    }
}

/// What a private key is sealed as: it opens in the place of no other.
fn sealed_name(id: &str) -> String {
    format!("signingKeys/{id}")
}
