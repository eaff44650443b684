//! What is revoked, in memory: a look-up takes no I/O and no more than a moment. The same
//! index serves a replica and a verifier that follows the list from outside.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::{Arc, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};

use jiff::Timestamp;

use crate::domain::{Epochs, Minted, Revocation, Subject};

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
    /// By the id of the token.
    tokens: HashMap<String, Timestamp>,
    /// Epochs, by client id, resource name of the application and id of the tenant: what
    /// the claims of a token have.
    credentials: HashMap<String, i64>,
    applications: HashMap<String, i64>,
    tenants: HashMap<String, i64>,
}

impl Index {
    /// Whether what was minted so is revoked.
    pub fn revokes(&self, minted: &Minted<'_>) -> bool {
        let state = self.read();
        let raised = |epochs: &HashMap<String, i64>, key: &str, epoch: i64| {
            epochs.get(key).is_some_and(|raised| epoch < *raised)
        };
        let Epochs { tenant, application, credential } = minted.epochs;
        raised(&state.tenants, minted.tenant, tenant)
            || raised(&state.applications, minted.application, application)
            || raised(&state.credentials, minted.credential, credential)
            || minted.token.is_some_and(|id| state.tokens.contains_key(id))
    }

    /// The number up to which all revocations are known.
    pub fn last(&self) -> i64 {
        self.read().last
    }

    /// The name of the list.
    pub fn feed(&self) -> String {
        self.read().feed.clone()
    }

    /// How many revocations are held.
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

    /// Takes a whole list in place of what is held.
    pub fn replace(&self, feed: &str, last: i64, forgotten: i64, rows: Vec<Revocation>) {
        let mut state = State { feed: feed.to_owned(), last, forgotten, ..State::default() };
        for row in rows {
            state.add(row);
        }
        // What was held may be much: it is given back when nobody waits for the lock any more.
        let held = std::mem::replace(&mut *self.write(), state);
        drop(held);
    }

    /// Takes it that there is nothing more up to a number: what is missing in front of it had
    /// lapsed before it could be told.
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
        let differs = |row: &Revocation| state.rows.get(&row.number).is_some_and(|k| **k != *row);
        if known.iter().any(differs) {
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
        Ok(())
    }

    /// Heeds revocations that are durable, before all in front of them are known.
    pub fn heed(&self, rows: &[Revocation]) {
        let mut state = self.write();
        for row in rows {
            state.heed(row);
        }
    }

    /// Forgets what says nothing any more since `end`.
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
            let Some((ends, number)) = self.ends.first().copied().filter(|(at, _)| *at <= end)
            else {
                return false;
            };
            self.ends.remove(&(ends, number));
            if let Some(row) = self.rows.remove(&number) {
                self.forgotten = self.forgotten.max(number);
                self.unheed(&row);
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

    fn add(&mut self, row: Revocation) {
        self.heed(&row);
        self.ends.insert((row.expires_at, row.number));
        self.rows.insert(row.number, Arc::new(row));
    }

    fn heed(&mut self, row: &Revocation) {
        if let Some((epochs, key)) = self.epochs(&row.subject) {
            let raised = epochs.entry(key).or_default();
            *raised = row.epoch.max(*raised);
            return;
        }
        let end = self.tokens.entry(row.subject.name()).or_insert(row.expires_at);
        *end = row.expires_at.max(*end);
    }

    /// Takes back what a row said, unless another one says more.
    fn unheed(&mut self, row: &Revocation) {
        if let Some((epochs, key)) = self.epochs(&row.subject) {
            if epochs.get(&key) == Some(&row.epoch) {
                epochs.remove(&key);
            }
            return;
        }
        let id = row.subject.name();
        if self.tokens.get(&id) == Some(&row.expires_at) {
            self.tokens.remove(&id);
        }
    }

    /// The epochs among which the subject's stands, and its key there; a token has none.
    fn epochs(&mut self, subject: &Subject) -> Option<(&mut HashMap<String, i64>, String)> {
        match subject {
            Subject::Token(_) => None,
            Subject::Credential(name) => Some((&mut self.credentials, name.credential.to_string())),
            Subject::Client(id) => Some((&mut self.credentials, id.to_string())),
            Subject::Application(name) => Some((&mut self.applications, name.to_string())),
            Subject::Tenant(id) => Some((&mut self.tenants, id.to_string())),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::CredentialId;

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
    fn a_reader_goes_on_where_he_was_and_hears_when_that_is_too_long_ago() {
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
}
