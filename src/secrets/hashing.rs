//! Hashes of secrets: argon2id (m = 19 MiB, t = 2, p = 1, OWASP's choice) under a
//! pepper that is not in the database. Each takes tens of milliseconds of a core, so
//! they run on threads of their own, as many at once as there are cores; a bounded number
//! waits for a bounded time, and the rest hear at once that it is too much.

use std::sync::Arc;
use std::thread::available_parallelism;
use std::time::Duration;

use argon2::password_hash::phc::{PasswordHash, Salt};
use argon2::{Algorithm, Argon2, KeyId, ParamsBuilder, PasswordHasher, PasswordVerifier, Version};
use prometheus_client::metrics::counter::Counter;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use zeroize::Zeroizing;

use super::workers::Workers;
use super::{MasterKey, Secret, random};
use crate::error::{Error, Result};

const MEMORY_KIB: u32 = 19_456;
const PASSES: u32 = 2;
const LANES: u32 = 1;
/// What a caller hears who is turned away.
const OVERLOADED: Error =
    Error::Overloaded { what: "secret hashes", retry_after: Duration::from_secs(1) };

/// How hashes wait for their turn.
#[derive(Clone, Copy, Debug)]
pub struct Queue {
    /// How many may wait.
    pub length: usize,
    /// How long.
    pub longest_wait: Duration,
}

/// Hashes secrets and checks them.
#[derive(Debug)]
pub struct Hasher {
    pepper: Arc<Pepper>,
    /// One permit for each hash that runs.
    running: Arc<Semaphore>,
    /// One permit for each hash that runs or waits.
    admitted: Arc<Semaphore>,
    longest_wait: Duration,
    workers: Workers,
    /// How many were computed.
    computed: Counter,
    /// A hash of nothing anyone has, for clients that do not exist.
    decoy: String,
}

/// A place in the queue of hashes: whoever has none does no other work for one either.
#[derive(Debug)]
pub struct Slot(
    #[expect(dead_code, reason = "held, and given back when dropped")] OwnedSemaphorePermit,
);

struct Pepper {
    key: Zeroizing<[u8; 32]>,
    id: KeyId,
}

impl std::fmt::Debug for Pepper {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Pepper(…)")
    }
}

impl Hasher {
    /// A hasher under the master key.
    pub fn new(master: &MasterKey, queue: Queue) -> Result<Self> {
        let id = KeyId::new(master.id()?.as_bytes()).map_err(fault)?;
        let pepper = Pepper { key: master.derive("pepper")?, id };
        let cores = available_parallelism().map_or(1, usize::from);
        let decoy = pepper.hash(&Secret::new(String::new()))?;
        Ok(Self {
            pepper: Arc::new(pepper),
            running: Arc::new(Semaphore::new(cores)),
            admitted: Arc::new(Semaphore::new(cores + queue.length)),
            longest_wait: queue.longest_wait,
            workers: Workers::new(cores)?,
            computed: Counter::default(),
            decoy,
        })
    }

    /// Counts the hashes computed.
    pub fn computed(&self) -> &Counter {
        &self.computed
    }

    /// A place in the queue, if there is one.
    pub fn reserve(&self) -> Result<Slot> {
        Arc::clone(&self.admitted).try_acquire_owned().map(Slot).map_err(|_| OVERLOADED)
    }

    /// The hash of a secret, as a PHC string.
    pub async fn hash(&self, secret: Secret) -> Result<String> {
        let slot = self.reserve()?;
        self.run(&slot, move |pepper| pepper.hash(&secret)).await?
    }

    /// Whether the secret has this hash. Without a hash (no such client, or a secret
    /// that cannot be right) the same work is done and the answer is no.
    pub async fn verify(&self, slot: &Slot, secret: Secret, hash: Option<String>) -> Result<bool> {
        let known = hash.is_some();
        let hash = hash.unwrap_or_else(|| self.decoy.clone());
        let matches = self.run(slot, move |pepper| pepper.verify(&secret, &hash)).await??;
        Ok(known && matches)
    }

    async fn run<T: Send + 'static>(
        &self,
        _slot: &Slot,
        work: impl FnOnce(&Pepper) -> T + Send + 'static,
    ) -> Result<T> {
        let turn =
            tokio::time::timeout(self.longest_wait, Arc::clone(&self.running).acquire_owned());
        let permit = turn.await.map_err(|_| OVERLOADED)?.map_err(fault)?;
        self.computed.inc();
        let pepper = Arc::clone(&self.pepper);
        let job = move || {
            let outcome = work(&pepper);
            // Held by the work itself: a caller who goes away does not free a core early.
            drop(permit);
            outcome
        };
        self.workers.run(job).await
    }
}

impl Pepper {
    fn argon2(&self) -> Result<Argon2<'_>> {
        let params = ParamsBuilder::new()
            .m_cost(MEMORY_KIB)
            .t_cost(PASSES)
            .p_cost(LANES)
            .keyid(self.id)
            .build()
            .map_err(fault)?;
        Argon2::new_with_secret(self.key.as_slice(), Algorithm::Argon2id, Version::V0x13, params)
            .map_err(fault)
    }

    fn hash(&self, secret: &Secret) -> Result<String> {
        let mut salt = [0; Salt::RECOMMENDED_LENGTH];
        random::fill(&mut salt)?;
        let hash = self
            .argon2()?
            .hash_password_with_salt(secret.expose().as_bytes(), &salt)
            .map_err(fault)?;
        Ok(hash.to_string())
    }

    fn verify(&self, secret: &Secret, hash: &str) -> Result<bool> {
        let hash = PasswordHash::new(hash).map_err(fault)?;
        let checked = self.argon2()?.verify_password(secret.expose().as_bytes(), &hash);
        Ok(checked.is_ok())
    }
}

fn fault(error: impl std::fmt::Display) -> Error {
    Error::internal(error)
}
