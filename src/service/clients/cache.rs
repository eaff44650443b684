//! The cache of clients with their application, tenant and scopes, so that a request reads no
//! rows. A cached client is used only under these conditions:
//!
//! - the tenant's change feed was read at most `max_age` ago, and has no change of the client,
//! - the feed was read after the last change that this server made in the tenant, and
//! - nothing that the client depends on was revoked.

use std::hash::{BuildHasher, BuildHasherDefault, DefaultHasher};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use jiff::Timestamp;
use prometheus_client::metrics::counter::Counter;
use quick_cache::Weighter;
use quick_cache::sync::Cache;
use tokio::time::timeout;

use super::change_history::{ChangeHistory, ChangePosition};
use super::read_time::ReadTime;
use crate::clock::{Clock, Uptime};
use crate::domain::{
    Client, CredentialId, CredentialName, Endpoints, Registration, RoleId, ScopeSet, SecretMark,
    Tenant, TenantId,
};
use crate::error::{Error, Result};
use crate::revocation::Live;
use crate::service::lookups::CacheLookups;
use crate::store::Store;

/// The memory for cached clients. A client takes about 800 bytes.
const MAX_BYTES: u64 = 160 * 1024 * 1024;
/// The number of clients that usually fit into [`MAX_BYTES`].
const EXPECTED_CLIENTS: usize = 200_000;
/// The number of tenants whose change histories are cached. One takes about 800 bytes.
const MAX_TENANTS: usize = 100_000;
/// The memory for cached endpoint rules.
const MAX_RULE_BYTES: u64 = 64 * 1024 * 1024;
/// A cache that expects so few entries has 4 shards at most. So a large set of rules, which takes
/// some megabytes, fits into one.
const EXPECTED_RULE_SETS: usize = 128;
/// The number of scope sets that clients can share.
const MAX_SCOPE_SETS: usize = 1_000;
/// The number of hash slots for tenants that this server changed. If two tenants share a slot, a
/// change of one makes the server read the feed of the other, too.
const TENANT_SLOTS: usize = 1024;
/// The timeout of a database read while a request waits for it.
const READ_TIMEOUT: Duration = Duration::from_secs(5);
/// How often a client is loaded again because it was revoked during the read.
const MAX_RELOADS: usize = 3;
/// The number of changes that are read at once.
const BATCH: i64 = 1000;
/// How long the feed keeps changes, at least. Servers read it every few seconds.
const MIN_RETENTION: Duration = Duration::from_mins(10);
/// The age at which a client is loaded again although the feed has no change of it: an operator may
/// have changed the database by hand.
const MAX_CLIENT_AGE: Duration = Duration::from_mins(5);

/// The cached data, without access to the database.
#[derive(Debug)]
struct CachedData {
    clients: Cache<CredentialId, CachedClient, ClientWeighter>,
    histories: Cache<TenantId, Arc<ChangeHistory>>,
    endpoints: Cache<TenantId, CachedEndpoints, EndpointsWeighter>,
    scope_sets: Cache<ScopeSet, ScopeSet>,
    local_changes: LocalChanges,
    uptime: Uptime,
    max_age: Duration,
}

#[derive(Clone, Debug)]
struct CachedClient {
    client: Arc<Client>,
    history: Arc<ChangeHistory>,
    /// The number of the tenant's last change when the client was read.
    last_change: i64,
    read_at: Duration,
    weight: u32,
}

#[derive(Clone, Debug)]
struct CachedEndpoints {
    endpoints: Arc<Endpoints>,
    read_time: ReadTime,
    /// In bytes.
    memory: usize,
    /// The life of the tenant: a deleted tenant can be created again with the same name.
    life: i64,
}

#[derive(Clone, Debug)]
struct ClientWeighter;

impl Weighter<CredentialId, CachedClient> for ClientWeighter {
    fn weight(&self, _id: &CredentialId, cached: &CachedClient) -> u64 {
        cached.weight.into()
    }
}

#[derive(Clone, Debug)]
struct EndpointsWeighter;

impl Weighter<TenantId, CachedEndpoints> for EndpointsWeighter {
    fn weight(&self, tenant: &TenantId, cached: &CachedEndpoints) -> u64 {
        (cached.memory + tenant.as_str().len() + size_of::<CachedEndpoints>()) as u64
    }
}

/// The changes that this server made. A hash slot has the number of the last change of its tenants.
#[derive(Debug)]
struct LocalChanges {
    count: AtomicU64,
    last: Box<[AtomicU64]>,
}

impl LocalChanges {
    fn slot(&self, tenant: &TenantId) -> &AtomicU64 {
        let hash = BuildHasherDefault::<DefaultHasher>::default().hash_one(tenant);
        let slot = usize::try_from(hash % self.last.len() as u64).unwrap_or_default();
        &self.last[slot]
    }
}

impl CachedData {
    fn new(clock: &Clock, max_age: Duration) -> Self {
        let last = (0..TENANT_SLOTS).map(|_| AtomicU64::new(0)).collect();
        Self {
            clients: Cache::with_weighter(EXPECTED_CLIENTS, MAX_BYTES, ClientWeighter),
            histories: Cache::new(MAX_TENANTS),
            endpoints: Cache::with_weighter(EXPECTED_RULE_SETS, MAX_RULE_BYTES, EndpointsWeighter),
            scope_sets: Cache::new(MAX_SCOPE_SETS),
            local_changes: LocalChanges { count: AtomicU64::new(0), last },
            uptime: clock.uptime(),
            max_age,
        }
    }

    fn mark_changed(&self, tenant: &TenantId) {
        let number = self.local_changes.count.fetch_add(1, Ordering::AcqRel) + 1;
        self.local_changes.slot(tenant).fetch_max(number, Ordering::AcqRel);
    }

    fn read_time(&self) -> ReadTime {
        let local_changes = self.local_changes.count.load(Ordering::Acquire);
        ReadTime { at: self.uptime.elapsed(), local_changes }
    }

    /// The time since data was read.
    fn age(&self, read_at: Duration) -> Duration {
        self.uptime.elapsed().saturating_sub(read_at)
    }

    /// Whether data of the tenant that was read at this time can be used without a read.
    fn is_fresh(&self, tenant: &TenantId, read_time: ReadTime) -> bool {
        self.age(read_time.at) <= self.max_age
            && self.local_changes.slot(tenant).load(Ordering::Acquire) <= read_time.local_changes
    }

    /// The history of a tenant. A new one if there is none, or if it has a gap.
    fn history(
        &self,
        tenant: &TenantId,
        read_time: ReadTime,
        last: ChangePosition,
    ) -> Arc<ChangeHistory> {
        if let Some(history) = self.histories.get(tenant)
            && !history.has_gap()
        {
            return history;
        }
        let history = Arc::new(ChangeHistory::new(tenant.clone(), read_time, last));
        self.histories.insert(tenant.clone(), Arc::clone(&history));
        history
    }

    /// Caches a client. Equal tenants and scope sets share their memory.
    fn insert(
        &self,
        id: &CredentialId,
        mut client: Client,
        read_time: ReadTime,
        last: ChangePosition,
    ) -> Arc<Client> {
        let history = self.history(&client.tenant.id, read_time, last);
        history.share_tenant(&mut client);
        let mut weight = weight_of(&client);
        if let Some(scopes) = self.scope_sets.get(&client.scopes) {
            client.scopes = scopes;
        } else {
            weight += client.scopes.iter().map(|scope| 64 + scope.as_str().len()).sum::<usize>();
            self.scope_sets.insert(client.scopes.clone(), client.scopes.clone());
        }
        let client = Arc::new(client);
        let cached = CachedClient {
            client: Arc::clone(&client),
            history,
            last_change: last.number,
            read_at: read_time.at,
            weight: u32::try_from(weight).unwrap_or(u32::MAX),
        };
        self.clients.insert(*id, cached);
        client
    }
}

/// The memory of a client in bytes, without the parts that it shares.
fn weight_of(client: &Client) -> usize {
    const ENTRY: usize = 160;
    let roles = client.roles.iter().map(|role| size_of::<RoleId>() + role.as_str().len());
    ENTRY
        + size_of::<Client>()
        + size_of::<CredentialName>()
        + client.subject.len()
        + client.name.application.tenant.as_str().len()
        + client.name.application.application.as_str().len()
        + client.secrets.len() * size_of::<SecretMark>()
        + roles.sum::<usize>()
        + client.registration.as_ref().map_or(0, |it| size_of::<Registration>() + it.memory())
}

/// The cache of clients and endpoint rules, filled from the database.
#[derive(Debug)]
pub(in crate::service) struct ClientCache {
    store: Store,
    revocations: Arc<Live>,
    cached: CachedData,
    lookups: CacheLookups,
    endpoint_lookups: CacheLookups,
    feed_reads: FeedReads,
}

/// How reads of the change feeds of tenants ended.
#[derive(Clone, Debug, Default)]
pub struct FeedReads {
    pub read: Counter,
    /// The feed lacks rows that were purged or rolled back: cached clients are loaded again.
    pub gap: Counter,
    pub failed: Counter,
}

impl ClientCache {
    /// An empty cache. Its data is used for `max_age` before the database is asked again.
    pub(in crate::service) fn new(
        store: Store,
        revocations: Arc<Live>,
        clock: &Clock,
        max_age: Duration,
    ) -> Self {
        Self {
            store,
            revocations,
            cached: CachedData::new(clock, max_age),
            lookups: CacheLookups::default(),
            endpoint_lookups: CacheLookups::default(),
            feed_reads: FeedReads::default(),
        }
    }

    /// This server changed the tenant: its change feed must be read before cached data of the
    /// tenant is used again.
    pub(in crate::service) fn mark_changed(&self, tenant: &TenantId) {
        self.cached.mark_changed(tenant);
    }

    /// Whether a client with this id is cached, fresh or stale. If not, this counts as a lookup.
    pub(in crate::service) fn contains(&self, id: &CredentialId) -> bool {
        let is_cached = self.cached.clients.contains_key(id);
        if !is_cached {
            self.lookups.count(false);
        }
        is_cached
    }

    /// The number of cached clients.
    pub(in crate::service) fn len(&self) -> usize {
        self.cached.clients.len()
    }

    /// The lookups of clients, and of endpoint rules.
    pub(in crate::service) fn lookups(&self) -> [&CacheLookups; 2] {
        [&self.lookups, &self.endpoint_lookups]
    }

    /// How reads of change feeds ended.
    pub(in crate::service) fn feed_reads(&self) -> &FeedReads {
        &self.feed_reads
    }

    /// The client with this id, from the cache if it is not stale.
    pub(in crate::service) async fn client(
        &self,
        id: &CredentialId,
    ) -> Result<Option<Arc<Client>>> {
        let Some(cached) = self.cached.clients.get(id) else {
            self.lookups.count(false);
            return self.load_client(id).await;
        };
        let CachedClient { client, history, last_change, read_at, .. } = cached;
        if !self.cached.is_fresh(&history.tenant, history.read_time()) {
            Box::pin(self.read_changes(&history)).await?;
        }
        let is_current = history.is_current(&client.name.application.application, last_change)
            && self.cached.age(read_at) <= MAX_CLIENT_AGE.max(self.cached.max_age)
            && !self.is_revoked(&client);
        if self.lookups.count(is_current) {
            return Ok(Some(client));
        }
        self.load_client(id).await
    }

    /// Like [`Self::client`], and also checked against a fresh list of revocations. The error is
    /// `Unavailable` if the database still has the client as it was before it was revoked: then the
    /// database is in an older state.
    pub(in crate::service) async fn current_client(
        &self,
        id: &CredentialId,
    ) -> Result<Option<Arc<Client>>> {
        let mut client = self.client(id).await?;
        // The read can take as long as the list of revocations stays fresh.
        self.revocations.ensure_fresh().await?;
        // The client may be revoked during the read. Then it is stale again.
        for _ in 0..MAX_RELOADS {
            match client {
                Some(stale) if self.is_revoked(&stale) => {
                    client = self.load_client(id).await?;
                }
                client => return Ok(client),
            }
        }
        match client {
            Some(stale) if self.is_revoked(&stale) => Err(Error::Unavailable(
                format!(
                    "the database has {id} as it was before it was revoked: the database is in an \
                     older state"
                )
                .into(),
            )),
            client => Ok(client),
        }
    }

    /// The client with this id, read from the database and then cached.
    pub(in crate::service) async fn load_client(
        &self,
        id: &CredentialId,
    ) -> Result<Option<Arc<Client>>> {
        let read_time = self.cached.read_time();
        let found = self.with_read_timeout(async {
            let mut session = self.store.read().await?;
            // The last change is read before the client. A change between the two reads then counts
            // as newer than the client.
            let last = session.last_tenant_change(id).await?;
            Ok((last, session.find_client(id).await?))
        });
        let (last, client) = Box::pin(found).await?;
        let Some(client) = client else {
            self.cached.clients.remove(id);
            return Ok(None);
        };
        let last = last.as_ref().map(ChangePosition::of).unwrap_or_default();
        Ok(Some(self.cached.insert(id, client, read_time, last)))
    }

    /// Reads the new rows of a tenant's change feed. Concurrent requests share one read.
    async fn read_changes(&self, history: &ChangeHistory) -> Result<()> {
        let _guard = history.read_lock.lock().await;
        if self.cached.is_fresh(&history.tenant, history.read_time()) {
            return Ok(());
        }
        let read_time = self.cached.read_time();
        let read = self.with_read_timeout(async {
            let mut session = self.store.read().await?;
            loop {
                let last = history.last();
                let tenant = &history.tenant;
                let changes = session.changes_from(tenant, last.number, BATCH).await?;
                let is_end = changes.len() < usize::try_from(BATCH).unwrap_or_default();
                history.apply(&changes, is_end.then_some(read_time));
                if is_end || history.has_gap() {
                    return Ok(());
                }
            }
        });
        let outcome = read.await;
        match outcome {
            Ok(()) if history.has_gap() => self.feed_reads.gap.inc(),
            Ok(()) => self.feed_reads.read.inc(),
            Err(_) => self.feed_reads.failed.inc(),
        };
        outcome
    }

    /// A tenant's endpoint rules, from the cache if they are fresh.
    pub(in crate::service) async fn endpoints(&self, of: &Tenant) -> Result<Arc<Endpoints>> {
        let (cached, tenant) = (&self.cached, &of.id);
        if let Some(rules) = cached.endpoints.get(tenant)
            && rules.life == of.life
            && cached.is_fresh(tenant, rules.read_time)
        {
            self.endpoint_lookups.count(true);
            return Ok(rules.endpoints);
        }
        self.endpoint_lookups.count(false);
        let read_time = cached.read_time();
        let rules =
            self.with_read_timeout(async { self.store.read().await?.endpoints(tenant).await });
        // Boxed: each access check would grow by its size.
        let rules = Endpoints::new(Box::pin(rules).await?)
            .map_err(|fault| Error::internal(format!("a rule of {tenant} {}", fault.0)))?;
        let (memory, life) = (rules.memory(), of.life);
        let endpoints = Arc::new(rules);
        let rules = CachedEndpoints { endpoints: Arc::clone(&endpoints), read_time, memory, life };
        cached.endpoints.insert(tenant.clone(), rules);
        Ok(endpoints)
    }

    /// Deletes old rows of the change feed. A server that has not read them yet loads its cached
    /// clients of the tenant again.
    pub(in crate::service) async fn purge_changes(&self, now: Timestamp) -> Result<()> {
        let retention = MIN_RETENTION.max(self.cached.max_age * 4);
        let end = now.saturating_sub(retention).unwrap_or(Timestamp::MIN);
        loop {
            let mut tx = self.store.begin().await?;
            let done = tx.purge_changes(end).await?;
            tx.commit().await?;
            if done {
                return Ok(());
            }
        }
    }

    /// Whether the client, or something that it depends on, was revoked after it was read.
    fn is_revoked(&self, client: &Client) -> bool {
        self.revocations.index().revokes(&client.revocation_keys())
    }

    /// Runs a read of the database with a timeout.
    pub(in crate::service) async fn with_read_timeout<T>(
        &self,
        read: impl Future<Output = Result<T>>,
    ) -> Result<T> {
        let late = |_| Error::Unavailable("the database did not answer in time".into());
        timeout(READ_TIMEOUT, read).await.map_err(late)?
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn change_makes_older_data_of_its_tenant_stale() {
        let cached = CachedData::new(&Clock::system(), Duration::from_mins(1));
        let (acme, other) = (TenantId::parse("acme").unwrap(), TenantId::parse("other").unwrap());
        let before = cached.read_time();
        assert!(cached.is_fresh(&acme, before));
        cached.mark_changed(&acme);
        assert!(!cached.is_fresh(&acme, before));
        assert!(cached.is_fresh(&other, before));
        assert!(cached.is_fresh(&acme, cached.read_time()));
    }

    #[test]
    fn data_older_than_max_age_is_stale() {
        let cached = CachedData::new(&Clock::system(), Duration::ZERO);
        let read_time = cached.read_time();
        assert!(!cached.is_fresh(&TenantId::parse("acme").unwrap(), read_time));
    }
}
