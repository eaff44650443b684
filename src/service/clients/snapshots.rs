//! What was read a moment ago: clients with all that decides over them, so that a request
//! reads no row. One is used only while its tenant's change feed, which is read again and again,
//! has no change of it; while nothing that it holds was revoked; and after a change on this
//! replica only once the feed was read again.

use std::hash::{BuildHasher, BuildHasherDefault, DefaultHasher};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use jiff::Timestamp;
use quick_cache::Weighter;
use quick_cache::sync::Cache;
use tokio::time::timeout;

use super::history::{History, Mark};
use super::reading::Reading;
use crate::clock::Stopwatch;
use crate::domain::{
    Client, CredentialId, CredentialName, Endpoints, RoleId, ScopeSet, SecretMark, Tenant, TenantId,
};
use crate::error::{Error, Result};
use crate::revocation::Live;
use crate::store::Store;

/// How much memory clients may take: one is some 800 bytes.
const MOST_BYTES: u64 = 160 * 1024 * 1024;
/// How many clients that is, as a rule.
const CLIENTS: usize = 200_000;
/// How many tenants' endpoint rules are kept, and histories.
const MOST_TENANTS: usize = 10_000;
/// How many sets of scopes are looked for where clients could share one.
const MOST_SCOPE_SETS: usize = 1_000;
/// Tenants are told apart by this many marks. Two that share one only read more often.
const MARKS: usize = 1024;
/// How long the database may take, where somebody waits for every request.
const LONGEST_READ: Duration = Duration::from_secs(5);
/// How often a client is read that is revoked again and again meanwhile.
const MOST_READINGS: usize = 3;
/// How many changes are read at once.
const BATCH: i64 = 1000;
/// How long changes stay in the feed, at least: servers that read them look every few seconds.
const MIN_KEPT: Duration = Duration::from_mins(10);
/// When a client is read again though the feed has no change of it: an operator may have changed
/// the database by hand.
const LONGEST_LIFE: Duration = Duration::from_mins(5);

/// What was read a moment ago.
#[derive(Debug)]
struct Snapshots {
    clients: Cache<CredentialId, Snapshot, Weights>,
    histories: Cache<TenantId, Arc<History>>,
    endpoints: Cache<TenantId, Rules>,
    scope_sets: Cache<ScopeSet, ScopeSet>,
    changes: Changes,
    max_age: Duration,
}

#[derive(Clone, Debug)]
struct Snapshot {
    client: Arc<Client>,
    history: Arc<History>,
    /// The last change of the tenant when it was read.
    last_change: i64,
    since: Stopwatch,
    weight: u32,
}

/// A tenant's endpoint rules.
#[derive(Clone, Debug)]
struct Rules {
    endpoints: Arc<Endpoints>,
    read: Reading,
    /// Of which tenant of this name.
    life: i64,
}

#[derive(Clone, Debug)]
struct Weights;

impl Weighter<CredentialId, Snapshot> for Weights {
    fn weight(&self, _id: &CredentialId, snapshot: &Snapshot) -> u64 {
        snapshot.weight.into()
    }
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
    fn new(max_age: Duration) -> Self {
        let last = (0..MARKS).map(|_| AtomicU64::new(0)).collect();
        Self {
            clients: Cache::with_weighter(CLIENTS, MOST_BYTES, Weights),
            histories: Cache::new(MOST_TENANTS),
            endpoints: Cache::new(MOST_TENANTS),
            scope_sets: Cache::new(MOST_SCOPE_SETS),
            changes: Changes { count: AtomicU64::new(0), last },
            max_age,
        }
    }

    /// A tenant has changed: what was read of it before says nothing until its feed was read.
    fn changed(&self, tenant: &TenantId) {
        let number = self.changes.count.fetch_add(1, Ordering::AcqRel) + 1;
        self.changes.mark(tenant).fetch_max(number, Ordering::AcqRel);
    }

    /// Whether a client of this id was read and is still held, however old.
    fn holds(&self, id: &CredentialId) -> bool {
        self.clients.contains_key(id)
    }

    /// How many clients are held.
    fn len(&self) -> usize {
        self.clients.len()
    }

    fn begin(&self) -> Reading {
        Reading::begin(self.changes.count.load(Ordering::Acquire))
    }

    fn is_fresh(&self, tenant: &TenantId, read: Reading) -> bool {
        read.since.elapsed() <= self.max_age
            && self.changes.mark(tenant).load(Ordering::Acquire) <= read.changes
    }

    /// The history of a client's tenant; one that begins now, if there is none that goes on.
    fn history(&self, tenant: &TenantId, read: Reading, last: Mark) -> Arc<History> {
        if let Some(history) = self.histories.get(tenant)
            && !history.is_void()
        {
            return history;
        }
        let history = Arc::new(History::new(tenant.clone(), read, last));
        self.histories.insert(tenant.clone(), Arc::clone(&history));
        history
    }

    /// Keeps a client, sharing what is the same for others.
    fn keep(
        &self,
        id: &CredentialId,
        mut client: Client,
        read: Reading,
        last: Mark,
    ) -> Arc<Client> {
        let history = self.history(&client.tenant.id, read, last);
        history.share(&mut client);
        let mut weight = weight_of(&client);
        if let Some(scopes) = self.scope_sets.get(&client.scopes) {
            client.scopes = scopes;
        } else {
            weight += client.scopes.iter().map(|scope| 64 + scope.as_str().len()).sum::<usize>();
            self.scope_sets.insert(client.scopes.clone(), client.scopes.clone());
        }
        let client = Arc::new(client);
        let snapshot = Snapshot {
            client: Arc::clone(&client),
            history,
            last_change: last.number,
            since: read.since,
            weight: u32::try_from(weight).unwrap_or(u32::MAX),
        };
        self.clients.insert(*id, snapshot);
        client
    }
}

/// How much memory a client takes that shares what it can.
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
}

/// The cache, with the database that it is filled from and the list that outdates it.
#[derive(Debug)]
pub(in crate::service) struct ClientCache {
    store: Store,
    revocations: Arc<Live>,
    snapshots: Snapshots,
}

impl ClientCache {
    /// An empty cache. What it holds is used for `max_age` without a look at the database.
    pub(in crate::service) fn new(store: Store, revocations: Arc<Live>, max_age: Duration) -> Self {
        Self { store, revocations, snapshots: Snapshots::new(max_age) }
    }

    /// A tenant has changed: see [`Snapshots::changed`].
    pub(in crate::service) fn changed(&self, tenant: &TenantId) {
        self.snapshots.changed(tenant);
    }

    /// Whether a client of this id is cached, however old.
    pub(in crate::service) fn holds(&self, id: &CredentialId) -> bool {
        self.snapshots.holds(id)
    }

    /// How many clients are cached.
    pub(in crate::service) fn len(&self) -> usize {
        self.snapshots.len()
    }

    /// The client of this id, as it is or was a moment ago, if it exists.
    pub(in crate::service) async fn client(
        &self,
        id: &CredentialId,
    ) -> Result<Option<Arc<Client>>> {
        let Some(snapshot) = self.snapshots.clients.get(id) else {
            return self.client_afresh(id).await;
        };
        let Snapshot { client, history, last_change, since, .. } = snapshot;
        if !self.snapshots.is_fresh(&history.tenant, history.read()) {
            Box::pin(self.read_changes(&history)).await?;
        }
        if history.is_current(&client.name.application.application, last_change)
            && since.elapsed() <= LONGEST_LIFE.max(self.snapshots.max_age)
            && !self.is_outdated(&client)
        {
            return Ok(Some(client));
        }
        self.client_afresh(id).await
    }

    /// The same, and nothing that it holds was revoked by the list as it is now. Unavailable if
    /// the database still has what is known to be revoked: then it is an older state.
    pub(in crate::service) async fn current_client(
        &self,
        id: &CredentialId,
    ) -> Result<Option<Arc<Client>>> {
        let mut client = self.client(id).await?;
        // Reading may have taken as long as the list may be old.
        self.revocations.ensure_fresh().await?;
        // Whatever is revoked while it is read outdates it again.
        for _ in 0..MOST_READINGS {
            match client {
                Some(outdated) if self.is_outdated(&outdated) => {
                    client = self.client_afresh(id).await?;
                }
                client => return Ok(client),
            }
        }
        match client {
            Some(outdated) if self.is_outdated(&outdated) => Err(Error::Unavailable(
                format!(
                    "the database has {id} as it was before it was revoked: it is an older state"
                )
                .into(),
            )),
            client => Ok(client),
        }
    }

    /// The client of this id, as it is, if it exists.
    pub(in crate::service) async fn client_afresh(
        &self,
        id: &CredentialId,
    ) -> Result<Option<Arc<Client>>> {
        let snapshots = &self.snapshots;
        let read = snapshots.begin();
        let found = self.promptly(async {
            let mut session = self.store.read().await?;
            // Before the client: what happens between the two is then taken for news.
            let last = session.last_change_around(id).await?;
            Ok((last, session.find_client(id).await?))
        });
        let (last, client) = Box::pin(found).await?;
        let Some(client) = client else {
            snapshots.clients.remove(id);
            return Ok(None);
        };
        let last = last.as_ref().map(Mark::of).unwrap_or_default();
        Ok(Some(snapshots.keep(id, client, read, last)))
    }

    /// Reads what is new in a tenant's change feed. Requests that need it at once share one
    /// reading.
    async fn read_changes(&self, history: &History) -> Result<()> {
        let _turn = history.reading.lock().await;
        if self.snapshots.is_fresh(&history.tenant, history.read()) {
            return Ok(());
        }
        let read = self.snapshots.begin();
        self.promptly(async {
            let mut session = self.store.read().await?;
            loop {
                let last = history.last();
                let tenant = &history.tenant;
                let changes = session.changes_from(tenant, last.number, BATCH).await?;
                let all = changes.len() < usize::try_from(BATCH).unwrap_or_default();
                history.apply(&changes, all.then_some(read));
                if all || history.is_void() {
                    return Ok(());
                }
            }
        })
        .await
    }

    /// A tenant's endpoint rules, as they are or were a moment ago.
    pub(in crate::service) async fn endpoints(&self, of: &Tenant) -> Result<Arc<Endpoints>> {
        let (snapshots, tenant) = (&self.snapshots, &of.id);
        if let Some(rules) = snapshots.endpoints.get(tenant)
            && rules.life == of.life
            && snapshots.is_fresh(tenant, rules.read)
        {
            return Ok(rules.endpoints);
        }
        let read = snapshots.begin();
        let rules = self.promptly(async { self.store.read().await?.endpoints(tenant).await });
        let rules = Endpoints::new(rules.await?)
            .map_err(|fault| Error::internal(format!("a rule of {tenant} {}", fault.0)))?;
        let endpoints = Arc::new(rules);
        let rules = Rules { endpoints: Arc::clone(&endpoints), read, life: of.life };
        snapshots.endpoints.insert(tenant.clone(), rules);
        Ok(endpoints)
    }

    /// Deletes old rows of the change feed. A server that has not read so far reads all that it
    /// needs of the tenant again.
    pub(in crate::service) async fn purge_changes(&self, now: Timestamp) -> Result<()> {
        let kept = MIN_KEPT.max(self.snapshots.max_age * 4);
        let end = now.saturating_sub(kept).unwrap_or(Timestamp::MIN);
        loop {
            let mut tx = self.store.begin().await?;
            let done = tx.purge_changes(end).await?;
            tx.commit().await?;
            if done {
                return Ok(());
            }
        }
    }

    /// Whether something of the client was revoked after it was read.
    fn is_outdated(&self, client: &Client) -> bool {
        self.revocations.index().revokes(&client.revocation_keys())
    }

    /// The answer of the database, if it comes in time.
    pub(in crate::service) async fn promptly<T>(
        &self,
        read: impl Future<Output = Result<T>>,
    ) -> Result<T> {
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
