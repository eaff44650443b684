//! Traces, logs and metrics. Secrets, tokens and bodies are in none of them.

use std::collections::{HashMap, HashSet};
use std::pin::pin;
use std::sync::atomic::AtomicU64;
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

use axum::extract::MatchedPath;
use axum::http::{HeaderMap, HeaderValue, Request, Response};
use opentelemetry::propagation::{Extractor, TextMapPropagator};
use opentelemetry::trace::TracerProvider;
use opentelemetry_otlp::{SpanExporter, WithExportConfig};
use opentelemetry_sdk::Resource;
use opentelemetry_sdk::propagation::TraceContextPropagator;
use opentelemetry_sdk::trace::SdkTracerProvider;
use prometheus_client::encoding::{EncodeLabelSet, text};
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::metrics::info::Info;
use prometheus_client::registry::{Metric, Registry};
use tracing::{Instrument, Span, field};
use tracing_opentelemetry::OpenTelemetrySpanExt;
use tracing_subscriber::filter::LevelFilter;
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::SubscriberInitExt;
use tracing_subscriber::{EnvFilter, Layer};

use crate::clock::Stopwatch;
use crate::config::{LogFormat, TelemetryConfig};

/// Sends what is left of the traces when it is told to.
#[derive(Debug, Default)]
pub struct Telemetry {
    provider: Option<SdkTracerProvider>,
}

/// What went wrong with the start of logs and traces.
#[derive(Debug, thiserror::Error)]
pub enum TelemetryError {
    /// The log directives cannot be read.
    #[error("telemetry.log is not valid: {0}")]
    Log(#[from] tracing_subscriber::filter::ParseError),
    /// The exporter cannot be built.
    #[error("telemetry.otlp_endpoint cannot be used: {0}")]
    Otlp(#[from] opentelemetry_otlp::ExporterBuildError),
    /// Somebody else has started logs in this process.
    #[error("logs cannot be started: {0}")]
    Started(#[from] tracing_subscriber::util::TryInitError),
}

impl Telemetry {
    /// Starts logs to standard error, and traces to the OTLP endpoint if there is one.
    /// Once a process.
    pub fn start(config: &TelemetryConfig) -> Result<Self, TelemetryError> {
        let filter = EnvFilter::try_new(&config.log)?;
        let lines = tracing_subscriber::fmt::layer().with_writer(std::io::stderr);
        let lines = match config.log_format {
            LogFormat::Text => lines.boxed(),
            LogFormat::Json => lines.json().boxed(),
        };
        let lines = lines.with_filter(filter);
        let provider = config.otlp_endpoint.as_deref().map(tracer_provider).transpose()?;
        let traces = provider.as_ref().map(|provider| {
            tracing_opentelemetry::layer()
                .with_tracer(provider.tracer("keyward"))
                .with_filter(LevelFilter::INFO)
        });
        tracing_subscriber::registry().with(lines).with(traces).try_init()?;
        Ok(Self { provider })
    }

    /// Sends what is left. Blocks for a moment.
    pub fn stop(self) {
        if let Some(provider) = self.provider
            && let Err(error) = provider.shutdown()
        {
            tracing::warn!(%error, "the last traces were not sent");
        }
    }
}

fn tracer_provider(endpoint: &str) -> Result<SdkTracerProvider, TelemetryError> {
    let exporter = SpanExporter::builder().with_tonic().with_endpoint(endpoint).build()?;
    let resource = Resource::builder().with_service_name("keyward").build();
    Ok(SdkTracerProvider::builder().with_batch_exporter(exporter).with_resource(resource).build())
}

/// The metrics of a server.
#[derive(Debug)]
pub struct Metrics {
    registry: Registry,
    requests: Family<RequestLabels, Counter>,
    durations: Family<DurationLabels, Histogram, fn() -> Histogram>,
    in_flight: Family<FaceLabels, Gauge>,
    staleness: Gauge<f64, AtomicU64>,
    revocations: Gauge,
    watchers: Gauge,
    remembered: Family<RememberedLabels, Gauge>,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct RememberedLabels {
    what: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct RequestLabels {
    face: &'static str,
    method: String,
    code: String,
}

/// Where requests to one method are counted: looked for once, not with every request.
#[derive(Debug)]
struct Called {
    name: String,
    duration: Histogram,
    succeeded: Counter,
    in_flight: Gauge,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct DurationLabels {
    face: &'static str,
    method: String,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct FaceLabels {
    face: &'static str,
}

/// From a cached answer to an argon2 hash behind a full queue.
const BUCKETS: [f64; 12] =
    [0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 1.0, 2.5, 10.0];

impl Default for Metrics {
    fn default() -> Self {
        let mut registry = Registry::with_prefix("keyward");
        let requests = Family::default();
        registry.register("requests", "Requests answered, by their outcome", requests.clone());
        let histogram: fn() -> Histogram = || Histogram::new(BUCKETS);
        let durations = Family::new_with_constructor(histogram);
        registry.register(
            "request_duration_seconds",
            "How long requests took to answer",
            durations.clone(),
        );
        let in_flight = Family::default();
        registry.register("requests_in_flight", "Requests being answered", in_flight.clone());
        let staleness = Gauge::default();
        registry.register(
            "revocations_staleness_seconds",
            "How long ago it was last known that no revocation was missing",
            staleness.clone(),
        );
        let revocations = Gauge::default();
        registry.register("revocations", "Revocations that are held", revocations.clone());
        let watchers = Gauge::default();
        registry.register("watchers", "Streams that tell of revocations", watchers.clone());
        let remembered = Family::default();
        registry.register(
            "remembered",
            "What is kept in memory so that it need not be read or computed again",
            remembered.clone(),
        );
        let build = Info::new([("version", env!("CARGO_PKG_VERSION"))]);
        registry.register("build", "What is running", build);
        Self {
            registry,
            requests,
            durations,
            in_flight,
            staleness,
            revocations,
            watchers,
            remembered,
        }
    }
}

impl Metrics {
    /// Adds what others count.
    pub fn add(&mut self, name: &str, help: &str, metric: impl Metric) {
        self.registry.register(name, help, metric);
    }

    /// Takes down how it stands with the revocations.
    pub fn look_at_revocations(&self, staleness: Duration, held: usize, watchers: usize) {
        self.staleness.set(staleness.as_secs_f64());
        self.revocations.set(whole(held));
        self.watchers.set(whole(watchers));
    }

    /// Takes down how much is remembered of something.
    pub fn look_at_memory(&self, what: &'static str, kept: usize) {
        self.remembered.get_or_create(&RememberedLabels { what }).set(whole(kept));
    }

    /// All metrics in the `OpenMetrics` text format, which Prometheus reads.
    pub fn encode(&self) -> Result<String, std::fmt::Error> {
        let mut text = String::new();
        text::encode(&mut text, &self.registry)?;
        Ok(text)
    }
}

fn whole(number: usize) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}

/// One of the faces that are observed.
#[derive(Clone, Debug)]
pub struct Observed(Arc<Face>);

#[derive(Debug)]
struct Face {
    name: &'static str,
    /// The code of what succeeded, as a rule.
    success: &'static str,
    methods: HashSet<String>,
    metrics: Arc<Metrics>,
    /// Those that were called.
    called: RwLock<HashMap<String, Arc<Called>>>,
}

impl Observed {
    /// The gRPC face, with the methods there are: what else is called is counted as one, since
    /// callers can make up any number of names.
    pub fn grpc(methods: HashSet<String>, metrics: Arc<Metrics>) -> Self {
        Self::new("grpc", "0", methods, metrics)
    }

    /// The HTTP face, whose router knows what is called.
    pub fn http(metrics: Arc<Metrics>) -> Self {
        Self::new("http", "200", HashSet::new(), metrics)
    }

    fn new(
        name: &'static str,
        success: &'static str,
        methods: HashSet<String>,
        metrics: Arc<Metrics>,
    ) -> Self {
        Self(Arc::new(Face { name, success, methods, metrics, called: RwLock::default() }))
    }
}

impl Face {
    /// What is called, from a bounded set: a gRPC method, or the route of an HTTP endpoint.
    fn called<Q>(&self, request: &Request<Q>) -> Arc<Called> {
        let route = request.extensions().get::<MatchedPath>().map(MatchedPath::as_str);
        let told = route.unwrap_or_else(|| request.uri().path());
        let is_known = || route.is_some() || self.methods.contains(told);
        self.called_before(told).unwrap_or_else(|| {
            let name = if is_known() { told } else { "unknown" };
            self.called_before(name).unwrap_or_else(|| self.first_call(name))
        })
    }

    fn called_before(&self, name: &str) -> Option<Arc<Called>> {
        self.called.read().unwrap_or_else(PoisonError::into_inner).get(name).cloned()
    }

    fn first_call(&self, name: &str) -> Arc<Called> {
        let method = name.to_owned();
        let duration = DurationLabels { face: self.name, method: method.clone() };
        let succeeded = RequestLabels {
            face: self.name,
            method: method.clone(),
            code: self.success.to_owned(),
        };
        let called = Arc::new(Called {
            name: method.clone(),
            duration: self.metrics.durations.get_or_create_owned(&duration),
            succeeded: self.metrics.requests.get_or_create_owned(&succeeded),
            in_flight: self.metrics.in_flight.get_or_create_owned(&FaceLabels { face: self.name }),
        });
        let mut all = self.called.write().unwrap_or_else(PoisonError::into_inner);
        Arc::clone(all.entry(method).or_insert(called))
    }

    fn answered<B>(&self, called: &Called, span: &Span, took: Duration, response: &Response<B>) {
        let status = response.status();
        let code = match response.headers().get("grpc-status").map(HeaderValue::to_str) {
            Some(Ok(status)) => status,
            _ if self.name == "grpc" && status.is_success() => "0",
            _ => status.as_str(),
        };
        span.record("code", code);
        tracing::debug!(parent: span, called = called.name, code, "answered");
        called.duration.observe(took.as_secs_f64());
        self.count(called, code);
    }

    fn count(&self, called: &Called, code: &str) {
        if code == self.success {
            called.succeeded.inc();
        } else {
            let method = called.name.clone();
            let labels = RequestLabels { face: self.name, method, code: code.to_owned() };
            self.metrics.requests.get_or_create(&labels).inc();
        }
    }
}

/// Counts a request as under way until it is dropped, answered or not.
#[derive(Debug)]
struct InFlight(Arc<Called>);

impl InFlight {
    fn new(called: Arc<Called>) -> Self {
        called.in_flight.inc();
        Self(called)
    }
}

impl Drop for InFlight {
    fn drop(&mut self) {
        self.0.in_flight.dec();
    }
}

impl Observed {
    /// Begins to count and time a request, and a span for it, under the caller's trace if he sent
    /// one (W3C Trace Context).
    pub fn begin<Q>(&self, request: &Request<Q>) -> Observation {
        let face = Arc::clone(&self.0);
        let called = face.called(request);
        let span = tracing::info_span!(
            "request",
            otel.kind = "server",
            otel.name = called.name,
            face = face.name,
            code = field::Empty,
        );
        if request.headers().contains_key("traceparent") {
            let parent = TraceContextPropagator::new().extract(&Headers(request.headers()));
            // Fails where traces are not collected: then there is nothing to belong to.
            span.set_parent(parent).ok();
        }
        Observation { face, span, in_flight: InFlight::new(called), stopwatch: Stopwatch::start() }
    }
}

/// A request under way. It holds nothing of the request, since it is moved about with every one.
#[derive(Debug)]
pub struct Observation {
    face: Arc<Face>,
    span: Span,
    in_flight: InFlight,
    stopwatch: Stopwatch,
}

impl Observation {
    /// Answers in the request's span, and tells how it went.
    pub async fn of<B>(self, answer: impl Future<Output = Response<B>>) -> Response<B> {
        let Self { face, span, in_flight, stopwatch } = self;
        let mut answer = pin!(answer.instrument(span));
        let response = answer.as_mut().await;
        face.answered(&in_flight.0, answer.span(), stopwatch.elapsed(), &response);
        response
    }
}

struct Headers<'a>(&'a HeaderMap);

impl Extractor for Headers<'_> {
    fn get(&self, key: &str) -> Option<&str> {
        self.0.get(key)?.to_str().ok()
    }

    fn keys(&self) -> Vec<&str> {
        self.0.keys().map(axum::http::HeaderName::as_str).collect()
    }
}
