//! Waiting for the schema, within a bound.

use std::time::Duration;

use tokio::time::sleep;

use super::{SchemaOptions, SchemaProgress};
use crate::clock::Stopwatch;
use crate::error::{Error, Result};

/// The pause between two attempts. No transaction is open meanwhile.
const PAUSE: Duration = Duration::from_millis(250);

/// A wait that ends when there was no progress for too long.
pub(super) struct BoundedWait {
    options: SchemaOptions,
    since: Stopwatch,
    missing: usize,
}

impl BoundedWait {
    pub(super) fn new(options: SchemaOptions) -> Self {
        Self { options, since: Stopwatch::start(), missing: usize::MAX }
    }

    /// Notes how many migrations are missing. If it are others than before, the wait begins again.
    pub(super) fn missing(&mut self, missing: usize) {
        if missing != self.missing {
            self.missing = missing;
            self.since = Stopwatch::start();
        }
    }

    /// Waits for a moment. It is an error after the bound.
    pub(super) async fn pause(
        &self,
        progress: &SchemaProgress,
        what: &str,
        detail: &str,
    ) -> Result<()> {
        progress.waiting(what, detail);
        let max = self.options.max_wait;
        if self.since.elapsed() >= max {
            let why =
                format!("no progress within {max:?} (database.migrate_timeout): {what}{detail}");
            return Err(Error::Unavailable(why.into()));
        }
        sleep(PAUSE.min(max)).await;
        Ok(())
    }
}
