//! The time at which cached data was read.

use std::time::Duration;

/// The time at which data was read from the database.
#[derive(Clone, Copy, Debug)]
pub(super) struct ReadTime {
    /// The cache's uptime.
    pub(super) at: Duration,
    /// The number of changes that this server had made by then.
    pub(super) local_changes: u64,
}
