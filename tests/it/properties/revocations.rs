//! The index of revocations does what a plain list of them would do, whatever happens to it.

use std::collections::{BTreeMap, BTreeSet};

use jiff::Timestamp;
use keyward::internals::domain::{Epochs, Revocation, RevocationKeys, Subject};
use keyward::internals::revocation::{Index, NewList};
use proptest::prelude::*;

use super::cases;

/// Two ids in the form of issued tokens, and three that only resemble it.
const TOKENS: [&str; 5] = [
    "0199f5a0c3b97d2e8f4b6a1c5d3e7f90",
    "0199f5a0c3b97d2e8f4b6a1c5d3e7f91",
    "0199F5A0C3B97D2E8F4B6A1C5D3E7F90",
    "0199f5a0c3b97d2e8f4b6a1c5d3e7f9",
    "an id that is not a UUID 32 long",
];
const TENANTS: [&str; 2] = ["tenants/acme", "tenants/other"];

/// What happens to the index.
#[derive(Clone, Debug)]
enum Step {
    /// The next rows of the list arrive: this many, of many different tokens.
    ExtendByMany(usize),
    Extend(Vec<Row>),
    /// This replica commits a row so many numbers ahead of the list.
    Commit(i64, Row),
    Forget(i64),
    /// The list is read again, in another order, without some of its last rows. Then another list
    /// can have other rows.
    Replace {
        lost: usize,
        other: Option<Vec<Row>>,
    },
    Pass(i64),
}

#[derive(Clone, Debug)]
struct Row {
    subject: usize,
    epoch: i64,
    end: i64,
    /// The verifier can receive nanoseconds.
    nanos: i32,
}

impl Row {
    fn numbered(&self, number: i64) -> Revocation {
        let (kind, name, epoch) = match TOKENS.get(self.subject) {
            Some(id) => ("token", *id, 0),
            None => ("tenant", TENANTS[self.subject - TOKENS.len()], self.epoch),
        };
        Revocation {
            number,
            subject: Subject::parse(kind, name).unwrap(),
            epoch,
            revoked_at: Timestamp::from_second(1).unwrap(),
            expires_at: Timestamp::new(self.end, self.nanos).unwrap(),
        }
    }
}

fn many(number: i64) -> Revocation {
    Revocation {
        number,
        subject: Subject::Token(format!("{number:032x}")),
        epoch: 0,
        revoked_at: Timestamp::from_second(number).unwrap(),
        expires_at: Timestamp::from_second(1 + number % 37).unwrap(),
    }
}

fn row() -> impl Strategy<Value = Row> {
    let nanos = prop_oneof![4 => Just(0), 1 => Just(1_500)];
    (0..TOKENS.len() + TENANTS.len(), 1..5_i64, 1..40_i64, nanos)
        .prop_map(|(subject, epoch, end, nanos)| Row { subject, epoch, end, nanos })
}

fn step() -> impl Strategy<Value = Step> {
    let rows = || prop::collection::vec(row(), 0..6);
    prop_oneof![
        2 => (1..1500_usize).prop_map(Step::ExtendByMany),
        4 => rows().prop_map(Step::Extend),
        4 => (1..4_i64, row()).prop_map(|(ahead, row)| Step::Commit(ahead, row)),
        2 => (0..40_i64).prop_map(Step::Forget),
        2 => (0..4_usize, prop::option::of(rows()))
            .prop_map(|(lost, other)| Step::Replace { lost, other }),
        1 => (0..3_i64).prop_map(Step::Pass),
    ]
}

/// The same as [`Index`], without any index.
#[derive(Default)]
struct Model {
    lists: u32,
    /// The number before the first row.
    first: i64,
    last: i64,
    forgotten: i64,
    rows: BTreeMap<i64, Revocation>,
    newest: Option<Revocation>,
    ahead: BTreeMap<i64, Revocation>,
    carried_over: Vec<Revocation>,
    end: i64,
}

impl Model {
    fn known(&self, number: i64) -> Option<&Revocation> {
        let newest = self.newest.as_ref().filter(|row| row.number == number);
        self.rows.get(&number).or(newest)
    }

    fn extend(&mut self, rows: &[Revocation]) {
        for row in rows {
            let committed = self.ahead.remove(&row.number);
            self.carried_over.extend(committed.filter(|committed| committed != row));
            self.rows.insert(row.number, row.clone());
            self.last = row.number;
            self.newest = Some(row.clone());
        }
    }

    fn commit(&mut self, row: Revocation) {
        match self.known(row.number) {
            Some(known) if *known == row => {}
            None if row.number > self.last => {
                self.carried_over.extend(self.ahead.insert(row.number, row));
            }
            _ => self.carried_over.push(row),
        }
    }

    fn forget(&mut self, end: Timestamp) {
        let removed = self.rows.values().filter(|row| row.expires_at <= end);
        self.forgotten = removed.map(|row| row.number).max().unwrap_or(0).max(self.forgotten);
        self.rows.retain(|_, row| row.expires_at > end);
        self.carried_over.retain(|row| row.expires_at > end);
        self.end = self.end.max(end.as_second());
    }

    fn replace(&mut self, same_list: bool, last: i64, rows: &[Revocation]) {
        let rows: BTreeMap<_, _> = rows.iter().map(|row| (row.number, row.clone())).collect();
        let missing = |row: &&Revocation| rows.get(&row.number) != Some(row);
        self.carried_over.extend(self.rows.values().filter(missing).cloned());
        self.newest = rows.get(&last).cloned();
        (self.last, self.forgotten, self.rows) = (last, 0, rows);
        for (_, row) in std::mem::take(&mut self.ahead) {
            if same_list { self.commit(row) } else { self.carried_over.push(row) }
        }
    }

    /// All revocations, and whether each must be in force. A committed row is kept after its end
    /// until its list is known; nothing depends on it then.
    fn all(&self) -> impl Iterator<Item = (&Revocation, bool)> {
        let held = self.rows.values().chain(self.ahead.values()).chain(&self.carried_over);
        held.map(|row| (row, row.expires_at > Timestamp::from_second(self.end).unwrap()))
    }

    fn feed(&self) -> String {
        format!("list.{}", self.lists)
    }
}

fn take(step: Step, index: &Index, model: &mut Model) {
    let next = model.last + 1;
    match step {
        Step::ExtendByMany(count) => {
            let rows: Vec<_> = (next..).take(count).map(many).collect();
            model.extend(&rows);
            index.extend(rows, model.last).unwrap();
        }
        Step::Extend(rows) => {
            let rows: Vec<_> = (next..).zip(&rows).map(|(n, row)| row.numbered(n)).collect();
            model.extend(&rows);
            index.extend(rows, model.last).unwrap();
        }
        Step::Commit(ahead, row) => {
            let row = row.numbered(model.last + ahead - 1);
            index.apply(std::slice::from_ref(&row));
            model.commit(row);
        }
        Step::Forget(end) => {
            let end = Timestamp::from_second(end).unwrap();
            index.forget(end);
            model.forget(end);
        }
        Step::Replace { lost, other } => {
            let kept = model.rows.len().saturating_sub(lost);
            let mut rows: Vec<_> = model.rows.values().take(kept).cloned().collect();
            let mut last = model.last;
            if let Some(other) = &other {
                model.lists += 1;
                last = rows.last().map_or(model.first, |row| row.number);
                rows.extend((last + 1..).zip(other).map(|(n, row)| row.numbered(n)));
                last += i64::try_from(other.len()).unwrap();
            }
            // Rows with odd numbers first: each of the others is then between two of them.
            rows.sort_by_key(|row| (row.number % 2 == 0, row.number));
            let newer = NewList::from_iter(rows.clone());
            index.replace(&model.feed(), last, 0, newer);
            model.replace(other.is_none(), last, &rows);
        }
        Step::Pass(by) => {
            index.pass(model.last + by);
            if by > 0 {
                model.last += by;
                model.forgotten = model.last;
            }
        }
    }
}

fn token(id: &str) -> RevocationKeys<'_> {
    let epochs = Epochs { tenant: 0, application: 0, credential: 0 };
    RevocationKeys {
        tenant: "",
        application: "",
        credential: "",
        token: Some(id),
        signing_key: None,
        epochs,
        parents: &[],
    }
}

fn compare(index: &Index, model: &Model) {
    assert_eq!((index.last(), index.len()), (model.last, model.rows.len()));
    let ahead = model.ahead.last_key_value().map_or(0, |(number, _)| *number);
    let furthest = index.furthest().map(|place| place.number);
    assert_eq!(furthest, Some(model.last.max(ahead)));

    let (mut live, mut known) = (BTreeSet::new(), BTreeSet::new());
    let mut epochs = BTreeMap::<_, (i64, i64)>::new();
    for (row, is_live) in model.all() {
        match &row.subject {
            Subject::Token(id) => {
                known.insert(id.clone());
                live.extend(is_live.then(|| id.clone()));
            }
            subject => {
                let (least, most) = epochs.entry(subject.name()).or_default();
                *most = row.epoch.max(*most);
                *least = if is_live { row.epoch.max(*least) } else { *least };
            }
        }
    }
    let some: Vec<_> =
        (model.first..model.last + 3).map(|number| format!("{number:032x}")).collect();
    for id in TOKENS.iter().copied().chain(some.iter().map(String::as_str)) {
        let revoked = index.revokes(&token(id));
        assert!(revoked || !live.contains(id), "{id} is revoked");
        assert!(!revoked || known.contains(id), "{id} is not revoked");
    }
    for name in TENANTS {
        let (least, most) = epochs.get(name).copied().unwrap_or_default();
        let epoch = index.epoch(&Subject::parse("tenant", name).unwrap());
        assert!((least..=most).contains(&epoch), "{epoch} of {name}: {least} to {most}");
    }

    let rows = |number: i64, max| model.rows.range(number + 1..).take(max).map(|(_, row)| row);
    let middle = i64::midpoint(model.first, model.last);
    for number in [0, model.first + 1, middle, model.last - 1, model.last, model.last + 1] {
        let part = index.held(number, 700);
        assert!(part.revocations.iter().eq(rows(number, 700)), "after {number}");
        let more = rows(number, 701).count() > 700;
        assert_eq!(part.more, more);
        let last = part.revocations.last().filter(|_| more).map_or(model.last, |row| row.number);
        assert_eq!(part.last, last);
        let can_continue = (model.forgotten..=model.last).contains(&number);
        let after = index.after(number, 3).map(|part| part.revocations);
        assert_eq!(after, can_continue.then(|| rows(number, 3).cloned().collect::<Vec<_>>()));
    }
}

#[test]
fn tokens_with_numbers_far_apart_are_revoked() {
    let far = i64::from(u32::MAX);
    let numbers = [1, 2, far, far + 1, far + 2, 3 * far, i64::MAX - 1];
    let id = |number: i64| format!("{number:032x}");
    let row = |number: i64| Revocation {
        number,
        subject: Subject::Token(id(number)),
        // The first one ends first.
        expires_at: Timestamp::from_second(if number == 1 { 10 } else { 20 }).unwrap(),
        ..many(1)
    };
    for backwards in [false, true] {
        let mut rows = numbers.map(row);
        if backwards {
            rows.reverse();
        }
        let index = Index::default();
        index.replace("list", i64::MAX - 1, 0, NewList::from_iter(rows));
        let held = || index.held(0, 100).revocations.iter().map(|r| r.number).collect::<Vec<_>>();
        assert_eq!(held(), numbers);
        assert!(numbers.iter().all(|number| index.revokes(&token(&id(*number)))));
        index.forget(Timestamp::from_second(10).unwrap());
        assert_eq!(held(), numbers[1..]);
        for number in numbers {
            assert_eq!(index.revokes(&token(&id(number))), number != 1, "{number}");
        }
    }
}

proptest! {
    #![proptest_config(cases(48))]

    #[test]
    fn index_does_what_a_plain_list_does(
        first in prop_oneof![Just(0), Just(i64::from(u32::MAX) - 700)],
        steps in prop::collection::vec(step(), 1..24),
    ) {
        let index = Index::default();
        let mut model = Model { first, last: first, ..Model::default() };
        index.replace(&model.feed(), first, 0, NewList::default());
        for step in steps {
            take(step, &index, &mut model);
            compare(&index, &model);
        }
    }
}
