//! Reads the list from the database, with a time limit, and detects outdated databases.

use std::cmp::Ordering;
use std::time::Duration;

use tokio::time::timeout;

use super::{Cursor, NewList};
use crate::domain::Revocation;
use crate::error::{Error, Result};
use crate::store::Session;

/// The number of rows per query.
const BATCH: i64 = 1000;
/// The same when the whole list is read.
const CHUNK: i64 = 10_000;
/// How long a query may take before the database counts as unavailable.
const READ_TIMEOUT: Duration = Duration::from_secs(1);

/// The advice for operators.
pub(super) const DECLARE: &str =
    "if it was restored from a backup or lost its latest commits, run `keyward revocations accept`";

/// Why the database is older than what is known, or `None` if it is not. If the lists began in
/// different databases, that is an error only if the other list is in use here (`in_use`).
pub(super) fn older(there: &Cursor, known: &Cursor, in_use: bool) -> Option<String> {
    match there.compare(known) {
        Some(Ordering::Less) if there.feed == known.feed => Some(format!(
            "the database has {} revocations, but {} are known: it is in an older state; {DECLARE}",
            there.number, known.number
        )),
        Some(Ordering::Less) => Some(format!(
            "the database has the revocation list {}, but {} was declared later: it is in an \
             older state; {DECLARE}",
            there.feed, known.feed
        )),
        None if in_use => Some(format!(
            "this is another database: it has the revocation list {}, but {} is known; \
             restart this server if that is intended",
            there.feed, known.feed
        )),
        _ => None,
    }
}

/// The rows after a number, up to another.
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

/// All rows up to a number.
pub(super) async fn read_list(session: &mut Session, last: i64) -> Result<NewList> {
    let mut list = NewList::default();
    let mut after = 0;
    while after < last {
        let chunk = within(session.read_revocations(after, last, CHUNK)).await?;
        let Some(chunk) = chunk else { break };
        for token in chunk.tokens() {
            let token = token?;
            list.add_token(token.number, token.jti, token.revoked_at, token.expires_at);
        }
        chunk.others.into_iter().for_each(|row| list.add(row));
        after = chunk.last;
    }
    Ok(list)
}

/// Limits the time of a database query.
pub(super) async fn within<T>(answer: impl Future<Output = Result<T>>) -> Result<T> {
    let late = |_| Error::Unavailable("the database did not answer in time".into());
    timeout(READ_TIMEOUT, answer).await.map_err(late)?
}
