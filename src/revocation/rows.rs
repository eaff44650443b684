//! Revocations by number. Those of single tokens are in a compact table, all others as they are.

use std::collections::{BTreeMap, BTreeSet};

use jiff::Timestamp;

use super::in_force::InForce;
use super::token_table::{TokenId, TokenRow, TokenTable};
use crate::domain::Revocation;

/// Revocations by number. Rows of the compact table are looked up there, and all others in the
/// [`InForce`] that methods take.
#[derive(Debug, Default)]
pub(super) struct Rows {
    tokens: TokenTable,
    others: BTreeMap<i64, Revocation>,
    /// The other rows by expiry.
    ends: BTreeSet<(Timestamp, i64)>,
}

impl Rows {
    pub(super) fn with_capacity(tokens: usize) -> Self {
        Self { tokens: TokenTable::with_capacity(tokens), ..Self::default() }
    }

    pub(super) fn len(&self) -> usize {
        self.tokens.len() + self.others.len()
    }

    /// Whether a row of the compact table revokes the token.
    pub(super) fn revokes(&self, token: TokenId) -> bool {
        self.tokens.contains(token)
    }

    pub(super) fn get(&self, number: i64) -> Option<Revocation> {
        let token = self.tokens.get(number).map(TokenRow::revocation);
        token.or_else(|| self.others.get(&number).cloned())
    }

    /// The number of the last row.
    pub(super) fn last_number(&self) -> Option<i64> {
        let token = self.tokens.last().map(|row| row.number);
        token.max(self.others.last_key_value().map(|(number, _)| *number))
    }

    /// The rows after a number, in order.
    pub(super) fn after(&self, number: i64) -> impl Iterator<Item = Revocation> {
        let mut tokens = self.tokens.after(number).peekable();
        let mut others = self.others.range(number.saturating_add(1)..).peekable();
        std::iter::from_fn(move || {
            let other = others.peek().map(|(number, _)| **number);
            match tokens.next_if(|row| other.is_none_or(|other| row.number <= other)) {
                Some(token) => Some(token.revocation()),
                None => others.next().map(|(_, row)| row.clone()),
            }
        })
    }

    /// The number of rows after a number.
    pub(super) fn count_after(&self, number: i64) -> usize {
        let others = self.others.range(number.saturating_add(1)..).count();
        self.tokens.after(number).count() + others
    }

    /// The rows that are missing or different in `there`.
    pub(super) fn missing_in(&self, there: &Self) -> impl Iterator<Item = Revocation> {
        let tokens = self.tokens.iter().filter(|row| there.tokens.get(row.number) != Some(*row));
        let others = self.others.values().filter(|row| there.others.get(&row.number) != Some(*row));
        tokens.map(TokenRow::revocation).chain(others.cloned())
    }

    pub(super) fn insert(&mut self, row: Revocation, in_force: &mut InForce) {
        if let Some(token) = TokenRow::of(&row)
            && self.tokens.insert(token)
        {
            return;
        }
        in_force.apply(&row);
        self.ends.insert((row.expires_at, row.number));
        self.others.insert(row.number, row);
    }

    /// Adds rows of the compact form.
    #[cfg(feature = "server")]
    pub(super) fn insert_tokens(&mut self, rows: &[TokenRow], in_force: &mut InForce) {
        for row in self.tokens.insert_all(rows) {
            self.insert(row.revocation(), in_force);
        }
    }

    /// Removes a row from the list. A row outside the compact table stays in force.
    pub(super) fn take(&mut self, number: i64) -> Option<Revocation> {
        if let Some(token) = self.tokens.remove(number) {
            return Some(token.revocation());
        }
        let row = self.others.remove(&number)?;
        self.ends.remove(&(row.expires_at, number));
        Some(row)
    }

    /// Removes some rows that expired by `end`: at most `max`, or those of one chunk. Returns the
    /// highest number that was removed; `None` if no row has expired.
    pub(super) fn forget(
        &mut self,
        end: Timestamp,
        max: usize,
        in_force: &mut InForce,
    ) -> Option<i64> {
        let mut highest = self.tokens.forget(end.as_microsecond());
        if highest.is_some() {
            return highest;
        }
        for _ in 0..max {
            let first = self.ends.first().copied().filter(|(at, _)| *at <= end);
            let Some((ends, number)) = first else { break };
            self.ends.remove(&(ends, number));
            if let Some(row) = self.others.remove(&number) {
                in_force.remove(&row);
            }
            highest = highest.max(Some(number));
        }
        highest
    }
}
