//! Reading the list in the database, in time, and telling whether it is an older one.

use std::cmp::Ordering;
use std::time::Duration;

use tokio::time::timeout;

use super::Cursor;
use crate::domain::Revocation;
use crate::error::{Error, Result};
use crate::store::Session;

/// How many rows are read at once.
const BATCH: i64 = 1000;
/// How long the database may take to answer, before it counts as away.
const LONGEST_READ: Duration = Duration::from_secs(1);

/// What an operator can do.
pub(super) const DECLARE: &str =
    "if it was restored from a backup or lost its last moments, run `keyward revocations accept`";

/// Why a database that is there knows less than was known; `None` if it does not. Of a list
/// that began in another database something can be said only if that was the one in use.
pub(super) fn older(there: &Cursor, known: &Cursor, in_use: bool) -> Option<String> {
    match there.compare(known) {
        Some(Ordering::Less) if there.feed == known.feed => Some(format!(
            "the database knows {} revocations, {} were known: it is an older state; {DECLARE}",
            there.number, known.number
        )),
        Some(Ordering::Less) => Some(format!(
            "the database has the list of revocations {}, and {} was declared later: it is an \
             older state; {DECLARE}",
            there.feed, known.feed
        )),
        None if in_use => Some(format!(
            "this is another database: it has the list of revocations {}, and {} was known; \
             restart this server if that is intended",
            there.feed, known.feed
        )),
        _ => None,
    }
}

/// The rows behind a number and up to another.
pub(super) async fn read_after(
    session: &mut Session,
    after: i64,
    last: i64,
) -> Result<Vec<Revocation>> {
    let mut rows: Vec<Revocation> = Vec::new();
    let mut after = after;
    while after < last {
        let batch = within(session.list_revocations(after, last, BATCH)).await?;
        let Some(newest) = batch.last() else { break };
        after = newest.number;
        rows.extend(batch);
    }
    Ok(rows)
}

/// An answer of the database, if it comes in time.
pub(super) async fn within<T>(answer: impl Future<Output = Result<T>>) -> Result<T> {
    let late = |_| Error::Unavailable("the database did not answer in time".into());
    timeout(LONGEST_READ, answer).await.map_err(late)?
}
