//! What was read a moment ago: clients with all that decides over them, so that a check
//! reads no row. One is used only while nothing that it holds was revoked since, for a bounded time,
//! and never after this replica has changed the tenant itself.

use std::hash::{BuildHasher, BuildHasherDefault, DefaultHasher};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use quick_cache::sync::Cache;
use tokio::time::timeout;

use super::Service;
use crate::clock::Stopwatch;
use crate::domain::{Client, CredentialId, Endpoints, Minted, TenantId};
use crate::error::{Error, Result};

/// How many clients are kept: some kilobytes each.
const MOST_CLIENTS: usize = 20_000;
/// How many tenants' endpoint rules are kept.
const MOST_TENANTS: usize = 1_000;
/// Tenants are told apart by this many marks. Two that share one only read more often.
const MARKS: usize = 1024;
/// How long the database may take, where somebody waits for every request.
const LONGEST_READ: Duration = Duration::from_secs(5);

/// What was read a moment ago.
#[derive(Debug)]
pub(super) struct Snapshots {
    clients: Cache<CredentialId, Snapshot<Arc<Client>>>,
    endpoints: Cache<TenantId, Snapshot<Arc<Endpoints>>>,
    changes: Changes,
    max_age: Duration,
}

#[derive(Clone, Debug)]
struct Snapshot<T> {
    value: T,
    read: Reading,
}

/// When something was read.
#[derive(Clone, Copy, Debug)]
struct Reading {
    since: Stopwatch,
    /// How many changes there had been.
    changes: u64,
}

/// When tenants were last changed here.
#[derive(Debug)]
struct Changes {
    count: AtomicU64,
    last: Box<[AtomicU64]>,
}

impl Changes {
    fn mark(&self, tenant: &TenantId) -> &AtomicU64 {
        let hash = BuildHasherDefault::<DefaultHasher>::default().hash_one(tenant);
        let place = usize::try_from(hash % self.last.len() as u64).unwrap_or_default();
        &self.last[place]
    }
}

impl Snapshots {
    pub(super) fn new(max_age: Duration) -> Self {
        let last = (0..MARKS).map(|_| AtomicU64::new(0)).collect();
        Self {
            clients: Cache::new(MOST_CLIENTS),
            endpoints: Cache::new(MOST_TENANTS),
            changes: Changes { count: AtomicU64::new(0), last },
            max_age,
        }
    }

    /// A tenant has changed: what was read of it before says nothing any more.
    pub(super) fn changed(&self, tenant: &TenantId) {
        let number = self.changes.count.fetch_add(1, Ordering::AcqRel) + 1;
        self.changes.mark(tenant).fetch_max(number, Ordering::AcqRel);
    }

    fn begin(&self) -> Reading {
        Reading { since: Stopwatch::start(), changes: self.changes.count.load(Ordering::Acquire) }
    }

    fn is_fresh(&self, tenant: &TenantId, read: Reading) -> bool {
        read.since.elapsed() <= self.max_age
            && self.changes.mark(tenant).load(Ordering::Acquire) <= read.changes
    }
}

impl Service {
    /// The client of this id, as it is or was a moment ago, if it exists.
    pub(super) async fn client(&self, id: &CredentialId) -> Result<Option<Arc<Client>>> {
        let snapshots = &self.snapshots;
        if let Some(snapshot) = snapshots.clients.get(id)
            && snapshots.is_fresh(&snapshot.value.tenant.id, snapshot.read)
            && !self.is_outdated(&snapshot.value)
        {
            return Ok(Some(snapshot.value));
        }
        self.client_afresh(id).await
    }

    /// The client of this id, as it is, if it exists.
    pub(super) async fn client_afresh(&self, id: &CredentialId) -> Result<Option<Arc<Client>>> {
        let snapshots = &self.snapshots;
        let read = snapshots.begin();
        let client = self.promptly(async { self.store.read().await?.find_client(id).await });
        let Some(client) = client.await?.map(Arc::new) else {
            snapshots.clients.remove(id);
            return Ok(None);
        };
        let snapshot = Snapshot { value: Arc::clone(&client), read };
        snapshots.clients.insert(id.clone(), snapshot);
        Ok(Some(client))
    }

    /// A tenant's endpoint rules, as they are or were a moment ago.
    pub(super) async fn endpoints(&self, tenant: &TenantId) -> Result<Arc<Endpoints>> {
        let snapshots = &self.snapshots;
        if let Some(snapshot) = snapshots.endpoints.get(tenant)
            && snapshots.is_fresh(tenant, snapshot.read)
        {
            return Ok(snapshot.value);
        }
        let read = snapshots.begin();
        let rules = self.promptly(async { self.store.read().await?.endpoints(tenant).await });
        let value = Endpoints::new(rules.await?)
            .map_err(|fault| Error::internal(format!("a rule of {tenant} {}", fault.0)))?;
        let value = Arc::new(value);
        let snapshot = Snapshot { value: Arc::clone(&value), read };
        snapshots.endpoints.insert(tenant.clone(), snapshot);
        Ok(value)
    }

    /// Whether something of the client was revoked after it was read.
    fn is_outdated(&self, client: &Client) -> bool {
        self.revocations.index().revokes(&Minted {
            tenant: client.tenant.id.as_str(),
            application: &client.application.name.to_string(),
            credential: client.credential.name.credential.as_str(),
            token: None,
            epochs: client.epochs(),
        })
    }

    /// The answer of the database, if it comes in time.
    pub(super) async fn promptly<T>(&self, read: impl Future<Output = Result<T>>) -> Result<T> {
        let late = |_| Error::Unavailable("the database did not answer in time".into());
        timeout(LONGEST_READ, read).await.map_err(late)?
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_change_outdates_what_was_read_before_it_and_nothing_else() {
        let snapshots = Snapshots::new(Duration::from_mins(1));
        let (acme, other) = (TenantId::parse("acme").unwrap(), TenantId::parse("other").unwrap());
        let before = snapshots.begin();
        assert!(snapshots.is_fresh(&acme, before));
        snapshots.changed(&acme);
        assert!(!snapshots.is_fresh(&acme, before));
        assert!(snapshots.is_fresh(&other, before));
        assert!(snapshots.is_fresh(&acme, snapshots.begin()));
    }

    #[test]
    fn nothing_is_used_for_longer_than_it_may() {
        let snapshots = Snapshots::new(Duration::ZERO);
        let read = snapshots.begin();
        assert!(!snapshots.is_fresh(&TenantId::parse("acme").unwrap(), read));
    }
}
