//! Keeping the index up with the database, and knowing how far behind it may be. The
//! database is asked at short intervals, and when another replica has news; once an index has not
//! been confirmed for too long, no answer rests on it before the database was asked again. If
//! that does not answer, the projection may: another replica may still reach the database.
//!
//! An index never moves back by itself. A database that knows less than was known (a standby, a
//! restored backup, a failover that lost its last moments) confirms nothing, so that callers hear
//! UNAVAILABLE, until it has caught up or an operator declares it to be the truth.

use std::cmp::Ordering;
use std::sync::atomic::{self, AtomicBool, AtomicI64, AtomicU64};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use jiff::Timestamp;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use super::database::{DECLARE, older, read_after, within};
use super::projection::{Followed, Marker, Projection};
use super::{Cursor, Index};
use crate::clock::{SteadyTime, Stopwatch};
use crate::domain::{Minted, Revocation};
use crate::error::{Error, Repeated, Result};
use crate::redis::{Heard, Redis, Subscription};
use crate::secrets::{Authenticator, MasterKey};
use crate::store::{Feed, Session, Store};

/// How an index is kept up.
#[derive(Clone, Copy, Debug)]
pub struct Options {
    /// How often the database is asked even if no replica has news.
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
    /// How far another replica has read, as Redis says.
    heard: Mutex<Option<Cursor>>,
    /// The last attempt to catch up: when it began, and whether it succeeded.
    attempt: tokio::sync::Mutex<(Duration, bool)>,
    /// Why that failed.
    trouble: Mutex<Option<String>>,
    /// The next look reads the whole list: what is held may not be what the database has.
    read_all: AtomicBool,
    /// What lapsed by then is forgotten, in microseconds since the epoch.
    forgotten: AtomicI64,
    /// Told the number of the newest revocation.
    news: watch::Sender<i64>,
}

/// What a look at the database showed.
enum Read {
    /// The index has all that it has.
    All,
    /// It is not what was known: an older state, or another database. Why.
    Older(String),
}

impl Live {
    /// The index over this database, loaded; with other replicas that this Redis connects. A
    /// database that knows less than Redis does is refused.
    pub async fn load(
        store: Store,
        redis: Option<Redis>,
        master_key: &MasterKey,
        options: Options,
    ) -> Result<Self> {
        let codes = Authenticator::new(master_key, "list of revocations in Redis")?;
        let live = Self {
            store,
            options,
            index: Arc::default(),
            since: Stopwatch::start(),
            confirmed: AtomicU64::new(0),
            confirmed_by_database: AtomicU64::new(0),
            projection: redis.map(|redis| Projection::new(redis, codes)),
            heard: Mutex::default(),
            attempt: tokio::sync::Mutex::default(),
            trouble: Mutex::default(),
            read_all: AtomicBool::new(false),
            forgotten: AtomicI64::new(i64::MIN),
            news: watch::Sender::new(0),
        };
        // Before the database is read, which has to know at least as much then. A Redis that is
        // away says nothing: it is needed for nothing else either.
        if let Some(projection) = &live.projection
            && let Ok(Some(place)) = projection.place().await
        {
            live.hear(place);
        }
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

    /// Why the list cannot be confirmed; `None` if the last attempt succeeded.
    pub fn trouble(&self) -> Option<String> {
        lock(&self.trouble).clone()
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

    /// Applies revocations that this replica has made durable: when this answers, it refuses
    /// what they revoke.
    pub async fn committed(&self, revocations: &[Revocation]) {
        self.index.apply(revocations);
        if let Err(error) = self.catch_up().await {
            error.log_fault();
        }
    }

    /// Forgets what lapsed by `end`. If that is earlier than it was, a wrong clock may have had
    /// something forgotten that is in force: the whole list is read again.
    pub fn forget(&self, end: Timestamp) {
        let before = self.forgotten.swap(end.as_microsecond(), atomic::Ordering::AcqRel);
        if end.as_microsecond() < before.saturating_sub(SteadyTime::SLACK_MICROS) {
            self.read_all.store(true, atomic::Ordering::Release);
        }
        self.index.forget(end);
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
            return Ok(());
        }
        let why = self.trouble().unwrap_or_else(|| "the list could not be read".to_owned());
        Err(Error::Unavailable(why.into()))
    }

    /// Reads on, again and again until the server stops: at intervals, and when another
    /// replica has news.
    pub async fn follow(&self, stop: CancellationToken) {
        let mut news = self.projection.as_ref().map(Projection::subscribe);
        let mut reading = Repeated::default();
        loop {
            let message = async {
                match &mut news {
                    Some(news) => self.hear_of_more(news).await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                () = stop.cancelled() => return,
                () = message => {}
                () = tokio::time::sleep(self.options.poll_interval) => {}
            }
            reading.note(
                &self.catch_up().await,
                "the list of revocations cannot be confirmed: soon callers hear UNAVAILABLE",
                "the list of revocations is confirmed again",
            );
        }
    }

    /// Waits until another replica tells of something that is not known here.
    async fn hear_of_more(&self, news: &mut Subscription) {
        loop {
            let Heard::Message(message) = news.hear().await else { return };
            let message = std::str::from_utf8(&message).unwrap_or_default();
            let (Ok(place), Some(here)) = (Cursor::parse(message), self.index.place()) else {
                return;
            };
            if place.compare(&here) == Some(Ordering::Greater) {
                return;
            }
        }
    }

    /// Tells other replicas what this one has read, again and again until the server stops.
    pub async fn tell(&self, stop: CancellationToken) {
        let Some(projection) = &self.projection else {
            return;
        };
        let mut news = self.news.subscribe();
        let mut seen = None;
        let mut telling = Repeated::default();
        loop {
            tokio::select! {
                () = stop.cancelled() => return,
                _ = news.changed() => {}
                () = tokio::time::sleep(self.options.poll_interval) => {}
            }
            telling.note(
                &self.bring(projection, &mut seen).await,
                "the list of revocations in Redis is not brought up to date: other servers hear of \
                 revocations by asking the database",
                "the list of revocations in Redis is brought up to date again",
            );
        }
    }

    async fn bring(&self, projection: &Projection, seen: &mut Option<Marker>) -> Result<()> {
        // Before the index is looked at, which knows no less than was known then.
        let confirmed = moment(&self.confirmed_by_database);
        if self.age_of(&self.confirmed_by_database) > self.options.max_staleness {
            // What this replica knows may be old: it has nothing to tell.
            return Ok(());
        }
        let brought = match projection.follow(&self.index, seen).await? {
            Followed::Brought(brought) => brought,
            Followed::Further(place) => {
                // Another replica had that from the database, so ours has to know it too.
                self.hear(place);
                self.catch_up().await?;
                match projection.follow(&self.index, seen).await? {
                    Followed::Brought(brought) => brought,
                    // Someone was faster again: next time.
                    Followed::Further(_) => return Ok(()),
                }
            }
        };
        let age = self.since.elapsed().saturating_sub(confirmed);
        projection.confirm(&brought, age).await
    }

    /// Notes how far another replica has read.
    fn hear(&self, place: Cursor) {
        let mut heard = lock(&self.heard);
        let further = |known: &Cursor| place.compare(known) != Some(Ordering::Less);
        if heard.as_ref().is_none_or(further) {
            *heard = Some(place);
        }
    }

    /// Looks at the database, and at the projection if that does not answer.
    async fn look(&self) -> Result<()> {
        let began = self.since.elapsed();
        let outcome = match self.read().await {
            Ok(Read::All) => {
                confirm(&self.confirmed_by_database, began);
                confirm(&self.confirmed, began);
                Ok(())
            }
            Ok(Read::Older(why)) => {
                // Redis may have what this replica lacks. It confirms nothing: whatever else
                // is read of this database is as old.
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

    /// Takes in what Redis has; the moment as of which nothing is missing.
    async fn fetch(&self, projection: &Projection) -> Result<Duration> {
        let began = self.since.elapsed();
        let fetched = projection.fetch(&self.index.feed(), self.index.last()).await?;
        let old = fetched.age > self.options.max_staleness;
        if self.index.extend(fetched.rows, fetched.last).is_err() || old {
            return Err(Error::Unavailable("Redis does not know what is new either".into()));
        }
        Ok(began.saturating_sub(fetched.age))
    }

    async fn read(&self) -> Result<Read> {
        let mut session = within(self.store.read_apart()).await?;
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
        // Before the database is asked, which has to know at least as much then.
        let (held, heard) = (self.index.furthest(), lock(&self.heard).clone());
        let feed = within(session.revocation_feed()).await?;
        let there = Cursor { feed: feed.id.clone(), number: feed.last_number };
        if let Some(why) = held.and_then(|held| older(&there, &held, true)) {
            return Ok(Read::Older(why));
        }
        if let Some(why) = heard.and_then(|heard| older(&there, &heard, false)) {
            return Ok(Read::Older(why));
        }
        let last = self.index.last();
        if whole || feed.id != self.index.feed() {
            return self.read_all(session, &feed).await;
        }
        // The last one that is known is read again: it may be another one now.
        let rows = read_after(session, last - 1, feed.last_number).await?;
        if self.index.extend(rows, feed.last_number).is_err() {
            // It is, or so much time has passed that some have lapsed and are gone.
            return self.read_all(session, &feed).await;
        }
        Ok(Read::All)
    }

    async fn read_all(&self, session: &mut Session, feed: &Feed) -> Result<Read> {
        let rows = read_after(session, 0, feed.last_number).await?;
        // After the rows: what was purged while they were read counts as purged.
        let after = within(session.revocation_feed()).await?;
        if after.id != feed.id {
            return Err(Error::Unavailable("the list was replaced while it was read".into()));
        }
        let purged = after.purged_through;
        if feed.id == self.index.feed() && !self.index.agrees(&rows, feed.last_number, purged) {
            return Ok(Read::Older(format!(
                "the database has other revocations than were known: it has lost some, or is \
                 another state; {DECLARE}"
            )));
        }
        self.index.replace(&feed.id, feed.last_number, purged, rows);
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
