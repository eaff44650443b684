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
use crate::domain::CredentialId;
use crate::error::{Error, Result};
use crate::limiter::{Demand, Rate};

/// Guesses under way.
#[derive(Debug)]
pub(super) struct Failures {
    /// How many wrong ones of one client may come from one source; `None`: any number.
    budget: Option<Rate>,
    longest_wait: Duration,
    running: Mutex<HashMap<(CredentialId, IpAddr), Arc<Running>>>,
}

#[derive(Debug, Default)]
struct Running {
    count: Mutex<u64>,
    ended: Notify,
}

impl Running {
    fn count(&self) -> MutexGuard<'_, u64> {
        self.count.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A guess that has begun. It ends when it is dropped.
#[derive(Debug)]
pub(super) struct Guess<'a> {
    service: &'a Service,
    counted: Option<CountedGuess>,
}

#[derive(Debug)]
struct CountedGuess {
    whose: (CredentialId, IpAddr),
    demand: Demand,
    running: Arc<Running>,
}

impl CountedGuess {
    fn new(failures: &Failures, whose: (CredentialId, IpAddr), rate: Rate) -> Self {
        let running = Arc::clone(failures.running().entry(whose.clone()).or_default());
        let key = format!("wrong secrets from {}", whose.1);
        let demand = Demand { key, rate, cost: 1, observe_only: false };
        Self { whose, demand, running }
    }
}

impl Failures {
    pub(super) fn new(budget: Option<Rate>, longest_wait: Duration) -> Self {
        Self { budget, longest_wait, running: Mutex::default() }
    }

    fn running(&self) -> MutexGuard<'_, HashMap<(CredentialId, IpAddr), Arc<Running>>> {
        self.running.lock().unwrap_or_else(PoisonError::into_inner)
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
        let guess = CountedGuess::new(failures, (id.clone(), source), rate);
        match timeout(failures.longest_wait, self.wait_for_turn(&guess)).await {
            Ok(Ok(())) => Ok(Guess { service: self, counted: Some(guess) }),
            outcome => {
                failures.forget(&guess);
                let late = |_| Error::Overloaded { retry_after: Duration::from_secs(1) };
                outcome.map_err(late)?.map(|()| Guess { service: self, counted: None })
            }
        }
    }

    async fn wait_for_turn(&self, guess: &CountedGuess) -> Result<()> {
        let CountedGuess { whose: (id, _), demand, running } = guess;
        loop {
            // Listened for before it is looked whether there is room: no end is missed.
            let mut ended = pin!(running.ended.notified());
            ended.as_mut().enable();
            let decision = self.limiter.peek(id.as_str(), std::slice::from_ref(demand)).await;
            if !decision.admitted {
                return Err(Error::RateLimited {
                    policy: "wrong-secrets",
                    name: "wrong secrets of this client".to_owned(),
                    limit: demand.rate.most(),
                    window: demand.rate.window(),
                    retry_after: decision.wait,
                });
            }
            let left = decision.standings.first().map_or(1, |standing| standing.remaining);
            {
                let mut count = running.count();
                if *count < left.max(1) {
                    *count += 1;
                    return Ok(());
                }
            }
            ended.await;
        }
    }
}

impl Failures {
    /// Forgets what nobody waits for any more.
    fn forget(&self, guess: &CountedGuess) {
        let mut all = self.running();
        // One is in the map, one is the guess's own.
        if *guess.running.count() == 0 && Arc::strong_count(&guess.running) <= 2 {
            all.remove(&guess.whose);
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

impl Drop for Guess<'_> {
    fn drop(&mut self) {
        if let Some(guess) = &self.counted {
            *guess.running.count() -= 1;
            guess.running.ended.notify_waiters();
            self.service.failures.forget(guess);
        }
    }
}
