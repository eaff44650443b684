//! Folds names for search that an earlier version wrote without, in batches beside the requests. Any
//! number of servers can do this at once, and continue where one was stopped.

use super::base::Admin;
use crate::error::Result;

/// How many names are folded in one transaction, which delays other writers of them.
const BATCH: i64 = 200;
/// After how many names the progress is logged.
const LOG_EVERY: usize = 10_000;

impl Admin {
    /// Folds all names that are not folded. Returns how many.
    pub async fn fold_names(&self) -> Result<usize> {
        let (mut folded, mut logged) = (0, 0);
        while self.store.read_list().await?.has_unfolded_names().await? {
            let mut tx = self.store.begin().await?;
            let batch = tx.fold_names(BATCH).await?;
            tx.commit().await?;
            folded += batch;
            if batch == 0 {
                // Another server folds the rest.
                break;
            }
            if folded - logged >= LOG_EVERY {
                logged = folded;
                tracing::info!(folded, "names of applications are being folded for search");
            }
        }
        if folded > 0 {
            tracing::info!(folded, "names of applications were folded for search");
        }
        Ok(folded)
    }
}
