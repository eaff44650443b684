//! Hashing of secrets: argon2id with OWASP's parameters (m = 19 MiB, t = 2, p = 1) and a pepper
//! that is not in the database. A hash takes tens of milliseconds of a core, so hashes run on
//! dedicated threads, one per core. A bounded number of jobs waits for a bounded time, in a lane
//! for each caller and source ([`Lane`]). When the queue is full, jobs are refused immediately.

use std::collections::BTreeSet;
use std::iter;
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::available_parallelism;
use std::time::Duration;

use argon2::password_hash::phc::{Output, ParamsString, PasswordHash, Salt};
use argon2::{Algorithm, Argon2, KeyId, Params, ParamsBuilder, Version};
use aws_lc_rs::constant_time::verify_slices_are_equal;
use prometheus_client::metrics::counter::Counter;
use zeroize::Zeroizing;

use super::queue_metrics::HashQueueMetrics;
use super::workers::{HashMemory, NoTurn, Slot, Turn, Workers};
use super::{Lane, MasterKey, MasterKeys, Secret, random};
use crate::clock::Stopwatch;
use crate::error::{Error, Result};

const MEMORY_KIB: u32 = 19_456;
const PASSES: u32 = 2;
const PARALLELISM: u32 = 1;
/// How many unknown keys are logged at most.
const MAX_LOGGED: usize = 16;
/// The error when the queue is full.
const OVERLOADED: Error =
    Error::Overloaded { what: "secret hashes", retry_after: Duration::from_secs(1) };

/// The bounds of the hash queue.
#[derive(Clone, Copy, Debug)]
pub struct HashQueue {
    /// The maximum number of waiting jobs.
    pub length: usize,
    /// The maximum waiting time.
    pub longest_wait: Duration,
}

/// Hashes and verifies secrets.
#[derive(Debug)]
pub struct Hasher {
    peppers: Arc<Peppers>,
    longest_wait: Duration,
    workers: Arc<Workers>,
    /// The number of hashes that were started.
    computed: Counter,
    metrics: HashQueueMetrics,
    /// A hash that no secret matches, used for clients that do not exist.
    decoy: String,
}

/// The peppers of all master keys. A hash names the id of its master key (`keyid` of the PHC
/// string).
#[derive(Debug)]
struct Peppers {
    primary: Pepper,
    additional: Vec<Pepper>,
    /// Ids of other keys that hashes had, each logged once.
    unknown: Mutex<BTreeSet<String>>,
}

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
    /// A hasher with peppers derived from the master keys.
    pub fn new(master_keys: &MasterKeys, queue: HashQueue) -> Result<Self> {
        let mut peppers = master_keys.each(Pepper::of)?;
        let primary = peppers.remove(0);
        let cores = available_parallelism().map_or(1, usize::from);
        let decoy = primary.decoy()?;
        let unknown = Mutex::default();
        Ok(Self {
            peppers: Arc::new(Peppers { primary, additional: peppers, unknown }),
            longest_wait: queue.longest_wait,
            workers: Arc::new(Workers::new(cores, queue.length)?),
            computed: Counter::default(),
            metrics: HashQueueMetrics::default(),
            decoy,
        })
    }

    pub fn computed(&self) -> &Counter {
        &self.computed
    }

    /// What happens to jobs in the queue.
    pub fn queue_metrics(&self) -> &HashQueueMetrics {
        &self.metrics
    }

    /// The number of jobs in the queue that do not run yet.
    pub fn waiting(&self) -> usize {
        self.workers.waiting()
    }

    /// Reserves a place in the queue, or returns [`Error::Overloaded`].
    pub fn reserve(&self, lane: Lane) -> Result<Slot> {
        self.workers.reserve(lane).ok_or_else(|| {
            self.metrics.full.inc();
            OVERLOADED
        })
    }

    /// Waits for a turn. Callers should read the stored hash only after that.
    pub async fn turn(&self, slot: Slot) -> Result<Turn> {
        let since = Stopwatch::start();
        let turn = slot.turn(self.longest_wait).await;
        self.metrics.waited.observe(since.elapsed().as_secs_f64());
        turn.map_err(|cause| {
            match cause {
                NoTurn::TimedOut => self.metrics.timed_out.inc(),
                NoTurn::Displaced => self.metrics.displaced.inc(),
            };
            OVERLOADED
        })
    }

    /// Hashes a secret into a PHC string.
    pub async fn hash(&self, lane: Lane, secret: Secret) -> Result<String> {
        let turn = self.turn(self.reserve(lane)?).await?;
        self.run(turn, move |peppers, memory| peppers.primary.hash(&secret, memory)).await?
    }

    /// Whether the hash has the pepper of the primary master key. A hash that names no key has.
    pub fn is_current(&self, hash: &str) -> bool {
        key_id_of(hash).is_none_or(|id| id.as_bytes() == self.peppers.primary.id.as_bytes())
    }

    /// Whether the secret matches the hash. Without a hash (an unknown client, or a secret that
    /// cannot be right) the same work is done and the answer is no. `wrong` is called by the
    /// hashing thread, so that a client that disconnects early still counts as a wrong guess.
    pub async fn verify(
        &self,
        turn: Turn,
        secret: Secret,
        hash: Option<String>,
        wrong: impl FnOnce() + Send + 'static,
    ) -> Result<bool> {
        let known = hash.is_some();
        let hash = hash.unwrap_or_else(|| self.decoy.clone());
        self.run(turn, move |peppers, memory| {
            let right = peppers.verify(&secret, &hash, memory)? && known;
            if !right {
                wrong();
            }
            Ok(right)
        })
        .await?
    }

    async fn run<T: Send + 'static>(
        &self,
        turn: Turn,
        work: impl FnOnce(&Peppers, &mut HashMemory) -> T + Send + 'static,
    ) -> Result<T> {
        let (peppers, computed) = (Arc::clone(&self.peppers), self.computed.clone());
        turn.run(move |memory: &mut HashMemory| {
            computed.inc();
            work(&peppers, memory)
        })
        .await
    }
}

impl Peppers {
    /// Verifies with the pepper that the hash names. A hash of an unknown key matches no secret, at
    /// the same cost, so that callers learn nothing from it.
    fn verify(&self, secret: &Secret, hash: &str, memory: &mut HashMemory) -> Result<bool> {
        let parsed = PasswordHash::new(hash).map_err(fault)?;
        let params = Params::try_from(&parsed).map_err(fault)?;
        let id = params.keyid();
        let mut all = iter::once(&self.primary).chain(&self.additional);
        let Some(pepper) = all.find(|pepper| id.is_empty() || pepper.id.as_bytes() == id) else {
            self.log_unknown(&String::from_utf8_lossy(id));
            self.primary.verify(secret, hash, memory)?;
            return Ok(false);
        };
        pepper.verify(secret, hash, memory)
    }

    fn log_unknown(&self, id: &str) {
        let mut unknown = self.unknown.lock().unwrap_or_else(PoisonError::into_inner);
        if unknown.len() < MAX_LOGGED && unknown.insert(id.to_owned()) {
            tracing::error!(
                key = id,
                "a secret was refused because its hash was made with another master key: set that \
                 key as additional_master_key, or rotate the secret"
            );
        }
    }
}

impl Pepper {
    fn of(master: &MasterKey) -> Result<Self> {
        let id = KeyId::new(master.id()?.as_bytes()).map_err(fault)?;
        Ok(Self { key: master.derive("pepper")?, id })
    }

    fn hash(&self, secret: &Secret, memory: &mut HashMemory) -> Result<String> {
        let mut salt = [0; Salt::RECOMMENDED_LENGTH];
        random::fill(&mut salt)?;
        let params = self.params()?;
        let mut output = [0; Params::DEFAULT_OUTPUT_LEN];
        self.compute(&params, secret, &salt, &mut output, memory)?;
        phc(&params, &salt, &output)
    }

    /// A PHC string that no secret matches.
    fn decoy(&self) -> Result<String> {
        let mut salt = [0; Salt::RECOMMENDED_LENGTH];
        random::fill(&mut salt)?;
        let mut output = [0; Params::DEFAULT_OUTPUT_LEN];
        random::fill(&mut output)?;
        phc(&self.params()?, &salt, &output)
    }

    fn verify(&self, secret: &Secret, hash: &str, memory: &mut HashMemory) -> Result<bool> {
        let hash = PasswordHash::new(hash).map_err(fault)?;
        let ours = hash.algorithm == Algorithm::Argon2id.ident()
            && hash.version == Some(Version::V0x13.into());
        let (Some(salt), Some(expected), true) = (&hash.salt, &hash.hash, ours) else {
            return Err(Error::internal(
                "the stored hash does not use argon2id with our parameters",
            ));
        };
        let params = Params::try_from(&hash).map_err(fault)?;
        let mut output = vec![0; expected.as_ref().len()];
        self.compute(&params, secret, salt.as_ref(), &mut output, memory)?;
        Ok(verify_slices_are_equal(&output, expected.as_ref()).is_ok())
    }

    fn params(&self) -> Result<Params> {
        let mut params = ParamsBuilder::new();
        params.m_cost(MEMORY_KIB).t_cost(PASSES).p_cost(PARALLELISM).keyid(self.id);
        params.build().map_err(fault)
    }

    /// Fills `output`. The caller provides the memory: allocating 19 MiB for each hash takes time,
    /// and allocators are slow to return it.
    fn compute(
        &self,
        params: &Params,
        secret: &Secret,
        salt: &[u8],
        output: &mut [u8],
        memory: &mut HashMemory,
    ) -> Result<()> {
        if memory.len() < params.block_count() {
            memory.resize(params.block_count(), argon2::Block::default());
        }
        let key = self.key.as_slice();
        Argon2::new_with_secret(key, Algorithm::Argon2id, Version::V0x13, params.clone())
            .and_then(|argon2| {
                let secret = secret.expose().as_bytes();
                let blocks = &mut memory[..params.block_count()];
                argon2.hash_password_into_with_memory(secret, salt, output, blocks)
            })
            .map_err(fault)
    }
}

/// The id of the master key that a hash names.
fn key_id_of(hash: &str) -> Option<String> {
    let parsed = PasswordHash::new(hash).ok()?;
    let params = Params::try_from(&parsed).ok()?;
    let id = params.keyid();
    (!id.is_empty()).then(|| String::from_utf8_lossy(id).into_owned())
}

/// Formats a hash as a PHC string.
fn phc(params: &Params, salt: &[u8], output: &[u8]) -> Result<String> {
    let hash = PasswordHash {
        algorithm: Algorithm::Argon2id.ident(),
        version: Some(Version::V0x13.into()),
        params: ParamsString::try_from(params).map_err(fault)?,
        salt: Some(Salt::new(salt).map_err(fault)?),
        hash: Some(Output::new(output).map_err(fault)?),
    };
    Ok(hash.to_string())
}

fn fault(error: impl std::fmt::Display) -> Error {
    Error::internal(error)
}

#[cfg(test)]
mod tests {
    use base64::Engine;
    use base64::engine::general_purpose::STANDARD;

    use super::*;

    fn pepper(key: u8) -> Pepper {
        Pepper { key: Zeroizing::new([key; 32]), id: KeyId::new(b"test").unwrap() }
    }

    #[test]
    fn hash_matches_only_its_secret_and_pepper_and_decoy_matches_none() {
        let mut memory = HashMemory::new();
        let secret = Secret::new("kws_0123");
        let hash = pepper(1).hash(&secret, &mut memory).unwrap();
        assert!(hash.starts_with("$argon2id$v=19$m=19456,t=2,p=1,keyid="), "{hash}");
        let mut matches = |pepper: Pepper, secret: &str, hash: &str| {
            pepper.verify(&Secret::new(secret), hash, &mut memory).unwrap()
        };
        assert!(matches(pepper(1), "kws_0123", &hash));
        assert!(!matches(pepper(1), "kws_012", &hash));
        assert!(!matches(pepper(2), "kws_0123", &hash));
        let decoy = pepper(1).decoy().unwrap();
        assert_eq!(decoy.len(), hash.len());
        assert!(!matches(pepper(1), "", &decoy));
    }

    #[test]
    fn hash_is_verified_with_the_pepper_that_it_names() {
        let master = |byte: u8| MasterKey::parse(&STANDARD.encode([byte; 32])).unwrap();
        let queue = HashQueue { length: 1, longest_wait: Duration::from_secs(1) };
        let keys = MasterKeys::new(master(2), Some(master(1))).unwrap();
        let both = Hasher::new(&keys, queue).unwrap();
        let mut memory = HashMemory::new();
        let secret = Secret::new("kws_0123");
        let mut of = |byte| {
            let hash = Pepper::of(&master(byte)).unwrap().hash(&secret, &mut memory).unwrap();
            let right = both.peppers.verify(&secret, &hash, &mut memory).unwrap();
            let wrong = both.peppers.verify(&Secret::new("kws_012"), &hash, &mut memory).unwrap();
            (right, wrong, both.is_current(&hash))
        };
        assert_eq!(of(2), (true, false, true));
        assert_eq!(of(1), (true, false, false), "the additional key");
        assert_eq!(of(3), (false, false, false), "an unknown key");
    }

    #[test]
    fn hashes_are_compatible_with_the_argon2_crate() {
        use argon2::{PasswordHasher, PasswordVerifier};
        let ours = pepper(1);
        let params = ours.params().unwrap();
        let (algorithm, version) = (Algorithm::Argon2id, Version::V0x13);
        let library =
            Argon2::new_with_secret(ours.key.as_slice(), algorithm, version, params).unwrap();
        let mut memory = HashMemory::new();
        let theirs = library.hash_password_with_salt(b"kws_0123", &[7; 16]).unwrap().to_string();
        assert!(ours.verify(&Secret::new("kws_0123"), &theirs, &mut memory).unwrap());
        let hash = ours.hash(&Secret::new("kws_0123"), &mut memory).unwrap();
        let hash = PasswordHash::new(&hash).unwrap();
        assert!(library.verify_password(b"kws_0123", &hash).is_ok());
    }
}
