//! The signing keys of this server: read, unsealed, and made when there are none.

use std::sync::{Arc, Mutex, PoisonError, RwLock};
use std::time::Duration;

use jiff::Timestamp;
use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use tokio_util::sync::CancellationToken;

use super::sealed;
use crate::clock::Clock;
use crate::error::{Error, FailureLog, Result};
use crate::keys::{Jwks, KeyRecord, KeyRing, KeyState, SigningAlgorithm, schedule};
use crate::revocation::Live;
use crate::secrets::Sealer;
use crate::store::Store;

/// The result of a rotation.
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct RotationLabels {
    result: &'static str,
}

/// The signing keys of this server.
#[derive(Debug)]
pub struct Signing {
    pub(super) store: Store,
    pub(super) clock: Clock,
    pub(super) sealer: Arc<Sealer>,
    /// The algorithm of new keys.
    pub(super) algorithm: SigningAlgorithm,
    /// How long a key signs; `None`: until it is rotated by hand.
    pub(super) period: Option<Duration>,
    rotations: Family<RotationLabels, Counter>,
    revocations: Arc<Live>,
    /// Replaced whole when keys change; never held across an await.
    keys: RwLock<Arc<KeyRing>>,
    /// One server reads the keys once at a time.
    reading: tokio::sync::Mutex<()>,
    /// The key that signed when it was last logged.
    logged: Mutex<String>,
}

/// The keys of a server, for metrics.
#[derive(Clone, Debug)]
pub struct KeyCounts {
    /// How long the active key has been in use.
    pub age: Duration,
    /// The number of keys in each state, except for removed ones.
    pub by_state: [(KeyState, usize); 4],
}

impl Signing {
    /// How often a server reads the keys again, and does what is due.
    pub const RELOAD_INTERVAL: Duration = schedule::RELOAD_INTERVAL;

    /// Reads the keys, which proves the master key, and makes the first one if there is none.
    pub(in crate::service) async fn load(
        store: Store,
        clock: Clock,
        sealer: Arc<Sealer>,
        (algorithm, period): (SigningAlgorithm, Option<Duration>),
        revocations: Arc<Live>,
    ) -> Result<Self> {
        let signing = Self {
            store,
            clock,
            sealer,
            algorithm,
            period,
            rotations: Family::default(),
            revocations,
            keys: RwLock::default(),
            reading: tokio::sync::Mutex::default(),
            logged: Mutex::default(),
        };
        signing.refresh().await?;
        if signing.keys().is_empty() {
            signing.make_first().await?;
            signing.refresh().await?;
        }
        Ok(signing)
    }

    /// The key set that verifiers need now.
    pub fn jwks(&self) -> Jwks {
        let mut jwks = self.keys().jwks(self.clock.now());
        jwks.keys.retain(|key| !self.is_revoked(&key.kid));
        jwks
    }

    /// Reads the keys again: another replica may have changed them. Known keys stay while their
    /// tokens may be valid, whatever the database has, unless they were revoked.
    pub async fn refresh(&self) -> Result<()> {
        let _reading = self.reading.lock().await;
        let stored = self.store.read().await?.list_needed_signing_keys().await?;
        let ring = sealed::ring(&self.sealer, &stored)?;
        let mut ring = ring.following(&self.keys(), self.clock.now());
        // The list of revocations may be ahead of the database that was read.
        let known = ring.schedule().records().iter().map(|record| record.kid.clone());
        let revoked: Vec<_> = known.filter(|kid| self.is_revoked(kid)).collect();
        ring.revoke(revoked);
        *self.keys.write().map_err(|_| Error::internal("the key ring's lock is broken"))? =
            Arc::new(ring);
        Ok(())
    }

    /// The keys as they were last read.
    pub(in crate::service) fn keys(&self) -> Arc<KeyRing> {
        match self.keys.read() {
            Ok(keys) => Arc::clone(&keys),
            // A ring is replaced whole, so a holder that panicked left a whole one.
            Err(broken) => Arc::clone(&broken.into_inner()),
        }
    }

    /// The keys, of which one can sign now. If another server revoked it, the new one is read.
    pub(in crate::service) async fn keys_for_signing(
        &self,
        now: Timestamp,
    ) -> Result<Arc<KeyRing>> {
        let keys = self.keys();
        if self.can_sign(&keys, now) {
            return Ok(keys);
        }
        Box::pin(self.refresh()).await?;
        let keys = self.keys();
        if self.can_sign(&keys, now) {
            return Ok(keys);
        }
        Err(Error::Unavailable("no signing key can be used".into()))
    }

    fn can_sign(&self, keys: &KeyRing, now: Timestamp) -> bool {
        keys.signer(now).is_some_and(|key| !self.is_revoked(&key.public.jwk.kid))
    }

    fn is_revoked(&self, kid: &str) -> bool {
        self.revocations.index().revokes_key(kid)
    }

    /// Reads the keys again when another server has revoked one, until `stop` is cancelled.
    pub async fn follow_revocations(&self, stop: CancellationToken) {
        let mut news = self.revocations.news();
        let mut reading = FailureLog::default();
        while let Some(Ok(())) = stop.run_until_cancelled(news.changed()).await {
            let now = self.clock.now();
            if self.keys().published(now).any(|key| self.is_revoked(&key.jwk.kid)) {
                reading.note(
                    &self.refresh().await,
                    "a signing key was revoked, and the keys cannot be read: tokens cannot be issued",
                    "the signing keys are read again",
                );
            }
        }
    }

    /// Logs which key signs, when it is another one.
    pub(in crate::service) fn log_signer(&self) {
        let keys = self.keys();
        let Some(signer) = keys.signer(self.clock.now()) else { return };
        let kid = &signer.public.jwk.kid;
        let mut logged = self.logged.lock().unwrap_or_else(PoisonError::into_inner);
        if *logged != *kid {
            logged.clone_from(kid);
            tracing::info!(key = kid, generation = signer.generation, "signing key in use");
        }
    }

    /// How long until every server and verifier refuses a revoked key.
    pub(in crate::service) fn revocation_bound(&self) -> Duration {
        self.revocations.max_staleness()
    }

    /// The time by which a notice is measured: with a clock that is behind, a new key would sign
    /// before other servers have read it.
    pub(in crate::service) async fn time(&self) -> Result<Timestamp> {
        let now = self.clock.now();
        if self.clock.simulated().is_some() {
            return Ok(now);
        }
        let database = self.store.read().await?.time().await?;
        Ok(database.map_or(now, |database| database.max(now)))
    }

    /// The age of the active key, and how many keys there are.
    pub fn counts(&self) -> KeyCounts {
        let (now, keys) = (self.clock.now(), self.keys());
        let since = keys.schedule().active(now).map_or(now, KeyRecord::in_use_since);
        let states: Vec<_> = keys.states(now).collect();
        let count = |state| (state, states.iter().filter(|other| **other == state).count());
        KeyCounts {
            age: now.duration_since(since).unsigned_abs(),
            by_state: [KeyState::Next, KeyState::Active, KeyState::Retiring, KeyState::Revoked]
                .map(count),
        }
    }

    /// Counts a rotation.
    pub(in crate::service) fn count_rotation(&self, result: &'static str) {
        self.rotations.get_or_create(&RotationLabels { result }).inc();
    }

    /// Counts rotations by their result.
    pub fn rotations(&self) -> &Family<RotationLabels, Counter> {
        &self.rotations
    }
}
