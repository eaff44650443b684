//! Keeping the index up with the database, and knowing how far behind it may be. The
//! database is asked at short intervals, and when somebody has news; an index that has not
//! been confirmed for too long is believed no more before the database was asked again. If
//! that does not answer, the projection may: another replica may still reach the database.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use tokio::sync::{Mutex, watch};
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;

use super::Index;
use super::projection::Projection;
use crate::clock::Stopwatch;
use crate::domain::{Minted, Revocation};
use crate::error::{Error, Repeated, Result};
use crate::redis::{Heard, Redis, Subscription};
use crate::store::{Feed, Session, Store};

/// How many rows are read at once.
const BATCH: i64 = 1000;
/// How long the database may take to answer, before it counts as away.
const LONGEST_READ: Duration = Duration::from_secs(1);

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
    /// When the database itself last said so.
    confirmed_by_database: AtomicU64,
    projection: Option<Projection>,
    /// The last attempt to catch up: when it began, and whether it succeeded.
    attempt: Mutex<(Duration, bool)>,
    /// Told the number of the newest revocation.
    news: watch::Sender<i64>,
}

impl Live {
    /// The index over this database, loaded; with other replicas that this Redis connects.
    pub async fn load(store: Store, redis: Option<Redis>, options: Options) -> Result<Self> {
        let live = Self {
            store,
            options,
            index: Arc::default(),
            since: Stopwatch::start(),
            confirmed: AtomicU64::new(0),
            confirmed_by_database: AtomicU64::new(0),
            projection: redis.map(Projection::new),
            attempt: Mutex::default(),
            news: watch::Sender::new(0),
        };
        live.look().await?;
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
        self.age_of(&self.confirmed)
    }

    fn age_of(&self, of: &AtomicU64) -> Duration {
        self.since.elapsed().saturating_sub(moment(of))
    }

    /// Sees to it that nothing is missing, within the bound.
    pub async fn ensure_fresh(&self) -> Result<()> {
        if self.staleness() <= self.options.max_staleness {
            return Ok(());
        }
        Box::pin(self.catch_up()).await
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
            let outcome = self.look().await;
            *attempt = (began, outcome.is_ok());
            return outcome;
        }
        if attempt.1 {
            Ok(())
        } else {
            Err(Error::Unavailable("the list of revocations could not be read".into()))
        }
    }

    /// Reads on, and again and again until told to stop: at intervals, and when another
    /// replica has news.
    pub async fn follow(&self, stop: CancellationToken) {
        let mut news = self.projection.as_ref().map(Projection::subscribe);
        let mut failing = false;
        loop {
            let rumour = async {
                match &mut news {
                    Some(news) => self.hear_of_more(news).await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                () = stop.cancelled() => return,
                () = rumour => {}
                () = tokio::time::sleep(self.options.poll_interval) => {}
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

    /// Waits until another replica tells of something that is not known here.
    async fn hear_of_more(&self, news: &mut Subscription) {
        loop {
            match news.hear().await {
                Heard::Subscribed => return,
                Heard::Message(number) => {
                    let number = std::str::from_utf8(&number).ok().and_then(|n| n.parse().ok());
                    if number.is_none_or(|number: i64| number > self.index.last()) {
                        return;
                    }
                }
            }
        }
    }

    /// Tells other replicas what this one has read, again and again until told to stop.
    pub async fn tell(&self, stop: CancellationToken) {
        let Some(projection) = &self.projection else {
            return;
        };
        let mut news = self.news.subscribe();
        let mut known = self.index.last();
        let mut telling = Repeated::default();
        loop {
            tokio::select! {
                () = stop.cancelled() => return,
                _ = news.changed() => {}
                () = tokio::time::sleep(self.options.poll_interval) => {}
            }
            telling.note(
                &self.bring(projection, &mut known).await,
                "the list of revocations in Redis is not brought up to date: other servers hear of \
                 revocations by asking the database",
                "the list of revocations in Redis is brought up to date again",
            );
        }
    }

    async fn bring(&self, projection: &Projection, known: &mut i64) -> Result<()> {
        // Before the index is looked at, which knows no less than was known then.
        let confirmed = moment(&self.confirmed_by_database);
        if self.age_of(&self.confirmed_by_database) > self.options.max_staleness {
            // Who does not reach the database has nothing to tell, and may have an older list.
            return Ok(());
        }
        let mut brought = projection.follow(&self.index, known).await?;
        if brought.last > self.index.last() {
            // It had that from the database, or the database has gone back to an older state.
            self.catch_up().await?;
            if brought.last > self.index.last() {
                brought = projection.rebuild(&self.index).await?;
                *known = brought.last;
            }
        }
        let age = self.since.elapsed().saturating_sub(confirmed);
        projection.confirm(&brought, age).await
    }

    /// Looks at the database, and at the projection if that does not answer.
    async fn look(&self) -> Result<()> {
        let began = self.since.elapsed();
        let outcome = match self.read().await {
            Ok(()) => {
                confirm(&self.confirmed_by_database, began);
                confirm(&self.confirmed, began);
                Ok(())
            }
            Err(error) => match &self.projection {
                Some(projection) => self.fetch(projection).await.map_err(|_| error),
                None => Err(error),
            },
        };
        let last = self.index.last();
        self.news.send_if_modified(|known| std::mem::replace(known, last) != last);
        outcome
    }

    async fn fetch(&self, projection: &Projection) -> Result<()> {
        let began = self.since.elapsed();
        let fetched = projection.fetch(&self.index.feed(), self.index.last()).await?;
        let old = fetched.age > self.options.max_staleness;
        if self.index.extend(fetched.rows, fetched.last).is_err() || old {
            return Err(Error::Unavailable("Redis does not know what is new either".into()));
        }
        confirm(&self.confirmed, began.saturating_sub(fetched.age));
        Ok(())
    }

    async fn read(&self) -> Result<()> {
        let mut session = within(self.store.read_apart()).await?;
        self.read_with(&mut session).await
    }

    async fn read_with(&self, session: &mut Session) -> Result<()> {
        let feed = within(session.revocation_feed()).await?;
        let last = self.index.last();
        if feed.id != self.index.feed() || feed.last_number < last {
            // Another database, or an older state of it, has taken the place of ours.
            return self.read_all(session, &feed).await;
        }
        // The last one that is known is read again: it may be another one now.
        let rows = read_after(session, last - 1, feed.last_number).await?;
        if self.index.extend(rows, feed.last_number).is_err() {
            // It is, or so much time has passed that some have lapsed and are gone.
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
        let batch = within(session.list_revocations(after, last, BATCH)).await?;
        let Some(newest) = batch.last() else { break };
        after = newest.number;
        rows.extend(batch);
    }
    Ok(rows)
}

fn moment(of: &AtomicU64) -> Duration {
    Duration::from_nanos(of.load(Ordering::Acquire))
}

fn confirm(moment: &AtomicU64, at: Duration) {
    let at = u64::try_from(at.as_nanos()).unwrap_or(u64::MAX);
    moment.fetch_max(at, Ordering::AcqRel);
}

/// An answer of the database, if it comes in time.
async fn within<T>(answer: impl Future<Output = Result<T>>) -> Result<T> {
    let late = |_| Error::Unavailable("the database did not answer in time".into());
    timeout(LONGEST_READ, answer).await.map_err(late)?
}
