//! Copies last uses beside the names of applications, for searches, after a migration: in batches
//! beside the requests. One server does this at a time, and continues where another was stopped.

use super::base::Admin;
use crate::error::Result;

/// How many applications are in one transaction, which delays other writers of their tenants.
const BATCH: i64 = 500;
/// After how many applications the progress is logged.
const LOG_EVERY: usize = 100_000;

impl Admin {
    /// Copies all last uses that are not copied. Returns of how many applications.
    pub async fn copy_last_uses(&self) -> Result<usize> {
        let (mut copied, mut logged) = (0, 0);
        while self.store.read_list().await?.count_uncopied_last_uses(1).await? > 0 {
            let mut tx = self.store.begin().await?;
            let batch = tx.copy_last_uses(BATCH).await?;
            tx.commit().await?;
            copied += batch;
            if batch == 0 {
                // Another server copies the rest.
                break;
            }
            if copied - logged >= LOG_EVERY {
                logged = copied;
                tracing::info!(copied, "last uses of applications are being copied for search");
            }
        }
        if copied > 0 {
            tracing::info!(copied, "last uses of applications were copied for search");
        }
        Ok(copied)
    }
}
