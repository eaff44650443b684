//! Keeping the index up with the database, and knowing how far behind it may be. The
//! database is asked at short intervals, and when somebody has news; an index that has not
//! been confirmed for too long is believed no more before the database was asked again.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use tokio::sync::{Mutex, watch};
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;

use super::Index;
use crate::clock::Stopwatch;
use crate::domain::{Minted, Revocation};
use crate::error::{Error, Result};
use crate::store::{Feed, Session, Store};

/// How many rows are read at once.
const BATCH: i64 = 1000;
/// How long the database may take to answer, before it counts as away.
const LONGEST_READ: Duration = Duration::from_secs(2);

/// How an index is kept up.
#[derive(Clone, Copy, Debug)]
pub struct Options {
    /// How often the database is asked even if nobody has news.
    pub poll_interval: Duration,
    /// How long ago the index may have been confirmed, for an answer to rest on it.
    pub max_staleness: Duration,
}

/// The index of a replica, kept up with its database.
#[derive(Debug)]
pub struct Live {
    store: Store,
    options: Options,
    index: Arc<Index>,
    /// Since when the moments below are counted.
    since: Stopwatch,
    /// When it was last known that nothing was missing, in nanoseconds.
    confirmed: AtomicU64,
    /// The last attempt to catch up: when it began, and whether it succeeded.
    attempt: Mutex<(Duration, bool)>,
    /// Told the number of the newest revocation.
    news: watch::Sender<i64>,
}

impl Live {
    /// The index over this database, loaded.
    pub async fn load(store: Store, options: Options) -> Result<Self> {
        let live = Self {
            store,
            options,
            index: Arc::default(),
            since: Stopwatch::start(),
            confirmed: AtomicU64::new(0),
            attempt: Mutex::default(),
            news: watch::Sender::new(0),
        };
        let began = live.since.elapsed();
        live.read().await?;
        live.confirm(began);
        Ok(live)
    }

    /// What is revoked, as far as it is known here.
    pub fn index(&self) -> &Arc<Index> {
        &self.index
    }

    /// Whether what was minted so is revoked. Unavailable if that cannot be known.
    pub async fn revokes(&self, minted: &Minted<'_>) -> Result<bool> {
        self.ensure_fresh().await?;
        Ok(self.index.revokes(minted))
    }

    /// How long ago it was last known that nothing was missing.
    pub fn staleness(&self) -> Duration {
        let confirmed = Duration::from_nanos(self.confirmed.load(Ordering::Acquire));
        self.since.elapsed().saturating_sub(confirmed)
    }

    /// Sees to it that nothing is missing, within the bound.
    pub async fn ensure_fresh(&self) -> Result<()> {
        if self.staleness() <= self.options.max_staleness {
            return Ok(());
        }
        self.catch_up().await
    }

    /// Told whenever there are new revocations.
    pub fn news(&self) -> watch::Receiver<i64> {
        self.news.subscribe()
    }

    /// Heeds revocations that this replica has made durable: when this answers, it refuses
    /// what they revoke.
    pub async fn committed(&self, revocations: &[Revocation]) {
        self.index.heed(revocations);
        if let Err(error) = self.catch_up().await {
            error.log_fault();
        }
    }

    /// Reads what is new. Those who ask at once share one look at the database, which
    /// begins after they asked.
    pub async fn catch_up(&self) -> Result<()> {
        let asked = self.since.elapsed();
        let mut attempt = self.attempt.lock().await;
        if attempt.0 < asked {
            let began = self.since.elapsed();
            let outcome = self.read().await;
            *attempt = (began, outcome.is_ok());
            if outcome.is_ok() {
                self.confirm(began);
            }
            return outcome;
        }
        if attempt.1 {
            Ok(())
        } else {
            Err(Error::Unavailable("the list of revocations could not be read".into()))
        }
    }

    /// Asks again and again until told to stop.
    pub async fn keep_up(&self, stop: CancellationToken) {
        let mut failing = false;
        loop {
            let pause = tokio::time::sleep(self.options.poll_interval);
            if stop.run_until_cancelled(pause).await.is_none() {
                return;
            }
            let outcome = self.catch_up().await;
            // Told when it begins, not every second.
            if let Err(error) = &outcome
                && !failing
            {
                error.log_fault();
            }
            failing = outcome.is_err();
        }
    }

    fn confirm(&self, at: Duration) {
        let at = u64::try_from(at.as_nanos()).unwrap_or(u64::MAX);
        self.confirmed.fetch_max(at, Ordering::AcqRel);
        let last = self.index.last();
        self.news.send_if_modified(|known| std::mem::replace(known, last) != last);
    }

    async fn read(&self) -> Result<()> {
        let late = || Error::Unavailable("the database did not answer in time".into());
        let session = timeout(LONGEST_READ, self.store.read_apart());
        let mut session = session.await.map_err(|_| late())??;
        if let Ok(outcome) = timeout(LONGEST_READ, self.read_with(&mut session)).await {
            return outcome;
        }
        session.abandon();
        Err(late())
    }

    async fn read_with(&self, session: &mut Session) -> Result<()> {
        let feed = session.revocation_feed().await?;
        let last = self.index.last();
        if feed.id != self.index.feed() || feed.last_number < last {
            // Another database, or an older state of it, has taken the place of ours.
            return self.read_all(session, &feed).await;
        }
        let rows = read_after(session, last, feed.last_number).await?;
        if self.index.extend(rows, feed.last_number).is_err() {
            // So long ago that some have lapsed and are gone.
            return self.read_all(session, &feed).await;
        }
        Ok(())
    }

    async fn read_all(&self, session: &mut Session, feed: &Feed) -> Result<()> {
        let rows = read_after(session, 0, feed.last_number).await?;
        self.index.replace(&feed.id, feed.last_number, feed.purged_through, rows);
        Ok(())
    }
}

async fn read_after(session: &mut Session, after: i64, last: i64) -> Result<Vec<Revocation>> {
    let mut rows: Vec<Revocation> = Vec::new();
    let mut after = after;
    while after < last {
        let batch = session.list_revocations(after, last, BATCH).await?;
        let Some(newest) = batch.last() else { break };
        after = newest.number;
        rows.extend(batch);
    }
    Ok(rows)
}
