//! What changed in a tenant: it decides whether something that was read earlier is still current.
//! The change feed says it: every change has a row there, and changes of one tenant are committed
//! in the order of their numbers. So a few rows say for all clients of a tenant what would
//! otherwise be read for each of them.
//!
//! Old rows of the feed are purged, but never a tenant's last one. So the last known row is still
//! there, and is what it was, or changes may have been missed: then nothing counts as current.

use std::collections::HashMap;
use std::sync::{Arc, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};

use super::reading::Reading;
use crate::domain::{ApplicationId, ApplicationName, Client, CredentialName, Tenant, TenantId};
use crate::store::Changed;

/// How many applications are told apart. If more have changed, all count as changed.
const MAX_APPLICATIONS: usize = 1000;

/// What was changed in a tenant.
#[derive(Debug)]
pub(super) struct History {
    pub(super) tenant: TenantId,
    state: RwLock<State>,
    /// Held while the feed is read: others wait for the result.
    pub(super) reading: tokio::sync::Mutex<()>,
}

#[derive(Debug)]
struct State {
    /// When the feed was last read.
    read: Reading,
    /// The last change that is known.
    last: Mark,
    /// The last change that may be about everything.
    of_all: i64,
    /// The last change of each application alone, where that is later.
    of_application: HashMap<ApplicationId, i64>,
    /// What the clients of the tenant share.
    shared: Option<Arc<Tenant>>,
}

/// What identifies a change. After a database went back to an older state, a number is used
/// again, at another time.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Mark {
    pub(super) number: i64,
    pub(super) at: i64,
}

impl Mark {
    pub(super) fn of(change: &Changed) -> Self {
        Self { number: change.number, at: change.at }
    }
}

impl History {
    /// One that begins with the last change that there was when something was read.
    pub(super) fn new(tenant: TenantId, read: Reading, last: Mark) -> Self {
        let state =
            State { read, last, of_all: last.number, of_application: HashMap::new(), shared: None };
        Self { tenant, state: RwLock::new(state), reading: tokio::sync::Mutex::default() }
    }

    /// When the feed was last read.
    pub(super) fn read(&self) -> Reading {
        self.state().read
    }

    /// The last change that is known.
    pub(super) fn last(&self) -> Mark {
        self.state().last
    }

    /// Whether an application is still as it was read when this was the last change.
    pub(super) fn is_current(&self, application: &ApplicationId, last: i64) -> bool {
        let state = self.state();
        let changed = state.of_application.get(application);
        last >= state.of_all && changed.is_none_or(|changed| last >= *changed)
    }

    /// Applies the rows of the feed from the last known change on, that one included: all of
    /// them, if `read` says when they were read.
    pub(super) fn apply(&self, changes: &[Changed], read: Option<Reading>) {
        let mut state = self.write();
        let mut changes = changes;
        let began_without = state.last.number == 0;
        if !began_without {
            match changes.split_first() {
                Some((known, new)) if Mark::of(known) == state.last => changes = new,
                // What followed may have been purged; or another database, or an older state of
                // it, has taken the place of ours.
                _ => {
                    state.of_all = i64::MAX;
                    state.of_application.clear();
                    return;
                }
            }
        }
        for change in changes {
            match about(&self.tenant, &change.resource) {
                Some(application) => {
                    state.of_application.insert(application, change.number);
                }
                None => state.of_all = change.number,
            }
            state.last = Mark::of(change);
        }
        // Before the first row that is known, others may have been purged.
        if began_without || state.of_application.len() > MAX_APPLICATIONS {
            state.of_all = state.last.number;
            state.of_application.clear();
        }
        if let Some(read) = read {
            state.read = read;
        }
    }

    /// Whether nothing that was read is current, and this history is to be replaced.
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

/// The application that a change is about, if it is about one of the tenant's alone.
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

    fn change(number: i64, resource: &str) -> Changed {
        Changed { number, at: number * 10, resource: resource.to_owned() }
    }

    fn history(last: i64) -> History {
        let last = Mark { number: last, at: last * 10 };
        History::new(TenantId::parse("acme").unwrap(), Reading::begin(0), last)
    }

    #[test]
    fn client_read_before_its_change_is_outdated() {
        let history = history(5);
        assert!(history.is_current(&id("crm"), 5));
        assert!(!history.is_current(&id("crm"), 4), "what came before is not known");
        let credential = format!("tenants/acme/applications/crm/credentials/{}", "0".repeat(32));
        history
            .apply(&[change(5, "tenants/acme"), change(6, &credential)], Some(Reading::begin(1)));
        assert!(!history.is_current(&id("crm"), 5));
        assert!(history.is_current(&id("crm"), 6));
        assert!(history.is_current(&id("erp"), 5), "that was about another one");
        assert_eq!(history.last(), Mark { number: 6, at: 60 });
    }

    #[test]
    fn change_of_anything_else_outdates_everything() {
        for resource in
            ["tenants/acme", "tenants/acme/roles/r", "tenants/other/applications/crm", "", "x"]
        {
            let history = history(5);
            history.apply(&[change(5, ""), change(6, resource)], None);
            assert!(!history.is_current(&id("crm"), 5), "{resource}");
            assert!(history.is_current(&id("crm"), 6), "{resource}");
        }
    }

    #[test]
    fn last_known_change_that_is_gone_outdates_everything() {
        let other = Changed { at: 51, ..change(5, "tenants/acme") };
        for changes in [vec![], vec![other, change(6, "tenants/acme")], vec![change(6, "")]] {
            let history = history(5);
            history.apply(&changes, None);
            assert!(history.is_void());
            assert!(!history.is_current(&id("crm"), 1000));
        }
    }

    #[test]
    fn first_change_of_tenant_outdates_everything() {
        let history = history(0);
        history.apply(&[], None);
        assert!(history.is_current(&id("crm"), 0));
        // Of others before it, the rows may have been purged.
        history.apply(&[change(7, "tenants/acme/applications/erp")], None);
        assert!(!history.is_current(&id("crm"), 0));
        assert!(history.is_current(&id("crm"), 7));
    }

    #[test]
    fn too_many_changed_applications_outdate_everything() {
        let history = history(1);
        let more = i64::try_from(MAX_APPLICATIONS).unwrap() + 3;
        let mut changes = vec![change(1, "")];
        changes.extend((2..=more).map(|n| change(n, &format!("tenants/acme/applications/a{n}"))));
        history.apply(&changes, None);
        assert!(!history.is_current(&id("untouched"), more - 1));
        assert!(history.is_current(&id("untouched"), more));
    }
}
