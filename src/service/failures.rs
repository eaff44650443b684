//! Wrong secrets. There is a budget for those of one client from one source, counted over all
//! replicas: others, and the same client from elsewhere, are not touched. Guesses made at once
//! are no way around it: what is being hashed counts as a guess until it has turned out to be
//! right. And there is a budget for those of all clients from one source, counted by each server
//! for itself: it bounds how many hashes one source can cause, and so it may be exceeded by the
//! guesses that are in the queue when it is used up.

use std::collections::HashMap;
use std::net::IpAddr;
use std::pin::pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::Notify;
use tokio::time::timeout;

use super::Service;
use crate::clock::Clock;
use crate::domain::{CredentialId, Source};
use crate::error::{Error, Result};
use crate::limiter::{Decision, Demand, Limiter, WindowRate};

/// How many sources are told apart by their wrong secrets. Beyond that, the source whose
/// last wrong secret is the oldest is forgotten.
const MAX_SOURCES: usize = 100_000;

/// Wrong secrets, and guesses under way on this server.
#[derive(Debug)]
pub(super) struct Failures {
    /// How many wrong ones of one client may come from one source; `None`: any number.
    budget: Option<WindowRate>,
    longest_wait: Duration,
    under_way: Mutex<HashMap<Whose, Guesses>>,
    /// How many wrong ones of all clients may come from one source.
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

/// Of which client, and from where.
type Whose = (CredentialId, Source);

/// Guesses of one client from one source.
#[derive(Debug, Default)]
struct Guesses {
    /// Those that hold a place or wait for one.
    there: usize,
    /// Those that hold one.
    placed: u64,
    ended: Arc<Notify>,
}

/// A guess that has begun. It ends when it is dropped.
#[derive(Debug)]
pub(super) struct Guess<'a> {
    service: &'a Service,
    counted: Option<CountedGuess<'a>>,
}

#[derive(Debug)]
struct CountedGuess<'a> {
    failures: &'a Failures,
    whose: Whose,
    demand: Demand,
    ended: Arc<Notify>,
    placed: bool,
}

impl Failures {
    pub(super) fn new(budget: Option<WindowRate>, longest_wait: Duration) -> Self {
        Self { budget, longest_wait, under_way: Mutex::default(), of_source: None }
    }

    /// The same with a budget for those of all clients from one source.
    pub(super) fn with_budget_of_source(self, budget: Option<WindowRate>, clock: Clock) -> Self {
        let counts = || Limiter::with_room(clock, MAX_SOURCES);
        let of_source = budget.map(|rate| Arc::new(SourceBudget { rate, counts: counts() }));
        Self { of_source, ..self }
    }

    /// Lets a source make a guess, unless its budget is used up. Asks memory alone.
    pub(super) fn require_source(&self, source: Option<IpAddr>) -> Result<Blame> {
        let (Some(budget), Some(source)) = (&self.of_source, source) else {
            return Ok(Blame(None));
        };
        let source = Source::of(source);
        let decision = budget.counts.peek_here(&source.to_string(), &[budget.demand()]);
        if decision.admitted {
            Ok(Blame(Some((Arc::clone(budget), source))))
        } else {
            Err(refusal("wrong secrets from this address", budget.rate, &decision))
        }
    }

    /// Forgets sources whose wrong secrets were long ago.
    pub(super) fn sweep(&self) {
        if let Some(budget) = &self.of_source {
            budget.counts.sweep();
        }
    }

    fn under_way(&self) -> MutexGuard<'_, HashMap<Whose, Guesses>> {
        self.under_way.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn begin(&self, id: &CredentialId, source: IpAddr, rate: WindowRate) -> CountedGuess<'_> {
        let whose = (*id, Source::of(source));
        let mut under_way = self.under_way();
        let guesses = under_way.entry(whose).or_default();
        guesses.there += 1;
        let key = format!("wrong secrets from {}", whose.1);
        CountedGuess {
            failures: self,
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
    /// The secret was wrong.
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
        limit: rate.most(),
        window: rate.window(),
        retry_after: decision.wait,
    }
}

impl CountedGuess<'_> {
    /// Takes a place; how many are taken now.
    fn place(&mut self) -> u64 {
        let mut under_way = self.failures.under_way();
        let Some(guesses) = under_way.get_mut(&self.whose) else { return 1 };
        self.placed = true;
        guesses.placed += 1;
        guesses.placed
    }

    /// Gives the place back, to wait.
    fn withdraw(&mut self) {
        if let Some(guesses) = self.failures.under_way().get_mut(&self.whose) {
            guesses.placed -= u64::from(self.placed);
        }
        self.placed = false;
    }
}

impl Drop for CountedGuess<'_> {
    fn drop(&mut self) {
        self.withdraw();
        let mut under_way = self.failures.under_way();
        if let Some(guesses) = under_way.get_mut(&self.whose) {
            guesses.there -= 1;
            if guesses.there == 0 {
                under_way.remove(&self.whose);
            }
        }
        self.ended.notify_waiters();
    }
}

impl Service {
    /// Begins a guess, if it may be made: waits for those under way where they may use up
    /// what is left. One whose source is not known is not counted.
    pub(super) async fn begin_guess(
        &self,
        id: &CredentialId,
        source: Option<IpAddr>,
    ) -> Result<Guess<'_>> {
        let failures = &self.failures;
        let (Some(source), Some(rate)) = (source, failures.budget) else {
            return Ok(Guess { service: self, counted: None });
        };
        let mut guess = failures.begin(id, source, rate);
        match timeout(failures.longest_wait, self.wait_for_turn(&mut guess)).await {
            Ok(began) => began.map(|()| Guess { service: self, counted: Some(guess) }),
            Err(_) => Err(Error::Overloaded {
                what: "secrets of one client",
                retry_after: Duration::from_secs(1),
            }),
        }
    }

    async fn wait_for_turn(&self, guess: &mut CountedGuess<'_>) -> Result<()> {
        loop {
            let ended = Arc::clone(&guess.ended);
            // Listened for before it is looked whether there is room: no end is missed.
            let mut ended = pin!(ended.notified());
            ended.as_mut().enable();
            // A place is taken before it is asked how many there are: those that ask at
            // once see each other. The first of them never waits, so one always goes on.
            let placed = guess.place();
            let demand = std::slice::from_ref(&guess.demand);
            let decision = self.limiter.peek(guess.whose.0.as_str(), demand).await;
            if !decision.admitted {
                let rate = guess.demand.rate;
                return Err(refusal("wrong secrets of this client", rate, &decision));
            }
            let left = decision.outcomes.first().map_or(1, |standing| standing.remaining);
            if placed <= left.max(1) {
                return Ok(());
            }
            guess.withdraw();
            ended.await;
        }
    }
}

impl Guess<'_> {
    /// It was wrong.
    pub(super) async fn failed(self) {
        if let Some(CountedGuess { whose: (id, _), demand, .. }) = &self.counted {
            let demand = std::slice::from_ref(demand);
            self.service.limiter.take(id.as_str(), demand).await;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_guess_that_is_given_up_leaves_nothing_behind() {
        let rate = WindowRate::new(1, Duration::from_mins(1));
        let failures = Failures::new(Some(rate), Duration::from_secs(1));
        let id = CredentialId::parse(&"0".repeat(32)).unwrap();
        let source = IpAddr::from([192, 0, 2, 1]);
        let mut one = failures.begin(&id, source, rate);
        let mut other = failures.begin(&id, source, rate);
        assert_eq!((one.place(), other.place()), (1, 2), "those that ask at once see each other");
        other.withdraw();
        drop(one);
        assert_eq!(other.place(), 1);
        drop(other);
        assert!(failures.under_way().is_empty());
    }
}
