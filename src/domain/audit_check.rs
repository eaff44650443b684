//! Verifies a hash chain: recomputes every hash, and says where and how the log differs from what
//! was written. Trusts neither the stored hashes nor their order.

use std::collections::{BTreeMap, VecDeque};
use std::fmt;

use super::{ChainHash, SignedPlace, TenantId};

/// How many of the following events are searched for the place of an event that does not fit.
const WINDOW: usize = 1000;

/// An event as a reader of the log gets it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ChainedRecord {
    pub number: i64,
    /// The JSON that the hash covers.
    pub record: String,
    /// `None`: the hash is missing.
    pub hash: Option<ChainHash>,
}

/// What is wrong with a log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ChainFault {
    /// The event differs from the one that was hashed.
    Changed(i64),
    /// The event follows correctly, but the stored hash is another one, or is missing.
    HashChanged(i64),
    /// These events are missing, and later ones exist.
    Missing(i64, i64),
    /// The event is at the place of another one.
    Reordered { at: i64, belongs_at: i64 },
    /// The log ends before its own signed head.
    TailMissing { last: i64, head: i64 },
    /// Nothing is left of a log.
    Gone { head: i64 },
    /// A head from outside is later than the log and its own head.
    RolledBack { last: i64, head: Box<SignedPlace> },
    /// The event's hash differs from a signed head: the log was written again from some event on.
    Rewritten { head: Box<SignedPlace> },
    /// A signature is wrong, or was made with a key that is not trusted.
    Signature { place: Box<SignedPlace>, key_trusted: bool },
}

impl fmt::Display for ChainFault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Changed(number) => write!(f, "event {number} was changed"),
            Self::HashChanged(number) => {
                write!(f, "the stored hash of event {number} was changed or deleted")
            }
            Self::Missing(first, last) if first == last => write!(f, "event {first} is missing"),
            Self::Missing(first, last) => write!(f, "events {first} to {last} are missing"),
            Self::Reordered { at, belongs_at } => {
                write!(f, "event {belongs_at} is at the place of event {at}")
            }
            Self::TailMissing { last, head } => write!(
                f,
                "the newest events are missing: the log ends at event {last}, and its signed head \
                 is event {head}"
            ),
            Self::Gone { head: 0 } => {
                f.write_str("the log is gone: the tenant has no event and no signed head")
            }
            Self::Gone { head } => {
                write!(f, "the log is gone: it has no event, and its signed head is event {head}")
            }
            Self::RolledBack { last, head } => write!(
                f,
                "the log was set back to an older state: it ends at event {last}, and the head of \
                 {:.6} that you gave is event {}",
                head.at, head.number
            ),
            Self::Rewritten { head } => write!(
                f,
                "the log was written again: event {} is not the one that was signed at {:.6}",
                head.number, head.at
            ),
            Self::Signature { place, key_trusted } => write!(
                f,
                "the {} at event {} {}",
                place.kind.as_str(),
                place.number,
                if *key_trusted {
                    "has a wrong signature"
                } else {
                    "is signed with a key that is not trusted"
                }
            ),
        }
    }
}

/// Follows one chain.
#[derive(Debug)]
pub struct ChainCheck {
    last: i64,
    hash: ChainHash,
    /// Signed places whose events are still to come, by number.
    ahead: BTreeMap<i64, SignedPlace>,
    /// The last event of the log does not fit: what follows is collected to find out how.
    suspect: Option<ChainedRecord>,
    following: VecDeque<ChainedRecord>,
    records: u64,
}

impl ChainCheck {
    /// A chain that goes on after the event with this number and hash.
    pub fn after(number: i64, hash: ChainHash) -> Self {
        Self {
            last: number,
            hash,
            ahead: BTreeMap::new(),
            suspect: None,
            following: VecDeque::new(),
            records: 0,
        }
    }

    /// The number of the last event that fits.
    pub fn last(&self) -> i64 {
        self.last
    }

    /// The hash of that event.
    pub fn hash(&self) -> ChainHash {
        self.hash
    }

    /// How many events fit.
    pub fn records(&self) -> u64 {
        self.records
    }

    /// Expects the log to go through a signed place, whose signature is verified.
    pub fn expect(&mut self, place: SignedPlace) -> Result<(), ChainFault> {
        if place.number == self.last && place.hash != self.hash {
            return Err(ChainFault::Rewritten { head: Box::new(place) });
        }
        match self.ahead.get(&place.number) {
            Some(other) if other.hash != place.hash => {
                return Err(ChainFault::Rewritten { head: Box::new(place) });
            }
            _ if place.number > self.last => drop(self.ahead.insert(place.number, place)),
            _ => {}
        }
        Ok(())
    }

    /// The next event of the log.
    pub fn add(&mut self, next: ChainedRecord) -> Result<(), ChainFault> {
        if self.suspect.is_some() {
            self.following.push_back(next);
            return if self.following.len() < WINDOW { Ok(()) } else { self.explain() };
        }
        let fits = next.number == self.last + 1
            && next.hash == Some(self.hash.next(&next.record))
            && has_number(&next.record, next.number);
        if !fits {
            self.suspect = Some(next);
            return Ok(());
        }
        self.last += 1;
        self.hash = next.hash.unwrap_or(self.hash);
        self.records += 1;
        match self.ahead.remove(&self.last) {
            Some(head) if head.hash != self.hash => {
                Err(ChainFault::Rewritten { head: Box::new(head) })
            }
            _ => Ok(()),
        }
    }

    /// The log has ended. `own` is the number of its own head, if it has one.
    pub fn end(&mut self, own: Option<i64>) -> Result<(), ChainFault> {
        self.explain()?;
        let Some((_, latest)) = self.ahead.pop_last() else { return Ok(()) };
        let (last, own) = (self.last, own.unwrap_or_default());
        Err(if own > last && last == 0 {
            ChainFault::Gone { head: own }
        } else if own > last {
            ChainFault::TailMissing { last, head: own }
        } else {
            ChainFault::RolledBack { last, head: Box::new(latest) }
        })
    }

    /// Explains why an event does not fit, by the events that follow it.
    fn explain(&mut self) -> Result<(), ChainFault> {
        let Some(suspect) = self.suspect.take() else { return Ok(()) };
        let expected = self.last + 1;
        if suspect.number != expected {
            let late = self.following.iter().any(|later| later.number == expected);
            return Err(if late || suspect.number < expected {
                ChainFault::Reordered { at: expected, belongs_at: suspect.number }
            } else {
                ChainFault::Missing(expected, suspect.number - 1)
            });
        }
        // Two events that changed places have each other's numbers.
        let mut before = suspect.hash;
        for later in &self.following {
            let moved = renumbered(&suspect.record, expected, later.number);
            if let (Some(before), Some(hash), Some(moved)) = (before, later.hash, moved)
                && before.next(&moved) == hash
            {
                return Err(ChainFault::Reordered { at: expected, belongs_at: later.number });
            }
            before = later.hash;
        }
        let computed = self.hash.next(&suspect.record);
        let next_fits = self.following.front().is_some_and(|next| {
            next.number == expected + 1 && next.hash == Some(computed.next(&next.record))
        });
        let is_signed = self.ahead.get(&expected).is_some_and(|head| head.hash == computed);
        Err(if next_fits || is_signed {
            ChainFault::HashChanged(expected)
        } else {
            ChainFault::Changed(expected)
        })
    }
}

/// The part of a record after its number, if it has this number.
fn after_number(record: &str, number: i64) -> Option<(&str, &str)> {
    let (before, after) = record.split_once("\"number\":")?;
    Some((before, after.strip_prefix(&number.to_string())?.strip_prefix(',')?))
}

fn has_number(record: &str, number: i64) -> bool {
    after_number(record, number).is_some()
}

fn renumbered(record: &str, from: i64, to: i64) -> Option<String> {
    let (before, after) = after_number(record, from)?;
    Some(format!("{before}\"number\":{to},{after}"))
}

/// The tenant and the number of a record.
pub fn identity(record: &str) -> Option<(TenantId, i64)> {
    #[derive(serde::Deserialize)]
    struct RecordIdentity {
        tenant: String,
        number: i64,
    }
    let RecordIdentity { tenant, number } = serde_json::from_str(record).ok()?;
    Some((TenantId::parse(&tenant).ok()?, number))
}
