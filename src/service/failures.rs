//! Wrong secrets: so many of one client from one source, and no more. Others, and the
//! same client from elsewhere, are not touched. Guesses made at once are no way around it:
//! what is being hashed counts as a guess until it has turned out to be right.

use std::collections::HashMap;
use std::net::IpAddr;
use std::pin::pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::Notify;
use tokio::time::timeout;

use super::Service;
use crate::domain::{CredentialId, Source};
use crate::error::{Error, Result};
use crate::limiter::{Demand, Rate};

/// Wrong secrets, and guesses under way on this server.
#[derive(Debug)]
pub(super) struct Failures {
    /// How many wrong ones of one client may come from one source; `None`: any number.
    budget: Option<Rate>,
    longest_wait: Duration,
    under_way: Mutex<HashMap<Whose, Guesses>>,
}

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
    pub(super) fn new(budget: Option<Rate>, longest_wait: Duration) -> Self {
        Self { budget, longest_wait, under_way: Mutex::default() }
    }

    fn under_way(&self) -> MutexGuard<'_, HashMap<Whose, Guesses>> {
        self.under_way.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn begin(&self, id: &CredentialId, source: IpAddr, rate: Rate) -> CountedGuess<'_> {
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
                return Err(Error::RateLimited {
                    policy: "wrong-secrets",
                    name: "wrong secrets of this client".to_owned(),
                    limit: guess.demand.rate.most(),
                    window: guess.demand.rate.window(),
                    retry_after: decision.wait,
                });
            }
            let left = decision.standings.first().map_or(1, |standing| standing.remaining);
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
        let rate = Rate::new(1, Duration::from_mins(1));
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
