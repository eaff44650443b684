//! The options of the connection pools, and how connections are divided among purposes.

use std::time::Duration;

/// The options of the connection pools.
#[derive(Clone, Copy, Debug)]
pub struct PoolOptions {
    /// The maximum number of connections, without the one for the revocation feed. At least three.
    pub max_connections: u32,
    /// How long a request waits for a connection before the database counts as unavailable.
    pub acquire_timeout: Duration,
}

impl PoolOptions {
    /// The number of connections for lists and reports.
    pub(super) fn lists(self) -> u32 {
        (self.max_connections / 4).max(1)
    }

    /// The number of connections for changes, including revocations.
    pub(super) fn changes(self) -> u32 {
        (self.max_connections * 3 / 8).max(1)
    }

    /// The number of connections for checks and tokens.
    pub(super) fn checks(self) -> u32 {
        self.max_connections.saturating_sub(self.lists() + self.changes()).max(1)
    }
}
