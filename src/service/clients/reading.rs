//! When something was read.

use crate::clock::Stopwatch;

/// When something was read from the database, by this process.
#[derive(Clone, Copy, Debug)]
pub(super) struct Reading {
    pub(super) since: Stopwatch,
    /// How many changes this server had made by then.
    pub(super) changes: u64,
}

impl Reading {
    pub(super) fn begin(changes: u64) -> Self {
        Self { since: Stopwatch::start(), changes }
    }
}
