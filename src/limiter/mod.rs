//! How much may be done in how much time. A decision is over several limits of one tenant
//! at once, all or nothing, and is made before the work that it is about.
//!
//! What is counted, and what follows from a limit that is exceeded, is not known here. The
//! arithmetic is apart from where the windows are kept (`window`): in this process, or in
//! Redis for all replicas. Where Redis is to count and does not answer, this process counts
//! its share of the limits alone: a limiter that fails is no reason to refuse.

mod memory;
mod redis;
mod window;

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use prometheus_client::metrics::counter::Counter;

pub use window::Rate;

use self::memory::Memory;
use self::redis::Shared;
use crate::clock::Clock;
use crate::domain::CountedWindow;
use crate::error::Error;
use crate::redis::Redis;

/// Windows that this process has room for: some 250 bytes each, and 2 KiB for one that is
/// counted in so steadily that all of its buckets hold something.
const ROOM: usize = 1 << 18;

/// What is asked of one limit.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Demand {
    /// Whose limit it is, within the tenant. The same key with another window is another
    /// limit; with another number it is the same one, and what was counted stays counted.
    pub key: String,
    /// The limit.
    pub rate: Rate,
    /// How much of it. Nothing always fits.
    pub cost: u64,
    /// Whether it is only observed: it refuses nothing, and is counted in any case.
    pub observe_only: bool,
}

/// How it stands with one limit after a decision.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Standing {
    /// The limit.
    pub limit: u64,
    /// In which time.
    pub window: Duration,
    /// What is left of it.
    pub remaining: u64,
    /// If it was exceeded, how long until the cost fits, provided that nobody else comes
    /// ([`Duration::MAX`]: it never does); if not, how long until something of what is
    /// counted is restored.
    pub wait: Duration,
    /// Whether the cost did not fit.
    pub exceeded: bool,
}

/// Whether something may be done.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Decision {
    /// Whether it may.
    pub admitted: bool,
    /// If not, how long until it may: the longest wait of the limits that refuse.
    pub wait: Duration,
    /// How it stands with each limit, in the order of the demands.
    pub standings: Vec<Standing>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Act {
    Take,
    Peek,
}

/// What either place says to a decision.
#[derive(Debug)]
struct Answer {
    admitted: bool,
    counts: Vec<Count>,
}

#[derive(Debug)]
struct Count {
    used: i64,
    exceeded: bool,
    /// `None`: for ever.
    wait: Option<i64>,
}

/// Counts and decides. Cheap to clone; clones count together.
#[derive(Clone)]
pub struct Limiter(Arc<Inner>);

struct Inner {
    memory: Memory,
    shared: Option<Shared>,
    replicas: AtomicUsize,
    fallen_back: AtomicBool,
    fallbacks: Counter,
}

impl Limiter {
    /// Counts in this process alone.
    pub fn in_memory(clock: Clock) -> Self {
        Self::new(Memory::new(clock, ROOM), None)
    }

    /// Counts in Redis, and in this process while Redis is away. To be made within a runtime.
    pub fn over(redis: Redis, clock: Clock) -> Self {
        Self::new(Memory::new(clock.clone(), ROOM), Some(Shared::new(redis, clock)))
    }

    /// The same as [`Limiter::in_memory`], with room for so many windows.
    #[must_use]
    pub fn with_room(clock: Clock, most: usize) -> Self {
        Self::new(Memory::new(clock, most), None)
    }

    fn new(memory: Memory, shared: Option<Shared>) -> Self {
        Self(Arc::new(Inner {
            memory,
            shared,
            replicas: AtomicUsize::new(1),
            fallen_back: AtomicBool::new(false),
            fallbacks: Counter::default(),
        }))
    }

    /// Counts all demands and admits, or counts none and refuses. `tenant` is not empty.
    pub async fn take(&self, tenant: &str, demands: &[Demand]) -> Decision {
        self.decide(Act::Take, tenant, demands).await
    }

    /// What [`Limiter::take`] would decide. Nothing is counted.
    pub async fn peek(&self, tenant: &str, demands: &[Demand]) -> Decision {
        self.decide(Act::Peek, tenant, demands).await
    }

    /// The same as [`Limiter::take`], counted by this process alone.
    pub fn take_here(&self, tenant: &str, demands: &[Demand]) -> Decision {
        self.decide_here(Act::Take, tenant, demands)
    }

    /// What [`Limiter::take_here`] would decide. Nothing is counted.
    pub fn peek_here(&self, tenant: &str, demands: &[Demand]) -> Decision {
        self.decide_here(Act::Peek, tenant, demands)
    }

    /// What this process has counted since it was last asked, where the key of the limit is one of
    /// these: to be saved, and [restored](Self::restore) after a restart. It comes part by part,
    /// so that it takes little memory at once.
    pub fn unsaved(
        &self,
        wanted: impl Fn(&str) -> bool,
    ) -> impl Iterator<Item = Vec<CountedWindow>> {
        self.0.memory.unsaved(wanted)
    }

    /// What could not be saved is written the next time.
    pub fn not_saved(&self, windows: &[CountedWindow]) {
        self.0.memory.not_saved(windows);
    }

    /// Goes on with what another process had counted.
    pub fn restore(&self, windows: Vec<CountedWindow>) {
        self.0.memory.restore(windows);
    }

    /// The time by which this process counts, in microseconds.
    pub fn now(&self) -> i64 {
        self.0.memory.now()
    }

    /// Forgets what says nothing any more. To be called now and then.
    pub fn sweep(&self) {
        self.0.memory.sweep();
    }

    /// Says among how many replicas the limits are divided while Redis is away.
    pub fn set_replicas(&self, replicas: usize) {
        self.0.replicas.store(replicas, Ordering::Relaxed);
    }

    /// Among how many replicas the limits are divided while Redis is away.
    pub fn replicas(&self) -> usize {
        self.0.replicas.load(Ordering::Relaxed)
    }

    /// Decisions made without Redis that should have been made with it.
    pub fn fallbacks(&self) -> &Counter {
        &self.0.fallbacks
    }

    /// How many windows there are in this process.
    pub fn windows(&self) -> usize {
        self.0.memory.len()
    }

    async fn decide(&self, act: Act, tenant: &str, demands: &[Demand]) -> Decision {
        if demands.is_empty() {
            let nothing = Answer { admitted: true, counts: Vec::new() };
            return Decision::new(nothing, demands, 1);
        }
        if let Some(shared) = &self.0.shared {
            // Apart, so that those who do not ask Redis need not carry what that takes.
            return Box::pin(self.decide_together(shared, act, tenant, demands)).await;
        }
        self.decide_here(act, tenant, demands)
    }

    fn decide_here(&self, act: Act, tenant: &str, demands: &[Demand]) -> Decision {
        let answer = self.0.memory.decide(act, tenant, demands, 1);
        Decision::new(answer, demands, 1)
    }

    async fn decide_together(
        &self,
        shared: &Shared,
        act: Act,
        tenant: &str,
        demands: &[Demand],
    ) -> Decision {
        match shared.decide(act, tenant, demands).await {
            Ok(answer) => {
                self.recovered();
                Decision::new(answer, demands, 1)
            }
            Err(error) => {
                self.fell_back(&error);
                self.0.fallbacks.inc();
                let replicas = self.replicas();
                let answer = self.0.memory.decide(act, tenant, demands, replicas);
                Decision::new(answer, demands, replicas)
            }
        }
    }

    fn fell_back(&self, error: &Error) {
        if !self.0.fallen_back.swap(true, Ordering::Relaxed) {
            error.log_fault();
            tracing::warn!("limits are counted by each replica for itself");
        }
    }

    fn recovered(&self) {
        // Looked at first, since all requests come by here.
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

    /// The limit for one of several who count apart.
    fn share(&self, of: usize) -> Rate {
        self.rate.share(of, self.cost())
    }

    /// The name of its window. Braces make a cluster keep all of a tenant in one place.
    fn name(&self, tenant: &str) -> String {
        format!("{{{tenant}}}:{}:{}", self.key, self.rate.window_micros())
    }
}

impl Decision {
    fn new(answer: Answer, demands: &[Demand], replicas: usize) -> Self {
        let standings: Vec<_> = demands
            .iter()
            .zip(answer.counts)
            .map(|(demand, count)| Standing {
                limit: demand.rate.most(),
                window: demand.rate.window(),
                remaining: demand.share(replicas).most().saturating_sub(count.used.unsigned_abs()),
                wait: count.wait.map_or(Duration::MAX, window::duration),
                exceeded: count.exceeded,
            })
            .collect();
        let refusing = standings.iter().zip(demands).filter(|(_, demand)| !demand.observe_only);
        let refusing = refusing.filter(|(standing, _)| standing.exceeded);
        let wait = refusing.map(|(standing, _)| standing.wait).max().unwrap_or_default();
        Self { admitted: answer.admitted, wait, standings }
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
