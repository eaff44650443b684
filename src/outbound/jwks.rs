//! Key sets of other parties, by their addresses (`jwks_uri`) or their issuers.
//!
//! A set is fresh for 5 minutes, or as long as its host says, within bounds. It is refreshed in the
//! background before that ends, so that requests seldom wait. A set that cannot be refreshed is
//! used for a day at most: longer, and keys that the other party revoked would live on.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use http::Uri;
use quick_cache::sync::Cache;
use tokio::sync::watch;

use super::log_budget::LogBudget;
use super::{Fetcher, KeyLocation};
use crate::clock::{Clock, Uptime};
use crate::error::{Error, Result};
use crate::jose::KeySet;

/// The maximum number of sets in memory. Those not used lately leave first.
pub const MAX_SOURCES: usize = 10_000;

const FRESH: Duration = Duration::from_mins(5);
const MIN_FRESH: Duration = Duration::from_mins(1);
const MAX_FRESH: Duration = Duration::from_hours(1);
/// How long a set is used that cannot be refreshed.
const MAX_STALE: Duration = Duration::from_hours(24);
/// How long no attempt follows a failed one.
const FAILURE_PAUSE: Duration = Duration::from_secs(10);
/// How often unknown key ids can cause a refresh.
const UNKNOWN_KEY_PAUSE: Duration = Duration::from_secs(30);

/// The key sets of other parties. Clones share them.
#[derive(Clone, Debug)]
pub struct JwksSource(Arc<JwksSourceParts>);

#[derive(Debug)]
struct JwksSourceParts {
    fetcher: Fetcher,
    /// All times are measured from one start, by the monotonic clock.
    uptime: Uptime,
    sets: Cache<KeyLocation, Arc<RemoteSet>>,
    log: LogBudget,
}

/// The set at one location.
#[derive(Debug, Default)]
struct RemoteSet(Mutex<RemoteState>);

#[derive(Debug, Default)]
struct RemoteState {
    loaded: Option<LoadedSet>,
    failed_at: Option<Duration>,
    /// The last refresh because of an unknown key id.
    asked_at: Option<Duration>,
    /// The fetch under way. It has ended when its sender is gone.
    flight: Option<watch::Receiver<()>>,
}

#[derive(Clone, Debug)]
struct LoadedSet {
    keys: Arc<KeySet>,
    at: Duration,
    fresh_for: Duration,
}

impl RemoteSet {
    fn state(&self) -> MutexGuard<'_, RemoteState> {
        // No holder leaves a state half changed.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl RemoteState {
    fn fresh(&self, now: Duration) -> Option<&LoadedSet> {
        self.loaded.as_ref().filter(|set| now.saturating_sub(set.at) < set.fresh_for)
    }

    /// The set for the case that it cannot be refreshed.
    fn usable(&self, now: Duration) -> Option<&LoadedSet> {
        self.loaded.as_ref().filter(|set| now.saturating_sub(set.at) < MAX_STALE)
    }

    fn failed_lately(&self, now: Duration) -> bool {
        self.failed_at.is_some_and(|at| now.saturating_sub(at) < FAILURE_PAUSE)
    }

    fn flight(&self) -> Option<watch::Receiver<()>> {
        self.flight.clone().filter(|flight| flight.has_changed().is_ok())
    }
}

impl LoadedSet {
    /// Whether the set should be refreshed before it stops being fresh.
    fn is_due(&self, now: Duration) -> bool {
        now.saturating_sub(self.at) >= self.fresh_for * 3 / 4
    }
}

impl JwksSource {
    pub fn new(fetcher: Fetcher, clock: &Clock) -> Self {
        Self::bounded(fetcher, clock, MAX_SOURCES)
    }

    /// For tests: with another maximum number of sets.
    pub fn bounded(fetcher: Fetcher, clock: &Clock, max_sources: usize) -> Self {
        Self(Arc::new(JwksSourceParts {
            fetcher,
            uptime: clock.uptime(),
            sets: Cache::new(max_sources),
            log: LogBudget::default(),
        }))
    }

    pub fn fetcher(&self) -> &Fetcher {
        &self.0.fetcher
    }

    /// The number of sets in memory.
    #[cfg(any(test, feature = "internals"))]
    pub fn len(&self) -> usize {
        self.0.sets.len()
    }

    #[cfg(any(test, feature = "internals"))]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The keys at a location. [`Error::Unavailable`]: they cannot be known now.
    pub async fn keys(&self, at: &KeyLocation) -> Result<Arc<KeySet>> {
        let (now, remote) = (self.now(), self.remote(at));
        let flight = {
            let mut state = remote.state();
            if let Some(set) = state.fresh(now) {
                let (keys, is_due) = (Arc::clone(&set.keys), set.is_due(now));
                if is_due && !state.failed_lately(now) {
                    self.start(at, &remote, &mut state);
                }
                return Ok(keys);
            }
            if state.failed_lately(now) && state.flight().is_none() {
                return self.stale(&state, now);
            }
            self.start(at, &remote, &mut state)
        };
        ended(flight).await;
        let (state, now) = (remote.state(), self.now());
        match state.fresh(now) {
            Some(set) => Ok(Arc::clone(&set.keys)),
            None => self.stale(&state, now),
        }
    }

    /// The keys at a location, for a token with a key id that [`Self::keys`] does not have: fetched
    /// again, unless that was done in the last 30 seconds. [`Error::Unavailable`]: newer keys could
    /// be there, but cannot be fetched, so the token can neither be accepted nor refused.
    pub async fn newer_keys(&self, at: &KeyLocation) -> Result<Arc<KeySet>> {
        let (now, remote) = (self.now(), self.remote(at));
        let (asked_at, flight) = {
            let mut state = remote.state();
            let recent = |at: &Duration| now.saturating_sub(*at) < UNKNOWN_KEY_PAUSE;
            if let Some(at) = state.asked_at.filter(recent) {
                (at, state.flight())
            } else {
                state.asked_at = Some(now);
                (now, Some(self.start(at, &remote, &mut state)))
            }
        };
        if let Some(flight) = flight {
            ended(flight).await;
        }
        match &remote.state().loaded {
            Some(set) if set.at >= asked_at => Ok(Arc::clone(&set.keys)),
            _ => Err(unavailable()),
        }
    }

    fn now(&self) -> Duration {
        self.0.uptime.elapsed()
    }

    fn remote(&self, at: &KeyLocation) -> Arc<RemoteSet> {
        let made: Result<_, std::convert::Infallible> =
            self.0.sets.get_or_insert_with(at, || Ok(Arc::default()));
        let Ok(remote) = made;
        remote
    }

    fn stale(&self, state: &RemoteState, now: Duration) -> Result<Arc<KeySet>> {
        let set = state.usable(now).ok_or_else(unavailable)?;
        self.0.fetcher.metrics().stale_answers.inc();
        Ok(Arc::clone(&set.keys))
    }

    /// Starts a fetch, unless one is under way. It does not end with those who wait for it.
    fn start(
        &self,
        at: &KeyLocation,
        remote: &Arc<RemoteSet>,
        state: &mut RemoteState,
    ) -> watch::Receiver<()> {
        if let Some(flight) = state.flight() {
            return flight;
        }
        let (ends, flight) = watch::channel(());
        state.flight = Some(flight.clone());
        let (source, at, remote) = (self.clone(), at.clone(), Arc::clone(remote));
        tokio::spawn(async move {
            // A set counts from when it was asked for: its host may have changed it since.
            let started = source.now();
            let fetched = source.fetch(&at).await;
            source.note(&at, &remote, started, fetched);
            drop(ends);
        });
        flight
    }

    async fn fetch(&self, at: &KeyLocation) -> Result<(KeySet, Duration), String> {
        let document = at.fetch(&self.0.fetcher).await?;
        let set = KeySet::parse_fetched(&document.body)
            .map_err(|fault| format!("the key set {}", fault.0))?;
        let skipped = u64::try_from(set.skipped).unwrap_or(u64::MAX);
        self.0.fetcher.metrics().skipped_keys.inc_by(skipped);
        let fresh_for = document.max_age.unwrap_or(FRESH).clamp(MIN_FRESH, MAX_FRESH);
        Ok((set.keys, fresh_for))
    }

    fn note(
        &self,
        at: &KeyLocation,
        remote: &RemoteSet,
        started: Duration,
        fetched: Result<(KeySet, Duration), String>,
    ) {
        let mut state = remote.state();
        match fetched {
            Ok((keys, fresh_for)) => {
                state.loaded = Some(LoadedSet { keys: Arc::new(keys), at: started, fresh_for });
                state.failed_at = None;
            }
            Err(cause) => {
                state.failed_at = Some(self.now());
                drop(state);
                self.log(at, &cause);
            }
        }
    }

    /// Logs a failure, within a budget. The path and the query of an address can be secret.
    fn log(&self, at: &KeyLocation, cause: &str) {
        let Some(suppressed) = self.0.log.take(self.now()) else { return };
        let uri: Option<Uri> = at.url().parse().ok();
        let host = uri.as_ref().and_then(Uri::host).unwrap_or("unknown");
        tracing::warn!(host, cause, suppressed, "a key set could not be fetched");
    }
}

/// Waits until a fetch has ended.
async fn ended(mut flight: watch::Receiver<()>) {
    while flight.changed().await.is_ok() {}
}

fn unavailable() -> Error {
    Error::Unavailable("the keys of the signer cannot be fetched".into())
}
