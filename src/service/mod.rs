//! The use cases: the only business logic, the same for gRPC and HTTP. Nothing here
//! knows either of them; arguments and answers are domain values.

mod access;
mod applications;
mod attempts;
mod audit;
mod believed;
mod bootstrap;
mod callers;
mod clients;
mod credentials;
mod declaration;
mod endpoints;
mod failures;
mod folding;
mod grants;
mod history;
mod limiting;
mod lists;
mod places;
mod policies;
mod profiles;
mod proofs;
mod readiness;
mod refusals;
mod revocations;
mod roles;
mod scopes;
mod secrets;
mod signing_keys;
mod single_flight;
mod snapshots;
mod tenants;
mod tokens;
mod updates;
mod usage;
mod users;
mod watching;

use std::net::IpAddr;
use std::sync::{Arc, RwLock};
use std::time::Duration;

use jiff::Timestamp;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;

pub use applications::{NewApplication, Ownership};
pub use bootstrap::FirstCredential;
pub use callers::Caller;
pub use clients::Proof;
pub use credentials::{NewCredential, WithSecret};
pub use declaration::Declared;
pub use limiting::ExceededLabels;
pub use lists::{List, ListRequest};
pub use policies::Violation;
pub use profiles::{Applied, AppliedChange};
pub use readiness::{Condition, Readiness};
pub use revocations::{RevocationList, Revoked};
pub use tokens::{IssuedToken, TokenInfo};
pub use updates::Shown;
pub use usage::Days;
pub use users::DeletedUser;
pub use watching::{JwksWatch, News, RevocationWatch};

use crate::clock::{Clock, SteadyTime};
use crate::domain::{Moment, Record};
use crate::error::{Error, Result};
use crate::incidents::{Incident, IncidentKind, Incidents};
use crate::keys::{KeyRing, SigningAlgorithm};
use crate::limiter::{Limiter, WindowRate};
use crate::redis::Redis;
use crate::revocation::{self, Live};
use crate::secrets::{HashQueue, Hasher, MasterKey, PageTokens, Prefixes, Sealer};
use crate::store::Store;

/// What a service is made of.
#[derive(Debug)]
pub struct Parts {
    /// The database.
    pub store: Store,
    /// The key that all others are derived from.
    pub master_key: MasterKey,
    /// The time.
    pub clock: Clock,
    /// The `iss` of tokens.
    pub issuer: String,
    /// How tokens are signed.
    pub signing_algorithm: SigningAlgorithm,
    /// What secrets begin with.
    pub prefixes: Prefixes,
    /// How hashes wait for their turn.
    pub hash_queue: HashQueue,
    /// How the list of revocations is kept up.
    pub revocations: revocation::Options,
    /// What connects replicas.
    pub redis: Option<Redis>,
    /// What counts requests, tokens and wrong secrets.
    pub limiter: Limiter,
    /// How many wrong secrets of one client may come from one source; `None`: any number.
    pub failure_budget: Option<WindowRate>,
    /// How many of all clients may come from one source; `None`: any number.
    pub source_failure_budget: Option<WindowRate>,
    /// How long admin credentials work that Keyward makes itself; `None`: without end.
    pub admin_lifetime: Option<Duration>,
}

/// Keyward's use cases.
#[derive(Debug)]
pub struct Service {
    store: Store,
    clock: Clock,
    issuer: String,
    signing_algorithm: SigningAlgorithm,
    prefixes: Prefixes,
    hasher: Hasher,
    sealer: Sealer,
    page_tokens: Arc<PageTokens>,
    usage: usage::Usage,
    refusals: refusals::Refusals,
    revocations: Arc<Live>,
    /// What is forgotten for good is forgotten by this.
    steady: SteadyTime,
    snapshots: Arc<snapshots::Snapshots>,
    proofs: proofs::Proofs,
    believed: believed::BelievedTokens,
    watchers: watching::Watchers,
    limiter: Limiter,
    /// Held by the one that saves what limits have counted: an older state replaces no newer one.
    saving_limits: tokio::sync::Mutex<()>,
    redis: Option<Redis>,
    writable: readiness::Writable,
    failures: failures::Failures,
    exceeded: Family<ExceededLabels, Counter>,
    admin_lifetime: Option<Duration>,
    incidents: Arc<Incidents>,
    /// Replaced whole when keys change; never held across an await.
    keys: RwLock<Arc<KeyRing>>,
}

impl Service {
    /// The service of these parts. Reads what is revoked, and the signing keys, which proves
    /// the master key; makes the first one if there is none.
    pub async fn new(parts: Parts) -> Result<Self> {
        let key = &parts.master_key;
        let live = Live::load(parts.store.clone(), parts.redis.clone(), key, parts.revocations);
        let live = live.await?;
        let service = Self {
            hasher: Hasher::new(&parts.master_key, parts.hash_queue)?,
            sealer: Sealer::new(&parts.master_key)?,
            page_tokens: Arc::new(PageTokens::new(&parts.master_key)?),
            proofs: proofs::Proofs::new(&parts.master_key, parts.redis.clone())?,
            believed: believed::BelievedTokens::new(),
            revocations: Arc::new(live),
            steady: SteadyTime::new(parts.clock.clone()),
            store: parts.store,
            failures: failures::Failures::new(parts.failure_budget, parts.hash_queue.longest_wait)
                .with_budget_of_source(parts.source_failure_budget, parts.clock.clone()),
            clock: parts.clock,
            issuer: parts.issuer,
            signing_algorithm: parts.signing_algorithm,
            prefixes: parts.prefixes,
            usage: usage::Usage::default(),
            refusals: refusals::Refusals::default(),
            snapshots: Arc::new(snapshots::Snapshots::new(parts.revocations.max_staleness)),
            watchers: watching::Watchers::default(),
            limiter: parts.limiter,
            saving_limits: tokio::sync::Mutex::default(),
            redis: parts.redis,
            writable: readiness::Writable::default(),
            exceeded: Family::default(),
            admin_lifetime: parts.admin_lifetime,
            incidents: Arc::default(),
            keys: RwLock::default(),
        };
        service.restore_limits().await?;
        service.refresh_signing_keys().await?;
        service.ensure_signing_key().await?;
        Ok(service)
    }

    /// The `iss` of tokens: the base of the HTTP endpoints.
    pub fn issuer(&self) -> &str {
        &self.issuer
    }

    /// The present moment.
    pub fn now(&self) -> Timestamp {
        self.clock.now()
    }

    /// The list of revocations as it is known here.
    pub fn revocations(&self) -> &Arc<Live> {
        &self.revocations
    }

    /// What counts requests, tokens and wrong secrets.
    pub fn limiter(&self) -> &Limiter {
        &self.limiter
    }

    /// Forgets limits and budgets that say nothing any more. To be called now and then.
    pub fn sweep(&self) {
        self.limiter.sweep();
        self.failures.sweep();
        self.incidents.sweep(self.now());
    }

    /// What was refused lately, for the log.
    pub fn incidents(&self) -> &Arc<Incidents> {
        &self.incidents
    }

    /// Tells the log of something that was refused. Whether it is the first of its window.
    fn note_incident(
        &self,
        kind: IncidentKind,
        client: &str,
        source: Option<IpAddr>,
        detail: &str,
    ) -> bool {
        self.incidents.note(Incident { kind, client, source, detail }, self.now())
    }

    /// Counts what goes beyond limits.
    pub fn exceeded(&self) -> &Family<ExceededLabels, Counter> {
        &self.exceeded
    }

    /// Counts the hashes of secrets computed.
    pub fn hashes(&self) -> &Counter {
        self.hasher.computed()
    }

    /// How much is remembered, by what it is: clients, secrets that were right, tokens whose
    /// signature was.
    pub fn remembered(&self) -> [(&'static str, usize); 3] {
        [
            ("clients", self.snapshots.len()),
            ("secrets", self.proofs.len()),
            ("tokens", self.believed.len()),
        ]
    }
}

/// Refuses a change of something that is not as the caller last saw it. An empty etag
/// is one that the caller does not care about.
fn check_etag(record: &Record, etag: &str, name: &impl ToString) -> Result<()> {
    if etag.is_empty() || etag == record.etag() {
        Ok(())
    } else {
        Err(Error::EtagMismatch(name.to_string()))
    }
}

/// Refuses an end that is over already.
fn check_expiry(expires_at: Option<Moment>, now: Timestamp, field: &str) -> Result<()> {
    if expires_at.is_some_and(|end| end <= now) {
        Err(Error::invalid(field, "must be in the future"))
    } else {
        Ok(())
    }
}

/// A row that was locked and read in this transaction was not there to be written.
fn vanished(name: impl std::fmt::Display) -> Error {
    Error::internal(format!("{name} vanished under a lock"))
}
