//! Windows in the memory of this process. All windows of a tenant are behind one lock, so that a
//! decision about several of them is atomic. A lock is held only during a decision.

use std::collections::HashMap;
use std::hash::{BuildHasher, RandomState};
use std::sync::{Mutex, MutexGuard, PoisonError};

use super::window::{Window, WindowRate};
use super::{Demand, DemandCount, Mode, WindowsAnswer};
use crate::clock::{Clock, Stopwatch};
use crate::domain::CountedWindow;

/// The number of locks; tenants are distributed over them.
const SHARDS: usize = 16;

/// Windows by name.
#[derive(Debug)]
pub(super) struct MemoryWindows {
    clock: Clock,
    started: (i64, Stopwatch),
    hasher: RandomState,
    shards: Vec<Mutex<Shard>>,
}

#[derive(Debug)]
struct Shard {
    windows: HashMap<String, StoredWindow>,
    max: usize,
}

#[derive(Debug)]
struct StoredWindow {
    window: Window,
    rate: WindowRate,
    /// Whether counts were added since the window was last saved.
    unsaved: bool,
}

impl MemoryWindows {
    /// Capacity for `max` windows. When a shard is full, the windows that were used least recently
    /// are dropped. A client that returns later can then exceed its limit; without a bound, memory
    /// would grow.
    pub(super) fn new(clock: Clock, max: usize) -> Self {
        let shard = || Mutex::new(Shard { windows: HashMap::new(), max: max.div_ceil(SHARDS) });
        Self {
            started: (clock.now().as_microsecond(), Stopwatch::start()),
            clock,
            hasher: RandomState::new(),
            shards: std::iter::repeat_with(shard).take(SHARDS).collect(),
        }
    }

    /// Decides about all demands together.
    pub(super) fn decide(
        &self,
        mode: Mode,
        tenant: &str,
        demands: &[Demand],
        of: usize,
    ) -> WindowsAnswer {
        let now = self.now();
        let each: Vec<_> =
            demands.iter().map(|d| (d.name(tenant), d, d.share(of), d.cost())).collect();
        let mut shard = self.shard(tenant);
        for (name, _, rate, _) in &each {
            if let Some(kept) = shard.windows.get_mut(name) {
                kept.window.adjust_to_clock(now, *rate);
            }
        }
        let mut admitted = true;
        let mut pending: Vec<(&str, i64)> = Vec::with_capacity(each.len());
        let mut exceeded = Vec::with_capacity(each.len());
        for (name, demand, rate, cost) in &each {
            let before = pending.iter().filter(|(other, _)| other == name).map(|(_, cost)| cost);
            let before = before.sum();
            let fits = shard.read(name, |window| window.fits(now, *rate, *cost, before));
            exceeded.push(!fits);
            if fits || demand.observe_only {
                pending.push((name, *cost));
            } else {
                admitted = false;
            }
        }
        if mode == Mode::Take {
            let counted = each.iter().filter(|(_, demand, ..)| admitted || demand.observe_only);
            for (name, _, rate, cost) in counted {
                shard.count(now, name, *rate, *cost);
            }
        }
        let counts = each.iter().zip(exceeded).map(|((name, _, rate, cost), exceeded)| {
            shard.read(name, |window| DemandCount {
                used: window.used(now, *rate),
                exceeded,
                wait: if exceeded {
                    window.wait(now, *rate, *cost)
                } else {
                    Some(window.next_restored(now, *rate))
                },
            })
        });
        WindowsAnswer { admitted, counts: counts.collect() }
    }

    /// The windows with one of these keys that changed since the last call, shard by shard.
    pub(super) fn unsaved(
        &self,
        wanted: impl Fn(&str) -> bool,
    ) -> impl Iterator<Item = Vec<CountedWindow>> {
        self.shards.iter().map(move |shard| {
            let mut unsaved = Vec::new();
            let mut shard = shard.lock().unwrap_or_else(PoisonError::into_inner);
            for (name, kept) in shard.windows.iter_mut().filter(|(_, kept)| kept.unsaved) {
                kept.unsaved = false;
                if tenant_and_key(name).is_some_and(|(_, key)| wanted(key)) {
                    unsaved.extend(kept.window.counted(name, kept.rate));
                }
            }
            unsaved
        })
    }

    /// Marks windows as unsaved again, after saving them failed.
    pub(super) fn not_saved(&self, windows: &[CountedWindow]) {
        for CountedWindow { name, .. } in windows {
            if let Some((tenant, _)) = tenant_and_key(name)
                && let Some(kept) = self.shard(tenant).windows.get_mut(name)
            {
                kept.unsaved = true;
            }
        }
    }

    /// Adds saved windows, except those that already exist.
    pub(super) fn restore(&self, windows: Vec<CountedWindow>) {
        for saved in windows {
            let name = saved.name.clone();
            if let Some((tenant, _)) = tenant_and_key(&name) {
                let mut shard = self.shard(tenant);
                if shard.windows.len() < shard.max {
                    let (window, rate) = Window::restored(saved);
                    let kept = StoredWindow { window, rate, unsaved: false };
                    shard.windows.entry(name).or_insert(kept);
                }
            }
        }
    }

    /// Drops windows without counts.
    pub(super) fn sweep(&self) {
        let now = self.now();
        for shard in &self.shards {
            let mut shard = shard.lock().unwrap_or_else(PoisonError::into_inner);
            shard.sweep(now);
            shard.windows.shrink_to(0);
        }
    }

    /// The number of windows.
    pub(super) fn len(&self) -> usize {
        let shards = self.shards.iter().map(|s| s.lock().unwrap_or_else(PoisonError::into_inner));
        shards.map(|shard| shard.windows.len()).sum()
    }

    /// The current time. It is monotonic: setting the system clock does not change it.
    pub(super) fn now(&self) -> i64 {
        if let Some(now) = self.clock.simulated() {
            return now.as_microsecond();
        }
        let (start, since) = self.started;
        start.saturating_add(i64::try_from(since.elapsed().as_micros()).unwrap_or(i64::MAX))
    }

    fn shard(&self, tenant: &str) -> MutexGuard<'_, Shard> {
        let index = self.hasher.hash_one(tenant) % SHARDS as u64;
        let index = usize::try_from(index).unwrap_or_default();
        self.shards[index].lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Splits a window's name into the tenant and the rest.
fn tenant_and_key(name: &str) -> Option<(&str, &str)> {
    name.strip_prefix('{')?.split_once("}:")
}

impl Shard {
    /// Reads a window, or an empty one if it does not exist.
    fn read<T>(&self, name: &str, read: impl FnOnce(&Window) -> T) -> T {
        match self.windows.get(name) {
            Some(kept) => read(&kept.window),
            None => read(&Window::default()),
        }
    }

    fn count(&mut self, now: i64, name: &str, rate: WindowRate, cost: i64) {
        if cost == 0 {
            return;
        }
        if self.windows.len() >= self.max && !self.windows.contains_key(name) {
            self.make_room(now);
        }
        let kept = self.windows.entry(name.to_owned()).or_insert_with(|| StoredWindow {
            window: Window::default(),
            rate,
            unsaved: true,
        });
        kept.rate = rate;
        kept.unsaved = true;
        kept.window.count(now, rate, cost);
    }

    fn sweep(&mut self, now: i64) {
        self.windows.retain(|_, kept| {
            kept.window.adjust_to_clock(now, kept.rate);
            kept.window.used(now, kept.rate) > 0
        });
    }

    /// Drops windows without counts. If that is not enough, drops an eighth, so that the next
    /// windows find room without another search.
    fn make_room(&mut self, now: i64) {
        self.sweep(now);
        if self.windows.len() < self.max {
            return;
        }
        let mut newest: Vec<_> = self.windows.values().map(|kept| kept.window.newest()).collect();
        let eighth = newest.len() / 8;
        let (_, oldest_to_stay, _) = newest.select_nth_unstable(eighth);
        let oldest_to_stay = *oldest_to_stay;
        let max = self.max;
        let mut left = self.windows.len();
        // Some of the windows with the same time must go as well.
        self.windows.retain(|_, kept| {
            let newest = kept.window.newest();
            let goes = newest < oldest_to_stay || (newest == oldest_to_stay && left >= max);
            left -= usize::from(goes);
            !goes
        });
    }
}
