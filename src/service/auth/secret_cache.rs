//! A cache of secrets that were verified: in this process, and in Redis for all replicas, so that
//! a restart does not hash every secret again. A caller looks up only a secret that the client as
//! it is now accepts, so that an entry never outlives the secret.

use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use super::single_flight::SingleFlight;
use crate::domain::{Client, CredentialId};
use crate::error::{FailureLog, Result};
use crate::redis::Redis;
use crate::secrets::verified::Tag;
use crate::secrets::{MasterKeys, PresentedSecret, Secret, Tagger, VerifiedSecrets};
use crate::service::lookups::CacheLookups;

/// How long Redis keeps a tag that no replica asks for: longer than a replica keeps its own.
const SHARED_LIFE: Duration = Duration::from_hours(24);

/// The secrets that were verified.
#[derive(Debug)]
pub(in crate::service) struct SecretCache {
    local: VerifiedSecrets,
    shared: Option<RedisProofs>,
    under_way: SingleFlight,
    lookups: CacheLookups,
    shared_lookups: CacheLookups,
}

/// What Redis knows of a secret.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum SharedProof {
    None,
    /// A server verified the secret, and its hash has the pepper of the primary master key.
    Current,
    /// A server verified the secret when it wrote with another master key. The hash may have the
    /// pepper of that key.
    ByOtherKey,
}

/// The tags that all replicas share. They are made with keys derived from the master keys, so that
/// they are of no use to a reader of Redis.
#[derive(Debug)]
struct RedisProofs {
    redis: Redis,
    /// Makes new tags.
    tagger: Tagger,
    /// Makes tags as servers do that write with another key.
    others: Vec<Tagger>,
    reports: Mutex<FailureLog>,
}

impl SecretCache {
    pub(in crate::service) fn new(keys: &MasterKeys, redis: Option<Redis>) -> Result<Self> {
        let shared = redis.map(|redis| {
            let mut others =
                keys.each(|master| Ok(Tagger::new(&master.derive("verified secrets")?)))?;
            let tagger = others.remove(0);
            Ok(RedisProofs { redis, tagger, others, reports: Mutex::default() })
        });
        Ok(Self {
            local: VerifiedSecrets::new()?,
            shared: shared.transpose()?,
            under_way: SingleFlight::default(),
            lookups: CacheLookups::default(),
            shared_lookups: CacheLookups::default(),
        })
    }

    /// How many secrets this process has cached.
    pub(super) fn len(&self) -> usize {
        self.local.len()
    }

    /// The lookups in this process, and in Redis.
    pub(super) fn lookups(&self) -> [&CacheLookups; 2] {
        [&self.lookups, &self.shared_lookups]
    }

    /// Counts a lookup of a secret whose client is not cached, so the secret is not either.
    pub(super) fn count_miss(&self) {
        self.lookups.count(false);
    }

    /// Whether this process has verified the secret of the client.
    pub(super) fn contains(&self, client: &Client, version: i64, secret: &Secret) -> Result<bool> {
        Ok(self.lookups.count(self.local.knows(&presented(client, version, secret))?))
    }

    /// Whether another replica has verified it, or this one before a restart. Redis is asked the
    /// same way if there is no such client or secret.
    pub(super) async fn shared_proof(
        &self,
        id: &CredentialId,
        wanted: Option<(&Client, i64)>,
        secret: &Secret,
    ) -> Result<SharedProof> {
        let Some(shared) = &self.shared else {
            return Ok(SharedProof::None);
        };
        let key = shared.key(id, wanted.map_or(0, |(_, version)| version));
        let kept = shared.redis.find_for(&key, SHARED_LIFE).await;
        // Without an answer from Redis, the hash decides.
        let kept = shared.answer(kept).flatten();
        let proof = match (kept, wanted) {
            (Some(kept), Some((client, version))) => {
                shared.proof(&kept, &presented(client, version, secret))?
            }
            _ => SharedProof::None,
        };
        self.shared_lookups.count(proof != SharedProof::None);
        Ok(proof)
    }

    /// Whether this secret of the client is right, by `compute`. Concurrent calls for the same
    /// secret share one computation.
    pub(super) async fn verify(
        &self,
        client: &Client,
        version: i64,
        secret: &Secret,
        compute: impl Future<Output = Result<bool>>,
    ) -> Result<bool> {
        let presented = presented(client, version, secret);
        if self.local.knows(&presented)? {
            return Ok(true);
        }
        let right = self.under_way.answer(self.local.tag(&presented)?, compute).await?;
        if right {
            self.local.keep(&presented)?;
        }
        Ok(right)
    }

    /// Keeps a secret of the client that was verified, for this time.
    pub(super) fn keep_for(
        &self,
        client: &Client,
        version: i64,
        secret: &Secret,
        life: Duration,
    ) -> Result<()> {
        self.local.keep_for(&presented(client, version, secret), life)
    }

    /// Shares with other replicas that this secret of the client is right.
    pub(super) async fn share(&self, client: &Client, version: i64, secret: &Secret) -> Result<()> {
        self.share_presented(&presented(client, version, secret)).await
    }

    pub(super) async fn share_presented(&self, presented: &PresentedSecret<'_>) -> Result<()> {
        let Some(shared) = &self.shared else {
            return Ok(());
        };
        let key = shared.key(presented.credential, presented.version);
        let tag = shared.tagger.tag(presented)?;
        let outcome = shared.redis.keep_for(&key, &tag, SHARED_LIFE).await;
        shared.answer(outcome);
        Ok(())
    }
}

impl RedisProofs {
    /// What a tag in Redis proves about a presented secret.
    fn proof(&self, kept: &[u8], presented: &PresentedSecret<'_>) -> Result<SharedProof> {
        if same(kept, &self.tagger.tag(presented)?) {
            return Ok(SharedProof::Current);
        }
        for tagger in &self.others {
            if same(kept, &tagger.tag(presented)?) {
                return Ok(SharedProof::ByOtherKey);
            }
        }
        Ok(SharedProof::None)
    }

    fn key(&self, credential: &CredentialId, version: i64) -> String {
        self.redis.key("verified", &format!("{credential}:{version}"))
    }

    /// The answer of Redis, if there is one; a failure is logged once.
    fn answer<T>(&self, answer: Result<T>) -> Option<T> {
        let (answer, outcome) = match answer {
            Ok(answer) => (Some(answer), Ok(())),
            Err(error) => (None, Err(error)),
        };
        let mut reports = self.reports.lock().unwrap_or_else(PoisonError::into_inner);
        reports.note(
            &outcome,
            "Redis does not answer for verified secrets: the first use of each costs a hash",
            "Redis answers again for verified secrets",
        );
        answer
    }
}

/// Compares in constant time.
fn same(kept: &[u8], tag: &Tag) -> bool {
    aws_lc_rs::constant_time::verify_slices_are_equal(kept, tag).is_ok()
}

fn presented<'a>(client: &'a Client, version: i64, secret: &'a Secret) -> PresentedSecret<'a> {
    PresentedSecret {
        tenant: &client.tenant.id,
        credential: &client.name.credential,
        version,
        secret,
    }
}
