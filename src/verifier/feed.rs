//! The messages of `WatchRevocations`, taken in: a snapshot, which counts when it is whole,
//! and then what follows. What is not understood is never passed over: a list with a hole would
//! let a revoked token through.

use std::time::Duration;

use jiff::Timestamp;

use super::knowledge::Knowledge;
use crate::domain::{ApplicationName, CredentialId, Fault, Revocation, Subject, TenantId};
use crate::proto::access as pb;
use crate::proto::access::revocation::Revoked;

/// How long after its end an entry is kept: a server that had not heard of the revocation may
/// have made tokens a little later, and clocks differ.
const MARGIN: Duration = Duration::from_hours(1);

/// Where in the list a verifier is.
#[derive(Debug, Default)]
pub(super) struct Place {
    /// The cursor of the last message that was applied; empty: at no place.
    cursor: String,
    /// Whether the number of the last entry is known: behind a snapshot, entries that had
    /// lapsed may be missing.
    exact: bool,
    /// A snapshot, as far as it has come.
    snapshot: Option<Snapshot>,
}

/// A part of a snapshot.
#[derive(Debug, Default)]
struct Snapshot {
    list: Vec<Revocation>,
    /// Of which moment it is.
    moment: Duration,
}

/// A message that cannot be: nothing that follows can be relied on.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the feed is not understood: {0}")]
pub(super) struct Broken(String);

impl Place {
    /// Where a stream has to go on.
    pub(super) fn cursor(&self) -> String {
        self.cursor.clone()
    }

    /// Another stream is read from now on: half a snapshot is of no use to it.
    pub(super) fn begin(&mut self) {
        self.snapshot = None;
    }

    /// The next stream begins with a snapshot.
    pub(super) fn lose(&mut self) {
        self.cursor.clear();
    }

    /// Takes in a message, which tells what was known at `sent` or later, less its staleness.
    pub(super) fn take(
        &mut self,
        message: pb::WatchRevocationsResponse,
        knowledge: &Knowledge,
        sent: Duration,
        now: Timestamp,
    ) -> Result<(), Broken> {
        let rows = message.revocations.into_iter().map(revocation);
        let rows = rows.collect::<Result<Vec<_>, _>>()?;
        // Where more follows at once, none is told.
        let staleness = message.staleness.map(Duration::try_from).transpose();
        let staleness = staleness.map_err(|_| Broken("staleness is negative".to_owned()))?;
        let moment = staleness.map(|staleness| sent.saturating_sub(staleness));
        if message.snapshot {
            let snapshot = self.snapshot.get_or_insert_default();
            snapshot.list.extend(rows);
            snapshot.moment = moment.unwrap_or_default();
            return Ok(());
        }
        match self.snapshot.take() {
            Some(Snapshot { list, moment }) => {
                knowledge.replace(list, moment);
                self.exact = false;
            }
            None if self.cursor.is_empty() => {
                return Err(Broken("it does not begin with a snapshot".to_owned()));
            }
            None => {}
        }
        self.follow(rows, knowledge)?;
        self.cursor = message.cursor;
        if let Some(moment) = moment {
            knowledge.confirm(moment);
        }
        knowledge.index.forget(now.saturating_sub(MARGIN).unwrap_or(Timestamp::MIN));
        Ok(())
    }

    /// Takes in what follows what is known.
    fn follow(&mut self, rows: Vec<Revocation>, knowledge: &Knowledge) -> Result<(), Broken> {
        let (Some(first), Some(last)) = (rows.first(), rows.last()) else {
            return Ok(());
        };
        let (first, last) = (first.number, last.number);
        if !self.exact {
            knowledge.index.pass(first - 1);
            self.exact = true;
        }
        let known = knowledge.index.last();
        knowledge
            .index
            .extend(rows, last)
            .map_err(|_| Broken(format!("{known} is followed by {first} to {last}")))
    }
}

/// An entry as the rules have it.
fn revocation(message: pb::Revocation) -> Result<Revocation, Broken> {
    let number = message.number;
    let broken = |what: &str| Broken(format!("{what} of the revocation {number}"));
    let named = |what, parsed: Result<Subject, Fault>| {
        parsed.map_err(|Fault(fault)| broken(&format!("{what} {fault}: that")))
    };
    let subject = match message.revoked {
        Some(Revoked::TokenId(id)) => Subject::Token(id),
        Some(Revoked::ClientId(id)) => {
            named("client_id", CredentialId::parse(&id).map(Subject::Client))?
        }
        Some(Revoked::Subject(name)) => {
            named("subject", ApplicationName::parse(&name).map(Subject::Application))?
        }
        Some(Revoked::Tenant(id)) => named("tenant", TenantId::parse(&id).map(Subject::Tenant))?,
        // A newer server has something else to revoke, which would be missed.
        None => return Err(broken("this version does not know the kind")),
    };
    if number < 1 || message.epoch < 0 {
        return Err(broken("the number or epoch is below what can be: that"));
    }
    Ok(Revocation {
        number,
        subject,
        epoch: message.epoch,
        revoked_at: moment(message.revoke_time).ok_or_else(|| broken("revoke_time"))?,
        expires_at: moment(message.expire_time).ok_or_else(|| broken("expire_time"))?,
    })
}

fn moment(timestamp: Option<prost_types::Timestamp>) -> Option<Timestamp> {
    let timestamp = timestamp?;
    Timestamp::new(timestamp.seconds, timestamp.nanos).ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::{Epochs, Minted};

    fn at(seconds: i64) -> prost_types::Timestamp {
        prost_types::Timestamp { seconds, nanos: 0 }
    }

    fn entry(number: i64, tenant: &str) -> pb::Revocation {
        pb::Revocation {
            number,
            revoked: Some(Revoked::Tenant(tenant.to_owned())),
            epoch: 1,
            revoke_time: Some(at(0)),
            expire_time: Some(at(3600)),
        }
    }

    fn message(snapshot: bool, entries: Vec<pb::Revocation>) -> pb::WatchRevocationsResponse {
        pb::WatchRevocationsResponse {
            revocations: entries,
            cursor: "opaque".to_owned(),
            snapshot,
            staleness: Some(prost_types::Duration { seconds: 1, nanos: 0 }),
        }
    }

    fn revokes(knowledge: &Knowledge, tenant: &str) -> bool {
        let epochs = Epochs { tenant: 0, application: 0, credential: 0 };
        knowledge.index.revokes(&Minted {
            tenant,
            application: "",
            credential: "",
            token: None,
            epochs,
        })
    }

    fn take(
        place: &mut Place,
        knowledge: &Knowledge,
        message: pb::WatchRevocationsResponse,
    ) -> Result<(), Broken> {
        place.take(message, knowledge, Duration::from_secs(5), Timestamp::UNIX_EPOCH)
    }

    #[test]
    fn snapshot_counts_when_whole_and_forgets_nothing_in_force() {
        let (mut place, knowledge) = (Place::default(), Knowledge::nothing());
        take(&mut place, &knowledge, message(true, vec![entry(1, "old")])).unwrap();
        take(&mut place, &knowledge, message(false, vec![])).unwrap();
        assert!(revokes(&knowledge, "old"));

        place.lose();
        place.begin();
        assert_eq!(place.cursor(), "");
        take(&mut place, &knowledge, message(true, vec![entry(4, "new")])).unwrap();
        assert!(revokes(&knowledge, "old") && !revokes(&knowledge, "new"), "not yet");
        place.begin();
        assert_eq!(place.cursor(), "", "it broke off, and begins again");
        take(&mut place, &knowledge, message(true, vec![entry(5, "newer")])).unwrap();
        take(&mut place, &knowledge, message(false, vec![entry(6, "newest")])).unwrap();
        // What the second snapshot lacks is not forgotten: another server may know less.
        for (tenant, revoked) in [("old", true), ("new", false), ("newer", true), ("newest", true)]
        {
            assert_eq!(revokes(&knowledge, tenant), revoked, "{tenant}");
        }
        assert_eq!(place.cursor(), "opaque");
    }

    #[test]
    fn what_follows_has_no_hole_but_right_behind_a_snapshot() {
        let (mut place, knowledge) = (Place::default(), Knowledge::nothing());
        take(&mut place, &knowledge, message(true, vec![entry(1, "a"), entry(5, "b")])).unwrap();
        take(&mut place, &knowledge, message(false, vec![])).unwrap();
        take(&mut place, &knowledge, message(false, vec![entry(8, "c")])).unwrap();
        let again = message(false, vec![entry(8, "c"), entry(9, "d")]);
        take(&mut place, &knowledge, again).unwrap();
        assert_eq!(knowledge.index.last(), 9);
        assert!(take(&mut place, &knowledge, message(false, vec![entry(11, "e")])).is_err());
        assert!(!revokes(&knowledge, "e"));
    }

    #[test]
    fn what_is_not_understood_is_not_passed_over() {
        let (mut place, knowledge) = (Place::default(), Knowledge::nothing());
        let nameless = pb::Revocation { revoked: None, ..entry(1, "a") };
        let endless = pb::Revocation { expire_time: None, ..entry(1, "a") };
        for bad in [nameless, endless, entry(1, "No Tenant"), entry(0, "a")] {
            assert!(take(&mut place, &knowledge, message(true, vec![bad])).is_err());
        }
        let fresh = Place::default().take(
            message(false, vec![]),
            &knowledge,
            Duration::ZERO,
            Timestamp::UNIX_EPOCH,
        );
        assert!(fresh.is_err(), "there must be a snapshot first");
        assert_eq!(knowledge.lag(), None);
    }

    #[test]
    fn what_more_follows_at_once_does_not_say_how_much_is_known() {
        let (mut place, knowledge) = (Place::default(), Knowledge::nothing());
        let mut take = |message| {
            place.take(message, &knowledge, Duration::from_secs(1), Timestamp::UNIX_EPOCH).unwrap();
            knowledge.lag()
        };
        let part = |message| pb::WatchRevocationsResponse { staleness: None, ..message };
        assert_eq!(take(part(message(true, vec![]))), None);
        take(part(message(false, vec![entry(1, "a")])));
        assert!(revokes(&knowledge, "a"), "it is applied");
        let before = take(part(message(false, vec![entry(2, "b")]))).unwrap();
        assert!(before > Duration::ZERO, "there is more");
        let staleness = Some(prost_types::Duration::default());
        let all = pb::WatchRevocationsResponse { staleness, ..message(false, vec![]) };
        assert_eq!(take(all), Some(Duration::ZERO));
    }

    #[test]
    fn an_entry_is_forgotten_an_hour_after_its_end() {
        let (mut place, knowledge) = (Place::default(), Knowledge::nothing());
        take(&mut place, &knowledge, message(true, vec![entry(1, "a")])).unwrap();
        for (second, held) in [(7199, true), (7200, false)] {
            let now = Timestamp::from_second(second).unwrap();
            place.take(message(false, vec![]), &knowledge, Duration::ZERO, now).unwrap();
            assert_eq!(revokes(&knowledge, "a"), held, "{second}");
        }
    }
}
