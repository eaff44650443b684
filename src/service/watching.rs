//! Watching: what is revoked, as it happens, and the key set whenever it changes. A watcher
//! holds a place in a list and no messages: one that does not ask costs nothing but that.

use std::cmp::Ordering;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;
use tokio::time::timeout;

use super::callers::Standing;
use super::places::{Permit, Places};
use super::{Caller, Service};
use crate::domain::{Revocation, Source};
use crate::error::{Error, Result};
use crate::keys::Jwks;
use crate::revocation::{Cursor, Live};

/// How long a watcher hears nothing at most.
const HEARTBEAT: Duration = Duration::from_secs(1);
/// The most revocations told at once.
const MOST_AT_ONCE: usize = 500;
/// How many streams of one kind callers may have who may verify tokens, in all and of one
/// application: a credential that leaked takes a part and not all.
const MAX_KNOWN: usize = 4096;
const MAX_OF_APPLICATION: usize = MAX_KNOWN / 4;
/// How many anonymous streams there may be, in all and from one source.
const MAX_ANONYMOUS: usize = 2048;
const MAX_OF_SOURCE: usize = 64;

/// Room for those who watch. Each kind has its own, and the anonymous streams have theirs: they
/// need no permission, and keep no one else out.
#[derive(Debug)]
pub(super) struct Watchers {
    revocations: Arc<Places<String>>,
    jwks: Arc<Places<String>>,
    anonymous_jwks: Arc<Places<Option<Source>>>,
}

impl Default for Watchers {
    fn default() -> Self {
        let known = || Arc::new(Places::new(MAX_KNOWN, MAX_OF_APPLICATION));
        let anonymous = Arc::new(Places::new(MAX_ANONYMOUS, MAX_OF_SOURCE));
        Self { revocations: known(), jwks: known(), anonymous_jwks: anonymous }
    }
}

impl Watchers {
    fn revocations(&self, caller: &Caller) -> Result<Permit> {
        self.revocations.take(caller.service(), "streams of this application")
    }

    fn jwks(&self, caller: Option<&Caller>, source: Option<IpAddr>) -> Result<Permit> {
        match caller {
            Some(caller) if caller.require_verifier().is_ok() => {
                self.jwks.take(caller.service(), "streams of this application")
            }
            _ => {
                let source = source.map(Source::of);
                self.anonymous_jwks.take(source, "anonymous streams from this address")
            }
        }
    }
}

/// A stream that tells what is revoked.
#[derive(Debug)]
pub struct RevocationWatch {
    service: Arc<Service>,
    standing: Option<Standing>,
    news: watch::Receiver<i64>,
    place: Cursor,
    phase: Phase,
    _permit: Permit,
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
            _permit: self.watchers.revocations(caller)?,
        })
    }

    /// How many are told what is revoked.
    pub fn watching(&self) -> usize {
        self.watchers.revocations.taken()
    }

    /// Begins to tell the key set, which is public. Callers who may verify tokens have places
    /// of their own; all others share those of their source.
    pub fn watch_jwks(
        self: &Arc<Self>,
        caller: Option<&Caller>,
        source: Option<IpAddr>,
    ) -> Result<JwksWatch> {
        Ok(JwksWatch {
            _permit: self.watchers.jwks(caller, source)?,
            service: Arc::clone(self),
            standing: caller.and_then(Caller::standing).cloned(),
            sent: None,
        })
    }
}

impl RevocationWatch {
    /// What comes next; waits for it no longer than a heartbeat takes.
    pub async fn next(&mut self) -> Result<News> {
        let live: &Live = &self.service.revocations;
        live.ensure_fresh().await?;
        // The stream ends with the right to ask for it.
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
            // Another server has sent the watcher more than this one has read yet.
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

/// A stream that tells the key set whenever it changes.
#[derive(Debug)]
pub struct JwksWatch {
    service: Arc<Service>,
    standing: Option<Standing>,
    sent: Option<Jwks>,
    _permit: Permit,
}

impl JwksWatch {
    /// The key set, as soon as it is not the one that was sent last. Fails when the caller has no
    /// right to call any more: a credential that was revoked keeps no place.
    pub async fn next(&mut self) -> Result<Jwks> {
        loop {
            if let Some(standing) = &self.standing {
                standing.require(self.service.revocations.index(), self.service.now())?;
            }
            let jwks = self.service.jwks();
            if self.sent.as_ref() != Some(&jwks) {
                self.sent = Some(jwks.clone());
                return Ok(jwks);
            }
            // Keys come and go by the clock too, and seldom.
            tokio::time::sleep(HEARTBEAT).await;
        }
    }
}
