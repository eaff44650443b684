//! Examines settings, machine and dependencies, and says what to do. It changes nothing.

mod data;
mod database;
mod files;
mod host;
mod redis;
mod settings;

use jiff::{SignedDuration, Timestamp};

use crate::clock::Clock;
use crate::config::Config;
use crate::domain::MAX_CLOCK_LEAD;

use host::Host;

/// How bad a finding is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Level {
    Ok,
    /// The server works, but something is or will be wrong.
    Warning,
    /// The server does not start, or does not do what it promises.
    Error,
}

impl Level {
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Ok => "ok",
            Self::Warning => "warning",
            Self::Error => "error",
        }
    }
}

/// The result of one check.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Finding {
    /// The name of the check.
    pub check: &'static str,
    pub level: Level,
    pub found: String,
    /// What to do; empty if nothing.
    pub advice: String,
}

impl Finding {
    pub fn ok(check: &'static str, found: impl Into<String>) -> Self {
        Self { check, level: Level::Ok, found: found.into(), advice: String::new() }
    }

    fn warning(check: &'static str, found: impl Into<String>, advice: impl Into<String>) -> Self {
        Self { check, level: Level::Warning, found: found.into(), advice: advice.into() }
    }

    pub fn error(check: &'static str, found: impl Into<String>, advice: impl Into<String>) -> Self {
        Self { check, level: Level::Error, found: found.into(), advice: advice.into() }
    }
}

/// Examines everything that this configuration names.
pub async fn examine(config: &Config) -> Vec<Finding> {
    // As the server does.
    super::raise_limit();
    let mut all = settings::findings(config, Host::this());
    all.extend(files::findings(config));
    all.extend(Box::pin(database::findings(config)).await);
    all.extend(Box::pin(redis::findings(config)).await);
    all.extend(host::trace_endpoint(config).await);
    all
}

/// Compares another clock with the one of this machine, which was read before and after it.
fn compare_clocks(check: &'static str, of: &str, before: Timestamp, there: Timestamp) -> Finding {
    const CLOSE: SignedDuration = SignedDuration::from_secs(5);
    let max_lead = SignedDuration::from_secs(i64::try_from(MAX_CLOCK_LEAD).unwrap_or(60));
    let after = Clock::system().now();
    let ahead = there.duration_since(after);
    let behind = before.duration_since(there);
    let (apart, direction) = if ahead > behind { (ahead, "ahead of") } else { (behind, "behind") };
    if apart <= CLOSE {
        return Finding::ok(check, format!("the clock of {of} agrees with this machine's"));
    }
    let found = format!("the clock of {of} is {} s {direction} this machine's", apart.as_secs());
    let advice = "synchronise all clocks with NTP";
    if apart < max_lead {
        Finding::warning(check, found, advice)
    } else {
        Finding::error(check, found, format!("{advice}: servers refuse each other's tokens"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn clocks_that_differ_are_reported_by_how_much() {
        let now = Clock::system().now();
        let level = |seconds: i64| {
            let there = now + SignedDuration::from_secs(seconds);
            compare_clocks("clock", "Redis", now, there)
        };
        assert_eq!(level(0).level, Level::Ok);
        assert_eq!(level(-10).level, Level::Warning);
        assert_eq!(level(30).level, Level::Warning);
        assert_eq!(level(-90).level, Level::Error);
        assert!(level(90).found.contains("ahead of"), "{:?}", level(90));
        assert!(level(-90).found.contains("90 s behind"), "{:?}", level(-90));
    }
}
