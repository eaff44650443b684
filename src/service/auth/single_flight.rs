//! One computation for all callers that ask for the same at once.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::OnceCell;

use crate::error::Result;
use crate::secrets::verified::Tag;

type Flights = HashMap<Tag, Arc<OnceCell<bool>>>;

/// The computations under way.
#[derive(Debug, Default)]
pub(super) struct SingleFlight(Mutex<Flights>);

/// A caller that waits for a computation.
struct Waiter<'a> {
    all: &'a SingleFlight,
    key: Tag,
    flight: Arc<OnceCell<bool>>,
}

impl SingleFlight {
    /// The answer for a key: that of a computation under way, if there is one. If a computation
    /// fails or is dropped, the next caller starts its own.
    pub(super) async fn answer(
        &self,
        key: Tag,
        compute: impl Future<Output = Result<bool>>,
    ) -> Result<bool> {
        let flight = Arc::clone(self.flights().entry(key).or_default());
        let waiter = Waiter { all: self, key, flight };
        waiter.flight.get_or_try_init(|| compute).await.copied()
    }

    fn flights(&self) -> MutexGuard<'_, Flights> {
        // A holder that panicked was at most about to add or to remove one.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Waiter<'_> {
    fn drop(&mut self) {
        let mut flights = self.all.flights();
        // Only this waiter and the table hold it: an answer does not outlive those who asked for it.
        if Arc::strong_count(&self.flight) == 2 {
            flights.remove(&self.key);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;

    use futures_util::future::join_all;
    use tokio::sync::Notify;
    use tokio::task::yield_now;

    use super::*;
    use crate::error::Error;

    const KEY: Tag = [7; 32];

    #[tokio::test]
    async fn concurrent_callers_share_an_answer_and_a_later_one_does_not() {
        let (flights, computed) = (SingleFlight::default(), Cell::new(0));
        let ask = |key: Tag, answer: bool| {
            let (flights, computed) = (&flights, &computed);
            flights.answer(key, async move {
                computed.set(computed.get() + 1);
                yield_now().await;
                Ok(answer)
            })
        };
        for answer in [true, false] {
            let before = computed.get();
            let answers = join_all((0..8).map(|_| ask(KEY, answer))).await;
            assert!(answers.into_iter().all(|got| got.unwrap() == answer));
            assert_eq!(computed.get(), before + 1);
        }
        let before = computed.get();
        let (one, other) = tokio::join!(ask(KEY, true), ask([8; 32], false));
        assert!(one.unwrap() && !other.unwrap(), "the answer is for one key");
        assert_eq!(computed.get(), before + 2);
        assert!(flights.flights().is_empty());
    }

    #[tokio::test]
    async fn failed_or_dropped_computation_is_left_to_the_next() {
        let flights = SingleFlight::default();
        let never = Notify::new();
        let mut gone = Box::pin(flights.answer(KEY, async {
            never.notified().await;
            Ok(false)
        }));
        assert!(futures_util::poll!(&mut gone).is_pending());
        let fails = async { Err(Error::internal("a fault")) };
        let mut fails = Box::pin(flights.answer(KEY, fails));
        let mut last = Box::pin(flights.answer(KEY, async { Ok(true) }));
        assert!(futures_util::poll!(&mut fails).is_pending());
        assert!(futures_util::poll!(&mut last).is_pending());
        drop(gone);
        assert!(fails.await.is_err());
        assert!(last.await.unwrap());
        assert!(flights.flights().is_empty());
    }
}
