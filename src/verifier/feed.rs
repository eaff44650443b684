//! Processes the messages of `WatchRevocations`: a snapshot, which takes effect when it is
//! complete, and then changes. A message that cannot be interpreted is an error and never skipped,
//! because a list with gaps would accept revoked tokens.

use std::time::Duration;

use jiff::Timestamp;

use super::knowledge::Knowledge;
use crate::domain::{
    ApplicationName, CredentialId, Fault, Revocation, SigningKeyName, Subject, TenantId,
};
use crate::proto::access as pb;
use crate::proto::access::revocation::Revoked;
use crate::revocation::NewList;

/// How long an entry is kept after its end. A server that had not received the revocation can have
/// issued tokens a little later, and clocks differ.
const MARGIN: Duration = Duration::from_hours(1);

/// The verifier's position in the list.
#[derive(Debug, Default)]
pub(super) struct FeedPosition {
    /// The cursor of the last applied message. Empty: none.
    cursor: String,
    /// Whether the number of the last entry is exact. After a snapshot, expired entries can be
    /// missing before the next one.
    exact: bool,
    /// The part of a snapshot that has arrived.
    snapshot: Option<PartialSnapshot>,
}

#[derive(Debug, Default)]
struct PartialSnapshot {
    list: NewList,
    /// The time as of which the snapshot is complete.
    moment: Duration,
}

/// An invalid message. The stream cannot be continued.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the revocation feed is invalid: {0}")]
pub(super) struct InvalidMessage(String);

impl FeedPosition {
    /// The cursor from which a stream must continue.
    pub(super) fn cursor(&self) -> String {
        self.cursor.clone()
    }

    /// Starts a new stream: an incomplete snapshot is discarded.
    pub(super) fn begin(&mut self) {
        self.snapshot = None;
    }

    /// Forgets the position, so that the next stream starts with a snapshot.
    pub(super) fn lose(&mut self) {
        self.cursor.clear();
    }

    /// Applies a message that was sent at `sent` or later. It reports changes up to `sent` minus
    /// its staleness.
    pub(super) fn take(
        &mut self,
        message: pb::WatchRevocationsResponse,
        knowledge: &Knowledge,
        sent: Duration,
        now: Timestamp,
    ) -> Result<(), InvalidMessage> {
        let rows = message.revocations.into_iter().map(revocation);
        let rows = rows.collect::<Result<Vec<_>, _>>()?;
        // Staleness is unset if more messages follow immediately.
        let staleness = message.staleness.map(Duration::try_from).transpose();
        let staleness =
            staleness.map_err(|_| InvalidMessage("staleness is negative".to_owned()))?;
        let moment = staleness.map(|staleness| sent.saturating_sub(staleness));
        if message.snapshot {
            let snapshot = self.snapshot.get_or_insert_default();
            for row in rows {
                snapshot.list.add(row);
            }
            snapshot.moment = moment.unwrap_or_default();
            return Ok(());
        }
        match self.snapshot.take() {
            Some(PartialSnapshot { list, moment }) => {
                knowledge.replace(list, moment);
                self.exact = false;
            }
            None if self.cursor.is_empty() => {
                return Err(InvalidMessage("the first message is not a snapshot".to_owned()));
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

    /// Applies rows after the known ones.
    fn follow(
        &mut self,
        rows: Vec<Revocation>,
        knowledge: &Knowledge,
    ) -> Result<(), InvalidMessage> {
        let (Some(first), Some(last)) = (rows.first(), rows.last()) else {
            return Ok(());
        };
        let (first, last) = (first.number, last.number);
        if !self.exact {
            knowledge.index.pass(first - 1);
            self.exact = true;
        }
        let known = knowledge.index.last();
        knowledge.index.extend(rows, last).map_err(|_| {
            InvalidMessage(format!("entries {first} to {last} do not continue entry {known}"))
        })
    }
}

/// Converts an entry.
fn revocation(message: pb::Revocation) -> Result<Revocation, InvalidMessage> {
    let number = message.number;
    let broken = |what: &str| InvalidMessage(format!("{what} in revocation {number}"));
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
        Some(Revoked::KeyId(id)) => {
            named("key_id", SigningKeyName::of(&id).map(Subject::SigningKey))?
        }
        // A newer server revokes something that this version cannot represent.
        None => return Err(broken("unknown kind of subject")),
    };
    if number < 1 || message.epoch < 0 {
        return Err(broken("number or epoch out of range"));
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
    use crate::clock::Clock;
    use crate::domain::{Epochs, RevocationKeys};

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
        knowledge.index.revokes(&RevocationKeys {
            tenant,
            application: "",
            credential: "",
            token: None,
            signing_key: None,
            epochs,
            parents: &[],
        })
    }

    fn take(
        place: &mut FeedPosition,
        knowledge: &Knowledge,
        message: pb::WatchRevocationsResponse,
    ) -> Result<(), InvalidMessage> {
        place.take(message, knowledge, Duration::from_secs(5), Timestamp::UNIX_EPOCH)
    }

    #[test]
    fn snapshot_takes_effect_when_complete_and_drops_nothing_in_force() {
        let (mut place, knowledge) = (FeedPosition::default(), Knowledge::empty(&Clock::system()));
        take(&mut place, &knowledge, message(true, vec![entry(1, "old")])).unwrap();
        take(&mut place, &knowledge, message(false, vec![])).unwrap();
        assert!(revokes(&knowledge, "old"));

        place.lose();
        place.begin();
        assert_eq!(place.cursor(), "");
        take(&mut place, &knowledge, message(true, vec![entry(4, "new")])).unwrap();
        assert!(revokes(&knowledge, "old") && !revokes(&knowledge, "new"), "incomplete");
        place.begin();
        assert_eq!(place.cursor(), "", "an interrupted snapshot starts again");
        take(&mut place, &knowledge, message(true, vec![entry(5, "newer")])).unwrap();
        take(&mut place, &knowledge, message(false, vec![entry(6, "newest")])).unwrap();
        // Entries that the second snapshot lacks are kept: another server may know less.
        for (tenant, revoked) in [("old", true), ("new", false), ("newer", true), ("newest", true)]
        {
            assert_eq!(revokes(&knowledge, tenant), revoked, "{tenant}");
        }
        assert_eq!(place.cursor(), "opaque");
    }

    #[test]
    fn changes_have_no_gap_except_after_a_snapshot() {
        let (mut place, knowledge) = (FeedPosition::default(), Knowledge::empty(&Clock::system()));
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
    fn invalid_message_is_an_error() {
        let (mut place, knowledge) = (FeedPosition::default(), Knowledge::empty(&Clock::system()));
        let nameless = pb::Revocation { revoked: None, ..entry(1, "a") };
        let endless = pb::Revocation { expire_time: None, ..entry(1, "a") };
        for bad in [nameless, endless, entry(1, "No Tenant"), entry(0, "a")] {
            assert!(take(&mut place, &knowledge, message(true, vec![bad])).is_err());
        }
        let fresh = FeedPosition::default().take(
            message(false, vec![]),
            &knowledge,
            Duration::ZERO,
            Timestamp::UNIX_EPOCH,
        );
        assert!(fresh.is_err(), "the first message must be a snapshot");
        assert_eq!(knowledge.lag(), None);
    }

    #[test]
    fn message_without_staleness_confirms_nothing() {
        let (mut place, knowledge) = (FeedPosition::default(), Knowledge::empty(&Clock::system()));
        let mut take = |message| {
            place.take(message, &knowledge, Duration::from_secs(1), Timestamp::UNIX_EPOCH).unwrap();
            knowledge.lag()
        };
        let part = |message| pb::WatchRevocationsResponse { staleness: None, ..message };
        assert_eq!(take(part(message(true, vec![]))), None);
        take(part(message(false, vec![entry(1, "a")])));
        assert!(revokes(&knowledge, "a"), "its entries are applied");
        let before = take(part(message(false, vec![entry(2, "b")]))).unwrap();
        assert!(before > Duration::ZERO, "the next message confirms");
        let staleness = Some(prost_types::Duration::default());
        let all = pb::WatchRevocationsResponse { staleness, ..message(false, vec![]) };
        assert_eq!(take(all), Some(Duration::ZERO));
    }

    #[test]
    fn entry_is_dropped_an_hour_after_its_end() {
        let (mut place, knowledge) = (FeedPosition::default(), Knowledge::empty(&Clock::system()));
        take(&mut place, &knowledge, message(true, vec![entry(1, "a")])).unwrap();
        for (second, held) in [(7199, true), (7200, false)] {
            let now = Timestamp::from_second(second).unwrap();
            place.take(message(false, vec![]), &knowledge, Duration::ZERO, now).unwrap();
            assert_eq!(revokes(&knowledge, "a"), held, "{second}");
        }
    }
}
