//! Keeps the index up to date with the database, and tracks its staleness. The database is polled
//! at short intervals, and when another replica announces changes. If the index was not confirmed
//! for too long, every answer first asks the database. If the database does not answer, the
//! projection in Redis is used: another replica may still reach the database.
//!
//! The index never moves back by itself. A database that knows less than this replica (a standby, a
//! restored backup, a failover that lost commits) confirms nothing, so callers get UNAVAILABLE
//! until the database catches up or an operator declares it authoritative.

use std::cmp::Ordering;
use std::sync::atomic::{self, AtomicBool, AtomicI64, AtomicU64};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use jiff::Timestamp;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use super::database::{DECLARE, older, read_after, read_list, within};
use super::projection::{Marker, Projection, UpdateResult};
use super::remembered::CODES;
use super::{Cursor, Index};
use crate::clock::{Clock, SteadyTime, Uptime};
use crate::domain::{Revocation, RevocationKeys};
use crate::error::{Error, FailureLog, Result};
use crate::redis::{Redis, Subscription, SubscriptionEvent};
use crate::secrets::{Authenticator, MasterKeys};
use crate::store::{RevocationFeed, Session, Store};

#[derive(Clone, Copy, Debug)]
pub struct Options {
    /// The interval at which the database is polled.
    pub poll_interval: Duration,
    /// The maximum age of the last confirmation on which an answer may rest.
    pub max_staleness: Duration,
}

/// The index of a replica, synchronised with its database.
#[derive(Debug)]
pub struct Live {
    store: Store,
    options: Options,
    index: Arc<Index>,
    clock: Clock,
    /// The reference point of the times below.
    since: Uptime,
    /// When the index was last confirmed to be complete, in nanoseconds.
    confirmed: AtomicU64,
    /// When the database itself last confirmed it.
    confirmed_by_database: AtomicU64,
    projection: Option<Projection>,
    /// How far another replica has read, according to Redis.
    remote: Mutex<Option<Cursor>>,
    /// The last attempt to catch up: its start, and whether it succeeded.
    attempt: tokio::sync::Mutex<(Duration, bool)>,
    /// Why the last attempt failed.
    trouble: Mutex<Option<String>>,
    /// If true, the next attempt reads the whole list, because the index may differ from the
    /// database.
    read_all: AtomicBool,
    /// Revocations that expired before this time are removed, in microseconds since the epoch.
    forgotten: AtomicI64,
    /// Sends the number of the newest revocation.
    news: watch::Sender<i64>,
}

/// The result of reading the database.
enum Read {
    /// The index now contains everything in the database.
    All,
    /// The database is older than what is known, or another one, with the reason.
    Older(String),
}

impl Live {
    /// Loads the index from the database. `redis` connects it with other replicas. Returns an error
    /// if the database knows less than Redis does.
    pub async fn load(
        store: Store,
        redis: Option<Redis>,
        master_keys: &MasterKeys,
        clock: Clock,
        options: Options,
    ) -> Result<Self> {
        let codes = Authenticator::new(master_keys, CODES)?;
        let live = Self {
            store,
            options,
            index: Arc::default(),
            since: clock.uptime(),
            clock,
            confirmed: AtomicU64::new(0),
            confirmed_by_database: AtomicU64::new(0),
            projection: redis.map(|redis| Projection::new(redis, codes)),
            remote: Mutex::default(),
            attempt: tokio::sync::Mutex::default(),
            trouble: Mutex::default(),
            read_all: AtomicBool::new(false),
            forgotten: AtomicI64::new(i64::MIN),
            news: watch::Sender::new(0),
        };
        // Must happen before the database is read, so that the database can be compared with it. If
        // Redis is down, the server can start without it.
        if let Some(projection) = &live.projection
            && let Ok(Some(place)) = projection.place().await
        {
            live.note_remote(place);
        }
        live.look().await?;
        Ok(live)
    }

    /// The revocations known here.
    pub fn index(&self) -> &Arc<Index> {
        &self.index
    }

    /// Whether a token is revoked. Returns [`Error::Unavailable`] if that is unknown.
    pub async fn revokes(&self, revocation_keys: &RevocationKeys<'_>) -> Result<bool> {
        self.ensure_fresh().await?;
        Ok(self.index.revokes(revocation_keys))
    }

    /// The time since the index was last confirmed to be complete.
    pub fn staleness(&self) -> Duration {
        self.age_of(&self.confirmed)
    }

    /// The age of the index up to which answers rest on it: the longest time until every server
    /// refuses what was revoked.
    pub fn max_staleness(&self) -> Duration {
        self.options.max_staleness
    }

    /// Why the index cannot be confirmed; `None` if the last attempt succeeded.
    pub fn trouble(&self) -> Option<String> {
        lock(&self.trouble).clone()
    }

    fn age_of(&self, of: &AtomicU64) -> Duration {
        self.since.elapsed().saturating_sub(moment(of))
    }

    /// Ensures that the index is at most `max_staleness` old.
    pub async fn ensure_fresh(&self) -> Result<()> {
        if self.staleness() <= self.options.max_staleness {
            return Ok(());
        }
        Box::pin(self.catch_up()).await
    }

    /// Notifies of new revocations.
    pub fn news(&self) -> watch::Receiver<i64> {
        self.news.subscribe()
    }

    /// Applies revocations that this replica committed. When it returns, they are in force here.
    pub async fn committed(&self, revocations: &[Revocation]) {
        self.index.apply(revocations);
        if let Err(error) = self.catch_up().await {
            error.log_fault();
        }
    }

    /// Removes revocations that expired by `end`. If `end` moves back, the clock was wrong before
    /// and revocations in force may have been removed, so the whole list is read again.
    pub fn forget(&self, end: Timestamp) {
        let before = self.forgotten.swap(end.as_microsecond(), atomic::Ordering::AcqRel);
        if end.as_microsecond() < before.saturating_sub(SteadyTime::SLACK_MICROS) {
            self.read_all.store(true, atomic::Ordering::Release);
        }
        self.index.forget(end);
    }

    /// Reads new revocations. Concurrent callers share one attempt that starts after they called.
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
            return Ok(());
        }
        let why = self.trouble().unwrap_or_else(|| "the list could not be read".to_owned());
        Err(Error::Unavailable(why.into()))
    }

    /// Polls the database until `stop` is cancelled: at intervals, and when another replica
    /// announces changes.
    pub async fn follow(&self, stop: CancellationToken) {
        let mut news = self.projection.as_ref().map(Projection::subscribe);
        let mut reading = FailureLog::default();
        loop {
            let message = async {
                match &mut news {
                    Some(news) => self.wait_for_changes(news).await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                () = stop.cancelled() => return,
                () = message => {}
                () = self.clock.sleep(self.options.poll_interval) => {}
            }
            reading.note(
                &self.catch_up().await,
                "the revocation list cannot be confirmed: callers will soon get UNAVAILABLE",
                "the revocation list is confirmed again",
            );
        }
    }

    /// Waits until another replica announces a revocation that is unknown here.
    async fn wait_for_changes(&self, news: &mut Subscription) {
        loop {
            let SubscriptionEvent::Message(message) = news.next().await else { return };
            let message = std::str::from_utf8(&message).unwrap_or_default();
            let (Ok(place), Some(here)) = (Cursor::parse(message), self.index.place()) else {
                return;
            };
            if place.compare(&here) == Some(Ordering::Greater) {
                return;
            }
        }
    }

    /// Updates the projection and notifies other replicas, until `stop` is cancelled.
    pub async fn publish_changes(&self, stop: CancellationToken) {
        let Some(projection) = &self.projection else {
            return;
        };
        let mut news = self.news.subscribe();
        let mut seen = None;
        let mut updates = FailureLog::default();
        loop {
            tokio::select! {
                () = stop.cancelled() => return,
                _ = news.changed() => {}
                () = self.clock.sleep(self.options.poll_interval) => {}
            }
            updates.note(
                &self.update_projection(projection, &mut seen).await,
                "the revocation list in Redis cannot be updated: other servers poll the database \
                 instead",
                "the revocation list in Redis is updated again",
            );
        }
    }

    /// Writes the copy in Redis again, with codes by the primary master key only.
    pub async fn rewrite_projection(&self) -> Result<()> {
        let Some(projection) = &self.projection else { return Ok(()) };
        for _ in 0..2 {
            self.catch_up().await?;
            match projection.rewrite(&self.index).await? {
                UpdateResult::Updated(_) => return Ok(()),
                UpdateResult::Ahead(place) => self.note_remote(place),
            }
        }
        Err(Error::Unavailable("the revocation list in Redis is ahead of the database".into()))
    }

    async fn update_projection(
        &self,
        projection: &Projection,
        seen: &mut Option<Marker>,
    ) -> Result<()> {
        // Must be read before the index, which knows at least as much as was confirmed then.
        let confirmed = moment(&self.confirmed_by_database);
        if self.age_of(&self.confirmed_by_database) > self.options.max_staleness {
            // This replica's knowledge may be outdated, so it must not publish it.
            return Ok(());
        }
        let updated = match projection.follow(&self.index, seen).await? {
            UpdateResult::Updated(updated) => updated,
            UpdateResult::Ahead(place) => {
                // Another replica read that from the database, so this one can, too.
                self.note_remote(place);
                self.catch_up().await?;
                match projection.follow(&self.index, seen).await? {
                    UpdateResult::Updated(updated) => updated,
                    // Another replica was faster again. The next round handles it.
                    UpdateResult::Ahead(_) => return Ok(()),
                }
            }
        };
        let age = self.since.elapsed().saturating_sub(confirmed);
        projection.confirm(&updated, age).await
    }

    /// Notes how far another replica has read.
    fn note_remote(&self, place: Cursor) {
        let mut remote = lock(&self.remote);
        let further = |known: &Cursor| place.compare(known) != Some(Ordering::Less);
        if remote.as_ref().is_none_or(further) {
            *remote = Some(place);
        }
    }

    /// Reads the database, or the projection if the database does not answer.
    async fn look(&self) -> Result<()> {
        let began = self.since.elapsed();
        let outcome = match self.read().await {
            Ok(Read::All) => {
                confirm(&self.confirmed_by_database, began);
                confirm(&self.confirmed, began);
                Ok(())
            }
            Ok(Read::Older(why)) => {
                // Redis may have revocations that are missing here. It cannot confirm the index,
                // because everything else in this database may be outdated as well.
                if let Some(projection) = &self.projection {
                    self.fetch(projection).await.ok();
                }
                Err(Error::Unavailable(why.into()))
            }
            Err(error) => match &self.projection {
                Some(projection) => match self.fetch(projection).await {
                    Ok(moment) => {
                        confirm(&self.confirmed, moment);
                        Ok(())
                    }
                    Err(_) => Err(error),
                },
                None => Err(error),
            },
        };
        *lock(&self.trouble) = match &outcome {
            Ok(()) => None,
            Err(Error::Unavailable(cause) | Error::Internal(cause)) => Some(cause.to_string()),
            Err(error) => Some(error.to_string()),
        };
        let last = self.index.last();
        self.news.send_if_modified(|known| std::mem::replace(known, last) != last);
        outcome
    }

    /// Adds what Redis has. Returns the time as of which the index is complete.
    async fn fetch(&self, projection: &Projection) -> Result<Duration> {
        let began = self.since.elapsed();
        let fetched = projection.fetch(&self.index.feed(), self.index.last()).await?;
        let old = fetched.age > self.options.max_staleness;
        if self.index.extend(fetched.rows, fetched.last).is_err() || old {
            return Err(Error::Unavailable("Redis has no recent revocation list either".into()));
        }
        Ok(began.saturating_sub(fetched.age))
    }

    async fn read(&self) -> Result<Read> {
        let mut session = within(self.store.read_revocation_feed()).await?;
        self.read_with(&mut session).await
    }

    async fn read_with(&self, session: &mut Session) -> Result<Read> {
        let whole = self.read_all.swap(false, atomic::Ordering::AcqRel);
        let outcome = self.compare_and_read(session, whole).await;
        let older = matches!(outcome, Ok(Read::Older(_)));
        if older || (whole && outcome.is_err()) {
            self.read_all.store(true, atomic::Ordering::Release);
        }
        outcome
    }

    async fn compare_and_read(&self, session: &mut Session, whole: bool) -> Result<Read> {
        // Must happen before the database is read, which is then expected to know at least as much.
        let (held, remote) = (self.index.furthest(), lock(&self.remote).clone());
        let feed = within(session.revocation_feed()).await?;
        let there = Cursor { feed: feed.id.clone(), number: feed.last_number };
        if let Some(why) = held.and_then(|held| older(&there, &held, true)) {
            return Ok(Read::Older(why));
        }
        if let Some(why) = remote.and_then(|remote| older(&there, &remote, false)) {
            return Ok(Read::Older(why));
        }
        let last = self.index.last();
        if whole || feed.id != self.index.feed() {
            return self.read_all(session, &feed).await;
        }
        // Reads the last known row again, to detect that it changed.
        let rows = read_after(session, last - 1, feed.last_number).await?;
        if self.index.extend(rows, feed.last_number).is_err() {
            // It changed, or so much time has passed that rows have been purged.
            return self.read_all(session, &feed).await;
        }
        Ok(Read::All)
    }

    async fn read_all(&self, session: &mut Session, feed: &RevocationFeed) -> Result<Read> {
        let list = read_list(session, feed).await?;
        // Read after the rows, so that rows purged meanwhile are accounted for.
        let after = within(session.revocation_feed()).await?;
        if after.id != feed.id {
            return Err(Error::Unavailable(
                "the revocation list was replaced while it was read".into(),
            ));
        }
        let purged = after.purged_through;
        if feed.id == self.index.feed() && !self.index.agrees(&list, feed.last_number, purged) {
            return Ok(Read::Older(format!(
                "the database has other revocations than are known: it lost some, or it is \
                 in another state; {DECLARE}"
            )));
        }
        self.index.replace(&feed.id, feed.last_number, purged, list);
        Ok(Read::All)
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

fn moment(of: &AtomicU64) -> Duration {
    Duration::from_nanos(of.load(atomic::Ordering::Acquire))
}

fn confirm(moment: &AtomicU64, at: Duration) {
    let at = u64::try_from(at.as_nanos()).unwrap_or(u64::MAX);
    moment.fetch_max(at, atomic::Ordering::AcqRel);
}
