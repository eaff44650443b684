//! Chance that can be had again.

use std::hash::{BuildHasher, RandomState};
use std::time::Duration;

/// Names a seed, to have the same chance again.
const SEED: &str = "KEYWARD_TEST_SEED";

/// Numbers that look random; those of one seed are the same in every run (xorshift64*).
pub(crate) struct Dice(u64);

impl Dice {
    /// Dice of a seed, which is not 0.
    pub(crate) fn of(seed: u64) -> Self {
        Self(seed)
    }

    /// Dice of the seed that the environment names, or of any; and how to have them again.
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

    /// Dice for somebody who rolls apart.
    pub(crate) fn another(&mut self) -> Self {
        Self(self.roll(u64::MAX).max(1))
    }
}
