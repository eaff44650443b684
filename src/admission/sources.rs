//! The sources that hold resources, and those that are known.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::Duration;

use quick_cache::sync::Cache;

use crate::clock::Stopwatch;
use crate::domain::Source;

/// How long a source stays known after a caller authenticated from it.
const KNOWN_FOR: Duration = Duration::from_mins(10);

/// The maximum number of known sources. Beyond it, rarely used ones are dropped.
const MAX_KNOWN: usize = 10_000;

/// All sources that hold resources now, and all known sources.
#[derive(Debug)]
pub(super) struct Sources {
    /// An entry is removed with its last holder, so the number of entries is bounded by the numbers
    /// of connections, requests in flight and known sources.
    held: Mutex<HashMap<Source, Weak<SourceState>>>,
    known: Cache<Source, Arc<SourceState>>,
    /// Monotonic, so that setting the system clock does not change which sources are known.
    running: Stopwatch,
}

impl Default for Sources {
    fn default() -> Self {
        let known = Cache::new(MAX_KNOWN);
        Self { held: Mutex::default(), known, running: Stopwatch::start() }
    }
}

impl Sources {
    /// The state of a source. Its entry exists as long as the state is held.
    pub(super) fn state_of(self: &Arc<Self>, source: Source) -> Arc<SourceState> {
        let mut held = self.held();
        if let Some(state) = held.get(&source).and_then(Weak::upgrade) {
            return state;
        }
        let state = Arc::new(SourceState {
            source,
            sources: Arc::downgrade(self),
            running: self.running,
            known_until: AtomicU64::new(0),
            arriving: AtomicUsize::new(0),
            callers: AtomicUsize::new(0),
        });
        held.insert(source, Arc::downgrade(&state));
        state
    }

    fn held(&self) -> MutexGuard<'_, HashMap<Source, Weak<SourceState>>> {
        self.held.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What one source holds.
#[derive(Debug)]
pub struct SourceState {
    source: Source,
    sources: Weak<Sources>,
    running: Stopwatch,
    /// In seconds since the server started; 0 if no caller has authenticated from this source.
    known_until: AtomicU64,
    /// Bytes of requests before and after authentication.
    pub(super) arriving: AtomicUsize,
    pub(super) callers: AtomicUsize,
}

impl SourceState {
    pub fn source(&self) -> Source {
        self.source
    }

    /// Whether a caller authenticated from this source recently.
    pub fn is_known(&self) -> bool {
        self.known_until.load(Ordering::Relaxed) > 0 && self.is_known_at(self.second())
    }

    /// Like [`is_known`](Self::is_known), at a given second.
    pub(super) fn is_known_at(&self, second: u64) -> bool {
        second < self.known_until.load(Ordering::Relaxed)
    }

    /// Seconds since the server started.
    pub(super) fn second(&self) -> u64 {
        self.running.elapsed().as_secs()
    }

    /// Notes that a caller authenticated from this source at `second`.
    pub(super) fn authenticated(self: &Arc<Self>, second: u64) {
        let until = second + KNOWN_FOR.as_secs();
        let before = self.known_until.load(Ordering::Relaxed);
        // At most once in ten seconds, because updating it with every request has no benefit.
        if until < before + 10 {
            return;
        }
        let Some(all) = self.sources.upgrade() else { return };
        self.known_until.store(until, Ordering::Relaxed);
        all.known.insert(self.source, Arc::clone(self));
    }
}

impl Drop for SourceState {
    fn drop(&mut self) {
        let Some(all) = self.sources.upgrade() else { return };
        let mut held = all.held();
        // A new state of the same source may already exist.
        if held.get(&self.source).is_some_and(|state| state.strong_count() == 0) {
            held.remove(&self.source);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn source(number: u32) -> Source {
        Source::of(std::net::Ipv4Addr::from_bits(number).into())
    }

    #[test]
    fn source_is_dropped_with_its_last_holder() {
        let sources = Arc::new(Sources::default());
        let (one, same) = (sources.state_of(source(1)), sources.state_of(source(1)));
        assert!(Arc::ptr_eq(&one, &same));
        assert!(!one.is_known());
        drop((one, same));
        assert!(sources.held().is_empty());
    }

    #[test]
    fn known_source_is_kept_and_their_number_is_bounded() {
        let sources = Arc::new(Sources::default());
        sources.state_of(source(1)).authenticated(0);
        assert!(sources.state_of(source(1)).is_known());
        assert!(!sources.state_of(source(2)).is_known());
        for number in 0..u32::try_from(2 * MAX_KNOWN).unwrap() {
            sources.state_of(source(number)).authenticated(0);
        }
        assert!(sources.known.len() <= MAX_KNOWN);
        assert_eq!(sources.held().len(), sources.known.len());
    }
}
