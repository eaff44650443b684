//! Watching: what is revoked, as it happens, and the key set whenever it changes. A watcher
//! holds a place in a list and no messages: who does not ask costs nothing but that.

use std::cmp::Ordering;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{OwnedSemaphorePermit, Semaphore, watch};
use tokio::time::timeout;

use super::callers::Standing;
use super::{Caller, Service};
use crate::domain::Revocation;
use crate::error::{Error, Result};
use crate::keys::Jwks;
use crate::revocation::{Cursor, Live};

/// How long a watcher hears nothing at most.
const HEARTBEAT: Duration = Duration::from_secs(1);
/// The most revocations told at once.
const MOST_AT_ONCE: usize = 500;
/// How many may watch at once, of each kind.
const MOST_WATCHERS: usize = 1024;
/// What one too many is told to wait.
const RETRY_AFTER: Duration = Duration::from_secs(5);

/// Room for those who watch.
#[derive(Debug)]
pub(super) struct Watchers {
    revocations: Arc<Semaphore>,
    /// Apart, since these need no permission and could keep the others out.
    jwks: Arc<Semaphore>,
}

impl Default for Watchers {
    fn default() -> Self {
        let room = || Arc::new(Semaphore::new(MOST_WATCHERS));
        Self { revocations: room(), jwks: room() }
    }
}

fn admit(room: &Arc<Semaphore>) -> Result<OwnedSemaphorePermit> {
    let permit = Arc::clone(room).try_acquire_owned();
    permit.map_err(|_| Error::Overloaded { what: "streams", retry_after: RETRY_AFTER })
}

/// Somebody who is told what is revoked.
#[derive(Debug)]
pub struct RevocationWatch {
    service: Arc<Service>,
    standing: Option<Standing>,
    news: watch::Receiver<i64>,
    place: Cursor,
    phase: Phase,
    _permit: OwnedSemaphorePermit,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    /// All that is revoked is told.
    Snapshot,
    /// The next message comes at once: it ends the snapshot, or shows that the cursor was
    /// good.
    First,
    /// What is new is told.
    Following,
}

/// What a watcher is told.
#[derive(Clone, Debug)]
pub struct News {
    /// What was revoked; none is a sign of life.
    pub revocations: Vec<Arc<Revocation>>,
    /// Where to go on.
    pub cursor: Cursor,
    /// Whether this is of the snapshot.
    pub snapshot: bool,
    /// How old the knowledge is; none where more follows at once, and this says nothing of it.
    pub staleness: Option<Duration>,
}

impl Service {
    /// Begins to tell a caller what is revoked: from a cursor on, or all of it first.
    pub fn watch_revocations(
        self: &Arc<Self>,
        caller: &Caller,
        cursor: Option<Cursor>,
    ) -> Result<RevocationWatch> {
        caller.require_verifier()?;
        let feed = self.revocations.index().feed();
        let (phase, place) = match cursor {
            None => (Phase::Snapshot, Cursor { feed, number: 0 }),
            Some(cursor) => (Phase::First, cursor),
        };
        Ok(RevocationWatch {
            service: Arc::clone(self),
            standing: caller.standing().cloned(),
            news: self.revocations.news(),
            place,
            phase,
            _permit: admit(&self.watchers.revocations)?,
        })
    }

    /// How many are told what is revoked.
    pub fn watching(&self) -> usize {
        MOST_WATCHERS - self.watchers.revocations.available_permits()
    }

    /// Begins to tell the key set.
    pub fn watch_jwks(self: &Arc<Self>) -> Result<JwksWatch> {
        let permit = admit(&self.watchers.jwks)?;
        Ok(JwksWatch { service: Arc::clone(self), told: None, _permit: permit })
    }
}

impl RevocationWatch {
    /// What comes next; waits for it no longer than a heartbeat takes.
    pub async fn next(&mut self) -> Result<News> {
        let live: &Live = &self.service.revocations;
        live.ensure_fresh().await?;
        // He who may not ask any more hears no more.
        if let Some(standing) = &self.standing {
            standing.require(live.index(), self.service.now())?;
        }
        if self.phase == Phase::Following {
            // What came since the last message is told at once.
            self.news.borrow_and_update();
            if live.index().last() == self.place.number {
                timeout(HEARTBEAT, self.news.changed()).await.ok();
                live.ensure_fresh().await?;
            }
        }
        if self.phase == Phase::First && self.is_behind() {
            // Another server told the watcher more than this one has read yet.
            live.catch_up().await?;
            if self.is_behind() {
                return Err(Error::Unavailable(
                    format!("a cursor is ahead of this server: {}", self.place).into(),
                ));
            }
        }
        // Before the list is looked at, so that it is never told to be younger than it is.
        let staleness = live.staleness();
        let snapshot = self.phase == Phase::Snapshot;
        let part = if snapshot {
            live.index().held(self.place.number, MOST_AT_ONCE)
        } else {
            let part = live.index().after(self.place.number, MOST_AT_ONCE);
            part.ok_or(Error::CursorTooOld)?
        };
        if part.feed != self.place.feed {
            return Err(Error::CursorTooOld);
        }
        self.place.number = part.last;
        if !(snapshot && part.more) {
            self.phase = if snapshot { Phase::First } else { Phase::Following };
        }
        let staleness = (!part.more).then_some(staleness);
        Ok(News { revocations: part.revocations, cursor: self.place.clone(), snapshot, staleness })
    }

    /// Whether the watcher knows more than this server.
    fn is_behind(&self) -> bool {
        let here = self.service.revocations.index().place();
        here.is_some_and(|here| self.place.compare(&here) == Some(Ordering::Greater))
    }
}

/// Somebody who is told the key set whenever it changes.
#[derive(Debug)]
pub struct JwksWatch {
    service: Arc<Service>,
    told: Option<Jwks>,
    _permit: OwnedSemaphorePermit,
}

impl JwksWatch {
    /// The key set, when it is another one than was told.
    pub async fn next(&mut self) -> Jwks {
        loop {
            let jwks = self.service.jwks();
            if self.told.as_ref() != Some(&jwks) {
                self.told = Some(jwks.clone());
                return jwks;
            }
            // Keys come and go by the clock too, and seldom.
            tokio::time::sleep(HEARTBEAT).await;
        }
    }
}
