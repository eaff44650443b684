//! The metrics of this server: what is counted where it happens, and gauges that are
//! read when they are asked for.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;

use crate::admission::Admission;
use crate::outbound::OutboundMetrics;
use crate::redis::Redis;
use crate::service::Service;
use crate::store::{Store, newest_schema};
use crate::telemetry::Metrics;

/// Reads the metrics of a server.
#[derive(Clone, Debug)]
pub(super) struct Scrape {
    metrics: Arc<Metrics>,
    service: Arc<Service>,
    store: Store,
    gauges: Arc<ScrapedGauges>,
}

/// Gauges that are set when they are read.
#[derive(Debug, Default)]
struct ScrapedGauges {
    hash_queue: Gauge,
    connections: Family<ConnectionLabels, Gauge>,
    max_connections: Family<PoolLabels, Gauge>,
    waiting_requests: Family<PoolLabels, Gauge>,
    /// With Redis only.
    limiter: Option<LimiterGauges>,
}

#[derive(Debug, Default)]
struct LimiterGauges {
    is_alone: Gauge,
    share: Gauge<f64, AtomicU64>,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct PoolLabels {
    pool: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ConnectionLabels {
    pool: &'static str,
    state: &'static str,
}

impl ScrapedGauges {
    fn register(has_redis: bool, metrics: &mut Metrics) -> Self {
        let gauges = Self { limiter: has_redis.then(LimiterGauges::default), ..Self::default() };
        metrics.add(
            "hash_queue_length",
            "Hashes of secrets that wait for a turn",
            gauges.hash_queue.clone(),
        );
        metrics.add(
            "database_connections",
            "Connections to the database, by pool and state",
            gauges.connections.clone(),
        );
        metrics.add(
            "database_connections_max",
            "Maximum number of connections of a pool",
            gauges.max_connections.clone(),
        );
        metrics.add(
            "database_waiting_requests",
            "Requests that wait for a connection of a pool",
            gauges.waiting_requests.clone(),
        );
        if let Some(limiter) = &gauges.limiter {
            metrics.add(
                "limiter_fallback_active",
                "Whether this server counts limits alone because Redis does not answer",
                limiter.is_alone.clone(),
            );
            metrics.add(
                "limiter_fallback_share_ratio",
                "The share of each limit that this server counts when it counts alone",
                limiter.share.clone(),
            );
        }
        gauges
    }

    fn read(&self, service: &Service, store: &Store) {
        self.hash_queue.set(whole(service.hasher().waiting()));
        for state in store.pool_states() {
            let pool = state.pool;
            let connections = [("used", state.used), ("idle", state.idle)];
            for (state, count) in connections {
                let labels = ConnectionLabels { pool, state };
                self.connections.get_or_create(&labels).set(whole(count));
            }
            self.max_connections.get_or_create(&PoolLabels { pool }).set(state.max.into());
            self.waiting_requests.get_or_create(&PoolLabels { pool }).set(state.waiting);
        }
        if let Some(gauges) = &self.limiter {
            let limiter = service.limiter();
            gauges.is_alone.set(limiter.is_alone().into());
            let replicas = u32::try_from(limiter.replicas().max(1)).unwrap_or(u32::MAX);
            gauges.share.set(1.0 / f64::from(replicas));
        }
    }
}

#[cfg(feature = "internals")]
impl super::Server {
    /// The database.
    pub fn store(&self) -> &Store {
        &self.store
    }
}

impl Scrape {
    /// Registers what the modules of a server count. `add` registers more.
    pub(super) fn new(
        service: &Arc<Service>,
        store: &Store,
        (redis, admission): (Option<&Redis>, &Admission),
        add: impl FnOnce(&mut Metrics),
    ) -> Self {
        let mut metrics = Metrics::default();
        add_service(&mut metrics, service);
        metrics.add(
            "admission_refused",
            "Connections and requests refused or ended because a budget was used up",
            admission.refused().clone(),
        );
        if let Some(redis) = redis {
            add_redis(&mut metrics, service, redis);
        }
        let gauges = ScrapedGauges::register(redis.is_some(), &mut metrics);
        metrics.add_build(newest_schema());
        add(&mut metrics);
        Self {
            metrics: Arc::new(metrics),
            service: Arc::clone(service),
            store: store.clone(),
            gauges: Arc::new(gauges),
        }
    }

    pub(super) fn metrics(&self) -> &Arc<Metrics> {
        &self.metrics
    }

    /// All metrics in the `OpenMetrics` text format, as they are now.
    pub(super) fn text(&self) -> Result<String, fmt::Error> {
        let (service, metrics) = (&self.service, &self.metrics);
        let live = service.revocations();
        metrics.set_revocations(live.staleness(), live.index().len(), service.feeds.watching());
        for (cache, kept) in service.cached() {
            metrics.set_cache_entries(cache, kept);
        }
        let keys = service.signing.counts();
        let by_state = keys.by_state.map(|(state, count)| (state.as_str(), count));
        metrics.set_signing_keys(keys.age, by_state);
        self.gauges.read(service, &self.store);
        metrics.encode()
    }
}

fn add_service(metrics: &mut Metrics, service: &Service) {
    let hasher = service.hasher();
    metrics.add("secret_hashes", "Hashes of secrets computed", service.hashes().clone());
    metrics.add(
        "secrets_rehashed",
        "Hashes of secrets moved to the primary master key after a use",
        service.moved_hashes().clone(),
    );
    let queue = hasher.queue_metrics().clone();
    metrics.add(
        "hash_queue_wait_seconds",
        "How long hashes of secrets waited for a turn, with those that got none",
        queue.waited,
    );
    let refused =
        [("full", queue.full), ("timeout", queue.timed_out), ("displaced", queue.displaced)];
    metrics.add_counters(
        "hash_queue_refused",
        "Hashes of secrets that got no turn, by cause",
        refused.map(|(cause, count)| (vec![("cause", cause)], count)).to_vec(),
    );
    let issued = service.tokens.issued();
    let grants = [
        ("client_credentials", &issued.client_credentials),
        ("token_exchange", &issued.token_exchange),
    ];
    metrics.add_counters(
        "tokens_issued",
        "Access tokens issued, by grant",
        grants.map(|(grant, count)| (vec![("grant", grant)], count.clone())).to_vec(),
    );
    let lookups = service.cache_lookups().map(|(cache, lookups)| {
        [("hit", &lookups.hits), ("miss", &lookups.misses)]
            .map(|(result, count)| (vec![("cache", cache), ("result", result)], count.clone()))
    });
    metrics.add_counters("cache_lookups", "Lookups in caches, by result", lookups.concat());
    let reads = service.feed_reads();
    let reads = [("ok", &reads.read), ("gap", &reads.gap), ("failed", &reads.failed)];
    metrics.add_counters(
        "change_feed_reads",
        "Reads of the change feeds of tenants, by result",
        reads.map(|(result, count)| (vec![("result", result)], count.clone())).to_vec(),
    );
    add_outbound(metrics, &service.outbound);
    metrics.add(
        "limits_exceeded",
        "Requests and tokens that exceeded a limit, refused or only observed",
        service.exceeded().clone(),
    );
    metrics.add(
        "signing_key_rotations",
        "Signing keys made, by what caused it, and attempts that failed or came second",
        service.signing.rotations().clone(),
    );
    metrics.add(
        "audit_chain_lag_seconds",
        "Age of the oldest audit event that is not in the hash chain",
        service.audit.lag().clone(),
    );
    metrics.add(
        "credentials_expiring",
        "Enabled credentials that expire within a period",
        service.expiry.expiring().clone(),
    );
    metrics.add(
        "credentials_expired",
        "Enabled credentials that have expired",
        service.expiry.expired().clone(),
    );
}

fn add_outbound(metrics: &mut Metrics, outbound: &OutboundMetrics) {
    let fetches = outbound.fetches();
    metrics.add_counters(
        "outbound_fetches",
        "Documents that were asked of other hosts, by result",
        fetches.map(|(result, count)| (vec![("result", result)], count.clone())).to_vec(),
    );
    metrics.add(
        "outbound_skipped_keys",
        "Keys in key sets of other hosts that are not used",
        outbound.skipped_keys.clone(),
    );
    metrics.add(
        "outbound_stale_key_sets",
        "Uses of a key set that could not be fetched again in time",
        outbound.stale_answers.clone(),
    );
}

fn add_redis(metrics: &mut Metrics, service: &Service, redis: &Redis) {
    metrics.add("redis_commands", "Commands sent to Redis", redis.commands().clone());
    metrics.add(
        "redis_commands_in_flight",
        "Commands that wait for an answer of Redis",
        redis.in_flight().clone(),
    );
    metrics.add("redis_up", "Whether Redis is reachable", redis.up().clone());
    metrics.add(
        "limiter_fallbacks",
        "Limit decisions made without Redis, with this server's share",
        service.limiter().fallbacks().clone(),
    );
}

fn whole(number: usize) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}
