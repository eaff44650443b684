//! One-time tokens: each is accepted once, by all servers together. The database decides. Nothing
//! about a spent token is kept in memory.
//!
//! A spend is one row. One task writes all spends that wait, so that a thousand requests a second
//! cost a few transactions. What the database does not confirm is neither accepted nor called a
//! replay: it is [`Error::Unavailable`].

use std::collections::HashSet;
use std::time::Duration;

use jiff::Timestamp;
use tokio::sync::{mpsc, oneshot};
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::clock::{Clock, SteadyTime};
use crate::domain::{OneTimeKey, OneTimePurpose, SpentToken};
use crate::error::{Error, Result};
use crate::store::Store;

/// How many spends one transaction writes.
const BATCH: usize = 256;
/// How many spends wait at most.
const QUEUE: usize = 4_096;
/// How long a transaction may take.
const WRITE_TIMEOUT: Duration = Duration::from_secs(2);
/// How long a request waits: for the transaction before its own, and for its own.
const MAX_WAIT: Duration = WRITE_TIMEOUT.saturating_mul(2);

/// Whether a one-time token was spent before.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Spent {
    /// No: this is its only use.
    First,
    /// Yes: it must not be accepted.
    Again,
}

/// Remembers one-time tokens that were accepted.
#[derive(Debug)]
pub struct Replay {
    store: Store,
    steady: SteadyTime,
    waiting: mpsc::Sender<WaitingSpend>,
    /// Cancelled when no more spends are accepted.
    closing: CancellationToken,
    writer: TaskTracker,
}

/// A request that waits until its token is spent.
#[derive(Debug)]
struct WaitingSpend {
    token: SpentToken,
    answer: oneshot::Sender<Result<Spent>>,
}

impl Replay {
    /// Starts the task that writes. It ends after [`close`](Self::close), or when this is dropped.
    pub fn start(store: Store, clock: Clock) -> Self {
        let (waiting, queue) = mpsc::channel(QUEUE);
        let (closing, writer) = (CancellationToken::new(), TaskTracker::new());
        writer.spawn(write_all(store.clone(), queue, closing.clone()));
        Self { store, steady: SteadyTime::new(clock), waiting, closing, writer }
    }

    /// Spends the token with this id, which its owner made. Ids are compared by purpose and owner.
    /// `until` is the last moment at which the token would be accepted by its own times.
    ///
    /// Call it last, when everything else about the token is known to be right: otherwise a wrong
    /// token with the id of a right one would spend it.
    pub async fn spend(
        &self,
        purpose: OneTimePurpose,
        owner: &str,
        id: &str,
        until: Timestamp,
    ) -> Result<Spent> {
        const FULL: Error =
            Error::Overloaded { what: "one-time tokens", retry_after: Duration::from_secs(1) };
        let token = SpentToken::new(OneTimeKey::new(purpose, owner, id), until);
        let (answer, answered) = oneshot::channel();
        self.waiting.try_send(WaitingSpend { token, answer }).map_err(|error| match error {
            mpsc::error::TrySendError::Full(_) => FULL,
            mpsc::error::TrySendError::Closed(_) => Error::Stopping,
        })?;
        let lost = |_| Error::Unavailable("the task that records one-time tokens ended".into());
        timeout(MAX_WAIT, answered).await.map_err(|_| late())?.map_err(lost)?
    }

    /// Deletes the tokens that would not be accepted any more. Neither a clock that was set ahead
    /// nor one that is ahead of the database's decides this: a deleted token could be used again.
    pub async fn purge(&self) -> Result<()> {
        let database = self.store.read().await?.time().await?;
        let steady = self.steady.now();
        let end = database.map_or(steady, |database| database.min(steady));
        loop {
            let mut tx = self.store.begin().await?;
            let done = tx.purge_spent_tokens(end).await?;
            tx.commit().await?;
            if done {
                return Ok(());
            }
        }
    }

    /// Accepts no more spends, and returns when those that wait are answered.
    pub async fn close(&self) {
        self.closing.cancel();
        self.writer.close();
        self.writer.wait().await;
    }
}

/// Writes what waits until the queue is closed and empty.
async fn write_all(
    store: Store,
    mut queue: mpsc::Receiver<WaitingSpend>,
    closing: CancellationToken,
) {
    let mut batch = Vec::with_capacity(BATCH);
    loop {
        let taken = tokio::select! {
            biased;
            taken = queue.recv_many(&mut batch, BATCH) => taken,
            () = closing.cancelled(), if !queue.is_closed() => {
                queue.close();
                continue;
            }
        };
        if taken == 0 {
            return;
        }
        // A request that no longer waits was answered with an error: its token can be sent again.
        batch.retain(|spend| !spend.answer.is_closed());
        let tokens: Vec<_> = batch.iter().map(|spend| spend.token).collect();
        let written = timeout(WRITE_TIMEOUT, write(&store, &tokens)).await;
        answer(batch.drain(..), written.unwrap_or_else(|_| Err(late())));
    }
}

/// Records the tokens, and returns which were not spent before.
async fn write(store: &Store, tokens: &[SpentToken]) -> Result<HashSet<OneTimeKey>> {
    if tokens.is_empty() {
        return Ok(HashSet::new());
    }
    let mut tx = store.begin().await?;
    if tx.spend_new_tokens(tokens).await? {
        tx.commit().await?;
        return Ok(tokens.iter().map(|token| token.key).collect());
    }
    drop(tx);
    let mut tx = store.begin().await?;
    let first = tx.spend_tokens(tokens).await?;
    tx.commit().await?;
    Ok(first)
}

/// Answers those who wait. Of several that spend one token, one is the first.
fn answer(batch: impl Iterator<Item = WaitingSpend>, written: Result<HashSet<OneTimeKey>>) {
    let mut written = written.map_err(|error| match error {
        // Each request needs an error of its own. Whether its token is spent is not known.
        Error::Unavailable(cause) | Error::Internal(cause) => cause.to_string(),
        error => error.to_string(),
    });
    for spend in batch {
        let spent = match &mut written {
            Ok(first) => {
                let is_first = first.remove(&spend.token.key);
                Ok(if is_first { Spent::First } else { Spent::Again })
            }
            Err(cause) => Err(Error::Unavailable(cause.clone().into())),
        };
        // The request may have ended meanwhile.
        let _ = spend.answer.send(spent);
    }
}

fn late() -> Error {
    Error::Unavailable("the database did not record a one-time token in time".into())
}
