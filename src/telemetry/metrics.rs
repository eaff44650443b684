//! The metrics of a server.

use std::sync::atomic::AtomicU64;
use std::time::Duration;

use prometheus_client::encoding::{EncodeLabelSet, text};
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::exemplar::HistogramWithExemplars;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::info::Info;
use prometheus_client::registry::{Metric, Registry};

use super::counter_set::{CounterSet, FixedLabels};
use super::logs;

#[derive(Debug)]
pub struct Metrics {
    registry: Registry,
    pub(super) requests: Family<RequestLabels, Counter>,
    pub(super) errors: Family<ErrorLabels, Counter>,
    pub(super) durations: Family<DurationLabels, Durations, fn() -> Durations>,
    pub(super) in_flight: Family<FaceLabels, Gauge>,
    staleness: Gauge<f64, AtomicU64>,
    revocations: Gauge,
    watchers: Gauge,
    cache_entries: Family<CacheLabels, Gauge>,
    signing_key_age: Gauge<f64, AtomicU64>,
    signing_keys: Family<KeyStateLabels, Gauge>,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct KeyStateLabels {
    state: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct CacheLabels {
    cache: &'static str,
}

/// Durations of requests. Its buckets name the last trace that was sampled.
pub(super) type Durations = HistogramWithExemplars<TraceLabels>;

/// The trace of a request, as an exemplar. Short enough for `OpenMetrics` (128 characters).
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub(super) struct TraceLabels {
    pub(super) trace_id: String,
    pub(super) span_id: String,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub(super) struct ErrorLabels {
    pub(super) face: &'static str,
    pub(super) reason: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub(super) struct RequestLabels {
    pub(super) face: &'static str,
    pub(super) method: String,
    pub(super) code: String,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub(super) struct DurationLabels {
    pub(super) face: &'static str,
    pub(super) method: String,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub(super) struct FaceLabels {
    pub(super) face: &'static str,
}

/// From a cached answer to an argon2 hash behind a full queue.
const BUCKETS: [f64; 12] =
    [0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 1.0, 2.5, 10.0];

impl Default for Metrics {
    fn default() -> Self {
        let mut registry = Registry::with_prefix("keyward");
        let requests = Family::default();
        registry.register("requests", "Requests answered, by outcome", requests.clone());
        let errors = Family::default();
        registry.register(
            "request_errors",
            "Requests answered with an error, by reason",
            errors.clone(),
        );
        let histogram: fn() -> Durations = || Durations::new(BUCKETS.into_iter());
        let durations = Family::new_with_constructor(histogram);
        registry.register(
            "request_duration_seconds",
            "Time to answer a request",
            durations.clone(),
        );
        let in_flight = Family::default();
        registry.register("requests_in_flight", "Requests in flight", in_flight.clone());
        let staleness = Gauge::default();
        registry.register(
            "revocations_staleness_seconds",
            "Time since the revocation list was last confirmed to be complete",
            staleness.clone(),
        );
        let revocations = Gauge::default();
        registry.register("revocations", "Revocations in memory", revocations.clone());
        let watchers = Gauge::default();
        registry.register("watchers", "Open streams of revocations", watchers.clone());
        let cache_entries = Family::default();
        registry.register("cache_entries", "Entries in caches", cache_entries.clone());
        let signing_key_age = Gauge::default();
        registry.register(
            "signing_key_age_seconds",
            "How long the active signing key has been in use",
            signing_key_age.clone(),
        );
        let signing_keys = Family::default();
        registry.register("signing_keys", "Signing keys, by state", signing_keys.clone());
        if let Some(suppressed_lines) = logs::suppressed_lines() {
            let help = "Log lines that were suppressed because there were too many similar ones";
            registry.register("log_lines_left_out", help, suppressed_lines);
        }
        Self {
            registry,
            requests,
            errors,
            durations,
            in_flight,
            staleness,
            revocations,
            watchers,
            cache_entries,
            signing_key_age,
            signing_keys,
        }
    }
}

impl Metrics {
    /// Registers a metric of another module.
    pub fn add(&mut self, name: &str, help: &str, metric: impl Metric) {
        self.registry.register(name, help, metric);
    }

    /// Registers counters of other modules as one metric. All are served from the start, so that an
    /// alert on an increase sees the first.
    pub fn add_counters(&mut self, name: &str, help: &str, counters: Vec<(FixedLabels, Counter)>) {
        self.add(name, help, CounterSet(counters));
    }

    /// Registers the versions of what runs: the newest schema that it knows, and what it was built
    /// from.
    pub fn add_build(&mut self, schema: i64) {
        let build = Info::new([
            ("version", env!("CARGO_PKG_VERSION").to_owned()),
            ("commit", env!("KEYWARD_BUILD_COMMIT").to_owned()),
            ("rustc", env!("KEYWARD_BUILD_RUSTC").to_owned()),
            ("schema", schema.to_string()),
        ]);
        self.add("build", "What runs: versions of the program, its compiler and its schema", build);
    }

    /// Updates the gauges of revocations.
    pub fn set_revocations(&self, staleness: Duration, held: usize, watchers: usize) {
        self.staleness.set(staleness.as_secs_f64());
        self.revocations.set(whole(held));
        self.watchers.set(whole(watchers));
    }

    /// Updates the gauges of signing keys.
    pub fn set_signing_keys(&self, age: Duration, by_state: [(&'static str, usize); 4]) {
        self.signing_key_age.set(age.as_secs_f64());
        for (state, count) in by_state {
            self.signing_keys.get_or_create(&KeyStateLabels { state }).set(whole(count));
        }
    }

    /// Updates the gauge of a cache.
    pub fn set_cache_entries(&self, cache: &'static str, kept: usize) {
        self.cache_entries.get_or_create(&CacheLabels { cache }).set(whole(kept));
    }

    /// All metrics in the `OpenMetrics` text format.
    pub fn encode(&self) -> Result<String, std::fmt::Error> {
        let mut text = String::new();
        text::encode(&mut text, &self.registry)?;
        Ok(text)
    }
}

fn whole(number: usize) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}
