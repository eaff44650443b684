//! Reads the list from the database, with a time limit, and detects outdated databases.

use std::cmp::Ordering;
use std::time::Duration;

use tokio::sync::mpsc;
use tokio::task::spawn_blocking;
use tokio::time::timeout;

use super::token_table::{TokenId, TokenRow};
use super::{Cursor, NewList};
use crate::clock::from_microsecond;
use crate::domain::{Revocation, Subject};
use crate::error::{Error, Result};
use crate::store::{RevocationChunk, RevocationFeed, Session, TokenRevocation};

/// The number of rows per query.
const BATCH: i64 = 1000;
/// The same when the whole list is read, and how many results wait while one is added to the list.
const CHUNK: i64 = 2_000;
const CHUNKS_AHEAD: usize = 2;
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

/// All rows up to the last number of the feed.
pub(super) async fn read_list(session: &mut Session, feed: &RevocationFeed) -> Result<NewList> {
    let (sender, chunks) = mpsc::channel(CHUNKS_AHEAD);
    // No number after these is missing.
    let least = usize::try_from(feed.last_number - feed.purged_through).unwrap_or_default();
    let list = spawn_blocking(move || collect(chunks, NewList::with_capacity(least)));
    let mut after = 0;
    while after < feed.last_number {
        let chunk = within(session.read_revocations(after, feed.last_number, CHUNK)).await?;
        let Some(chunk) = chunk else { break };
        after = chunk.last;
        // The receiver is gone if a chunk was invalid. It returns the error.
        if sender.send(chunk).await.is_err() {
            break;
        }
    }
    drop(sender);
    list.await.map_err(|error| Error::Internal(Box::new(error)))?
}

fn collect(mut chunks: mpsc::Receiver<RevocationChunk>, mut list: NewList) -> Result<NewList> {
    let mut rows = Vec::new();
    while let Some(chunk) = chunks.blocking_recv() {
        rows.clear();
        for token in chunk.tokens() {
            let TokenRevocation { number, jti, revoked_at, expires_at } = token?;
            match TokenId::parse(jti) {
                Some(token) => rows.push(TokenRow::new(number, token, revoked_at, expires_at)),
                None => list.add(Revocation {
                    number,
                    subject: Subject::Token(jti.to_owned()),
                    epoch: 0,
                    revoked_at: from_microsecond(revoked_at),
                    expires_at: from_microsecond(expires_at),
                }),
            }
        }
        list.add_tokens(&rows);
        chunk.others.into_iter().for_each(|row| list.add(row));
    }
    Ok(list)
}

/// Limits the time of a database query.
pub(super) async fn within<T>(answer: impl Future<Output = Result<T>>) -> Result<T> {
    let late = |_| Error::Unavailable("the database did not answer in time".into());
    timeout(READ_TIMEOUT, answer).await.map_err(late)?
}
