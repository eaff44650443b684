//! Exponential backoff between attempts to connect.

use std::time::Duration;

use tokio::time::sleep;

use crate::secrets::random;

/// The first pause before another attempt.
const FIRST_PAUSE: Duration = Duration::from_millis(50);

/// Pauses that double up to a maximum, each [`jittered`].
#[derive(Debug)]
pub struct Backoff(Duration);

impl Default for Backoff {
    fn default() -> Self {
        Self(FIRST_PAUSE)
    }
}

impl Backoff {
    /// Sleeps for the next pause.
    pub async fn pause(&mut self, max: Duration) {
        sleep(self.next(max)).await;
    }

    /// The next pause, at most `max`.
    pub fn next(&mut self, max: Duration) -> Duration {
        let whole = self.0.min(max);
        self.0 = (whole * 2).min(max);
        jittered(whole)
    }
}

/// A random duration between half of `whole` and `whole`, so that clients do not reconnect at the
/// same time.
pub fn jittered(whole: Duration) -> Duration {
    let mut chance = [u8::MAX];
    // If the generator fails, the pauses are equal. That is no reason to give up.
    random::fill(&mut chance).ok();
    whole / 2 + (whole / 2).mul_f64(f64::from(chance[0]) / f64::from(u8::MAX))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_grow_to_the_maximum() {
        for max in [Duration::from_secs(1), Duration::from_secs(30)] {
            let mut backoff = Backoff::default();
            let pauses: Vec<_> = (0..20).map(|_| backoff.next(max)).collect();
            let last = *pauses.last().unwrap();
            assert!(last >= max / 2 && last <= max, "{pauses:?}");
            assert!(pauses.iter().all(|pause| *pause >= FIRST_PAUSE / 2), "{pauses:?}");
        }
    }

    #[test]
    fn pauses_shrink_with_the_maximum() {
        let mut backoff = Backoff::default();
        for _ in 0..20 {
            backoff.next(Duration::from_secs(30));
        }
        assert!(backoff.next(Duration::from_secs(2)) <= Duration::from_secs(2));
    }
}
