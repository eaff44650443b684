//! The time at which cached data was read.

use crate::clock::Stopwatch;

/// The time at which data was read from the database.
#[derive(Clone, Copy, Debug)]
pub(super) struct ReadTime {
    pub(super) since: Stopwatch,
    /// The number of changes that this server had made by then.
    pub(super) local_changes: u64,
}

impl ReadTime {
    pub(super) fn now(local_changes: u64) -> Self {
        Self { since: Stopwatch::start(), local_changes }
    }
}
