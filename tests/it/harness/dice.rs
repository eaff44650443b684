//! Reproducible random numbers.

use std::hash::{BuildHasher, RandomState};
use std::time::Duration;

/// The variable with a seed, to repeat a run.
const SEED: &str = "KEYWARD_TEST_SEED";

/// A pseudo-random sequence, which is equal for equal seeds (xorshift64*).
pub(crate) struct Dice(u64);

impl Dice {
    /// Starts with a seed other than 0.
    pub(crate) fn of(seed: u64) -> Self {
        Self(seed)
    }

    /// Starts with the seed in the environment, or a random one. Also returns how to repeat it.
    pub(crate) fn any() -> (Self, String) {
        let seed = match std::env::var(SEED) {
            Ok(seed) => seed.parse().expect("a seed is a number"),
            Err(_) => RandomState::new().hash_one(SEED),
        };
        (Self(seed.max(1)), format!("{SEED}={seed}"))
    }

    pub(crate) fn roll(&mut self, below: u64) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_f491_4f6c_dd1d) % below
    }

    pub(crate) fn micros(&mut self, below: u64) -> Duration {
        Duration::from_micros(self.roll(below))
    }

    /// An independent sequence for another user.
    pub(crate) fn another(&mut self) -> Self {
        Self(self.roll(u64::MAX).max(1))
    }
}
