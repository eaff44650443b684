//! The keys that sign tokens: read, unsealed, and made when there are none, or none of the
//! configured algorithm.

use std::sync::{Arc, RwLock};

use jiff::Timestamp;

use crate::clock::{Clock, later};
use crate::error::{Error, Result};
use crate::keys::signing::generate;
use crate::keys::{Jwks, KeyRing, SigningAlgorithm, SigningKey};
use crate::secrets::Sealer;
use crate::store::{SealedSigningKey, Store};

/// The signing keys of this server.
#[derive(Debug)]
pub struct Signing {
    store: Store,
    clock: Clock,
    sealer: Arc<Sealer>,
    /// The algorithm of new keys.
    algorithm: SigningAlgorithm,
    /// Replaced whole when keys change; never held across an await.
    keys: RwLock<Arc<KeyRing>>,
}

impl Signing {
    /// Reads the keys, which proves the master key, and makes the first one if there is none.
    pub(super) async fn load(
        store: Store,
        clock: Clock,
        sealer: Arc<Sealer>,
        algorithm: SigningAlgorithm,
    ) -> Result<Self> {
        let signing = Self { store, clock, sealer, algorithm, keys: RwLock::default() };
        signing.refresh().await?;
        if signing.keys().newest_generation() == 0 {
            // Replicas whose clocks are behind sign with it too.
            signing.add(Timestamp::UNIX_EPOCH).await?;
        }
        Ok(signing)
    }

    /// The key set that verifiers need now.
    pub fn jwks(&self) -> Jwks {
        self.keys().jwks(self.clock.now())
    }

    /// Reads the keys again: another replica may have added one. Known keys stay while their
    /// tokens may be valid, whatever the database has.
    pub async fn refresh(&self) -> Result<()> {
        let ring = self.read().await?.following(&self.keys(), self.clock.now());
        *self.keys.write().map_err(|_| Error::internal("the key ring's lock is broken"))? =
            Arc::new(ring);
        Ok(())
    }

    /// The keys as they were last read.
    pub(super) fn keys(&self) -> Arc<KeyRing> {
        match self.keys.read() {
            Ok(keys) => Arc::clone(&keys),
            // A ring is replaced whole, so a holder that panicked left a whole one.
            Err(broken) => Arc::clone(&broken.into_inner()),
        }
    }

    /// Makes a key of the configured algorithm if the newest one has another. The key is published
    /// for a while before it signs.
    pub async fn follow_algorithm(&self) -> Result<()> {
        if self.keys().newest_algorithm() == Some(self.algorithm) {
            return Ok(());
        }
        let mut now = self.clock.now();
        if self.clock.simulated().is_none()
            && let Some(database) = self.store.read().await?.time().await?
        {
            // With a clock that is behind, it would sign before other servers have read it.
            now = now.max(database);
        }
        self.add(later(now, KeyRing::NOTICE)).await
    }

    async fn add(&self, activates_at: Timestamp) -> Result<()> {
        let generation = self.keys().newest_generation() + 1;
        let row = self.make(generation, activates_at)?;
        let mut tx = self.store.begin().await?;
        // If another replica was faster, its key serves as well.
        if tx.insert_signing_key(&row).await? {
            tx.commit().await?;
        }
        self.refresh().await
    }

    async fn read(&self) -> Result<KeyRing> {
        let rows = self.store.read().await?.list_signing_keys().await?;
        let keys = rows.iter().map(|row| self.unseal(row)).collect::<Result<_>>()?;
        Ok(KeyRing::new(keys))
    }

    fn unseal(&self, row: &SealedSigningKey) -> Result<SigningKey> {
        let algorithm = SigningAlgorithm::parse(&row.algorithm)
            .map_err(|fault| Error::internal(format!("algorithm of {} {}", row.id, fault.0)))?;
        let pkcs8 = self.sealer.open(&sealed_name(&row.id), &row.sealed_private_key)?;
        SigningKey::from_pkcs8(algorithm, &pkcs8, row.generation, row.activates_at)
    }

    fn make(&self, generation: i64, activates_at: Timestamp) -> Result<SealedSigningKey> {
        let algorithm = self.algorithm;
        let pkcs8 = generate(algorithm)?;
        let key = SigningKey::from_pkcs8(algorithm, &pkcs8, generation, activates_at)?;
        let id = key.public.jwk.kid;
        Ok(SealedSigningKey {
            generation,
            sealed_private_key: self.sealer.seal(&sealed_name(&id), &pkcs8)?,
            id,
            algorithm: algorithm.to_string(),
            created_at: self.clock.now(),
            activates_at,
        })
    }
}

/// The name that a private key is sealed under: it opens in place of no other.
fn sealed_name(id: &str) -> String {
    format!("signingKeys/{id}")
}
