//! What is revoked, in memory: a look-up takes no I/O and no more than a moment. The same
//! index serves a replica and a verifier that follows the list from outside.
//!
//! An index never forgets what is still in force. When another list takes the place of the one
//! that is held, revocations that the new list lacks stay in force until they lapse.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};

use jiff::Timestamp;

use super::Cursor;
use super::in_force::InForce;
use crate::domain::{Minted, Revocation, Subject};

/// How many are forgotten at once.
const MOST_FORGOTTEN: usize = 1000;

/// The list of revocations, with what it says of each token.
#[derive(Debug, Default)]
pub struct Index(RwLock<State>);

/// Revocations do not follow those that are known: some between them are missing, or those
/// that are known are others.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Gap;

/// A part of the list.
#[derive(Clone, Debug)]
pub struct Part {
    /// Names the list.
    pub feed: String,
    /// The revocations, in order.
    pub revocations: Vec<Arc<Revocation>>,
    /// Where the list goes on behind them.
    pub last: i64,
    /// Whether there was more.
    pub more: bool,
}

#[derive(Debug, Default)]
struct State {
    /// Names the list.
    feed: String,
    /// All up to this number are known.
    last: i64,
    /// Of those up to this number some have lapsed and are forgotten.
    forgotten: i64,
    rows: BTreeMap<i64, Arc<Revocation>>,
    /// The rows by when they lapse.
    ends: BTreeSet<(Timestamp, i64)>,
    /// The row of the last number, also when it has lapsed: it shows whether a database has the
    /// same list.
    newest: Option<Arc<Revocation>>,
    /// Rows that this replica made durable, before all in front of them are known.
    ahead: BTreeMap<i64, Arc<Revocation>>,
    /// Rows in force that stood in a list that was held before, by when they lapse. The second
    /// part tells those apart that lapse at the same moment.
    strays: BTreeMap<(Timestamp, u64), Arc<Revocation>>,
    next_stray: u64,
    in_force: InForce,
}

impl Index {
    /// Whether what was minted so is revoked.
    pub fn revokes(&self, minted: &Minted<'_>) -> bool {
        self.read().in_force.revokes(minted)
    }

    /// The epoch below which tokens of a subject are revoked; 0 when none is.
    pub fn epoch(&self, subject: &Subject) -> i64 {
        self.read().in_force.epoch(subject)
    }

    /// The number up to which all revocations are known.
    pub fn last(&self) -> i64 {
        self.read().last
    }

    /// The name of the list.
    pub fn feed(&self) -> String {
        self.read().feed.clone()
    }

    /// Up to where all revocations are known; `None` before a list was read.
    pub fn place(&self) -> Option<Cursor> {
        let state = self.read();
        (!state.feed.is_empty()).then(|| Cursor { feed: state.feed.clone(), number: state.last })
    }

    /// The furthest place that is known to exist, which this replica may have made itself.
    pub fn furthest(&self) -> Option<Cursor> {
        let ahead = self.read().ahead.last_key_value().map_or(0, |(number, _)| *number);
        self.place().map(|place| Cursor { number: place.number.max(ahead), ..place })
    }

    /// How many revocations of the list are held.
    pub fn len(&self) -> usize {
        self.read().rows.len()
    }

    /// Whether none is held.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The first `most` revocations behind a number; `None` where some behind it have been
    /// forgotten, or where the list never went so far.
    pub fn after(&self, number: i64, most: usize) -> Option<Part> {
        let state = self.read();
        (state.forgotten..=state.last).contains(&number).then(|| state.part(number, most))
    }

    /// The first `most` revocations that are held behind a number: with 0 the beginning of
    /// a snapshot.
    pub fn held(&self, number: i64, most: usize) -> Part {
        self.read().part(number, most)
    }

    /// Whether a whole list of the same name can be the one that is held, or what it has become:
    /// nothing is missing behind `purged`, and what is known of it is the same.
    pub fn agrees(&self, rows: &[Revocation], last: i64, purged: i64) -> bool {
        let state = self.read();
        let there = rows.iter().filter(|row| row.number > purged).count();
        let complete = i64::try_from(there).is_ok_and(|there| there == (last - purged).max(0));
        complete && !rows.iter().any(|row| state.differs(row))
    }

    /// Takes a whole list in place of the one that is held. What that one had and this one
    /// lacks stays in force until it lapses.
    pub fn replace(&self, feed: &str, last: i64, forgotten: i64, rows: Vec<Revocation>) {
        let mut state = State { feed: feed.to_owned(), last, forgotten, ..State::default() };
        for row in rows {
            state.add(Arc::new(row));
        }
        // Others look tokens up meanwhile. No one but this writes rows, except for what this
        // replica commits, which is added below.
        let lacking: Vec<_> = {
            let held = self.read();
            let lacking = held.rows.values().filter(|row| state.rows.get(&row.number) != Some(row));
            lacking.chain(held.strays.values()).cloned().collect()
        };
        for row in lacking {
            state.stray(row);
        }
        state.note_newest();
        let mut held = self.write();
        let same_list = held.feed == state.feed;
        for row in std::mem::take(&mut held.ahead).into_values() {
            if same_list {
                state.commit(row);
            } else {
                state.stray(row);
            }
        }
        let before = std::mem::replace(&mut *held, state);
        // It may be large: its memory is given back when others do not wait for the lock.
        drop(held);
        drop(before);
    }

    /// Moves to a number though nothing was brought up to it: what is missing in front of it
    /// had lapsed before.
    pub fn pass(&self, number: i64) {
        let mut state = self.write();
        if number > state.last {
            state.last = number;
            state.forgotten = number;
        }
    }

    /// Adds what follows, up to the number `last`. What is brought once more must be as it is
    /// known: a database that has lost its last moments gives their numbers to others.
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
            state.add(Arc::new(row));
        }
        state.last = next - 1;
        state.note_newest();
        Ok(())
    }

    /// Applies revocations that this replica made durable, before all in front of them are
    /// known.
    pub fn apply(&self, rows: &[Revocation]) {
        let mut state = self.write();
        for row in rows {
            state.commit(Arc::new(row.clone()));
        }
    }

    /// Forgets what lapsed by `end`.
    pub fn forget(&self, end: Timestamp) {
        // Some at a time, so that those who ask never wait for many.
        while self.write().forget(end, MOST_FORGOTTEN) {}
    }

    fn read(&self) -> RwLockReadGuard<'_, State> {
        // Every change leaves a list that refuses all that it refused before.
        self.0.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn write(&self) -> RwLockWriteGuard<'_, State> {
        self.0.write().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    /// Forgets the first `most` that lapsed by then; whether there may be more.
    fn forget(&mut self, end: Timestamp, most: usize) -> bool {
        for _ in 0..most {
            if let Some((ends, number)) = self.ends.first().copied().filter(|(at, _)| *at <= end) {
                self.ends.remove(&(ends, number));
                if let Some(row) = self.rows.remove(&number) {
                    self.forgotten = self.forgotten.max(number);
                    self.in_force.remove(&row);
                }
                continue;
            }
            match self.strays.first_entry() {
                Some(stray) if stray.key().0 <= end => {
                    let row = stray.remove();
                    self.in_force.remove(&row);
                }
                _ => return false,
            }
        }
        true
    }

    fn part(&self, number: i64, most: usize) -> Part {
        let mut rows = self.rows.range(number.saturating_add(1)..);
        let revocations: Vec<_> =
            rows.by_ref().take(most).map(|(_, row)| Arc::clone(row)).collect();
        let more = rows.next().is_some();
        let last = match revocations.last() {
            Some(row) if more => row.number,
            _ => self.last,
        };
        Part { feed: self.feed.clone(), revocations, last, more }
    }

    /// The row of a number, as far as it is known.
    fn known(&self, number: i64) -> Option<&Revocation> {
        let newest = self.newest.as_ref().filter(|row| row.number == number);
        self.rows.get(&number).or(newest).map(|row| &**row)
    }

    /// Whether another row of this number is known.
    fn differs(&self, row: &Revocation) -> bool {
        self.known(row.number).is_some_and(|known| known != row)
    }

    /// Adds a row of the list.
    fn add(&mut self, row: Arc<Revocation>) {
        if let Some(committed) = self.ahead.remove(&row.number)
            && committed != row
        {
            self.stray(committed);
        }
        self.in_force.apply(&row);
        self.ends.insert((row.expires_at, row.number));
        self.rows.insert(row.number, row);
    }

    fn note_newest(&mut self) {
        if let Some((number, row)) = self.rows.last_key_value()
            && *number == self.last
        {
            self.newest = Some(Arc::clone(row));
        }
    }

    /// Adds a row that this replica made durable.
    fn commit(&mut self, row: Arc<Revocation>) {
        match self.known(row.number) {
            Some(known) if *known == *row => {}
            None if row.number > self.last => {
                self.in_force.apply(&row);
                if let Some(other) = self.ahead.insert(row.number, row) {
                    self.stray(other);
                }
            }
            _ => self.stray(row),
        }
    }

    /// Keeps a row in force that does not stand in the list.
    fn stray(&mut self, row: Arc<Revocation>) {
        self.in_force.apply(&row);
        self.next_stray += 1;
        self.strays.insert((row.expires_at, self.next_stray), row);
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

    fn minted(tenant: i64, application: i64, credential: i64) -> Minted<'static> {
        Minted {
            tenant: "acme",
            application: "tenants/acme/applications/crm",
            credential: CREDENTIAL,
            token: Some("jti"),
            epochs: Epochs { tenant, application, credential },
        }
    }

    fn index(rows: Vec<Revocation>) -> Index {
        let index = Index::default();
        let last = rows.last().map_or(0, |row| row.number);
        index.extend(rows, last).unwrap();
        index
    }

    #[test]
    fn what_is_older_than_an_epoch_is_revoked_and_nothing_else() {
        let credential = format!("tenants/acme/applications/crm/credentials/{CREDENTIAL}");
        let cases = [
            (row(1, "tenant", "tenants/acme", 2), minted(1, 9, 9), minted(2, 0, 0)),
            (
                row(1, "application", "tenants/acme/applications/crm", 2),
                minted(9, 1, 9),
                minted(0, 2, 0),
            ),
            (row(1, "credential", &credential, 2), minted(9, 9, 1), minted(0, 0, 2)),
        ];
        for (row, older, current) in cases {
            let index = index(vec![row.clone()]);
            assert!(index.revokes(&older), "{row:?}");
            assert!(!index.revokes(&current), "{row:?}");
            let foreign = Minted {
                tenant: "acm",
                application: "tenants/acme/applications/cr",
                credential: "",
                ..older
            };
            assert!(!index.revokes(&foreign), "{row:?}");
        }
        let one = index(vec![row(1, "token", "jti", 0)]);
        assert!(one.revokes(&minted(9, 9, 9)));
        assert!(!one.revokes(&Minted { token: Some("other"), ..minted(0, 0, 0) }));
    }

    #[test]
    fn a_list_with_a_hole_is_not_taken() {
        let known = index(vec![row(1, "tenant", "tenants/acme", 1)]);
        assert_eq!(known.extend(vec![row(3, "tenant", "tenants/b", 1)], 3), Err(Gap));
        assert_eq!(known.extend(Vec::new(), 2), Err(Gap), "there is one that was not brought");
        assert_eq!(known.last(), 1);
        let again = vec![row(1, "tenant", "tenants/acme", 1), row(2, "tenant", "tenants/b", 1)];
        assert_eq!(known.extend(again, 2), Ok(()));
        assert_eq!((known.last(), known.len()), (2, 2));
        let other = vec![row(2, "tenant", "tenants/c", 1), row(3, "tenant", "tenants/d", 1)];
        assert_eq!(known.extend(other, 3), Err(Gap), "the second was another one");
        assert_eq!((known.last(), known.len()), (2, 2));
    }

    #[test]
    fn what_had_lapsed_before_it_was_told_is_no_hole() {
        let known = index(vec![row(1, "tenant", "tenants/acme", 1)]);
        known.pass(3);
        assert_eq!(known.last(), 3);
        assert_eq!(known.extend(vec![row(4, "tenant", "tenants/b", 1)], 4), Ok(()));
        known.pass(2);
        assert_eq!(known.last(), 4, "it never goes back");
        assert!(known.after(2, 10).is_none() && known.after(3, 10).is_some());
    }

    #[test]
    fn a_credential_is_known_by_its_id_alone() {
        let id = CredentialId::parse(CREDENTIAL).unwrap();
        let known = index(vec![Revocation {
            subject: Subject::Client(id),
            ..row(1, "tenant", "tenants/acme", 2)
        }]);
        assert!(known.revokes(&minted(9, 9, 1)) && !known.revokes(&minted(0, 0, 2)));
    }

    #[test]
    fn what_has_lapsed_is_forgotten_and_what_goes_on_is_not() {
        let index = index(vec![
            row(1, "tenant", "tenants/acme", 1),
            row(2, "token", "jti", 0),
            row(3, "tenant", "tenants/acme", 2),
        ]);
        let at = |second| Timestamp::from_second(second).unwrap();
        index.forget(at(1002));
        assert!(index.revokes(&minted(1, 0, 0)), "the third still says so");
        assert!(!index.revokes(&minted(2, 0, 0)));
        assert_eq!(index.len(), 1);
        index.forget(at(1003));
        assert!(!index.revokes(&minted(0, 0, 0)));
        assert_eq!((index.len(), index.last()), (0, 3));
    }

    #[test]
    fn reader_goes_on_unless_rows_behind_it_are_forgotten() {
        let index = index((1..=5).map(|n| row(n, "tenant", "tenants/acme", n)).collect());
        let numbers = |part: &Part| part.revocations.iter().map(|r| r.number).collect::<Vec<_>>();
        let part = index.after(0, 2).unwrap();
        assert_eq!((numbers(&part), part.last, part.more), (vec![1, 2], 2, true));
        let part = index.after(part.last, 10).unwrap();
        assert_eq!((numbers(&part), part.last, part.more), (vec![3, 4, 5], 5, false));
        assert!(index.after(5, 10).unwrap().revocations.is_empty());
        assert!(index.after(6, 10).is_none(), "ahead of the list");
        index.forget(Timestamp::from_second(1002).unwrap());
        assert!(index.after(1, 10).is_none(), "the second is gone");
        assert_eq!(numbers(&index.after(2, 10).unwrap()), [3, 4, 5]);
        assert_eq!(numbers(&index.held(0, 10)), [3, 4, 5]);
    }

    #[test]
    fn replaced_list_leaves_in_force_what_the_new_one_lacks() {
        let index = index(vec![
            row(1, "tenant", "tenants/acme", 5),
            row(2, "token", "jti", 0),
            row(3, "application", "tenants/acme/applications/crm", 2),
        ]);
        let at = |second| Timestamp::from_second(second).unwrap();
        // A restored backup: the last two never were, and the number of one is another's.
        let restored = vec![
            Revocation { epoch: 3, expires_at: at(1002), ..row(1, "tenant", "tenants/acme", 3) },
            row(2, "tenant", "tenants/b", 1),
        ];
        index.replace("declared", 2, 0, restored);
        assert_eq!((index.last(), index.len()), (2, 2));
        assert!(index.revokes(&minted(4, 9, 9)) && index.revokes(&minted(9, 1, 9)));
        let token = Minted { application: "", tenant: "", ..minted(9, 9, 9) };
        assert!(index.revokes(&token));
        index.forget(at(1001));
        let tenant = |epoch| Minted { token: None, ..minted(epoch, 9, 9) };
        assert!(index.revokes(&tenant(2)), "the new list says so for longer");
        assert!(!index.revokes(&tenant(3)), "the old one said more, and has lapsed");
        index.forget(at(1003));
        assert!(!index.revokes(&tenant(0)) && !index.revokes(&token));
    }

    #[test]
    fn committed_row_stays_in_force_when_the_list_never_has_it() {
        let index = index(vec![row(1, "tenant", "tenants/a", 1)]);
        index.replace("list", 1, 0, vec![row(1, "tenant", "tenants/a", 1)]);
        index.apply(&[row(2, "token", "jti", 0)]);
        assert!(index.revokes(&minted(9, 9, 9)));
        assert_eq!(index.furthest().unwrap().number, 2);
        assert_eq!(index.place().unwrap().number, 1);
        index.extend(vec![row(2, "tenant", "tenants/b", 1)], 2).unwrap();
        assert!(index.revokes(&minted(9, 9, 9)), "another one has its number");
        index.forget(Timestamp::from_second(1002).unwrap());
        assert!(!index.revokes(&minted(9, 9, 9)));
    }

    #[test]
    fn list_agrees_unless_rows_differ_or_are_missing_unpurged() {
        let rows = |numbers: &[i64]| -> Vec<_> {
            numbers.iter().map(|n| row(*n, "tenant", "tenants/acme", *n)).collect()
        };
        let index = index(rows(&[1, 2, 3]));
        assert!(index.agrees(&rows(&[1, 2, 3]), 3, 0));
        assert!(index.agrees(&rows(&[1, 3, 4]), 4, 2), "the second was purged");
        assert!(!index.agrees(&rows(&[1, 3]), 3, 1), "the second is missing");
        assert!(!index.agrees(&[row(3, "tenant", "tenants/b", 3)], 3, 2), "it is another one");
        index.forget(Timestamp::from_second(1003).unwrap());
        assert!(!index.agrees(&[row(3, "tenant", "tenants/b", 3)], 3, 2), "though it lapsed");
    }
}
