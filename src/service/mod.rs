//! The use cases: the only business logic, the same for gRPC and HTTP. Nothing here knows a wire;
//! arguments and answers are domain values.
//!
//! Each area owns its state. Imports go one way, from right to left:
//!
//! ```text
//! context, lists, lookups, expiry, clients, master_keys, signing, limits, usage <- auth <- audit <- tokens | access | admin | feeds
//! ```
//!
//! This file is the composition root: it builds the areas, and no area imports it.

mod access;
mod admin;
mod audit;
mod auth;
mod clients;
mod context;
mod expiry;
mod feeds;
mod limits;
mod lists;
mod lookups;
mod master_keys;
mod readiness;
mod signing;
mod tokens;
mod usage;

use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;

pub use access::AccessChecks;
pub use admin::{
    Admin, AppliedChange, Days, Declared, DeletedUser, FirstCredential, MasterKeyStatus,
    MasterKeyUse, NewApplication, NewCredential, Ownership, PolicyViolation, Revoked, RevokedKey,
    Shown, SigningKeyInfo, held_master_keys, master_key_uses,
};
pub use audit::{AuditChain, RefusalWriter};
#[cfg(feature = "internals")]
pub use auth::Spent;
pub use auth::{
    ASSERTION_ALGORITHMS, Auth, Caller, CallerCredential, ClientCredential, DPOP_ALGORITHMS, Replay,
};
pub use clients::FeedReads;
pub use context::RequestContext;
pub use expiry::CredentialExpiry;
pub use feeds::{AuditNews, AuditWatch, Feeds, JwksWatch, News, RevocationWatch};
pub use limits::{ExceededLabels, RateLimits};
pub use lists::{List, ListRequest};
pub use lookups::CacheLookups;
pub use master_keys::KeyAnnouncements;
pub use readiness::Readiness;
pub use signing::Signing;
pub use tokens::{
    ExchangeRequest, GrantType, IssuedToken, IssuedTokens, PresentedToken, TokenInfo, TokenRequest,
    Tokens,
};
pub use usage::UsageCounter;

pub use crate::revocation::RememberedList;

use admin::RegistrationRules;
use audit::TenantSessions;
use auth::{
    AssertionVerifier, CertificateVerifier, ClientKeys, DpopNonces, DpopVerifier,
    FederatedVerifier, LockOuts, RehashQueue, SecretCache, SecretVerifier, Throttle, TokenVerifier,
};
use clients::ClientCache;
use lists::Pages;
use readiness::{ReadinessProbe, Writable};

use crate::clock::Clock;
use crate::error::Result;
use crate::incidents::Incidents;
use crate::keys::SigningAlgorithm;
use crate::limiter::{Limiter, WindowRate};
use crate::outbound::{JwksSource, OutboundMetrics};
use crate::redis::Redis;
use crate::revocation::{self, Live};
use crate::secrets::{HashQueue, Hasher, MasterKeys, Prefixes, Sealer};
use crate::store::Store;

/// What a service is made of.
#[derive(Debug)]
pub struct ServiceParts {
    /// The database.
    pub store: Store,
    /// The keys that all others are derived from.
    pub master_keys: MasterKeys,
    /// The keys of this server and of others.
    pub key_announcements: Arc<KeyAnnouncements>,
    /// The time.
    pub clock: Clock,
    /// The `iss` of tokens.
    pub issuer: String,
    /// The base of the URLs of gRPC methods, as clients see it.
    pub grpc_url: String,
    /// Whether each `DPoP` proof needs a nonce.
    pub dpop_nonces: bool,
    /// The algorithm of new signing keys.
    pub signing_algorithm: SigningAlgorithm,
    /// How long a signing key signs; `None`: until it is rotated by hand.
    pub rotation_period: Option<Duration>,
    /// The prefixes of secrets.
    pub prefixes: Prefixes,
    /// The bounds of the queue of hashes.
    pub hash_queue: HashQueue,
    /// How the list of revocations is kept up to date.
    pub revocations: revocation::Options,
    /// The link to other replicas.
    pub redis: Option<Redis>,
    /// Counts requests, tokens and wrong secrets.
    pub limiter: Limiter,
    /// How many wrong secrets of one client may come from one source; `None`: no limit.
    pub failure_budget: Option<WindowRate>,
    /// How many wrong secrets of all clients may come from one source; `None`: no limit.
    pub source_failure_budget: Option<WindowRate>,
    /// The key sets of clients and issuers at other hosts.
    pub jwks: JwksSource,
    /// The lifetime of the admin credentials that Keyward creates itself; `None`: no end.
    pub admin_lifetime: Option<Duration>,
}

/// Keyward's use cases, by area.
#[derive(Debug)]
pub struct Service {
    /// Who calls.
    pub auth: Arc<Auth>,
    /// Access tokens.
    pub tokens: Tokens,
    /// Whether requests are allowed.
    pub access: AccessChecks,
    /// Management.
    pub admin: Admin,
    /// What services read that verify tokens themselves.
    pub feeds: Feeds,
    /// The keys that sign tokens.
    pub signing: Arc<Signing>,
    /// The limits of requests and tokens.
    pub limits: Arc<RateLimits>,
    /// The use of credentials.
    pub usage: Arc<UsageCounter>,
    /// How many credentials expire soon.
    pub expiry: CredentialExpiry,
    /// Refused attempts, on their way to the audit log.
    pub refusals: Arc<RefusalWriter>,
    /// The hash chains of the audit log.
    pub audit: Arc<AuditChain>,
    /// The master keys of this server and of others.
    pub master_keys: Arc<KeyAnnouncements>,
    /// The one-time tokens that were accepted.
    pub replay: Arc<Replay>,
    /// Counts documents of other hosts.
    pub outbound: OutboundMetrics,
    issuer: String,
    grpc_url: String,
    clock: Clock,
    revocations: Arc<Live>,
    clients: Arc<ClientCache>,
    hasher: Arc<Hasher>,
    incidents: Arc<Incidents>,
    probe: ReadinessProbe,
}

impl Service {
    /// Builds the areas from these parts. Reads what is revoked, and the signing keys, which
    /// proves the master key; makes the first key if there is none.
    pub async fn new(parts: ServiceParts) -> Result<Self> {
        let sealer = Arc::new(Sealer::new(&parts.master_keys)?);
        let pages = Pages::new(&parts.master_keys)?;
        let shared = SharedParts::load(&parts, &sealer).await?;
        let lock_outs = Arc::<LockOuts>::default();
        let replay = Arc::new(Replay::start(parts.store.clone(), parts.clock.clone()));
        let dpop = DpopVerifier {
            nonces: DpopNonces::new(&parts.master_keys, parts.dpop_nonces)?,
            replay: Arc::clone(&replay),
        };
        let auth = Arc::new(shared.auth(&parts, Arc::clone(&lock_outs), dpop, &replay)?);

        let SharedParts { clients, hasher, incidents, limits, revocations, signing, usage } =
            shared;
        let ServiceParts { store, clock, issuer, grpc_url, prefixes, redis, .. } = parts;
        let refusals =
            RefusalWriter::new(store.clone(), clock.clone(), Arc::clone(&clients), lock_outs);
        let refusals = Arc::new(refusals);
        let audit = AuditChain::new(store.clone(), clock.clone(), &parts.master_keys)?;
        let sessions = Arc::new(TenantSessions {
            store: store.clone(),
            clock: clock.clone(),
            revocations: Arc::clone(&revocations),
            clients: Arc::clone(&clients),
            refusals: Arc::clone(&refusals),
        });

        Ok(Self {
            tokens: Tokens {
                issuer: issuer.clone(),
                store: store.clone(),
                clock: clock.clone(),
                auth: Arc::clone(&auth),
                clients: Arc::clone(&clients),
                limits: Arc::clone(&limits),
                sessions: Arc::clone(&sessions),
                signing: Arc::clone(&signing),
                usage: Arc::clone(&usage),
                issued: IssuedTokens::default(),
            },
            access: AccessChecks {
                issuer: issuer.clone(),
                clock: clock.clone(),
                auth: Arc::clone(&auth),
                clients: Arc::clone(&clients),
                limits: Arc::clone(&limits),
                signing: Arc::clone(&signing),
                usage: Arc::clone(&usage),
            },
            admin: Admin {
                store: store.clone(),
                clock: clock.clone(),
                prefixes,
                hasher: Arc::clone(&hasher),
                sealer,
                pages: pages.clone(),
                signing: Arc::clone(&signing),
                sessions: Arc::clone(&sessions),
                keys: Arc::clone(&parts.key_announcements),
                audit: Arc::clone(&audit),
                registrations: RegistrationRules {
                    issuer: issuer.clone(),
                    fetcher: parts.jwks.fetcher().clone(),
                },
                credential_lifetime: parts.admin_lifetime,
            },
            feeds: Feeds::new(
                store.clone(),
                clock.clone(),
                Arc::clone(&revocations),
                Arc::clone(&signing),
                pages,
                (sessions, Arc::clone(&audit)),
            ),
            expiry: CredentialExpiry::new(store.clone(), clock.clone()),
            probe: ReadinessProbe {
                store,
                clock: clock.clone(),
                clients: Arc::clone(&clients),
                signing: Arc::clone(&signing),
                revocations: Arc::clone(&revocations),
                redis,
                writable: Writable::default(),
            },
            auth,
            signing,
            limits,
            usage,
            refusals,
            audit,
            master_keys: parts.key_announcements,
            replay,
            outbound: parts.jwks.fetcher().metrics().clone(),
            issuer,
            grpc_url,
            clock,
            revocations,
            clients,
            hasher,
            incidents,
        })
    }

    /// The `iss` of tokens: the base of the HTTP endpoints.
    pub fn issuer(&self) -> &str {
        &self.issuer
    }

    /// The base of the URLs of gRPC methods, as clients see it.
    pub fn grpc_url(&self) -> &str {
        &self.grpc_url
    }

    /// The present moment.
    pub fn now(&self) -> Timestamp {
        self.clock.now()
    }

    /// The list of revocations as this server knows it.
    pub fn revocations(&self) -> &Arc<Live> {
        &self.revocations
    }

    /// Counts requests, tokens and wrong secrets.
    pub fn limiter(&self) -> &Limiter {
        self.limits.limiter()
    }

    /// The state of everything that this server depends on.
    pub async fn readiness(&self) -> Readiness {
        self.probe.readiness().await
    }

    /// Deletes old rows of the change feed.
    pub async fn purge_changes(&self) -> Result<()> {
        self.clients.purge_changes(self.now()).await
    }

    /// Forgets limits and budgets that no longer refuse anything. To be called now and then.
    pub fn sweep(&self) {
        self.limits.limiter().sweep();
        self.auth.sweep(self.now());
        self.incidents.sweep(self.now());
    }

    /// What was refused lately, for the log.
    pub fn incidents(&self) -> &Arc<Incidents> {
        &self.incidents
    }

    /// Counts what exceeds limits.
    pub fn exceeded(&self) -> &Family<ExceededLabels, Counter> {
        self.limits.exceeded()
    }

    /// Counts the hashes of secrets.
    pub fn hashes(&self) -> &Counter {
        self.hasher.computed()
    }

    /// Counts the hashes that were moved to the primary master key.
    pub fn moved_hashes(&self) -> &Counter {
        self.auth.moved_hashes()
    }

    /// Hashes secrets, in a queue.
    pub fn hasher(&self) -> &Hasher {
        &self.hasher
    }

    /// How reads of the change feeds of tenants ended.
    pub fn feed_reads(&self) -> &FeedReads {
        self.clients.feed_reads()
    }

    /// The lookups in caches, by name. `shared_secrets` is in Redis.
    pub fn cache_lookups(&self) -> [(&'static str, &CacheLookups); 5] {
        let [clients, endpoints] = self.clients.lookups();
        let [secrets, shared_secrets] = self.auth.secret_lookups();
        [
            ("clients", clients),
            ("endpoints", endpoints),
            ("secrets", secrets),
            ("shared_secrets", shared_secrets),
            ("tokens", self.auth.tokens().lookups()),
        ]
    }

    /// The sizes of the caches, by name: clients, verified secrets, verified tokens.
    pub fn cached(&self) -> [(&'static str, usize); 3] {
        [
            ("clients", self.clients.len()),
            ("secrets", self.auth.cached_secrets()),
            ("tokens", self.auth.tokens().cached()),
        ]
    }
}

/// What several areas use.
struct SharedParts {
    clients: Arc<ClientCache>,
    hasher: Arc<Hasher>,
    incidents: Arc<Incidents>,
    limits: Arc<RateLimits>,
    revocations: Arc<Live>,
    signing: Arc<Signing>,
    usage: Arc<UsageCounter>,
}

impl SharedParts {
    async fn load(parts: &ServiceParts, sealer: &Arc<Sealer>) -> Result<Self> {
        let ServiceParts { store, master_keys, clock, redis, .. } = parts;
        let live =
            Live::load(store.clone(), redis.clone(), master_keys, clock.clone(), parts.revocations)
                .await?;
        let (revocations, incidents) = (Arc::new(live), Arc::<Incidents>::default());
        let max_age = parts.revocations.max_staleness;
        let clients = ClientCache::new(store.clone(), Arc::clone(&revocations), clock, max_age);
        let limits = RateLimits::load(
            parts.limiter.clone(),
            store.clone(),
            clock.clone(),
            Arc::clone(&incidents),
            redis.is_some(),
        );
        let signing = Signing::load(
            store.clone(),
            clock.clone(),
            Arc::clone(sealer),
            (parts.signing_algorithm, parts.rotation_period),
            Arc::clone(&revocations),
        );
        Ok(Self {
            clients: Arc::new(clients),
            hasher: Arc::new(Hasher::new(master_keys, parts.hash_queue)?),
            limits: Arc::new(limits.await?),
            signing: Arc::new(signing.await?),
            usage: Arc::new(UsageCounter::new(store.clone(), clock.clone())),
            incidents,
            revocations,
        })
    }

    fn auth(
        &self,
        parts: &ServiceParts,
        lock_outs: Arc<LockOuts>,
        dpop: DpopVerifier,
        replay: &Arc<Replay>,
    ) -> Result<Auth> {
        let max_wait = parts.hash_queue.longest_wait;
        let throttle = Throttle::new(parts.limiter.clone(), parts.failure_budget, max_wait)
            .with_budget_of_source(parts.source_failure_budget, parts.clock.clone());
        let secrets = SecretVerifier {
            store: parts.store.clone(),
            clock: parts.clock.clone(),
            clients: Arc::clone(&self.clients),
            prefixes: parts.prefixes.clone(),
            hasher: Arc::clone(&self.hasher),
            verified: SecretCache::new(&parts.master_keys, parts.redis.clone())?,
            throttle,
            incidents: Arc::clone(&self.incidents),
            lock_outs,
            keys: Arc::clone(&parts.key_announcements),
            rehash: RehashQueue::default(),
        };
        let tokens = TokenVerifier::new(
            parts.issuer.clone(),
            Arc::clone(&self.signing),
            Arc::clone(&self.clients),
            Arc::clone(&self.revocations),
        );
        let certificates = CertificateVerifier::new(parts.clock.clone(), Arc::clone(&self.clients));
        let federated = FederatedVerifier {
            issuer: parts.issuer.clone(),
            clock: parts.clock.clone(),
            store: parts.store.clone(),
            clients: Arc::clone(&self.clients),
            keys: Arc::new(ClientKeys::new(parts.jwks.clone())),
        };
        let assertions = AssertionVerifier::new(Arc::new(federated), Arc::clone(replay));
        Ok(Auth::new(secrets, assertions, certificates, tokens, dpop, Arc::clone(&self.usage)))
    }
}
