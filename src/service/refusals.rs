//! Refused attempts in the audit log. What strangers to a resource can repeat without end costs a
//! bounded number of events: the first attempt of a kind is written at once, the same again is
//! counted, and so is everything beyond a caller's budget. One event says the count when the time
//! is over, when the table is full, or when the server stops; a crash loses what was only counted.

use std::collections::HashMap;
use std::hash::Hash;
use std::net::IpAddr;
use std::sync::{Mutex, MutexGuard, PoisonError};

use jiff::{SignedDuration, Timestamp};

use super::{Caller, Service};
use crate::domain::{Action, Actor, AuditEvent, CredentialId, Outcome, TenantId, UserName};
use crate::error::{Error, Need, Result};

/// How long the same attempt is only counted.
const FOLD: SignedDuration = SignedDuration::from_mins(10);
/// The time of a caller's budget.
const BUDGET_TIME: SignedDuration = SignedDuration::from_hours(1);
/// How many kinds of refused attempts one caller has written in that time. Each is two events at
/// most, the first attempt and a count.
const MAX_KINDS_OF_CALLER: u32 = 50;
/// How many kinds are told apart: 1 to 2 KB each.
const MAX_KINDS: usize = 4096;
/// How many callers have a budget of their own.
const MAX_CALLERS: usize = 1024;
/// How many clients that were locked out wait to be written down; the log has the rest.
const MAX_LOCK_OUTS: usize = 1024;
/// How many counts wait for a database that does not answer.
const MAX_WAITING: usize = MAX_KINDS + MAX_CALLERS;

/// A refused attempt.
#[derive(Clone, Debug)]
pub(super) struct Refusal {
    pub(super) kind: Kind,
    pub(super) address: Option<String>,
    /// Whether the user is one that may not act at all: the caller can make up any number of them.
    pub(super) unknown_user: bool,
    pub(super) at: Timestamp,
}

/// What makes two refused attempts the same: all but when, and from which address.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct Kind {
    /// The tenant in whose log it is written.
    pub(super) tenant: TenantId,
    pub(super) service: String,
    pub(super) user: Option<UserName>,
    pub(super) action: String,
    pub(super) resource: String,
    pub(super) reason: String,
}

/// Who has a budget. All unknown users of a service share one.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Origin {
    tenant: TenantId,
    service: String,
    user: Option<UserName>,
    unknown_user: bool,
}

/// Attempts of one kind that have no event of their own.
#[derive(Clone, Debug)]
struct Count {
    attempts: u64,
    since: Timestamp,
    last: Timestamp,
    address: Option<String>,
}

/// What a caller has used of the budget.
#[derive(Clone, Debug)]
struct Spent {
    since: Timestamp,
    kinds: u32,
    /// What went beyond, with the last kind that did.
    beyond: Option<(Kind, Count)>,
}

/// An event to write at once, and where its attempt is counted until that has worked.
#[derive(Debug)]
pub(super) struct First {
    pub(super) event: AuditEvent,
    counted: Counted,
}

#[derive(Debug)]
enum Counted {
    AsKind(Kind),
    Beyond(Origin),
}

/// The refused attempts that are counted.
#[derive(Debug, Default)]
pub(super) struct Refusals {
    state: Mutex<State>,
    /// Clients that were locked out, until their tenants' logs say so.
    lock_outs: Mutex<Vec<LockOut>>,
    /// Held while counts are written: when the next one has it, nothing older is under way.
    writer: tokio::sync::Mutex<()>,
}

/// Too many wrong secrets of a client came from one source.
#[derive(Clone, Debug)]
pub(super) struct LockOut {
    pub(super) client: CredentialId,
    pub(super) source: Option<IpAddr>,
    pub(super) detail: String,
}

#[derive(Debug, Default)]
struct State {
    kinds: HashMap<Kind, Count>,
    callers: HashMap<Origin, Spent>,
    /// Counts that are complete and not written yet.
    waiting: Vec<AuditEvent>,
}

impl Refusal {
    pub(super) fn new(
        tenant: TenantId,
        actor: Actor,
        (action, resource): (String, String),
        error: &Error,
        at: Timestamp,
    ) -> Self {
        let kind = Kind {
            tenant,
            service: actor.service,
            user: actor.user,
            action,
            resource,
            reason: error.to_string(),
        };
        let unknown_user = matches!(error, Error::PermissionDenied(Need::EnabledUser(_)));
        Self { kind, address: actor.address, unknown_user, at }
    }

    fn origin(&self) -> Origin {
        let Kind { tenant, service, user, .. } = &self.kind;
        Origin {
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

impl Kind {
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
    fn first(refusal: &Refusal) -> Self {
        let (at, address) = (refusal.at, refusal.address.clone());
        Self { attempts: 1, since: at, last: at, address }
    }

    fn add(&mut self, refusal: &Refusal) {
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
    fn of_kind(self, kind: &Kind) -> Option<AuditEvent> {
        let detail = format!("{}; {}", kind.reason, self.words("more such"));
        (self.attempts > 0).then(|| kind.event(self.last, self.address, detail))
    }

    /// The event that says how many went beyond a caller's budget.
    fn beyond(self, kind: &Kind) -> Option<AuditEvent> {
        let detail = format!("{}; {}", kind.reason, self.words("more refused"));
        (self.attempts > 0).then(|| kind.event(self.last, self.address, detail))
    }
}

impl Spent {
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

impl State {
    /// Counts an attempt. The event, if it is one to be written at once.
    fn note(&mut self, refusal: &Refusal) -> Option<First> {
        if let Some(count) = self.kinds.get_mut(&refusal.kind) {
            if !is_over(count.since, refusal.at, FOLD) {
                count.add(refusal);
                return None;
            }
            self.end_kind(&refusal.kind);
        }
        let origin = refusal.origin();
        if self.budget(&origin, refusal.at).kinds < MAX_KINDS_OF_CALLER {
            if let Some(kind) = oldest(&self.kinds, MAX_KINDS, |count| count.since) {
                self.end_kind(&kind);
            }
            self.budget(&origin, refusal.at).kinds += 1;
            self.kinds.insert(refusal.kind.clone(), Count::first(refusal));
            let event = refusal.event(refusal.kind.reason.clone());
            return Some(First { event, counted: Counted::AsKind(refusal.kind.clone()) });
        }
        let spent = self.budget(&origin, refusal.at);
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
        Some(First { event: refusal.event(detail), counted: Counted::Beyond(origin) })
    }

    /// The budget of a caller, which begins with the first refused attempt.
    fn budget(&mut self, origin: &Origin, now: Timestamp) -> &mut Spent {
        let known = self.callers.get(origin);
        if known.is_some_and(|spent| is_over(spent.since, now, BUDGET_TIME)) {
            self.end_caller(origin);
        } else if known.is_none()
            && let Some(oldest) = oldest(&self.callers, MAX_CALLERS, |spent| spent.since)
        {
            self.end_caller(&oldest);
        }
        let new = || Spent { since: now, kinds: 0, beyond: None };
        self.callers.entry(origin.clone()).or_insert_with(new)
    }

    /// An event was written: its attempt needs to be counted no more.
    fn written(&mut self, counted: &Counted) {
        let count = match counted {
            Counted::AsKind(kind) => self.kinds.get_mut(kind),
            Counted::Beyond(origin) => {
                let spent = self.callers.get_mut(origin);
                spent.and_then(|spent| spent.beyond.as_mut()).map(|(_, count)| count)
            }
        };
        if let Some(count) = count {
            count.attempts = count.attempts.saturating_sub(1);
        }
    }

    fn end_kind(&mut self, kind: &Kind) {
        let count = self.kinds.remove(kind).and_then(|count| count.of_kind(kind));
        self.wait(count);
    }

    fn end_caller(&mut self, origin: &Origin) {
        let count = self.callers.remove(origin).and_then(Spent::count);
        self.wait(count);
    }

    fn wait(&mut self, events: impl IntoIterator<Item = AuditEvent>) {
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
    fn take(&mut self, now: Option<Timestamp>) -> Vec<AuditEvent> {
        let over = |since, time| now.is_none_or(|now| is_over(since, now, time));
        let mut events = std::mem::take(&mut self.waiting);
        let kinds = self.kinds.extract_if(|_, count| over(count.since, FOLD));
        events.extend(kinds.filter_map(|(kind, count)| count.of_kind(&kind)));
        let callers = self.callers.extract_if(|_, spent| over(spent.since, BUDGET_TIME));
        events.extend(callers.filter_map(|(_, spent)| spent.count()));
        events
    }
}

impl Refusals {
    fn state(&self) -> MutexGuard<'_, State> {
        // Counts are whole, even where a holder of the lock panicked.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Service {
    /// Notes a refused attempt in the audit log, or counts it.
    pub(super) async fn note_refusal(&self, refusal: &Refusal) -> Result<()> {
        let first = self.refusals.state().note(refusal);
        let Some(First { mut event, counted }) = first else {
            return Ok(());
        };
        let mut tx = self.store.begin().await?;
        if tx.lock_tenant(&event.tenant).await?.is_some() {
            // Others may have written while this waited: events are in the order of their times.
            event.at = self.now();
            tx.insert_audit_event(&event).await?;
            tx.commit().await?;
        }
        self.refusals.state().written(&counted);
        Ok(())
    }

    /// Notes that a client is locked out. Its tenant's log is written later: the answer must not
    /// take longer where there is such a client.
    pub(super) fn note_lock_out(&self, lock_out: LockOut) {
        let mut waiting = self.refusals.lock_outs.lock().unwrap_or_else(PoisonError::into_inner);
        if waiting.len() < MAX_LOCK_OUTS {
            waiting.push(lock_out);
        }
    }

    /// Writes the counts of refused attempts whose time is over. What cannot be written is kept
    /// for the next time.
    pub async fn write_refusals(&self) -> Result<()> {
        self.write_lock_outs().await?;
        self.write_counts(Some(self.now())).await
    }

    /// Writes all counts of refused attempts: for a server that stops.
    pub async fn write_all_refusals(&self) -> Result<()> {
        self.write_lock_outs().await?;
        self.write_counts(None).await
    }

    async fn write_lock_outs(&self) -> Result<()> {
        let lock_outs = &self.refusals.lock_outs;
        let take = || lock_outs.lock().unwrap_or_else(PoisonError::into_inner).pop();
        while let Some(LockOut { client, source, detail }) = take() {
            let Some(client) = self.client(&client).await? else {
                continue;
            };
            let kind = Kind {
                tenant: client.tenant.id.clone(),
                service: Caller::keyward().service(),
                user: None,
                action: Action::LockOut.to_string(),
                resource: client.name.to_string(),
                reason: format!("locked out: {detail}"),
            };
            let address = source.map(|address| address.to_string());
            let refusal = Refusal { kind, address, unknown_user: false, at: self.now() };
            self.note_refusal(&refusal).await?;
        }
        Ok(())
    }

    async fn write_counts(&self, now: Option<Timestamp>) -> Result<()> {
        let _writer = self.refusals.writer.lock().await;
        let mut events = self.refusals.state().take(now);
        events.sort_by(|a, b| a.tenant.cmp(&b.tenant));
        let mut rest = events.as_slice();
        while let Some(first) = rest.first() {
            let tenant = first.tenant.clone();
            let end = rest.partition_point(|event| event.tenant <= tenant);
            if let Err(error) = self.write_counts_of(&tenant, &rest[..end]).await {
                let unwritten = rest.to_vec();
                self.refusals.state().wait(unwritten);
                return Err(error);
            }
            rest = &rest[end..];
        }
        Ok(())
    }

    async fn write_counts_of(&self, tenant: &TenantId, events: &[AuditEvent]) -> Result<()> {
        let mut tx = self.store.begin().await?;
        let Some(tenant) = tx.lock_tenant(tenant).await? else {
            return Ok(());
        };
        for event in events {
            // What ended before the tenant was made was about another one of its name.
            if event.at >= tenant.record.created_at {
                let event = AuditEvent { at: self.now(), ..event.clone() };
                tx.insert_audit_event(&event).await?;
            }
        }
        tx.commit().await
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refusal(resource: usize, at: i64) -> Refusal {
        let user = Some(UserName::parse("tenants/acme/users/vic").unwrap());
        Refusal {
            kind: Kind {
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
    fn refusal_of(service: usize, at: i64) -> Refusal {
        let mut refusal = refusal(0, at);
        refusal.kind.service = service.to_string();
        refusal
    }

    fn note(state: &mut State, refusal: &Refusal) -> bool {
        let first = state.note(refusal);
        if let Some(first) = &first {
            state.written(&first.counted);
        }
        first.is_some()
    }

    #[test]
    fn first_attempt_that_was_not_written_is_counted() {
        let mut state = State::default();
        assert!(state.note(&refusal(1, 0)).is_some(), "and the database does not answer");
        assert!(state.note(&refusal(1, 1)).is_none());
        let counts = state.take(None);
        assert_eq!(counts.len(), 1);
        assert!(counts[0].detail.contains("2 more such attempts"), "{}", counts[0].detail);
        assert!(state.take(None).is_empty(), "once");
    }

    #[test]
    fn tables_are_bounded_and_what_is_pushed_out_is_written() {
        let mut state = State::default();
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
    fn caller_beyond_the_budget_costs_two_events_more_in_all() {
        let mut state = State::default();
        let firsts = (0..10_000).filter(|n| note(&mut state, &refusal(*n, 0))).count();
        assert_eq!(firsts, 51);
        let counts = state.take(Timestamp::from_second(3600).ok());
        assert_eq!(counts.len(), 1);
        assert!(counts[0].detail.contains("9949 more refused attempts"), "{}", counts[0].detail);
        assert!(note(&mut state, &refusal(0, 3600)), "a new hour");
    }

    #[test]
    fn clock_that_is_set_back_ends_what_is_counted() {
        let mut state = State::default();
        assert!(note(&mut state, &refusal(1, 10_000)));
        assert!(!note(&mut state, &refusal(1, 10_001)));
        assert!(note(&mut state, &refusal(1, 100)));
        assert_eq!(state.take(Timestamp::from_second(200).ok()).len(), 1);
    }
}
