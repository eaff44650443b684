//! The table of refused attempts. Callers can repeat them without end, so that they must cost a
//! bounded number of events: the first attempt of a kind is an event at once, more of the kind are
//! counted, and so is everything beyond a caller's budget. One event has the count when its time is
//! over, when the table is full, or when the server stops. A crash loses what was only counted.

use std::collections::HashMap;
use std::hash::Hash;

use jiff::{SignedDuration, Timestamp};

use super::attempt::Attempt;
use crate::domain::{Actor, AuditEvent, Outcome, TenantId, UserName};
use crate::error::{Error, Need};

/// How long attempts of the same kind are only counted.
const GROUPED_FOR: SignedDuration = SignedDuration::from_mins(10);
/// The window of a caller's budget.
const BUDGET_TIME: SignedDuration = SignedDuration::from_hours(1);
/// How many kinds of refused attempts of one caller are written in that time. Each is two events at
/// most: the first attempt and a count.
const MAX_KINDS_OF_CALLER: u32 = 50;
/// How many kinds the table has: 1 to 2 KB each.
const MAX_KINDS: usize = 4096;
/// How many callers have a budget of their own.
const MAX_CALLERS: usize = 1024;
/// How many counts wait while the database does not answer.
const MAX_WAITING: usize = MAX_KINDS + MAX_CALLERS;

#[derive(Clone, Debug)]
pub(super) struct RefusedAttempt {
    pub(super) kind: RefusalKey,
    pub(super) address: Option<String>,
    /// Whether the user may not act at all: a caller can invent any number of such users.
    pub(super) unknown_user: bool,
    pub(super) at: Timestamp,
}

/// What makes two refused attempts the same: everything but the time and the address.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct RefusalKey {
    /// The tenant whose audit log has it.
    pub(super) tenant: TenantId,
    pub(super) service: String,
    pub(super) user: Option<UserName>,
    pub(super) action: String,
    pub(super) resource: String,
    pub(super) reason: String,
}

/// Who has a budget. All unknown users of a service share one.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct BudgetOwner {
    tenant: TenantId,
    service: String,
    user: Option<UserName>,
    unknown_user: bool,
}

/// Attempts of one kind without an event of their own.
#[derive(Clone, Debug)]
struct Count {
    attempts: u64,
    since: Timestamp,
    last: Timestamp,
    address: Option<String>,
}

/// What a caller has used of the budget.
#[derive(Clone, Debug)]
struct SpentBudget {
    since: Timestamp,
    kinds: u32,
    /// What exceeded it, with the last kind that did.
    beyond: Option<(RefusalKey, Count)>,
}

/// An event to write at once, and where its attempt is counted until it is written.
#[derive(Debug)]
pub(super) struct First {
    pub(super) event: AuditEvent,
    pub(super) counted: CountedPlace,
}

/// Where an attempt is counted: among those of its kind, or beyond the budget of its caller.
#[derive(Debug)]
pub(super) enum CountedPlace {
    AsKind(RefusalKey),
    Beyond(BudgetOwner),
}

/// Refused attempts that are counted, and what each caller has used of the budget.
#[derive(Debug, Default)]
pub(super) struct RefusalTable {
    kinds: HashMap<RefusalKey, Count>,
    callers: HashMap<BudgetOwner, SpentBudget>,
    /// Counts that are complete and not written yet.
    waiting: Vec<AuditEvent>,
}

impl RefusedAttempt {
    pub(super) fn new(
        tenant: TenantId,
        attempt: &Attempt<'_>,
        error: &Error,
        at: Timestamp,
    ) -> Self {
        let actor = attempt.actor();
        let kind = RefusalKey {
            tenant,
            service: actor.service,
            user: actor.user,
            action: attempt.action.to_string(),
            resource: attempt.resource.clone(),
            reason: error.to_string(),
        };
        let unknown_user = matches!(error, Error::PermissionDenied(Need::EnabledUser(_)));
        Self { kind, address: actor.address, unknown_user, at }
    }

    fn budget_owner(&self) -> BudgetOwner {
        let RefusalKey { tenant, service, user, .. } = &self.kind;
        BudgetOwner {
            tenant: tenant.clone(),
            service: service.clone(),
            user: if self.unknown_user { None } else { user.clone() },
            unknown_user: self.unknown_user,
        }
    }

    fn event(&self, detail: String) -> AuditEvent {
        self.kind.event(self.at, self.address.clone(), detail)
    }
}

impl RefusalKey {
    fn event(&self, at: Timestamp, address: Option<String>, detail: String) -> AuditEvent {
        AuditEvent {
            tenant: self.tenant.clone(),
            number: 0,
            at,
            actor: Actor { service: self.service.clone(), user: self.user.clone(), address },
            action: self.action.clone(),
            resource: self.resource.clone(),
            outcome: Outcome::Refused,
            detail,
            changes: Vec::new(),
        }
    }
}

impl Count {
    fn first(refusal: &RefusedAttempt) -> Self {
        let (at, address) = (refusal.at, refusal.address.clone());
        Self { attempts: 1, since: at, last: at, address }
    }

    fn add(&mut self, refusal: &RefusedAttempt) {
        self.attempts += 1;
        self.last = refusal.at;
        self.address.clone_from(&refusal.address);
    }

    fn words(&self, what: &str) -> String {
        let Self { attempts, since, last, .. } = self;
        let each = if *attempts == 1 { "attempt has" } else { "attempts have" };
        format!("{attempts} {what} {each} no event of their own, from {since:.0} to {last:.0}")
    }

    /// The event that says how many of a kind there were, if there were any.
    fn of_kind(self, kind: &RefusalKey) -> Option<AuditEvent> {
        let detail = format!("{}; {}", kind.reason, self.words("more such"));
        (self.attempts > 0).then(|| kind.event(self.last, self.address, detail))
    }

    /// The event that says how many went beyond a caller's budget.
    fn beyond(self, kind: &RefusalKey) -> Option<AuditEvent> {
        let detail = format!("{}; {}", kind.reason, self.words("more refused"));
        (self.attempts > 0).then(|| kind.event(self.last, self.address, detail))
    }
}

impl SpentBudget {
    fn count(self) -> Option<AuditEvent> {
        let (kind, count) = self.beyond?;
        count.beyond(&kind)
    }
}

/// Whether the time since then is over. A clock that was set back ends it too.
fn is_over(since: Timestamp, now: Timestamp, time: SignedDuration) -> bool {
    now < since || now.duration_since(since) >= time
}

/// The key of the oldest entry, if there is no room for one more.
fn oldest<K: Clone + Eq + Hash, V>(
    map: &HashMap<K, V>,
    room: usize,
    since: impl Fn(&V) -> Timestamp,
) -> Option<K> {
    let full = map.len() >= room;
    let oldest = full.then(|| map.iter().min_by_key(|(_, value)| since(value))).flatten();
    oldest.map(|(key, _)| key.clone())
}

impl RefusalTable {
    /// Counts an attempt. The event, if it is one to be written at once.
    pub(super) fn note(&mut self, refusal: &RefusedAttempt) -> Option<First> {
        if let Some(count) = self.kinds.get_mut(&refusal.kind) {
            if !is_over(count.since, refusal.at, GROUPED_FOR) {
                count.add(refusal);
                return None;
            }
            self.end_kind(&refusal.kind);
        }
        let owner = refusal.budget_owner();
        if self.budget(&owner, refusal.at).kinds < MAX_KINDS_OF_CALLER {
            if let Some(kind) = oldest(&self.kinds, MAX_KINDS, |count| count.since) {
                self.end_kind(&kind);
            }
            self.budget(&owner, refusal.at).kinds += 1;
            self.kinds.insert(refusal.kind.clone(), Count::first(refusal));
            let event = refusal.event(refusal.kind.reason.clone());
            return Some(First { event, counted: CountedPlace::AsKind(refusal.kind.clone()) });
        }
        let spent = self.budget(&owner, refusal.at);
        if let Some((last, count)) = &mut spent.beyond {
            *last = refusal.kind.clone();
            count.add(refusal);
            return None;
        }
        spent.beyond = Some((refusal.kind.clone(), Count::first(refusal)));
        let end = spent.since.saturating_add(BUDGET_TIME).unwrap_or(Timestamp::MAX);
        let detail = format!(
            "{}; more refused attempts of this caller are only counted until {end:.0}",
            refusal.kind.reason
        );
        Some(First { event: refusal.event(detail), counted: CountedPlace::Beyond(owner) })
    }

    /// The budget of a caller, which begins with the first refused attempt.
    fn budget(&mut self, owner: &BudgetOwner, now: Timestamp) -> &mut SpentBudget {
        let known = self.callers.get(owner);
        if known.is_some_and(|spent| is_over(spent.since, now, BUDGET_TIME)) {
            self.end_caller(owner);
        } else if known.is_none()
            && let Some(oldest) = oldest(&self.callers, MAX_CALLERS, |spent| spent.since)
        {
            self.end_caller(&oldest);
        }
        let new = || SpentBudget { since: now, kinds: 0, beyond: None };
        self.callers.entry(owner.clone()).or_insert_with(new)
    }

    /// An event was written: its attempt needs to be counted no more.
    pub(super) fn written(&mut self, counted: &CountedPlace) {
        let count = match counted {
            CountedPlace::AsKind(kind) => self.kinds.get_mut(kind),
            CountedPlace::Beyond(owner) => {
                let spent = self.callers.get_mut(owner);
                spent.and_then(|spent| spent.beyond.as_mut()).map(|(_, count)| count)
            }
        };
        if let Some(count) = count {
            count.attempts = count.attempts.saturating_sub(1);
        }
    }

    fn end_kind(&mut self, kind: &RefusalKey) {
        let count = self.kinds.remove(kind).and_then(|count| count.of_kind(kind));
        self.wait(count);
    }

    fn end_caller(&mut self, owner: &BudgetOwner) {
        let count = self.callers.remove(owner).and_then(SpentBudget::count);
        self.wait(count);
    }

    pub(super) fn wait(&mut self, events: impl IntoIterator<Item = AuditEvent>) {
        for event in events {
            if self.waiting.len() < MAX_WAITING {
                self.waiting.push(event);
            } else {
                let (tenant, detail) = (&event.tenant, &event.detail);
                tracing::warn!(%tenant, detail, "a count of refused attempts is lost");
            }
        }
    }

    /// Takes the counts that are complete at this moment; all of them, if there is none.
    pub(super) fn take(&mut self, now: Option<Timestamp>) -> Vec<AuditEvent> {
        let over = |since, time| now.is_none_or(|now| is_over(since, now, time));
        let mut events = std::mem::take(&mut self.waiting);
        let kinds = self.kinds.extract_if(|_, count| over(count.since, GROUPED_FOR));
        events.extend(kinds.filter_map(|(kind, count)| count.of_kind(&kind)));
        let callers = self.callers.extract_if(|_, spent| over(spent.since, BUDGET_TIME));
        events.extend(callers.filter_map(|(_, spent)| spent.count()));
        events
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refusal(resource: usize, at: i64) -> RefusedAttempt {
        let user = Some(UserName::parse("tenants/acme/users/vic").unwrap());
        RefusedAttempt {
            kind: RefusalKey {
                tenant: TenantId::parse("acme").unwrap(),
                service: "console".to_owned(),
                user,
                action: "DeleteApplication".to_owned(),
                resource: resource.to_string(),
                reason: "no".to_owned(),
            },
            address: None,
            unknown_user: false,
            at: Timestamp::from_second(at).unwrap(),
        }
    }

    /// Of a service of its own, which has a budget of its own.
    fn refusal_of(service: usize, at: i64) -> RefusedAttempt {
        let mut refusal = refusal(0, at);
        refusal.kind.service = service.to_string();
        refusal
    }

    fn note(state: &mut RefusalTable, refusal: &RefusedAttempt) -> bool {
        let first = state.note(refusal);
        if let Some(first) = &first {
            state.written(&first.counted);
        }
        first.is_some()
    }

    #[test]
    fn unwritten_first_attempt_is_counted() {
        let mut state = RefusalTable::default();
        assert!(state.note(&refusal(1, 0)).is_some(), "and the database does not answer");
        assert!(state.note(&refusal(1, 1)).is_none());
        let counts = state.take(None);
        assert_eq!(counts.len(), 1);
        assert!(counts[0].detail.contains("2 more such attempts"), "{}", counts[0].detail);
        assert!(state.take(None).is_empty(), "once");
    }

    #[test]
    fn tables_are_bounded_and_evicted_counts_are_written() {
        let mut state = RefusalTable::default();
        let many = 2 * MAX_KINDS;
        for service in 0..many {
            let at = i64::try_from(service / 100).unwrap();
            assert!(note(&mut state, &refusal_of(service, at)));
            assert!(!note(&mut state, &refusal_of(service, at)));
            assert!(state.kinds.len() <= MAX_KINDS && state.callers.len() <= MAX_CALLERS);
        }
        assert_eq!(state.waiting.len(), many - MAX_KINDS);
        assert_eq!(state.take(None).len(), many, "each has its count");
    }

    #[test]
    fn caller_beyond_budget_costs_two_events_more() {
        let mut state = RefusalTable::default();
        let firsts = (0..10_000).filter(|n| note(&mut state, &refusal(*n, 0))).count();
        assert_eq!(firsts, 51);
        let counts = state.take(Timestamp::from_second(3600).ok());
        assert_eq!(counts.len(), 1);
        assert!(counts[0].detail.contains("9949 more refused attempts"), "{}", counts[0].detail);
        assert!(note(&mut state, &refusal(0, 3600)), "a new hour");
    }

    #[test]
    fn clock_set_back_ends_counts() {
        let mut state = RefusalTable::default();
        assert!(note(&mut state, &refusal(1, 10_000)));
        assert!(!note(&mut state, &refusal(1, 10_001)));
        assert!(note(&mut state, &refusal(1, 100)));
        assert_eq!(state.take(Timestamp::from_second(200).ok()).len(), 1);
    }
}
