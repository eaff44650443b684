//! Sends traces and metrics to a collector over OTLP, by gRPC or HTTP.
//!
//! The exporters of OpenTelemetry are not used: they read environment variables besides Keyward's
//! settings, and their metrics cannot come from another registry. The messages are theirs.

mod grpc;
mod http;
mod metrics;
mod spans;

use std::fmt;
use std::hash::{BuildHasher, RandomState};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use opentelemetry::{Key, KeyValue};
use opentelemetry_proto::tonic::collector::metrics::v1::ExportMetricsServiceRequest;
use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
use opentelemetry_sdk::Resource;
use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use tokio::runtime::Handle;
use tokio::time::timeout;
use tracing_subscriber::Layer;

pub use metrics::MetricsExport;
pub(super) use spans::CollectorSpans;

use self::grpc::GrpcLink;
use self::http::HttpLink;
use crate::backoff::Backoff;
use crate::config::{OtlpConfig, OtlpProtocol};
use crate::error::{Error, FailureLog};

/// The longest pause between two attempts.
const MAX_PAUSE: Duration = Duration::from_secs(1);

/// What the exports of this process share: who sends, and how they end. It is a layer of the log, so
/// that it is found again.
#[derive(Clone, Debug)]
pub struct OtlpProcess {
    resource: Resource,
    exports: Family<ExportLabels, Counter>,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct ExportLabels {
    signal: &'static str,
    result: &'static str,
}

impl OtlpProcess {
    fn new() -> Self {
        let words = [0, 1].map(|n| RandomState::new().hash_one(n));
        // The detectors of the library read OTEL_SERVICE_NAME and OTEL_RESOURCE_ATTRIBUTES.
        let resource = Resource::builder().with_attributes([
            KeyValue::new("service.version", env!("CARGO_PKG_VERSION")),
            KeyValue::new("service.instance.id", format!("{:016x}{:016x}", words[0], words[1])),
        ]);
        let resource = resource.build();
        let name = resource.get(&Key::new("service.name")).map(|name| name.to_string());
        let is_named = name.is_some_and(|name| !name.starts_with("unknown_service"));
        let resource = if is_named {
            resource
        } else {
            let attributes = resource.iter().map(|(key, value)| (key.clone(), value.clone()));
            let attributes = attributes.map(|(key, value)| KeyValue::new(key, value));
            let builder = Resource::builder_empty().with_attributes(attributes);
            builder.with_service_name("keyward").build()
        };
        Self { resource, exports: Family::default() }
    }

    /// What the traces of this process use already, or a new one.
    pub fn of_process() -> Self {
        let known = tracing::dispatcher::get_default(|log| log.downcast_ref::<Self>().cloned());
        known.unwrap_or_else(Self::new)
    }

    /// Counts exports by signal and result.
    pub fn exports(&self) -> &Family<ExportLabels, Counter> {
        &self.exports
    }

    pub(super) fn resource(&self) -> Resource {
        self.resource.clone()
    }
}

impl<S: tracing::Subscriber> Layer<S> for OtlpProcess {}

/// A request to the collector.
#[derive(Clone, Debug)]
pub(super) enum OtlpExport {
    Traces(ExportTraceServiceRequest),
    Metrics(ExportMetricsServiceRequest),
}

impl OtlpExport {
    fn signal(&self) -> &'static str {
        match self {
            Self::Traces(_) => "traces",
            Self::Metrics(_) => "metrics",
        }
    }
}

/// Why an export failed.
#[derive(Debug)]
pub(super) struct ExportError {
    cause: String,
    /// Whether another attempt can succeed.
    is_temporary: bool,
}

impl ExportError {
    fn temporary(cause: impl fmt::Display) -> Self {
        Self { cause: cause.to_string(), is_temporary: true }
    }

    fn lasting(cause: impl fmt::Display) -> Self {
        Self { cause: cause.to_string(), is_temporary: false }
    }
}

/// A collector. Clones share the connection.
#[derive(Clone, Debug)]
pub(super) struct Collector(Arc<CollectorInner>);

#[derive(Debug)]
struct CollectorInner {
    link: CollectorLink,
    timeout: Duration,
    runtime: Handle,
    exports: Family<ExportLabels, Counter>,
    failures: Mutex<FailureLog>,
}

#[derive(Debug)]
enum CollectorLink {
    Grpc(Box<GrpcLink>),
    Http(Box<HttpLink>),
}

impl Collector {
    /// Must be called within a Tokio runtime, which sends the requests. Does not connect yet.
    pub(super) fn new(config: &OtlpConfig, process: &OtlpProcess) -> Result<Self, String> {
        let link = match config.protocol {
            OtlpProtocol::Grpc => CollectorLink::Grpc(Box::new(GrpcLink::new(config)?)),
            OtlpProtocol::HttpProtobuf => CollectorLink::Http(Box::new(HttpLink::new(config)?)),
        };
        Ok(Self(Arc::new(CollectorInner {
            link,
            timeout: config.timeout,
            runtime: Handle::try_current().map_err(|error| error.to_string())?,
            exports: process.exports.clone(),
            failures: Mutex::default(),
        })))
    }

    /// Sends a request, within the timeout. Can be awaited outside of the runtime.
    pub(super) async fn send(&self, export: OtlpExport) -> Result<(), String> {
        let inner = Arc::clone(&self.0);
        let sent = self.0.runtime.spawn(async move { inner.deliver(&export).await });
        sent.await.unwrap_or_else(|error| Err(error.to_string()))
    }
}

impl CollectorInner {
    async fn deliver(&self, export: &OtlpExport) -> Result<(), String> {
        let mut last = None;
        let outcome = timeout(self.timeout, self.attempts(export, &mut last)).await;
        let outcome = outcome.unwrap_or_else(|_| {
            let cause = last.unwrap_or_else(|| "no answer".to_owned());
            Err(format!("{cause} (within {} ms)", self.timeout.as_millis()))
        });
        let result = if outcome.is_ok() { "ok" } else { "failed" };
        let labels = ExportLabels { signal: export.signal(), result };
        self.exports.get_or_create(&labels).inc();
        let logged = outcome.clone().map_err(|cause| Error::Unavailable(cause.into()));
        self.failures.lock().unwrap_or_else(PoisonError::into_inner).note(
            &logged,
            "the OTLP collector takes no traces or metrics: they are lost until it does",
            "the OTLP collector takes traces and metrics again",
        );
        outcome
    }

    /// Attempts until one succeeds, or fails in a way that lasts.
    async fn attempts(&self, export: &OtlpExport, last: &mut Option<String>) -> Result<(), String> {
        let mut backoff = Backoff::default();
        loop {
            let outcome = match &self.link {
                CollectorLink::Grpc(link) => link.send(export.clone()).await,
                CollectorLink::Http(link) => link.send(export).await,
            };
            match outcome {
                Ok(()) => return Ok(()),
                Err(error) if error.is_temporary => *last = Some(error.cause),
                Err(error) => return Err(error.cause),
            }
            backoff.pause(MAX_PAUSE).await;
        }
    }
}
