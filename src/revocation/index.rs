//! The revocations in memory. A look-up does no I/O. Both replicas and verifiers use this index.
//!
//! The index never drops a revocation that is in force. If the list is replaced by another one,
//! revocations that are missing in the new list stay in force until they expire.

use std::sync::{PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};

use jiff::Timestamp;

use super::Cursor;
use super::in_force::InForce;
use super::rows::Rows;
use super::token_table::TokenId;
#[cfg(feature = "server")]
use super::token_table::TokenRow;
use crate::domain::{Revocation, RevocationKeys, Subject};

/// The maximum number of rows that are removed under one lock.
const MAX_REMOVED: usize = 1000;
/// The room of a new list is limited, because it is only expected that all rows are of tokens.
const MAX_CAPACITY: usize = 1_000_000;

/// The revocation list, and what it revokes.
#[derive(Debug, Default)]
pub struct Index(RwLock<IndexState>);

/// The rows do not continue the known list: rows in between are missing, or known rows differ.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Gap;

/// A part of the list of revocations.
#[derive(Clone, Debug)]
pub struct IndexPart {
    /// The name of the list.
    pub feed: String,
    /// In order of their numbers.
    pub revocations: Vec<Revocation>,
    /// The number after which the next part starts.
    pub last: i64,
    /// Whether more rows follow.
    pub more: bool,
}

/// A complete list that is collected row by row, before it replaces the list of an [`Index`].
#[derive(Debug, Default)]
pub struct NewList {
    rows: Rows,
    in_force: InForce,
}

#[derive(Debug, Default)]
struct IndexState {
    /// The name of the list.
    feed: String,
    /// All rows up to this number are known.
    last: i64,
    /// Some rows up to this number have expired and were removed.
    forgotten: i64,
    rows: Rows,
    /// The row with the last number, even if it has expired. It is used to check whether the
    /// database has the same list.
    newest: Option<Revocation>,
    /// Rows that this replica committed, while rows before them are still unknown.
    ahead: Rows,
    carried_over: CarriedOver,
    in_force: InForce,
}

/// Rows in force that are not in the current list.
#[derive(Debug, Default)]
struct CarriedOver {
    /// With numbers that are only unique here.
    rows: Rows,
    last: i64,
}

impl NewList {
    /// A list with room for this many revocations of single tokens.
    pub fn with_capacity(tokens: usize) -> Self {
        let rows = Rows::with_capacity(tokens.min(MAX_CAPACITY));
        Self { rows, in_force: InForce::default() }
    }

    /// Adds a row.
    pub fn add(&mut self, row: Revocation) {
        self.rows.insert(row, &mut self.in_force);
    }

    /// Adds revocations of single tokens.
    #[cfg(feature = "server")]
    pub(super) fn add_tokens(&mut self, rows: &[TokenRow]) {
        self.rows.insert_tokens(rows, &mut self.in_force);
    }

    /// The number of the last row. 0 if there is none.
    pub fn last_number(&self) -> i64 {
        self.rows.last_number().unwrap_or_default()
    }
}

impl FromIterator<Revocation> for NewList {
    fn from_iter<T: IntoIterator<Item = Revocation>>(rows: T) -> Self {
        let mut list = Self::default();
        rows.into_iter().for_each(|row| list.add(row));
        list
    }
}

impl Index {
    /// Whether a token is revoked, or one of its parents.
    pub fn revokes(&self, revocation_keys: &RevocationKeys<'_>) -> bool {
        let token = revocation_keys.token.and_then(TokenId::parse);
        let state = self.read();
        token.is_some_and(|token| state.revokes_token(token))
            || state.in_force.revokes(revocation_keys)
            || revocation_keys.of_parents().any(|parent| state.revokes(&parent))
    }

    /// Whether all tokens of the signing key with this `kid` are revoked.
    pub fn revokes_key(&self, kid: &str) -> bool {
        self.read().in_force.revokes_key(kid)
    }

    /// The epoch below which the subject's tokens are revoked, or 0.
    pub fn epoch(&self, subject: &Subject) -> i64 {
        self.read().in_force.epoch(subject)
    }

    /// The number up to which all rows are known.
    pub fn last(&self) -> i64 {
        self.read().last
    }

    pub fn feed(&self) -> String {
        self.read().feed.clone()
    }

    /// The position up to which all rows are known; `None` before a list was read.
    pub fn place(&self) -> Option<Cursor> {
        let state = self.read();
        (!state.feed.is_empty()).then(|| Cursor { feed: state.feed.clone(), number: state.last })
    }

    /// The last position that is known to exist. This replica may have committed it itself.
    pub fn furthest(&self) -> Option<Cursor> {
        let ahead = self.read().ahead.last_number().unwrap_or_default();
        self.place().map(|place| Cursor { number: place.number.max(ahead), ..place })
    }

    /// The number of rows in memory.
    pub fn len(&self) -> usize {
        self.read().rows.len()
    }

    #[cfg(feature = "internals")]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The first `max` rows after a number. `None` if some of them were removed, or the list never
    /// reached the number.
    pub fn after(&self, number: i64, max: usize) -> Option<IndexPart> {
        let state = self.read();
        (state.forgotten..=state.last).contains(&number).then(|| state.part(number, max))
    }

    /// The first `max` rows in memory after a number. With 0, the start of a snapshot.
    pub fn held(&self, number: i64, max: usize) -> IndexPart {
        self.read().part(number, max)
    }

    /// Whether a complete list with the same name can be the current state of the known list: no
    /// row after `purged` is missing, and known rows are equal.
    pub fn agrees(&self, newer: &NewList, last: i64, purged: i64) -> bool {
        let there = newer.rows.count_after(purged);
        let complete = i64::try_from(there).is_ok_and(|there| there == (last - purged).max(0));
        let state = self.read();
        complete && !newer.rows.missing_in(&state.rows).any(|row| state.differs(&row))
    }

    /// Replaces the list. Revocations that are missing in the new list stay in force until they
    /// expire.
    pub fn replace(&self, feed: &str, last: i64, forgotten: i64, newer: NewList) {
        let NewList { rows, in_force } = newer;
        let feed = feed.to_owned();
        let mut state =
            IndexState { feed, last, forgotten, rows, in_force, ..IndexState::default() };
        // Readers continue meanwhile. This task is the only writer, except for rows that this
        // replica commits, which are added below.
        {
            let held = self.read();
            let earlier = held.carried_over.rows.after(0);
            for row in held.rows.missing_in(&state.rows).chain(earlier) {
                state.carried_over.add(row, &mut state.in_force);
            }
        }
        state.note_newest();
        let mut held = self.write();
        let same_list = held.feed == state.feed;
        for row in std::mem::take(&mut held.ahead).after(0) {
            if same_list {
                state.commit(row);
            } else {
                state.carry_over(row);
            }
        }
        let before = std::mem::replace(&mut *held, state);
        // The old state may be large, so it is freed after the lock is released.
        drop(held);
        drop(before);
    }

    /// Moves to a number without rows for it. The rows in between have expired.
    pub fn pass(&self, number: i64) {
        let mut state = self.write();
        if number > state.last {
            state.last = number;
            state.forgotten = number;
        }
    }

    /// Adds the next rows, up to the number `last`. Rows that are already known must be equal: a
    /// database that lost its latest commits assigns their numbers to other rows.
    pub fn extend(&self, rows: Vec<Revocation>, last: i64) -> Result<(), Gap> {
        let mut state = self.write();
        let mut next = state.last + 1;
        let (known, new): (Vec<_>, Vec<_>) = rows.into_iter().partition(|row| row.number < next);
        if known.iter().any(|row| state.differs(row)) {
            return Err(Gap);
        }
        for row in &new {
            if row.number != next {
                return Err(Gap);
            }
            next += 1;
        }
        if next <= last {
            return Err(Gap);
        }
        for row in new {
            state.add(row);
        }
        state.last = next - 1;
        state.note_newest();
        Ok(())
    }

    /// Applies rows that this replica committed, even if rows before them are still unknown.
    pub fn apply(&self, rows: &[Revocation]) {
        let mut state = self.write();
        for row in rows {
            state.commit(row.clone());
        }
    }

    /// Removes rows that expired by `end`.
    pub fn forget(&self, end: Timestamp) {
        // In small steps, so that readers do not wait long.
        while self.write().forget(end, MAX_REMOVED) {}
    }

    fn read(&self) -> RwLockReadGuard<'_, IndexState> {
        // A poisoned lock is fine: every step of a change leaves all revocations in force.
        self.0.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn write(&self) -> RwLockWriteGuard<'_, IndexState> {
        self.0.write().unwrap_or_else(PoisonError::into_inner)
    }
}

impl IndexState {
    fn revokes(&self, revocation_keys: &RevocationKeys<'_>) -> bool {
        let token = revocation_keys.token.and_then(TokenId::parse);
        token.is_some_and(|token| self.revokes_token(token))
            || self.in_force.revokes(revocation_keys)
    }

    fn revokes_token(&self, token: TokenId) -> bool {
        [&self.rows, &self.ahead, &self.carried_over.rows].iter().any(|rows| rows.revokes(token))
    }

    /// Removes some rows that expired by `end`. Returns whether there may be more.
    fn forget(&mut self, end: Timestamp, max: usize) -> bool {
        if let Some(number) = self.rows.forget(end, max, &mut self.in_force) {
            self.forgotten = self.forgotten.max(number);
            return true;
        }
        self.carried_over.rows.forget(end, max, &mut self.in_force).is_some()
    }

    fn part(&self, number: i64, max: usize) -> IndexPart {
        let mut rows = self.rows.after(number);
        let revocations: Vec<_> = rows.by_ref().take(max).collect();
        let more = rows.next().is_some();
        let last = match revocations.last() {
            Some(row) if more => row.number,
            _ => self.last,
        };
        IndexPart { feed: self.feed.clone(), revocations, last, more }
    }

    /// The row with this number, if it is known.
    fn known(&self, number: i64) -> Option<Revocation> {
        let newest = || self.newest.clone().filter(|row| row.number == number);
        self.rows.get(number).or_else(newest)
    }

    /// Whether a different row with the same number is known.
    fn differs(&self, row: &Revocation) -> bool {
        self.known(row.number).is_some_and(|known| known != *row)
    }

    /// Adds a row of the list.
    fn add(&mut self, row: Revocation) {
        if let Some(committed) = self.ahead.take(row.number)
            && committed != row
        {
            self.carry_over(committed);
        }
        self.rows.insert(row, &mut self.in_force);
    }

    fn note_newest(&mut self) {
        if let Some(row) = self.rows.get(self.last) {
            self.newest = Some(row);
        }
    }

    /// Adds a row that this replica committed.
    fn commit(&mut self, row: Revocation) {
        match self.known(row.number) {
            Some(known) if known == row => {}
            None if row.number > self.last => {
                if let Some(other) = self.ahead.take(row.number)
                    && other != row
                {
                    self.carry_over(other);
                }
                self.ahead.insert(row, &mut self.in_force);
            }
            _ => self.carry_over(row),
        }
    }

    /// Keeps a row in force that is not in the list.
    fn carry_over(&mut self, row: Revocation) {
        self.carried_over.add(row, &mut self.in_force);
    }
}

impl CarriedOver {
    fn add(&mut self, row: Revocation, in_force: &mut InForce) {
        self.last += 1;
        self.rows.insert(Revocation { number: self.last, ..row }, in_force);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::{CredentialId, Epochs};

    const CREDENTIAL: &str = "0123456789abcdef0123456789abcdef";

    fn row(number: i64, kind: &str, name: &str, epoch: i64) -> Revocation {
        Revocation {
            number,
            subject: Subject::parse(kind, name).unwrap(),
            epoch,
            revoked_at: Timestamp::UNIX_EPOCH,
            expires_at: Timestamp::from_second(1000 + number).unwrap(),
        }
    }

    fn revocation_keys(tenant: i64, application: i64, credential: i64) -> RevocationKeys<'static> {
        RevocationKeys {
            tenant: "acme",
            application: "tenants/acme/applications/crm",
            credential: CREDENTIAL,
            token: Some("jti"),
            signing_key: Some("kid"),
            epochs: Epochs { tenant, application, credential },
            parents: &[],
        }
    }

    fn index(rows: Vec<Revocation>) -> Index {
        let index = Index::default();
        let last = rows.last().map_or(0, |row| row.number);
        index.extend(rows, last).unwrap();
        index
    }

    #[test]
    fn older_epoch_is_revoked_and_nothing_else() {
        let credential = format!("tenants/acme/applications/crm/credentials/{CREDENTIAL}");
        let cases = [
            (
                row(1, "tenant", "tenants/acme", 2),
                revocation_keys(1, 9, 9),
                revocation_keys(2, 0, 0),
            ),
            (
                row(1, "application", "tenants/acme/applications/crm", 2),
                revocation_keys(9, 1, 9),
                revocation_keys(0, 2, 0),
            ),
            (
                row(1, "credential", &credential, 2),
                revocation_keys(9, 9, 1),
                revocation_keys(0, 0, 2),
            ),
        ];
        for (row, older, current) in cases {
            let index = index(vec![row.clone()]);
            assert!(index.revokes(&older), "{row:?}");
            assert!(!index.revokes(&current), "{row:?}");
            let foreign = RevocationKeys {
                tenant: "acm",
                application: "tenants/acme/applications/cr",
                credential: "",
                ..older
            };
            assert!(!index.revokes(&foreign), "{row:?}");
        }
        let key = index(vec![row(1, "signing_key", "signingKeys/kid", 0)]);
        assert!(key.revokes(&revocation_keys(9, 9, 9)) && key.revokes_key("kid"));
        assert!(!key.revokes(&revocation_keys(0, 0, 0).signed_by("other")));
        let api_key = RevocationKeys { signing_key: None, ..revocation_keys(0, 0, 0) };
        assert!(!key.revokes(&api_key));
        key.forget(Timestamp::from_second(1001).unwrap());
        assert!(!key.revokes_key("kid"), "it has ended");
        let one = index(vec![row(1, "token", "jti", 0)]);
        assert!(one.revokes(&revocation_keys(9, 9, 9)));
        assert!(!one.revokes(&RevocationKeys { token: Some("other"), ..revocation_keys(0, 0, 0) }));
    }

    #[test]
    fn list_with_a_gap_is_refused() {
        let known = index(vec![row(1, "tenant", "tenants/acme", 1)]);
        assert_eq!(known.extend(vec![row(3, "tenant", "tenants/b", 1)], 3), Err(Gap));
        assert_eq!(known.extend(Vec::new(), 2), Err(Gap), "row 2 was not sent");
        assert_eq!(known.last(), 1);
        let again = vec![row(1, "tenant", "tenants/acme", 1), row(2, "tenant", "tenants/b", 1)];
        assert_eq!(known.extend(again, 2), Ok(()));
        assert_eq!((known.last(), known.len()), (2, 2));
        let other = vec![row(2, "tenant", "tenants/c", 1), row(3, "tenant", "tenants/d", 1)];
        assert_eq!(known.extend(other, 3), Err(Gap), "row 2 differs");
        assert_eq!((known.last(), known.len()), (2, 2));
    }

    #[test]
    fn rows_that_expired_before_they_were_sent_are_no_gap() {
        let known = index(vec![row(1, "tenant", "tenants/acme", 1)]);
        known.pass(3);
        assert_eq!(known.last(), 3);
        assert_eq!(known.extend(vec![row(4, "tenant", "tenants/b", 1)], 4), Ok(()));
        known.pass(2);
        assert_eq!(known.last(), 4, "the position never moves back");
        assert!(known.after(2, 10).is_none() && known.after(3, 10).is_some());
    }

    #[test]
    fn credential_is_matched_by_its_id() {
        let id = CredentialId::parse(CREDENTIAL).unwrap();
        let known = index(vec![Revocation {
            subject: Subject::Client(id),
            ..row(1, "tenant", "tenants/acme", 2)
        }]);
        assert!(
            known.revokes(&revocation_keys(9, 9, 1)) && !known.revokes(&revocation_keys(0, 0, 2))
        );
    }

    #[test]
    fn expired_rows_are_removed_and_others_stay() {
        let index = index(vec![
            row(1, "tenant", "tenants/acme", 1),
            row(2, "token", "jti", 0),
            row(3, "tenant", "tenants/acme", 2),
        ]);
        let at = |second| Timestamp::from_second(second).unwrap();
        index.forget(at(1002));
        assert!(index.revokes(&revocation_keys(1, 0, 0)), "row 3 still revokes it");
        assert!(!index.revokes(&revocation_keys(2, 0, 0)));
        assert_eq!(index.len(), 1);
        index.forget(at(1003));
        assert!(!index.revokes(&revocation_keys(0, 0, 0)));
        assert_eq!((index.len(), index.last()), (0, 3));
    }

    #[test]
    fn reader_continues_unless_its_rows_were_removed() {
        let index = index((1..=5).map(|n| row(n, "tenant", "tenants/acme", n)).collect());
        let numbers =
            |part: &IndexPart| part.revocations.iter().map(|r| r.number).collect::<Vec<_>>();
        let part = index.after(0, 2).unwrap();
        assert_eq!((numbers(&part), part.last, part.more), (vec![1, 2], 2, true));
        let part = index.after(part.last, 10).unwrap();
        assert_eq!((numbers(&part), part.last, part.more), (vec![3, 4, 5], 5, false));
        assert!(index.after(5, 10).unwrap().revocations.is_empty());
        assert!(index.after(6, 10).is_none(), "beyond the end of the list");
        index.forget(Timestamp::from_second(1002).unwrap());
        assert!(index.after(1, 10).is_none(), "row 2 was removed");
        assert_eq!(numbers(&index.after(2, 10).unwrap()), [3, 4, 5]);
        assert_eq!(numbers(&index.held(0, 10)), [3, 4, 5]);
    }

    #[test]
    fn replaced_list_keeps_revocations_that_the_new_one_lacks() {
        let index = index(vec![
            row(1, "tenant", "tenants/acme", 5),
            row(2, "token", "jti", 0),
            row(3, "application", "tenants/acme/applications/crm", 2),
        ]);
        let at = |second| Timestamp::from_second(second).unwrap();
        // A restored backup: its last two rows are missing, and one number belongs to another row.
        let restored = vec![
            Revocation { epoch: 3, expires_at: at(1002), ..row(1, "tenant", "tenants/acme", 3) },
            row(2, "tenant", "tenants/b", 1),
        ];
        index.replace("declared", 2, 0, restored.into_iter().collect());
        assert_eq!((index.last(), index.len()), (2, 2));
        assert!(
            index.revokes(&revocation_keys(4, 9, 9)) && index.revokes(&revocation_keys(9, 1, 9))
        );
        let token = RevocationKeys { application: "", tenant: "", ..revocation_keys(9, 9, 9) };
        assert!(index.revokes(&token));
        index.forget(at(1001));
        let tenant = |epoch| RevocationKeys { token: None, ..revocation_keys(epoch, 9, 9) };
        assert!(index.revokes(&tenant(2)), "the new list revokes it for longer");
        assert!(!index.revokes(&tenant(3)), "the old revocation has expired");
        index.forget(at(1003));
        assert!(!index.revokes(&tenant(0)) && !index.revokes(&token));
    }

    #[test]
    fn committed_row_stays_in_force_if_the_list_never_contains_it() {
        let index = index(vec![row(1, "tenant", "tenants/a", 1)]);
        index.replace("list", 1, 0, NewList::from_iter([row(1, "tenant", "tenants/a", 1)]));
        index.apply(&[row(2, "token", "jti", 0)]);
        assert!(index.revokes(&revocation_keys(9, 9, 9)));
        assert_eq!(index.furthest().unwrap().number, 2);
        assert_eq!(index.place().unwrap().number, 1);
        index.extend(vec![row(2, "tenant", "tenants/b", 1)], 2).unwrap();
        assert!(index.revokes(&revocation_keys(9, 9, 9)), "another row has its number");
        index.forget(Timestamp::from_second(1002).unwrap());
        assert!(!index.revokes(&revocation_keys(9, 9, 9)));
    }

    #[test]
    fn list_agrees_unless_rows_differ_or_are_missing_unpurged() {
        let rows = |numbers: &[i64]| -> Vec<_> {
            numbers.iter().map(|n| row(*n, "tenant", "tenants/acme", *n)).collect()
        };
        let list = |numbers: &[i64]| rows(numbers).into_iter().collect::<NewList>();
        let different = NewList::from_iter([row(3, "tenant", "tenants/b", 3)]);
        let index = index(rows(&[1, 2, 3]));
        assert!(index.agrees(&list(&[1, 2, 3]), 3, 0));
        assert!(index.agrees(&list(&[1, 3, 4]), 4, 2), "row 2 was purged");
        assert!(!index.agrees(&list(&[1, 3]), 3, 1), "row 2 is missing");
        assert!(!index.agrees(&different, 3, 2), "row 3 differs");
        index.forget(Timestamp::from_second(1003).unwrap());
        assert!(!index.agrees(&different, 3, 2), "an expired row counts");
    }
}
