//! The sources that hold something, and those that are known.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::Duration;

use quick_cache::sync::Cache;

use crate::clock::Stopwatch;
use crate::domain::Source;

/// How long a source stays known after a caller authenticated from there.
const KNOWN_FOR: Duration = Duration::from_mins(10);

/// How many sources are known at most; beyond it, those that are seldom seen are forgotten.
const MAX_KNOWN: usize = 10_000;

/// All sources that hold something now, and those that are known.
#[derive(Debug)]
pub(super) struct Sources {
    /// An entry goes with its last holder, so there are never more than connections and
    /// requests under way, and known sources.
    held: Mutex<HashMap<Source, Weak<SourceState>>>,
    known: Cache<Source, Arc<SourceState>>,
    /// Monotonic: a clock that jumps makes no source known or unknown.
    running: Stopwatch,
}

impl Default for Sources {
    fn default() -> Self {
        let known = Cache::new(MAX_KNOWN);
        Self { held: Mutex::default(), known, running: Stopwatch::start() }
    }
}

impl Sources {
    /// What a source holds. The entry stays while its state is held.
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
    /// In seconds since the server started; 0: no caller authenticated from here.
    known_until: AtomicU64,
    /// Bytes of requests that came, and of what authenticated callers sent.
    pub(super) arriving: AtomicUsize,
    pub(super) callers: AtomicUsize,
}

impl SourceState {
    /// Which source this is.
    pub fn source(&self) -> Source {
        self.source
    }

    /// Whether a caller authenticated from here lately.
    pub fn is_known(&self) -> bool {
        self.known_until.load(Ordering::Relaxed) > 0 && self.is_known_at(self.second())
    }

    /// The same at a time that was read already.
    pub(super) fn is_known_at(&self, second: u64) -> bool {
        second < self.known_until.load(Ordering::Relaxed)
    }

    /// The seconds since the server started.
    pub(super) fn second(&self) -> u64 {
        self.running.elapsed().as_secs()
    }

    /// A caller authenticated from here, in this second.
    pub(super) fn authenticated(self: &Arc<Self>, second: u64) {
        let until = second + KNOWN_FOR.as_secs();
        let before = self.known_until.load(Ordering::Relaxed);
        // Once in ten seconds: with every request it would be no news.
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
        // A new state of the same source may stand there already.
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
    fn source_is_forgotten_with_its_last_holder() {
        let sources = Arc::new(Sources::default());
        let (one, same) = (sources.state_of(source(1)), sources.state_of(source(1)));
        assert!(Arc::ptr_eq(&one, &same));
        assert!(!one.is_known());
        drop((one, same));
        assert!(sources.held().is_empty());
    }

    #[test]
    fn known_source_is_kept_and_known_ones_are_bounded() {
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
