//! Streams of revocations, as they happen, and of the key set, whenever it changes. A stream holds a
//! cursor and no messages: one that is not read costs nothing more.

use std::cmp::Ordering;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;

use super::base::Feeds;
use super::places::Permit;
use crate::clock::Clock;
use crate::domain::Revocation;
use crate::error::{Error, Result};
use crate::keys::Jwks;
use crate::revocation::{Cursor, Live};
use crate::service::auth::{Caller, ClientState};
use crate::service::context::RequestContext;
use crate::service::signing::Signing;

/// How often a stream has a message at least.
pub(super) const HEARTBEAT: Duration = Duration::from_secs(1);
/// How many revocations one message has at most.
const MAX_IN_MESSAGE: usize = 500;

/// A stream of what is revoked.
#[derive(Debug)]
pub struct RevocationWatch {
    revocations: Arc<Live>,
    clock: Clock,
    caller: Option<ClientState>,
    news: watch::Receiver<i64>,
    place: Cursor,
    phase: WatchPhase,
    _permit: Permit,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum WatchPhase {
    /// Messages have everything that is revoked.
    Snapshot,
    /// The next message is sent at once: it ends the snapshot, or shows that the cursor was
    /// accepted.
    First,
    /// Messages have what is new.
    Following,
}

/// A message of the stream.
#[derive(Clone, Debug)]
pub struct News {
    /// What was revoked; empty in a heartbeat.
    pub revocations: Vec<Revocation>,
    /// Where the stream goes on.
    pub cursor: Cursor,
    /// Whether this is part of the snapshot.
    pub snapshot: bool,
    /// How old the server's knowledge is; `None` if more follows at once.
    pub staleness: Option<Duration>,
}

impl Feeds {
    /// Starts a stream of what is revoked: from a cursor on, or everything first.
    pub fn watch_revocations(
        &self,
        caller: &Caller,
        cursor: Option<Cursor>,
    ) -> Result<RevocationWatch> {
        caller.require_verifier()?;
        let feed = self.revocations.index().feed();
        let (phase, place) = match cursor {
            None => (WatchPhase::Snapshot, Cursor { feed, number: 0 }),
            Some(cursor) => (WatchPhase::First, cursor),
        };
        Ok(RevocationWatch {
            revocations: Arc::clone(&self.revocations),
            clock: self.clock.clone(),
            caller: caller.state().cloned(),
            news: self.revocations.news(),
            place,
            phase,
            _permit: self.watchers.revocations(caller)?,
        })
    }

    /// How many streams of revocations there are.
    pub fn watching(&self) -> usize {
        self.watchers.revocations_taken()
    }

    /// Starts a stream of the key set, which is public. Callers that may verify tokens have places
    /// of their own; all others share those of their source.
    pub fn watch_jwks(
        &self,
        context: &RequestContext<'_>,
        caller: Option<&Caller>,
    ) -> Result<JwksWatch> {
        Ok(JwksWatch {
            _permit: self.watchers.jwks(caller, context.address())?,
            signing: Arc::clone(&self.signing),
            revocations: Arc::clone(&self.revocations),
            clock: self.clock.clone(),
            caller: caller.and_then(Caller::state).cloned(),
            sent: None,
        })
    }
}

impl RevocationWatch {
    /// The next message; waits for it until the next heartbeat at most.
    pub async fn next(&mut self) -> Result<News> {
        let live: &Live = &self.revocations;
        live.ensure_fresh().await?;
        // The stream ends with the caller's right to read it.
        if let Some(caller) = &self.caller {
            caller.require(live.index(), self.clock.now())?;
        }
        if self.phase == WatchPhase::Following {
            // What was revoked since the last message is sent at once.
            self.news.borrow_and_update();
            if live.index().last() == self.place.number {
                tokio::select! {
                    _ = self.news.changed() => {}
                    () = self.clock.sleep(HEARTBEAT) => {}
                }
                live.ensure_fresh().await?;
            }
        }
        if self.phase == WatchPhase::First && self.is_behind() {
            // Another server has sent the watcher more than this one has read.
            live.catch_up().await?;
            if self.is_behind() {
                return Err(Error::Unavailable(
                    format!("a cursor is ahead of this server: {}", self.place).into(),
                ));
            }
        }
        // Before the list is read, so that it never appears younger than it is.
        let staleness = live.staleness();
        let snapshot = self.phase == WatchPhase::Snapshot;
        let part = if snapshot {
            live.index().held(self.place.number, MAX_IN_MESSAGE)
        } else {
            let part = live.index().after(self.place.number, MAX_IN_MESSAGE);
            part.ok_or(Error::CursorTooOld)?
        };
        if part.feed != self.place.feed {
            return Err(Error::CursorTooOld);
        }
        self.place.number = part.last;
        if !(snapshot && part.more) {
            self.phase = if snapshot { WatchPhase::First } else { WatchPhase::Following };
        }
        let staleness = (!part.more).then_some(staleness);
        Ok(News { revocations: part.revocations, cursor: self.place.clone(), snapshot, staleness })
    }

    /// Whether the watcher has seen more than this server.
    fn is_behind(&self) -> bool {
        let here = self.revocations.index().place();
        here.is_some_and(|here| self.place.compare(&here) == Some(Ordering::Greater))
    }
}

/// A stream of the key set, whenever it changes.
#[derive(Debug)]
pub struct JwksWatch {
    signing: Arc<Signing>,
    revocations: Arc<Live>,
    clock: Clock,
    caller: Option<ClientState>,
    sent: Option<Jwks>,
    _permit: Permit,
}

impl JwksWatch {
    /// The key set, as soon as it differs from the one that was sent last. Fails when the caller may
    /// no longer call: a revoked credential holds no place.
    pub async fn next(&mut self) -> Result<Jwks> {
        loop {
            if let Some(caller) = &self.caller {
                caller.require(self.revocations.index(), self.clock.now())?;
            }
            let jwks = self.signing.jwks();
            if self.sent.as_ref() != Some(&jwks) {
                self.sent = Some(jwks.clone());
                return Ok(jwks);
            }
            // Keys are published and withdrawn by the clock too, and seldom.
            self.clock.sleep(HEARTBEAT).await;
        }
    }
}
