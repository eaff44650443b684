//! The table `spent_tokens`: the one-time tokens that were accepted, by any server.

use std::cmp::Reverse;
use std::collections::HashSet;

use jiff::Timestamp;
use sqlx::AssertSqlSafe;

use super::usage::rows;
use super::{Session, Tx, execute, list_values};
use crate::domain::{OneTimeKey, SpentToken};
use crate::error::{Error, Result};

/// The number of rows that one statement deletes.
const PURGE_BATCH: u64 = 1_000;

impl Tx {
    /// Records tokens as spent, if none of them was: `false` if some were, and then the transaction
    /// must not be committed. It costs less than [`spend_tokens`](Self::spend_tokens), which tells
    /// which of them were.
    pub async fn spend_new_tokens(&mut self, tokens: &[SpentToken]) -> Result<bool> {
        let (sql, json, count) = insertion(self, tokens)?;
        Ok(execute!(self, AssertSqlSafe(sql), json)? == count)
    }

    /// Records tokens as spent, and returns the keys of those that were not spent before. Waits for
    /// other transactions that record the same tokens.
    pub async fn spend_tokens(&mut self, tokens: &[SpentToken]) -> Result<HashSet<OneTimeKey>> {
        let (sql, json, _) = insertion(self, tokens)?;
        let sql = format!("{sql} returning key");
        let first: Vec<Vec<u8>> = list_values!(self, AssertSqlSafe(sql), json)?;
        let key = |bytes: Vec<u8>| OneTimeKey::from_bytes(&bytes);
        first
            .into_iter()
            .map(|bytes| key(bytes).ok_or_else(|| Error::internal("a key of spent_tokens")))
            .collect()
    }

    /// Deletes a batch of tokens that are remembered until before `end`; `true` if none is left.
    pub async fn purge_spent_tokens(&mut self, end: Timestamp) -> Result<bool> {
        // Servers that delete at the same time share the work.
        let skip = if self.is_postgres() { "for update skip locked" } else { "" };
        let sql = format!(
            "delete from spent_tokens where key in (select key from spent_tokens \
             where expires_at < $1 order by expires_at limit {PURGE_BATCH} {skip})"
        );
        let deleted = execute!(self, AssertSqlSafe(sql), end.as_microsecond())?;
        Ok(deleted < PURGE_BATCH)
    }
}

/// The statement that inserts the tokens that are not there, its parameter, and the number of
/// different tokens.
fn insertion(session: &Session, tokens: &[SpentToken]) -> Result<(String, String, u64)> {
    // In one order for all servers: two that spend the same tokens wait for each other, and would
    // wait forever otherwise.
    let mut tokens = tokens.to_vec();
    tokens.sort_unstable_by_key(|token| (token.key, Reverse(token.expires_at)));
    // Of equal keys, the one that is remembered for longest.
    tokens.dedup_by_key(|token| token.key);
    let values: Vec<_> = tokens
        .iter()
        .map(|token| (token.key.to_hex(), token.expires_at.as_microsecond()))
        .collect();
    let json = serde_json::to_string(&values).map_err(|error| Error::Internal(Box::new(error)))?;
    let key =
        if session.is_postgres() { "decode(value ->> 0, 'hex')" } else { "unhex(value ->> 0)" };
    let rows = rows(session);
    let sql = format!(
        "insert into spent_tokens (key, expires_at) \
         select {key}, cast(value ->> 1 as bigint) from {rows} where true order by value ->> 0 \
         on conflict (key) do nothing"
    );
    Ok((sql, json, tokens.len() as u64))
}
