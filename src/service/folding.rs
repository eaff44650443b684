//! Names that a version without the folding has written are folded beside the requests, some at a
//! time. Any number of servers may do so at once, and begin again where one was stopped.

use super::Service;
use crate::error::Result;

/// How many names are folded in one transaction, which holds up their writers.
const BATCH: i64 = 200;
/// After how many names it is said how far it has come.
const SAID_AFTER: usize = 10_000;

impl Service {
    /// Folds all names that are not folded; how many.
    pub async fn fold_names(&self) -> Result<usize> {
        let (mut folded, mut said) = (0, 0);
        while self.store.read_list().await?.has_unfolded_names().await? {
            let mut tx = self.store.begin().await?;
            let batch = tx.fold_names(BATCH).await?;
            tx.commit().await?;
            folded += batch;
            if batch == 0 {
                // Another server is at the rest of them.
                break;
            }
            if folded - said >= SAID_AFTER {
                said = folded;
                tracing::info!(folded, "names of applications are being folded for search");
            }
        }
        if folded > 0 {
            tracing::info!(folded, "names of applications were folded for search");
        }
        Ok(folded)
    }
}
