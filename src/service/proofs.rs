//! What is remembered of secrets that were right: here, and in Redis for all replicas, so that
//! a restart is no storm of hashes. Whoever asks has the client as it is now, and asks for a
//! secret of it that is accepted now: a memory outlives nothing.

use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use super::single_flight::SingleFlight;
use crate::domain::{Client, CredentialId};
use crate::error::{FailureLog, Result};
use crate::redis::Redis;
use crate::secrets::verified::Tag;
use crate::secrets::{MasterKey, PresentedSecret, Secret, Tagger, VerifiedSecrets};

/// How long Redis keeps a tag that no replica asks for: longer than a replica goes by its own.
const SHARED_LIFE: Duration = Duration::from_hours(24);

/// The secrets that were right.
#[derive(Debug)]
pub(super) struct Proofs {
    here: VerifiedSecrets,
    shared: Option<Shared>,
    under_way: SingleFlight,
}

/// The tags that all replicas share, under a key that comes from the master key: Redis, and
/// whoever reads it, can do nothing with them.
#[derive(Debug)]
struct Shared {
    redis: Redis,
    tagger: Tagger,
    telling: Mutex<FailureLog>,
}

impl Proofs {
    pub(super) fn new(master: &MasterKey, redis: Option<Redis>) -> Result<Self> {
        let shared = redis.map(|redis| {
            let tagger = Tagger::new(&master.derive("verified secrets")?);
            Ok(Shared { redis, tagger, telling: Mutex::default() })
        });
        let under_way = SingleFlight::default();
        Ok(Self { here: VerifiedSecrets::new()?, shared: shared.transpose()?, under_way })
    }

    /// How many secrets are remembered here.
    pub(super) fn len(&self) -> usize {
        self.here.len()
    }

    /// Whether this secret of the client was found right here.
    pub(super) fn knows(&self, client: &Client, version: i64, secret: &Secret) -> Result<bool> {
        self.here.knows(&presented(client, version, secret))
    }

    /// Whether another replica found it right, or this one in an earlier life. The question is
    /// the same where there is no such client or secret.
    pub(super) async fn heard_of(
        &self,
        id: &CredentialId,
        right: Option<(&Client, i64)>,
        secret: &Secret,
    ) -> Result<bool> {
        let Some(shared) = &self.shared else {
            return Ok(false);
        };
        let key = shared.key(id, right.map_or(0, |(_, version)| version));
        let kept = shared.redis.find_for(&key, SHARED_LIFE).await;
        // Without an answer, a hash says it too.
        let kept = shared.heed(kept).flatten();
        match (kept, right) {
            (Some(kept), Some((client, version))) => {
                Ok(same(&kept, &shared.tagger.tag(&presented(client, version, secret))?))
            }
            _ => Ok(false),
        }
    }

    /// Whether this secret of the client is right, as `compute` says. Whoever asks the same
    /// meanwhile hears the same.
    pub(super) async fn find_out(
        &self,
        client: &Client,
        version: i64,
        secret: &Secret,
        compute: impl Future<Output = Result<bool>>,
    ) -> Result<bool> {
        let presented = presented(client, version, secret);
        if self.here.knows(&presented)? {
            return Ok(true);
        }
        let right = self.under_way.answer(self.here.tag(&presented)?, compute).await?;
        if right {
            self.here.keep(&presented)?;
        }
        Ok(right)
    }

    /// Tells other replicas that this secret of the client is right.
    pub(super) async fn tell(&self, client: &Client, version: i64, secret: &Secret) -> Result<()> {
        let Some(shared) = &self.shared else {
            return Ok(());
        };
        let key = shared.key(&client.name.credential, version);
        let tag = shared.tagger.tag(&presented(client, version, secret))?;
        let told = shared.redis.keep_for(&key, &tag, SHARED_LIFE).await;
        shared.heed(told);
        Ok(())
    }
}

impl Shared {
    fn key(&self, credential: &CredentialId, version: i64) -> String {
        self.redis.key("verified", &format!("{credential}:{version}"))
    }

    /// What Redis says, if it does.
    fn heed<T>(&self, answer: Result<T>) -> Option<T> {
        let (answer, outcome) = match answer {
            Ok(answer) => (Some(answer), Ok(())),
            Err(error) => (None, Err(error)),
        };
        let mut telling = self.telling.lock().unwrap_or_else(PoisonError::into_inner);
        telling.note(
            &outcome,
            "Redis does not tell which secrets were right lately: the first use of each costs a hash",
            "Redis tells again which secrets were right lately",
        );
        answer
    }
}

/// Whether they are the same, in a time that does not tell how much of them is.
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
