//! Rate limits. A decision is about several limits of one tenant, all or nothing, and is made
//! before the work that it admits.
//!
//! The limiter does not know what is counted, or what happens when a limit is exceeded. The
//! arithmetic (`window`) is separate from the storage: this process, or Redis for all replicas. If
//! Redis does not answer, each process counts its share of the limits alone, because a failing
//! limiter must not refuse requests.

mod memory;
mod redis;
mod window;

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use prometheus_client::metrics::counter::Counter;

pub use window::WindowRate;

use self::memory::MemoryWindows;
use self::redis::RedisWindows;
use crate::clock::Clock;
use crate::domain::CountedWindow;
use crate::error::Error;
use crate::redis::Redis;

/// The maximum number of windows in memory. A window takes some 250 bytes, or 2 KiB if all of its
/// buckets are in use.
const MAX_WINDOWS: usize = 1 << 18;

/// One limit in a decision, and how much of it is needed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Demand {
    /// Identifies the limit within the tenant. The same key with another window length is another
    /// limit. With another maximum it is the same limit, and its counts stay.
    pub key: String,
    pub rate: WindowRate,
    /// The amount. 0 always fits.
    pub cost: u64,
    /// If true, the limit does not refuse, and the cost is counted in any case.
    pub observe_only: bool,
}

/// The state of one limit after a decision.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DemandOutcome {
    /// The maximum count.
    pub limit: u64,
    pub window: Duration,
    /// How much is left.
    pub remaining: u64,
    /// If exceeded: how long until the cost fits, if no other requests come; [`Duration::MAX`] if
    /// it never fits. Otherwise: how long until the first counts leave the window.
    pub wait: Duration,
    /// Whether the cost did not fit.
    pub exceeded: bool,
}

/// The result of a decision.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Decision {
    /// Whether the request is admitted.
    pub admitted: bool,
    /// If refused: the longest wait of the limits that refuse.
    pub wait: Duration,
    /// The state of each limit, in the order of the demands.
    pub outcomes: Vec<DemandOutcome>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Mode {
    Take,
    Peek,
}

/// The answer of either storage.
#[derive(Debug)]
struct WindowsAnswer {
    admitted: bool,
    counts: Vec<DemandCount>,
}

#[derive(Debug)]
struct DemandCount {
    used: i64,
    exceeded: bool,
    /// `None`: the cost never fits.
    wait: Option<i64>,
}

/// A rate limiter. Clones share the counts.
#[derive(Clone)]
pub struct Limiter(Arc<LimiterInner>);

struct LimiterInner {
    memory: MemoryWindows,
    shared: Option<RedisWindows>,
    replicas: AtomicUsize,
    fallen_back: AtomicBool,
    fallbacks: Counter,
}

impl Limiter {
    /// A limiter that counts in this process.
    pub fn in_memory(clock: Clock) -> Self {
        Self::new(MemoryWindows::new(clock, MAX_WINDOWS), None)
    }

    /// A limiter that counts in Redis, with a fallback to this process. Must be called within a
    /// Tokio runtime.
    pub fn over(redis: Redis, clock: Clock) -> Self {
        Self::new(
            MemoryWindows::new(clock.clone(), MAX_WINDOWS),
            Some(RedisWindows::new(redis, clock)),
        )
    }

    /// Like [`Limiter::in_memory`], with a capacity of `max` windows.
    #[must_use]
    pub fn with_room(clock: Clock, max: usize) -> Self {
        Self::new(MemoryWindows::new(clock, max), None)
    }

    fn new(memory: MemoryWindows, shared: Option<RedisWindows>) -> Self {
        Self(Arc::new(LimiterInner {
            memory,
            shared,
            replicas: AtomicUsize::new(1),
            fallen_back: AtomicBool::new(false),
            fallbacks: Counter::default(),
        }))
    }

    /// Counts all demands and admits, or counts none and refuses. `tenant` must not be empty.
    pub async fn take(&self, tenant: &str, demands: &[Demand]) -> Decision {
        self.decide(Mode::Take, tenant, demands).await
    }

    /// The decision that [`Limiter::take`] would make. Nothing is counted.
    pub async fn peek(&self, tenant: &str, demands: &[Demand]) -> Decision {
        self.decide(Mode::Peek, tenant, demands).await
    }

    /// Like [`Limiter::take`], but counts in this process only.
    pub fn take_here(&self, tenant: &str, demands: &[Demand]) -> Decision {
        self.decide_here(Mode::Take, tenant, demands)
    }

    /// The decision that [`Limiter::take_here`] would make. Nothing is counted.
    pub fn peek_here(&self, tenant: &str, demands: &[Demand]) -> Decision {
        self.decide_here(Mode::Peek, tenant, demands)
    }

    /// The windows with one of these keys that changed since the last call, for saving. They can be
    /// [restored](Self::restore) after a restart. They are returned in parts, to use little memory.
    pub fn unsaved(
        &self,
        wanted: impl Fn(&str) -> bool,
    ) -> impl Iterator<Item = Vec<CountedWindow>> {
        self.0.memory.unsaved(wanted)
    }

    /// Returns windows that could not be saved, so that the next call includes them again.
    pub fn not_saved(&self, windows: &[CountedWindow]) {
        self.0.memory.not_saved(windows);
    }

    /// Restores windows that another process saved.
    pub fn restore(&self, windows: Vec<CountedWindow>) {
        self.0.memory.restore(windows);
    }

    /// The time that this process counts with, in microseconds.
    pub fn now(&self) -> i64 {
        self.0.memory.now()
    }

    /// Drops windows without counts. Call it periodically.
    pub fn sweep(&self) {
        self.0.memory.sweep();
    }

    /// Sets the number of replicas that share the limits while Redis is down.
    pub fn set_replicas(&self, replicas: usize) {
        self.0.replicas.store(replicas, Ordering::Relaxed);
    }

    /// The number of replicas that share the limits while Redis is down.
    pub fn replicas(&self) -> usize {
        self.0.replicas.load(Ordering::Relaxed)
    }

    /// The counter of decisions that were made in this process because Redis did not answer.
    pub fn fallbacks(&self) -> &Counter {
        &self.0.fallbacks
    }

    /// Whether the last decision was made in this process because Redis did not answer.
    pub fn is_alone(&self) -> bool {
        self.0.fallen_back.load(Ordering::Relaxed)
    }

    /// The number of windows in this process.
    pub fn windows(&self) -> usize {
        self.0.memory.len()
    }

    async fn decide(&self, mode: Mode, tenant: &str, demands: &[Demand]) -> Decision {
        if demands.is_empty() {
            let nothing = WindowsAnswer { admitted: true, counts: Vec::new() };
            return Decision::new(nothing, demands, 1);
        }
        if let Some(shared) = &self.0.shared {
            // Boxed, so that callers without Redis do not carry the larger future.
            return Box::pin(self.decide_in_redis(shared, mode, tenant, demands)).await;
        }
        self.decide_here(mode, tenant, demands)
    }

    fn decide_here(&self, mode: Mode, tenant: &str, demands: &[Demand]) -> Decision {
        let answer = self.0.memory.decide(mode, tenant, demands, 1);
        Decision::new(answer, demands, 1)
    }

    async fn decide_in_redis(
        &self,
        shared: &RedisWindows,
        mode: Mode,
        tenant: &str,
        demands: &[Demand],
    ) -> Decision {
        match shared.decide(mode, tenant, demands).await {
            Ok(answer) => {
                self.note_recovery();
                Decision::new(answer, demands, 1)
            }
            Err(error) => {
                self.note_fallback(&error);
                self.0.fallbacks.inc();
                let replicas = self.replicas();
                let answer = self.0.memory.decide(mode, tenant, demands, replicas);
                Decision::new(answer, demands, replicas)
            }
        }
    }

    fn note_fallback(&self, error: &Error) {
        if !self.0.fallen_back.swap(true, Ordering::Relaxed) {
            error.log_fault();
            tracing::warn!("Redis does not answer: each replica counts its share of the limits");
        }
    }

    fn note_recovery(&self) {
        // Loads first, because every request passes here.
        if self.0.fallen_back.load(Ordering::Relaxed)
            && self.0.fallen_back.swap(false, Ordering::Relaxed)
        {
            tracing::info!("limits are counted in Redis again");
        }
    }
}

impl Demand {
    fn cost(&self) -> i64 {
        window::counted(self.cost)
    }

    /// The limit, divided by the number of replicas.
    fn share(&self, of: usize) -> WindowRate {
        self.rate.share(of, self.cost())
    }

    /// The name of the window. The braces are a cluster hash tag that keeps a tenant's keys on one
    /// node.
    fn name(&self, tenant: &str) -> String {
        format!("{{{tenant}}}:{}:{}", self.key, self.rate.window_micros())
    }
}

impl Decision {
    fn new(answer: WindowsAnswer, demands: &[Demand], replicas: usize) -> Self {
        let outcomes: Vec<_> = demands
            .iter()
            .zip(answer.counts)
            .map(|(demand, count)| DemandOutcome {
                limit: demand.rate.max(),
                window: demand.rate.window(),
                remaining: demand.share(replicas).max().saturating_sub(count.used.unsigned_abs()),
                wait: count.wait.map_or(Duration::MAX, window::duration),
                exceeded: count.exceeded,
            })
            .collect();
        let refusing = outcomes.iter().zip(demands).filter(|(_, demand)| !demand.observe_only);
        let refusing = refusing.filter(|(outcome, _)| outcome.exceeded);
        let wait = refusing.map(|(outcome, _)| outcome.wait).max().unwrap_or_default();
        Self { admitted: answer.admitted, wait, outcomes }
    }
}

impl fmt::Debug for Limiter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Limiter")
            .field("shared", &self.0.shared)
            .field("windows", &self.windows())
            .finish_non_exhaustive()
    }
}
