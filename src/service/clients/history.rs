//! What was changed in a tenant, as far as it decides whether something that was read earlier
//! still holds. The audit log tells it: nothing changes without an event there, and its numbers
//! have no gaps. So a few rows say for all clients of a tenant what would otherwise have to be
//! read of each again and again.

use std::collections::HashMap;
use std::sync::{Arc, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};

use super::reading::Reading;
use crate::domain::{ApplicationId, ApplicationName, Client, CredentialName, Tenant, TenantId};
use crate::store::Changed;

/// How many applications are told apart. If more have changed, all count as changed.
const MOST_APPLICATIONS: usize = 1000;

/// What was changed in a tenant.
#[derive(Debug)]
pub(super) struct History {
    pub(super) tenant: TenantId,
    state: RwLock<State>,
    /// Held by whoever looks at the log: others wait for what he finds.
    pub(super) looking: tokio::sync::Mutex<()>,
}

#[derive(Debug)]
struct State {
    /// When the log was last looked at.
    read: Reading,
    /// The last event that is known.
    last: Mark,
    /// The last event that may be about everything.
    of_all: i64,
    /// The last event about each application alone, where that is later.
    of_application: HashMap<ApplicationId, i64>,
    /// What the clients of the tenant share.
    shared: Option<Arc<Tenant>>,
}

/// An event, as far as it must be known again. Two that have a number one after the other,
/// after a database went back to an older state, do not have the same time.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Mark {
    pub(super) number: i64,
    pub(super) at: i64,
}

impl Mark {
    pub(super) fn of(event: &Changed) -> Self {
        Self { number: event.number, at: event.at }
    }
}

impl History {
    /// One that begins with the event that was the last one when something was read.
    pub(super) fn new(tenant: TenantId, read: Reading, last: Mark) -> Self {
        let state =
            State { read, last, of_all: last.number, of_application: HashMap::new(), shared: None };
        Self { tenant, state: RwLock::new(state), looking: tokio::sync::Mutex::default() }
    }

    /// When the log was last looked at.
    pub(super) fn read(&self) -> Reading {
        self.state().read
    }

    /// The last event that is known.
    pub(super) fn last(&self) -> Mark {
        self.state().last
    }

    /// Whether what was read of an application when this was the last event still holds.
    pub(super) fn holds(&self, application: &ApplicationId, event: i64) -> bool {
        let state = self.state();
        let changed = state.of_application.get(application);
        event >= state.of_all && changed.is_none_or(|changed| event >= *changed)
    }

    /// Takes in what the log has from the last known event on, that one included: all of it, if
    /// `read` says when it was looked at.
    pub(super) fn heed(&self, events: &[Changed], read: Option<Reading>) {
        let mut state = self.write();
        let mut events = events;
        if state.last.number > 0 {
            match events.split_first() {
                Some((known, new)) if Mark::of(known) == state.last => events = new,
                // Another database, or an older state of it, has taken the place of ours:
                // nothing that was read holds, whatever its number.
                _ => {
                    state.of_all = i64::MAX;
                    state.of_application.clear();
                    return;
                }
            }
        }
        for event in events {
            match about(&self.tenant, &event.resource) {
                // What was refused changed nothing; else strangers could have every client of
                // a tenant read again and again.
                _ if event.refused => {}
                Some(application) => {
                    state.of_application.insert(application, event.number);
                }
                None => state.of_all = event.number,
            }
            state.last = Mark::of(event);
        }
        if state.of_application.len() > MOST_APPLICATIONS {
            state.of_all = state.last.number;
            state.of_application.clear();
        }
        if let Some(read) = read {
            state.read = read;
        }
    }

    /// Whether nothing that was read holds any more, and this history is to be begun anew.
    pub(super) fn is_void(&self) -> bool {
        self.state().of_all == i64::MAX
    }

    /// Lets a client share what is the same for others of its tenant.
    pub(super) fn share(&self, client: &mut Client) {
        let mut state = self.write();
        match &state.shared {
            Some(tenant) if **tenant == *client.tenant => client.tenant = Arc::clone(tenant),
            _ => state.shared = Some(Arc::clone(&client.tenant)),
        }
    }

    fn state(&self) -> RwLockReadGuard<'_, State> {
        self.state.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn write(&self) -> RwLockWriteGuard<'_, State> {
        self.state.write().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The application that an event is about, if it is about one of the tenant's alone.
fn about(tenant: &TenantId, resource: &str) -> Option<ApplicationId> {
    let application = ApplicationName::parse(resource)
        .or_else(|_| CredentialName::parse(resource).map(|name| name.application));
    application.ok().filter(|name| name.tenant == *tenant).map(|name| name.application)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn id(application: &str) -> ApplicationId {
        ApplicationId::parse(application).unwrap()
    }

    fn event(number: i64, resource: &str) -> Changed {
        Changed { number, at: number * 10, resource: resource.to_owned(), refused: false }
    }

    fn refused(number: i64, resource: &str) -> Changed {
        Changed { refused: true, ..event(number, resource) }
    }

    fn history(last: i64) -> History {
        let last = Mark { number: last, at: last * 10 };
        History::new(TenantId::parse("acme").unwrap(), Reading::begin(0), last)
    }

    #[test]
    fn what_was_read_before_a_change_of_it_does_not_hold() {
        let history = history(5);
        assert!(history.holds(&id("crm"), 5));
        assert!(!history.holds(&id("crm"), 4), "nobody knows what came before");
        let credential = format!("tenants/acme/applications/crm/credentials/{}", "0".repeat(32));
        history.heed(&[event(5, "tenants/acme"), event(6, &credential)], Some(Reading::begin(1)));
        assert!(!history.holds(&id("crm"), 5));
        assert!(history.holds(&id("crm"), 6));
        assert!(history.holds(&id("erp"), 5), "that was about another one");
        assert_eq!(history.last(), Mark { number: 6, at: 60 });
    }

    #[test]
    fn what_is_about_anything_else_is_about_all() {
        for resource in
            ["tenants/acme", "tenants/acme/roles/r", "tenants/other/applications/crm", "", "x"]
        {
            let history = history(5);
            history.heed(&[event(5, ""), event(6, resource)], None);
            assert!(!history.holds(&id("crm"), 5), "{resource}");
            assert!(history.holds(&id("crm"), 6), "{resource}");
        }
    }

    #[test]
    fn another_log_in_the_place_of_ours_leaves_nothing_standing() {
        let other = Changed { at: 51, ..event(5, "tenants/acme") };
        for events in [vec![], vec![other, event(6, "tenants/acme")], vec![event(6, "")]] {
            let history = history(5);
            history.heed(&events, None);
            assert!(history.is_void());
            assert!(!history.holds(&id("crm"), 1000));
        }
    }

    #[test]
    fn refused_attempt_outdates_nothing_and_is_the_last_event() {
        for resource in ["tenants/acme", "tenants/acme/roles/r", "tenants/acme/applications/crm"] {
            let history = history(5);
            history.heed(&[event(5, ""), refused(6, resource)], None);
            assert!(history.holds(&id("crm"), 5), "{resource}");
            assert_eq!(history.last(), Mark { number: 6, at: 60 });
        }
    }

    #[test]
    fn a_tenant_without_events_gets_its_first() {
        let history = history(0);
        history.heed(&[], None);
        assert!(history.holds(&id("crm"), 0));
        history.heed(&[event(1, "tenants/acme")], None);
        assert!(!history.holds(&id("crm"), 0));
        assert!(history.holds(&id("crm"), 1));
    }

    #[test]
    fn more_changed_applications_than_are_told_apart_are_all_of_them() {
        let history = history(1);
        let more = i64::try_from(MOST_APPLICATIONS).unwrap() + 3;
        let mut events = vec![event(1, "")];
        events.extend((2..=more).map(|n| event(n, &format!("tenants/acme/applications/a{n}"))));
        history.heed(&events, None);
        assert!(!history.holds(&id("untouched"), more - 1));
        assert!(history.holds(&id("untouched"), more));
    }
}
