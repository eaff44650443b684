//! The state of the connection pools, for metrics.

use std::sync::Arc;

use prometheus_client::metrics::gauge::Gauge;
use sqlx::{Database, Pool};

/// The purpose of a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Purpose {
    Checks,
    Lists,
    Changes,
    Revocations,
}

/// The state of the pool for one purpose.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PoolState {
    /// The purpose: `checks`, `lists`, `changes` or `feed`.
    pub pool: &'static str,
    /// Connections in use.
    pub used: usize,
    pub idle: usize,
    /// The maximum number of connections.
    pub max: u32,
    /// Requests that wait for a connection.
    pub waiting: i64,
}

/// How many requests wait for a connection, for each purpose. Clones share the counts.
#[derive(Clone, Debug, Default)]
pub(super) struct PoolWaits(Arc<[Gauge; 4]>);

/// Counts a request as waiting until it is dropped.
#[derive(Debug)]
pub(super) struct PoolWait<'a>(&'a Gauge);

impl PoolWaits {
    pub(super) fn begin(&self, purpose: Purpose) -> PoolWait<'_> {
        let gauge = self.of(purpose);
        gauge.inc();
        PoolWait(gauge)
    }

    /// The state of a pool.
    pub(super) fn state<D: Database>(&self, purpose: Purpose, pool: &Pool<D>) -> PoolState {
        let idle = pool.num_idle();
        let size = usize::try_from(pool.size()).unwrap_or(usize::MAX);
        PoolState {
            pool: match purpose {
                Purpose::Checks => "checks",
                Purpose::Lists => "lists",
                Purpose::Changes => "changes",
                Purpose::Revocations => "feed",
            },
            used: size.saturating_sub(idle),
            idle,
            max: pool.options().get_max_connections(),
            waiting: self.of(purpose).get(),
        }
    }

    fn of(&self, purpose: Purpose) -> &Gauge {
        let [checks, lists, changes, feed] = &*self.0;
        match purpose {
            Purpose::Checks => checks,
            Purpose::Lists => lists,
            Purpose::Changes => changes,
            Purpose::Revocations => feed,
        }
    }
}

impl Drop for PoolWait<'_> {
    fn drop(&mut self) {
        self.0.dec();
    }
}
