//! Windows in this process. Those of a tenant are behind one lock, so that a decision over
//! several of them is all or nothing; a lock is held for no longer than a decision takes.

use std::collections::HashMap;
use std::hash::{BuildHasher, RandomState};
use std::sync::{Mutex, MutexGuard, PoisonError};

use super::window::{Rate, Window};
use super::{Act, Answer, Count, Demand};
use crate::clock::{Clock, Stopwatch};
use crate::domain::CountedWindow;

/// Into how many parts the tenants are divided.
const SHARDS: usize = 16;

/// Windows by their names.
#[derive(Debug)]
pub(super) struct Memory {
    clock: Clock,
    started: (i64, Stopwatch),
    hasher: RandomState,
    shards: Vec<Mutex<Shard>>,
}

#[derive(Debug)]
struct Shard {
    windows: HashMap<String, Kept>,
    most: usize,
}

#[derive(Debug)]
struct Kept {
    window: Window,
    rate: Rate,
    /// Whether something was counted since it was last saved.
    unsaved: bool,
}

impl Memory {
    /// Room for `most` windows. If there are more in a part than its share, those that were
    /// counted in least recently are forgotten, and with them what was counted: a limit is
    /// then exceeded by those who come back, where otherwise memory would be.
    pub(super) fn new(clock: Clock, most: usize) -> Self {
        let shard = || Mutex::new(Shard { windows: HashMap::new(), most: most.div_ceil(SHARDS) });
        Self {
            started: (clock.now().as_microsecond(), Stopwatch::start()),
            clock,
            hasher: RandomState::new(),
            shards: std::iter::repeat_with(shard).take(SHARDS).collect(),
        }
    }

    /// Decides over all demands at once.
    pub(super) fn decide(&self, act: Act, tenant: &str, demands: &[Demand], of: usize) -> Answer {
        let now = self.now();
        let each: Vec<_> =
            demands.iter().map(|d| (d.name(tenant), d, d.share(of), d.cost())).collect();
        let mut shard = self.shard(tenant);
        for (name, _, rate, _) in &each {
            if let Some(kept) = shard.windows.get_mut(name) {
                kept.window.notice(now, *rate);
            }
        }
        let mut admitted = true;
        let mut pending: Vec<(&str, i64)> = Vec::with_capacity(each.len());
        let mut exceeded = Vec::with_capacity(each.len());
        for (name, demand, rate, cost) in &each {
            let before = pending.iter().filter(|(other, _)| other == name).map(|(_, cost)| cost);
            let before = before.sum();
            let fits = shard.look(name, |window| window.fits(now, *rate, *cost, before));
            exceeded.push(!fits);
            if fits || demand.observe_only {
                pending.push((name, *cost));
            } else {
                admitted = false;
            }
        }
        if act == Act::Take {
            let counted = each.iter().filter(|(_, demand, ..)| admitted || demand.observe_only);
            for (name, _, rate, cost) in counted {
                shard.count(now, name, *rate, *cost);
            }
        }
        let counts = each.iter().zip(exceeded).map(|((name, _, rate, cost), exceeded)| {
            shard.look(name, |window| Count {
                used: window.used(now, *rate),
                exceeded,
                wait: if exceeded {
                    window.wait(now, *rate, *cost)
                } else {
                    Some(window.next_restored(now, *rate))
                },
            })
        });
        Answer { admitted, counts: counts.collect() }
    }

    /// What was counted since this was last asked, in windows whose key is one of these, one part
    /// of all windows after the other.
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

    /// These could not be saved: they are to be asked for again.
    pub(super) fn not_saved(&self, windows: &[CountedWindow]) {
        for CountedWindow { name, .. } in windows {
            if let Some((tenant, _)) = tenant_and_key(name)
                && let Some(kept) = self.shard(tenant).windows.get_mut(name)
            {
                kept.unsaved = true;
            }
        }
    }

    /// Takes in what was saved, where nothing was counted yet.
    pub(super) fn restore(&self, windows: Vec<CountedWindow>) {
        for saved in windows {
            let name = saved.name.clone();
            if let Some((tenant, _)) = tenant_and_key(&name) {
                let mut shard = self.shard(tenant);
                if shard.windows.len() < shard.most {
                    let (window, rate) = Window::restored(saved);
                    let kept = Kept { window, rate, unsaved: false };
                    shard.windows.entry(name).or_insert(kept);
                }
            }
        }
    }

    /// Forgets windows that hold nothing any more.
    pub(super) fn sweep(&self) {
        let now = self.now();
        for shard in &self.shards {
            let mut shard = shard.lock().unwrap_or_else(PoisonError::into_inner);
            shard.sweep(now);
            shard.windows.shrink_to(0);
        }
    }

    /// How many windows there are.
    pub(super) fn len(&self) -> usize {
        let shards = self.shards.iter().map(|s| s.lock().unwrap_or_else(PoisonError::into_inner));
        shards.map(|shard| shard.windows.len()).sum()
    }

    /// The time, by a clock that nobody sets while the process runs.
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

/// The tenant of a window's name, and the rest of it.
fn tenant_and_key(name: &str) -> Option<(&str, &str)> {
    name.strip_prefix('{')?.split_once("}:")
}

impl Shard {
    /// Looks at a window, which need not be there.
    fn look<T>(&self, name: &str, look: impl FnOnce(&Window) -> T) -> T {
        match self.windows.get(name) {
            Some(kept) => look(&kept.window),
            None => look(&Window::default()),
        }
    }

    fn count(&mut self, now: i64, name: &str, rate: Rate, cost: i64) {
        if cost == 0 {
            return;
        }
        if self.windows.len() >= self.most && !self.windows.contains_key(name) {
            self.make_room(now);
        }
        let kept = self.windows.entry(name.to_owned()).or_insert_with(|| Kept {
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
            kept.window.notice(now, kept.rate);
            kept.window.used(now, kept.rate) > 0
        });
    }

    /// Forgets what holds nothing; if that is too little, an eighth, so that the next ones
    /// find room without a search.
    fn make_room(&mut self, now: i64) {
        self.sweep(now);
        if self.windows.len() < self.most {
            return;
        }
        let mut newest: Vec<_> = self.windows.values().map(|kept| kept.window.newest()).collect();
        let eighth = newest.len() / 8;
        let (_, oldest_to_stay, _) = newest.select_nth_unstable(eighth);
        let oldest_to_stay = *oldest_to_stay;
        let most = self.most;
        let mut left = self.windows.len();
        // Of those that were counted in at the same time some have to go as well.
        self.windows.retain(|_, kept| {
            let newest = kept.window.newest();
            let goes = newest < oldest_to_stay || (newest == oldest_to_stay && left >= most);
            left -= usize::from(goes);
            !goes
        });
    }
}
