//! Whether this server can do its work: take a write, know what is revoked, sign. And what
//! else lasts: a dependency that is away, though requests go on without it.

use std::fmt;
use std::time::Duration;

use tokio::sync::Mutex;

use super::Service;
use crate::clock::Stopwatch;
use crate::error::{Error, Result};

/// A write that succeeded stands for so long: probes that come more often only ask whether the
/// database answers.
const WRITTEN: Duration = Duration::from_secs(1);

/// When the database last took a write. Held by the probe that tries one.
#[derive(Debug, Default)]
pub(super) struct Writable(Mutex<Option<Stopwatch>>);

/// How one thing stands that the server depends on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Condition {
    /// A word for it.
    pub what: &'static str,
    /// Whether the server can do its work as it is.
    pub ready: bool,
    /// What is wrong, for an operator; empty if nothing is.
    pub why: String,
}

/// How everything stands.
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

impl Service {
    /// How everything stands that this server depends on.
    pub async fn readiness(&self) -> Readiness {
        let database = self.promptly(self.check_writable()).await;
        let revocations = self.revocations.ensure_fresh().await;
        let now = self.now();
        let signer = self.keys().signer(now).map(drop);
        let signer = signer.ok_or_else(|| Error::internal("no signing key is active"));
        let mut all = vec![
            Condition::of("database", database),
            Condition::of("revocations", revocations),
            Condition::of("signing key", signer),
        ];
        if let Some(redis) = &self.redis {
            // Limits are counted by shares meanwhile, and revocations read from the database.
            let why = redis.trouble().unwrap_or_default();
            all.push(Condition { what: "redis", ready: true, why });
        }
        Readiness(all)
    }

    async fn check_writable(&self) -> Result<()> {
        let mut written = self.writable.0.lock().await;
        if written.is_some_and(|since| since.elapsed() < WRITTEN) {
            return self.store.ping().await;
        }
        *written = None;
        self.store.check_writable(self.now()).await?;
        *written = Some(Stopwatch::start());
        Ok(())
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
