//! Revocations of single tokens whose `jti` is a UUID, as Keyward issues them. There can be a
//! million, so each takes about 60 bytes: 40 for the row and 9 for each place of the hash table.
//!
//! Rows are in chunks, in the order of their numbers. So the table grows without copying all rows,
//! and gives memory back when rows are removed.

use std::collections::VecDeque;
use std::hash::{BuildHasher, RandomState};

use hashbrown::HashTable;

use crate::clock::from_microsecond;
use crate::domain::{Revocation, Subject};

/// The maximum number of rows in a chunk.
const CHUNK: usize = 512;

/// A revocation of a single token.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct TokenRow {
    /// The position in the list.
    pub(super) number: i64,
    token: TokenId,
    /// In microseconds since the epoch, as `expires_at`.
    revoked_at: i64,
    expires_at: i64,
}

/// A `jti` of 32 lower-case hexadecimal digits. So it can be written again exactly as it was.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) struct TokenId([u8; 16]);

/// Rows by number and by token.
#[derive(Debug, Default)]
pub(super) struct TokenTable {
    chunks: VecDeque<Chunk>,
    /// Where the rows of a token are. A token that was revoked twice has two rows.
    slots: HashTable<TokenSlot>,
    /// Ids of tokens come from callers, so the hashes have a secret key.
    hasher: RandomState,
    /// The earliest expiry of a row or, after removals, an earlier time.
    earliest_end: i64,
}

/// Some rows in the order of their numbers, at least one.
#[derive(Debug)]
struct Chunk {
    rows: Vec<TokenRow>,
    /// The earliest expiry of a row or, after removals, an earlier time.
    earliest_end: i64,
}

/// A row: a part of its token's hash, and the last 32 bits of its number.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct TokenSlot {
    fingerprint: u32,
    number: u32,
}

impl TokenId {
    /// `None`: the `jti` has another form.
    pub(super) fn parse(jti: &str) -> Option<Self> {
        const INVALID: u8 = 0x80;
        const DIGITS: &[u8; 256] = &{
            let mut digits = [INVALID; 256];
            let mut value = 0;
            while value < 16 {
                digits[b"0123456789abcdef"[value as usize] as usize] = value;
                value += 1;
            }
            digits
        };
        let jti: &[u8; 32] = jti.as_bytes().try_into().ok()?;
        let (mut id, mut seen) = ([0; 16], 0);
        // Every check comes here, so nothing in the loop is a call.
        for (n, byte) in id.iter_mut().enumerate() {
            let high = DIGITS[usize::from(jti[2 * n])];
            let low = DIGITS[usize::from(jti[2 * n + 1])];
            seen |= high | low;
            *byte = high << 4 | low;
        }
        (seen & INVALID == 0).then_some(Self(id))
    }

    fn text(self) -> String {
        format!("{:032x}", u128::from_be_bytes(self.0))
    }
}

impl TokenRow {
    /// A row with times in microseconds since the epoch.
    pub(super) fn new(number: i64, token: TokenId, revoked_at: i64, expires_at: i64) -> Self {
        Self { number, token, revoked_at, expires_at }
    }

    /// `None`: the revocation cannot be represented without a loss.
    pub(super) fn of(revocation: &Revocation) -> Option<Self> {
        let Subject::Token(jti) = &revocation.subject else { return None };
        let row = Self::new(
            revocation.number,
            TokenId::parse(jti)?,
            revocation.revoked_at.as_microsecond(),
            revocation.expires_at.as_microsecond(),
        );
        let same = revocation.epoch == 0
            && from_microsecond(row.revoked_at) == revocation.revoked_at
            && from_microsecond(row.expires_at) == revocation.expires_at;
        same.then_some(row)
    }

    pub(super) fn revocation(&self) -> Revocation {
        Revocation {
            number: self.number,
            subject: Subject::Token(self.token.text()),
            epoch: 0,
            revoked_at: from_microsecond(self.revoked_at),
            expires_at: from_microsecond(self.expires_at),
        }
    }
}

impl TokenTable {
    /// A table with room for this many rows in the hash table.
    pub(super) fn with_capacity(rows: usize) -> Self {
        Self { slots: HashTable::with_capacity(rows), ..Self::default() }
    }

    pub(super) fn len(&self) -> usize {
        self.slots.len()
    }

    /// Whether a row revokes the token.
    pub(super) fn contains(&self, token: TokenId) -> bool {
        if self.slots.is_empty() {
            return false;
        }
        let fingerprint = self.fingerprint(token);
        let same = |slot: &TokenSlot| {
            slot.fingerprint == fingerprint
                && self.get(self.number_of(*slot)).is_some_and(|row| row.token == token)
        };
        self.slots.find(spread(fingerprint), same).is_some()
    }

    /// The row with this number.
    pub(super) fn get(&self, number: i64) -> Option<&TokenRow> {
        let chunk = self.chunks.get(self.chunk_of(number)?)?;
        chunk.position(number).ok().map(|at| &chunk.rows[at])
    }

    /// The rows after a number, in order.
    pub(super) fn after(&self, number: i64) -> impl Iterator<Item = &TokenRow> {
        let first = self.chunk_of(number).unwrap_or_default();
        let chunks = self.chunks.range(first..).flat_map(|chunk| &chunk.rows);
        chunks.skip_while(move |row| row.number <= number)
    }

    /// All rows, in order.
    pub(super) fn iter(&self) -> impl Iterator<Item = &TokenRow> {
        self.chunks.iter().flat_map(|chunk| &chunk.rows)
    }

    /// The last row.
    pub(super) fn last(&self) -> Option<&TokenRow> {
        self.chunks.back()?.rows.last()
    }

    /// Adds a row. `false`: the table has a row with this number, or the numbers are too far apart
    /// for their last 32 bits to be unique. Then nothing changes.
    pub(super) fn insert(&mut self, row: TokenRow) -> bool {
        let slot = self.insert_row(row);
        slot.map(|slot| self.insert_slot(slot)).is_some()
    }

    /// Adds rows, and returns those for which [`insert`](Self::insert) is `false`. In a large table
    /// each slot is a cache miss. The processor waits for several at once, because there is little
    /// between them.
    #[cfg(feature = "server")]
    pub(super) fn insert_all(&mut self, rows: &[TokenRow]) -> Vec<TokenRow> {
        let (mut slots, mut refused) = (Vec::with_capacity(rows.len()), Vec::new());
        for row in rows {
            match self.insert_row(*row) {
                Some(slot) => slots.push(slot),
                None => refused.push(*row),
            }
        }
        for slot in slots {
            self.insert_slot(slot);
        }
        refused
    }

    fn insert_slot(&mut self, slot: TokenSlot) {
        self.slots.insert_unique(spread(slot.fingerprint), slot, |slot| spread(slot.fingerprint));
    }

    /// Adds a row without its slot, which it returns.
    fn insert_row(&mut self, row: TokenRow) -> Option<TokenSlot> {
        if let (Some(first), Some(last)) = (self.first_number(), self.last()) {
            let (first, last) = (first.min(row.number), last.number.max(row.number));
            if last.checked_sub(first).is_none_or(|span| span > i64::from(u32::MAX)) {
                return None;
            }
        }
        if self.is_empty() || row.expires_at < self.earliest_end {
            self.earliest_end = row.expires_at;
        }
        if !self.insert_in_order(row) {
            return None;
        }
        let fingerprint = self.fingerprint(row.token);
        Some(TokenSlot { fingerprint, number: low_bits(row.number) })
    }

    fn insert_in_order(&mut self, row: TokenRow) -> bool {
        let Some(last) = self.last() else {
            self.chunks.push_back(Chunk::new(row));
            return true;
        };
        // Rows usually come in order.
        let is_last = last.number < row.number;
        let mut index = if is_last {
            self.chunks.len() - 1
        } else {
            self.chunk_of(row.number).unwrap_or_default()
        };
        let Err(mut at) = self.chunks[index].position(row.number) else { return false };
        if self.chunks[index].rows.len() == CHUNK {
            // The chunk stays full.
            if at == CHUNK {
                self.chunks.insert(index + 1, Chunk::new(row));
                return true;
            }
            let chunk = &mut self.chunks[index];
            let rows = chunk.rows.split_off(CHUNK / 2);
            let earliest_end = chunk.earliest_end;
            self.chunks.insert(index + 1, Chunk { rows, earliest_end });
            if at > CHUNK / 2 {
                (index, at) = (index + 1, at - CHUNK / 2);
            }
        }
        let chunk = &mut self.chunks[index];
        chunk.rows.insert(at, row);
        chunk.earliest_end = chunk.earliest_end.min(row.expires_at);
        true
    }

    /// Removes the row with this number.
    pub(super) fn remove(&mut self, number: i64) -> Option<TokenRow> {
        let index = self.chunk_of(number)?;
        let at = self.chunks[index].position(number).ok()?;
        let row = self.chunks[index].rows[at];
        self.remove_slot(&row);
        self.chunks[index].rows.remove(at);
        self.tidy(index);
        Some(row)
    }

    /// Removes the rows of one chunk that expired by `end`, in microseconds since the epoch.
    /// Returns the highest number that was removed; `None` if no row has expired.
    pub(super) fn forget(&mut self, end: i64) -> Option<i64> {
        if self.is_empty() || self.earliest_end > end {
            return None;
        }
        loop {
            let Some(index) = self.chunks.iter().position(|chunk| chunk.earliest_end <= end) else {
                let earliest = self.chunks.iter().map(|chunk| chunk.earliest_end).min();
                self.earliest_end = earliest.unwrap_or_default();
                self.shrink();
                return None;
            };
            let (expired, left): (Vec<_>, Vec<_>) =
                self.chunks[index].rows.iter().partition(|row| row.expires_at <= end);
            for row in &expired {
                self.remove_slot(row);
            }
            let earliest_end = left.iter().map(|row| row.expires_at).min().unwrap_or_default();
            self.chunks[index] = Chunk { rows: left, earliest_end };
            self.tidy(index);
            if let Some(last) = expired.last() {
                return Some(last.number);
            }
        }
    }

    fn is_empty(&self) -> bool {
        self.chunks.is_empty()
    }

    fn first_number(&self) -> Option<i64> {
        self.chunks.front().and_then(|chunk| chunk.rows.first()).map(|row| row.number)
    }

    /// The chunk in which a row with this number is, or belongs. `None`: it is before all chunks.
    fn chunk_of(&self, number: i64) -> Option<usize> {
        self.chunks.partition_point(|chunk| chunk.first() <= number).checked_sub(1)
    }

    fn fingerprint(&self, token: TokenId) -> u32 {
        let hash = self.hasher.hash_one(u128::from_ne_bytes(token.0));
        u32::try_from(hash >> 32).unwrap_or_default()
    }

    /// The number of a slot's row. All numbers are less than 2^32 after the first one.
    fn number_of(&self, slot: TokenSlot) -> i64 {
        let first = self.first_number().unwrap_or_default();
        first.wrapping_add(i64::from(slot.number.wrapping_sub(low_bits(first))))
    }

    fn remove_slot(&mut self, row: &TokenRow) {
        let fingerprint = self.fingerprint(row.token);
        let slot = TokenSlot { fingerprint, number: low_bits(row.number) };
        if let Ok(entry) = self.slots.find_entry(spread(fingerprint), |known| *known == slot) {
            entry.remove();
        }
    }

    /// Removes a chunk without rows, or adds the few rows of a chunk to the one before it.
    fn tidy(&mut self, index: usize) {
        if self.chunks[index].rows.is_empty() {
            self.chunks.remove(index);
            return;
        }
        let Some(before) = index.checked_sub(1) else { return };
        if self.chunks[before].rows.len() + self.chunks[index].rows.len() <= CHUNK / 2
            && let Some(Chunk { rows, earliest_end }) = self.chunks.remove(index)
        {
            let before = &mut self.chunks[before];
            before.rows.extend(rows);
            before.earliest_end = before.earliest_end.min(earliest_end);
        }
    }

    fn shrink(&mut self) {
        if self.slots.len() < self.slots.capacity() / 4 {
            self.slots.shrink_to(self.slots.len() * 2, |slot| spread(slot.fingerprint));
        }
    }
}

impl Chunk {
    fn new(row: TokenRow) -> Self {
        let mut rows = Vec::with_capacity(CHUNK);
        rows.push(row);
        Self { rows, earliest_end: row.expires_at }
    }

    fn first(&self) -> i64 {
        self.rows.first().map_or(i64::MIN, |row| row.number)
    }

    fn position(&self, number: i64) -> Result<usize, usize> {
        // Rows are usually added at the end.
        match self.rows.last() {
            Some(last) if last.number < number => Err(self.rows.len()),
            _ => self.rows.binary_search_by_key(&number, |row| row.number),
        }
    }
}

/// The hash of a fingerprint. The table takes the place from the low bits and a tag from the high
/// ones.
fn spread(fingerprint: u32) -> u64 {
    u64::from(fingerprint) | u64::from(fingerprint) << 32
}

#[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "the last 32 bits")]
fn low_bits(number: i64) -> u32 {
    number as u32
}

#[cfg(all(test, feature = "server"))]
mod tests {
    use super::*;

    #[test]
    fn rows_added_together_are_found_and_others_returned() {
        let row = |number: i64, token: u128| {
            TokenRow::new(number, TokenId(token.to_be_bytes()), number, number + 10)
        };
        let far = row(i64::from(u32::MAX) + 10, 7778);
        let again = row(2, 7779);
        let mut table = TokenTable::with_capacity(1);
        // Over several chunks, with numbers missing and out of order.
        let rows: Vec<_> = (1..2000).rev().map(|n: u32| row(2 * i64::from(n), n.into())).collect();
        assert_eq!(table.insert_all(&rows), []);
        assert_eq!(table.insert_all(&[again, row(1, 7777), far]), [again, far]);
        assert_eq!(table.len(), rows.len() + 1);
        assert!(rows.iter().all(|row| table.contains(row.token)));
        assert!(table.contains(row(1, 7777).token));
        assert!(!table.contains(far.token) && !table.contains(again.token));
        assert_eq!(table.iter().count(), rows.len() + 1);
        assert!(table.iter().is_sorted_by_key(|row| row.number));
    }
}
