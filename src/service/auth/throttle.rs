//! The throttle of wrong secrets. One budget is for the wrong secrets of one client from one
//! source, counted over all replicas: other clients, and the same client from elsewhere, are not
//! touched. Concurrent guesses cannot get around it: a secret that is being hashed counts as a
//! guess until it has turned out to be right. Another budget is for those of all clients from one
//! source, counted by each server for itself: it bounds the hashes that one source can cause, so
//! that guesses that are queued when it is used up may exceed it.

use std::collections::HashMap;
use std::net::IpAddr;
use std::pin::pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::Notify;
use tokio::time::timeout;

use crate::clock::Clock;
use crate::domain::{CredentialId, Source};
use crate::error::{Error, Result};
use crate::limiter::{Decision, Demand, Limiter, WindowRate};

/// How many sources have a budget of their own. Beyond that, the source whose last wrong secret is
/// the oldest is forgotten.
const MAX_SOURCES: usize = 100_000;

/// Counts wrong secrets, and the guesses under way on this server.
#[derive(Debug)]
pub(in crate::service) struct Throttle {
    limiter: Limiter,
    /// The budget of one client from one source; `None`: no limit.
    budget: Option<WindowRate>,
    max_wait: Duration,
    under_way: Mutex<HashMap<Whose, Guesses>>,
    /// The budget of all clients from one source.
    of_source: Option<Arc<SourceBudget>>,
}

/// Wrong secrets of all clients, by source.
#[derive(Debug)]
struct SourceBudget {
    rate: WindowRate,
    counts: Limiter,
}

/// Counts a wrong secret for the source that presented it.
#[derive(Clone, Debug)]
pub(super) struct Blame(Option<(Arc<SourceBudget>, Source)>);
type Whose = (CredentialId, Source);

/// Guesses of one client from one source.
#[derive(Debug, Default)]
struct Guesses {
    /// Guesses that hold a place or wait for one.
    present: usize,
    /// Guesses that hold a place.
    placed: u64,
    ended: Arc<Notify>,
}

/// A guess that has begun. It ends when it is dropped.
#[derive(Debug)]
pub(super) struct Guess<'a> {
    limiter: &'a Limiter,
    counted: Option<CountedGuess<'a>>,
}

#[derive(Debug)]
struct CountedGuess<'a> {
    throttle: &'a Throttle,
    whose: Whose,
    demand: Demand,
    ended: Arc<Notify>,
    placed: bool,
}

impl Throttle {
    /// A throttle that counts with `limiter`. A guess waits `max_wait` at most for other guesses.
    pub(in crate::service) fn new(
        limiter: Limiter,
        budget: Option<WindowRate>,
        max_wait: Duration,
    ) -> Self {
        Self { limiter, budget, max_wait, under_way: Mutex::default(), of_source: None }
    }

    /// Adds a budget for all clients from one source.
    pub(in crate::service) fn with_budget_of_source(
        self,
        budget: Option<WindowRate>,
        clock: Clock,
    ) -> Self {
        let counts = || Limiter::with_room(clock, MAX_SOURCES);
        let of_source = budget.map(|rate| Arc::new(SourceBudget { rate, counts: counts() }));
        Self { of_source, ..self }
    }

    /// Refuses a source whose budget is used up. Reads memory only.
    pub(super) fn require_source(&self, source: Option<IpAddr>) -> Result<Blame> {
        let (Some(budget), Some(source)) = (&self.of_source, source) else {
            return Ok(Blame(None));
        };
        let source = Source::of(source);
        let decision = budget.counts.peek_here(&source.to_string(), &[budget.demand()]);
        if decision.admitted {
            Ok(Blame(Some((Arc::clone(budget), source))))
        } else {
            Err(refusal("wrong secrets and assertions from this address", budget.rate, &decision))
        }
    }

    /// Forgets sources whose wrong secrets have left the window.
    pub(super) fn sweep(&self) {
        if let Some(budget) = &self.of_source {
            budget.counts.sweep();
        }
    }

    /// Begins a guess, if it may be made: waits while those under way may use up what is left of
    /// the budget. A guess from an unknown source is not counted.
    pub(super) async fn begin_guess(
        &self,
        id: &CredentialId,
        source: Option<IpAddr>,
    ) -> Result<Guess<'_>> {
        let limiter = &self.limiter;
        let (Some(source), Some(rate)) = (source, self.budget) else {
            return Ok(Guess { limiter, counted: None });
        };
        let mut guess = self.begin(id, source, rate);
        match timeout(self.max_wait, self.wait_for_turn(&mut guess)).await {
            Ok(began) => began.map(|()| Guess { limiter, counted: Some(guess) }),
            Err(_) => Err(Error::Overloaded {
                what: "secrets of one client",
                retry_after: Duration::from_secs(1),
            }),
        }
    }

    async fn wait_for_turn(&self, guess: &mut CountedGuess<'_>) -> Result<()> {
        loop {
            let ended = Arc::clone(&guess.ended);
            // Registered before the budget is read, so that no end is missed.
            let mut ended = pin!(ended.notified());
            ended.as_mut().enable();
            // A place is taken before the budget is read, so that concurrent guesses see each
            // other. The first of them never waits, so that one always goes on.
            let placed = guess.place();
            let demand = std::slice::from_ref(&guess.demand);
            let decision = self.limiter.peek(guess.whose.0.as_str(), demand).await;
            if !decision.admitted {
                let rate = guess.demand.rate;
                return Err(refusal("wrong secrets of this client", rate, &decision));
            }
            let left = decision.outcomes.first().map_or(1, |outcome| outcome.remaining);
            if placed <= left.max(1) {
                return Ok(());
            }
            guess.withdraw();
            ended.await;
        }
    }

    fn under_way(&self) -> MutexGuard<'_, HashMap<Whose, Guesses>> {
        self.under_way.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn begin(&self, id: &CredentialId, source: IpAddr, rate: WindowRate) -> CountedGuess<'_> {
        let whose = (*id, Source::of(source));
        let mut under_way = self.under_way();
        let guesses = under_way.entry(whose).or_default();
        guesses.present += 1;
        let key = format!("wrong secrets from {}", whose.1);
        CountedGuess {
            throttle: self,
            demand: Demand { key, rate, cost: 1, observe_only: false },
            ended: Arc::clone(&guesses.ended),
            whose,
            placed: false,
        }
    }
}

impl SourceBudget {
    fn demand(&self) -> Demand {
        let key = "wrong secrets".to_owned();
        Demand { key, rate: self.rate, cost: 1, observe_only: false }
    }
}

impl Blame {
    /// Counts a wrong secret.
    pub(super) fn count(self) {
        if let Self(Some((budget, source))) = self {
            budget.counts.take_here(&source.to_string(), &[budget.demand()]);
        }
    }
}

fn refusal(name: &str, rate: WindowRate, decision: &Decision) -> Error {
    Error::RateLimited {
        policy: "wrong-secrets",
        name: name.to_owned(),
        limit: rate.max(),
        window: rate.window(),
        retry_after: decision.wait,
    }
}

impl CountedGuess<'_> {
    /// Takes a place, and returns how many are taken now.
    fn place(&mut self) -> u64 {
        let mut under_way = self.throttle.under_way();
        let Some(guesses) = under_way.get_mut(&self.whose) else { return 1 };
        self.placed = true;
        guesses.placed += 1;
        guesses.placed
    }

    /// Gives the place back while it waits.
    fn withdraw(&mut self) {
        if let Some(guesses) = self.throttle.under_way().get_mut(&self.whose) {
            guesses.placed -= u64::from(self.placed);
        }
        self.placed = false;
    }
}

impl Drop for CountedGuess<'_> {
    fn drop(&mut self) {
        self.withdraw();
        let mut under_way = self.throttle.under_way();
        if let Some(guesses) = under_way.get_mut(&self.whose) {
            guesses.present -= 1;
            if guesses.present == 0 {
                under_way.remove(&self.whose);
            }
        }
        self.ended.notify_waiters();
    }
}

impl Guess<'_> {
    /// Counts the guess as wrong.
    pub(super) async fn failed(self) {
        if let Some(CountedGuess { whose: (id, _), demand, .. }) = &self.counted {
            let demand = std::slice::from_ref(demand);
            self.limiter.take(id.as_str(), demand).await;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dropped_guess_leaves_nothing_behind() {
        let rate = WindowRate::new(1, Duration::from_mins(1));
        let limiter = Limiter::in_memory(Clock::system());
        let throttle = Throttle::new(limiter, Some(rate), Duration::from_secs(1));
        let id = CredentialId::parse(&"0".repeat(32)).unwrap();
        let source = IpAddr::from([192, 0, 2, 1]);
        let mut one = throttle.begin(&id, source, rate);
        let mut other = throttle.begin(&id, source, rate);
        assert_eq!((one.place(), other.place()), (1, 2), "concurrent guesses see each other");
        other.withdraw();
        drop(one);
        assert_eq!(other.place(), 1);
        drop(other);
        assert!(throttle.under_way().is_empty());
    }
}
