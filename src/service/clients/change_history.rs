//! The recent changes of a tenant. They decide whether a cached client is stale.
//!
//! Each change has a row in the change feed, and the changes of one tenant are committed in the
//! order of their numbers. So a few rows of the feed tell which cached clients of the tenant are
//! stale, and the clients themselves are not read.
//!
//! A purge deletes old rows of the feed, but never the last row of a tenant. If the last known row
//! is gone or differs, changes may be missing: then all cached clients of the tenant are stale.

use std::collections::HashMap;
use std::sync::{Arc, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};

use super::read_time::ReadTime;
use crate::domain::{ApplicationId, ApplicationName, Client, CredentialName, Tenant, TenantId};
use crate::store::TenantChange;

/// The number of changed applications that are remembered. If more change, all clients of the
/// tenant are stale.
const MAX_APPLICATIONS: usize = 1000;

/// The recent changes of a tenant.
#[derive(Debug)]
pub(super) struct ChangeHistory {
    pub(super) tenant: TenantId,
    state: RwLock<HistoryState>,
    /// Held while the feed is read, so that requests share one read.
    pub(super) read_lock: tokio::sync::Mutex<()>,
}

#[derive(Debug)]
struct HistoryState {
    /// The time at which the feed was last read.
    read_time: ReadTime,
    /// The last known change.
    last: ChangePosition,
    /// The number of the last change that can affect every client of the tenant. `i64::MAX` if
    /// changes may be missing.
    last_of_tenant: i64,
    /// The numbers of later changes that affect one application only.
    last_of_applications: HashMap<ApplicationId, i64>,
    /// The tenant, shared by its cached clients.
    shared_tenant: Option<Arc<Tenant>>,
}

/// The position of a change in the feed. The time is part of it because a database that was
/// restored from a backup uses the same numbers again.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct ChangePosition {
    pub(super) number: i64,
    pub(super) at: i64,
}

impl ChangePosition {
    pub(super) fn of(change: &TenantChange) -> Self {
        Self { number: change.number, at: change.at }
    }
}

impl ChangeHistory {
    /// An empty history. `last` is the last change at `read_time`.
    pub(super) fn new(tenant: TenantId, read_time: ReadTime, last: ChangePosition) -> Self {
        let state = HistoryState {
            read_time,
            last,
            last_of_tenant: last.number,
            last_of_applications: HashMap::new(),
            shared_tenant: None,
        };
        Self { tenant, state: RwLock::new(state), read_lock: tokio::sync::Mutex::default() }
    }

    /// The time at which the feed was last read.
    pub(super) fn read_time(&self) -> ReadTime {
        self.state().read_time
    }

    /// The last known change.
    pub(super) fn last(&self) -> ChangePosition {
        self.state().last
    }

    /// Whether a client of this application has not changed since the change `last`.
    pub(super) fn is_current(&self, application: &ApplicationId, last: i64) -> bool {
        let state = self.state();
        let changed = state.last_of_applications.get(application);
        last >= state.last_of_tenant && changed.is_none_or(|changed| last >= *changed)
    }

    /// Applies rows of the feed. The first row is the last known change. `read_time` is given if
    /// these are all rows up to the end of the feed.
    pub(super) fn apply(&self, changes: &[TenantChange], read_time: Option<ReadTime>) {
        let mut state = self.write();
        let mut changes = changes;
        let was_empty = state.last.number == 0;
        if !was_empty {
            match changes.split_first() {
                Some((known, new)) if ChangePosition::of(known) == state.last => changes = new,
                // The next rows may have been purged, or the database was replaced or restored
                // from a backup.
                _ => {
                    state.last_of_tenant = i64::MAX;
                    state.last_of_applications.clear();
                    return;
                }
            }
        }
        for change in changes {
            match changed_application(&self.tenant, &change.resource) {
                Some(application) => {
                    state.last_of_applications.insert(application, change.number);
                }
                None => state.last_of_tenant = change.number,
            }
            state.last = ChangePosition::of(change);
        }
        // Rows before the first known one may have been purged.
        if was_empty || state.last_of_applications.len() > MAX_APPLICATIONS {
            state.last_of_tenant = state.last.number;
            state.last_of_applications.clear();
        }
        if let Some(read_time) = read_time {
            state.read_time = read_time;
        }
    }

    /// Whether changes may be missing. All cached clients are stale then, and a new history must
    /// replace this one.
    pub(super) fn has_gap(&self) -> bool {
        self.state().last_of_tenant == i64::MAX
    }

    /// Lets the clients of a tenant share one [`Tenant`] in memory.
    pub(super) fn share_tenant(&self, client: &mut Client) {
        let mut state = self.write();
        match &state.shared_tenant {
            Some(tenant) if **tenant == *client.tenant => client.tenant = Arc::clone(tenant),
            _ => state.shared_tenant = Some(Arc::clone(&client.tenant)),
        }
    }

    fn state(&self) -> RwLockReadGuard<'_, HistoryState> {
        self.state.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn write(&self) -> RwLockWriteGuard<'_, HistoryState> {
        self.state.write().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The application whose clients a change affects. `None` if the change can affect all clients of
/// the tenant.
fn changed_application(tenant: &TenantId, resource: &str) -> Option<ApplicationId> {
    let application = ApplicationName::parse(resource)
        .or_else(|_| CredentialName::parse(resource).map(|name| name.application));
    application.ok().filter(|name| name.tenant == *tenant).map(|name| name.application)
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn id(application: &str) -> ApplicationId {
        ApplicationId::parse(application).unwrap()
    }

    fn change(number: i64, resource: &str) -> TenantChange {
        TenantChange { number, at: number * 10, resource: resource.to_owned() }
    }

    fn history(last: i64) -> ChangeHistory {
        let last = ChangePosition { number: last, at: last * 10 };
        ChangeHistory::new(
            TenantId::parse("acme").unwrap(),
            ReadTime { at: Duration::ZERO, local_changes: 0 },
            last,
        )
    }

    #[test]
    fn client_read_before_its_change_is_stale() {
        let history = history(5);
        assert!(history.is_current(&id("crm"), 5));
        assert!(
            !history.is_current(&id("crm"), 4),
            "changes before the first known one may be missing"
        );
        let credential = format!("tenants/acme/applications/crm/credentials/{}", "0".repeat(32));
        let read_time = ReadTime { at: Duration::ZERO, local_changes: 1 };
        history.apply(&[change(5, "tenants/acme"), change(6, &credential)], Some(read_time));
        assert!(!history.is_current(&id("crm"), 5));
        assert!(history.is_current(&id("crm"), 6));
        assert!(history.is_current(&id("erp"), 5), "another application changed");
        assert_eq!(history.last(), ChangePosition { number: 6, at: 60 });
    }

    #[test]
    fn change_of_another_resource_makes_all_clients_stale() {
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
    fn missing_last_change_makes_all_clients_stale() {
        let other = TenantChange { at: 51, ..change(5, "tenants/acme") };
        for changes in [vec![], vec![other, change(6, "tenants/acme")], vec![change(6, "")]] {
            let history = history(5);
            history.apply(&changes, None);
            assert!(history.has_gap());
            assert!(!history.is_current(&id("crm"), 1000));
        }
    }

    #[test]
    fn first_change_of_tenant_makes_all_clients_stale() {
        let history = history(0);
        history.apply(&[], None);
        assert!(history.is_current(&id("crm"), 0));
        // Rows before it may have been purged.
        history.apply(&[change(7, "tenants/acme/applications/erp")], None);
        assert!(!history.is_current(&id("crm"), 0));
        assert!(history.is_current(&id("crm"), 7));
    }

    #[test]
    fn too_many_changed_applications_make_all_clients_stale() {
        let history = history(1);
        let more = i64::try_from(MAX_APPLICATIONS).unwrap() + 3;
        let mut changes = vec![change(1, "")];
        changes.extend((2..=more).map(|n| change(n, &format!("tenants/acme/applications/a{n}"))));
        history.apply(&changes, None);
        assert!(!history.is_current(&id("unchanged"), more - 1));
        assert!(history.is_current(&id("unchanged"), more));
    }
}
