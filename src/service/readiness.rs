//! Whether this server can do its work: take a write, know what is revoked, sign. It also names
//! dependencies that are away although requests go on without them.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use tokio::sync::Mutex;

use super::clients::ClientCache;
use super::signing::Signing;
use crate::clock::{Clock, Stopwatch, later};
use crate::domain::MAX_CLOCK_LEAD;
use crate::error::{Error, Result};
use crate::redis::Redis;
use crate::revocation::Live;
use crate::store::Store;

/// How long a successful write counts: more frequent probes only ask whether the database answers.
const WRITTEN: Duration = Duration::from_secs(1);
const MAX_LEAD: Duration = Duration::from_secs(MAX_CLOCK_LEAD);

/// Probes what the server depends on.
#[derive(Debug)]
pub(super) struct ReadinessProbe {
    pub(super) store: Store,
    pub(super) clock: Clock,
    pub(super) clients: Arc<ClientCache>,
    pub(super) signing: Arc<Signing>,
    pub(super) revocations: Arc<Live>,
    pub(super) redis: Option<Redis>,
    pub(super) writable: Writable,
}

/// The last write that the database took. Held by the probe that tries one.
#[derive(Debug, Default)]
pub(super) struct Writable(Mutex<Option<Written>>);

/// A write that succeeded.
#[derive(Clone, Copy, Debug)]
struct Written {
    since: Stopwatch,
    /// The time that was written, and the latest that any server ever wrote.
    at: Timestamp,
    latest: Timestamp,
}

impl Written {
    /// Whether it still counts. A clock that was set ahead is written at once.
    fn is_fresh(self, now: Timestamp) -> bool {
        self.since.elapsed() < WRITTEN && now <= later(self.at, WRITTEN)
    }
}

/// The state of one dependency.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Condition {
    /// Its name.
    pub what: &'static str,
    /// Whether the server can do its work in this state.
    pub ready: bool,
    /// What is wrong, for an operator; empty if nothing is.
    pub why: String,
}

/// The state of every dependency.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Readiness(pub Vec<Condition>);

impl Readiness {
    /// Whether the server can do its work.
    pub fn is_ready(&self) -> bool {
        self.0.iter().all(|condition| condition.ready)
    }
}

impl fmt::Display for Readiness {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{}", if self.is_ready() { "ok" } else { "not ready" })?;
        self.0.iter().try_for_each(|Condition { what, why, .. }| {
            writeln!(f, "{what}: {}", if why.is_empty() { "ok" } else { why })
        })
    }
}

impl Condition {
    fn of(what: &'static str, outcome: Result<()>) -> Self {
        match outcome {
            Ok(()) => Self { what, ready: true, why: String::new() },
            Err(Error::Unavailable(cause) | Error::Internal(cause)) => {
                Self { what, ready: false, why: cause.to_string() }
            }
            Err(error) => Self { what, ready: false, why: error.to_string() },
        }
    }
}

impl ReadinessProbe {
    /// The state of everything that this server depends on.
    pub(super) async fn readiness(&self) -> Readiness {
        let now = self.clock.now();
        let latest = self.clients.with_read_timeout(self.check_writable(now)).await;
        let (latest, database) = match latest {
            Ok(latest) => (Some(latest), Ok(())),
            Err(error) => (None, Err(error)),
        };
        let revocations = self.revocations.ensure_fresh().await;
        let signer = self.signing.keys().signer(now).map(drop);
        let signer = signer.ok_or_else(|| Error::internal("no signing key is active"));
        let mut all = vec![
            Condition::of("database", database),
            Condition::of("revocations", revocations),
            Condition::of("signing key", signer),
        ];
        if let Some(redis) = &self.redis {
            // Without it, limits are counted by shares, and revocations read from the database.
            let why = redis.trouble().unwrap_or_default();
            all.push(Condition { what: "redis", ready: true, why });
        }
        if let Some(latest) = latest.filter(|at| *at > later(now, MAX_LEAD)) {
            let why = format!(
                "a server's clock was at {latest}: revocations are kept until tokens of that time \
                 have ended; check the clocks"
            );
            all.push(Condition { what: "clock", ready: true, why });
        }
        Readiness(all)
    }

    /// Writes the time. Returns the latest time that any server ever wrote.
    async fn check_writable(&self, now: Timestamp) -> Result<Timestamp> {
        let mut written = self.writable.0.lock().await;
        if let Some(fresh) = written.filter(|written| written.is_fresh(now)) {
            self.store.ping().await?;
            return Ok(fresh.latest);
        }
        *written = None;
        let latest = self.store.check_writable(now).await?;
        *written = Some(Written { since: Stopwatch::start(), at: now, latest });
        Ok(latest)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn body_names_what_is_wrong() {
        let full = Error::Unavailable("the disk is full".into());
        let readiness = Readiness(vec![
            Condition::of("database", Err(full)),
            Condition::of("revocations", Ok(())),
        ]);
        assert!(!readiness.is_ready());
        let body = "not ready\ndatabase: the disk is full\nrevocations: ok\n";
        assert_eq!(readiness.to_string(), body);
    }
}
