//! Observes requests: counts, times and traces them.

use std::collections::{HashMap, HashSet};
use std::pin::pin;
use std::sync::{Arc, PoisonError, RwLock};
use std::time::{Duration, SystemTime};

use axum::extract::MatchedPath;
use axum::http::{HeaderValue, Request, Response};
use jiff::Timestamp;
use opentelemetry::Value;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::gauge::Gauge;
use tracing::{Instrument, Span};
use tracing_opentelemetry::OpenTelemetrySpanExt;

use super::access::{AccessLine, Ids};
use super::metrics::{
    DurationLabels, Durations, ErrorLabels, FaceLabels, Metrics, RequestLabels, TraceLabels,
};
use super::trace_ids::{self, TraceIds};
use super::traces;
use crate::admission::RequestPermit;
use crate::clock::{Clock, Stopwatch};
use crate::error::AnswerReason;
use crate::incidents::{Incident, IncidentKind, Incidents};

/// The metrics of one method. Looked up once, not for every request.
#[derive(Debug)]
struct MethodMetrics {
    name: String,
    duration: Durations,
    succeeded: Counter,
    /// By code.
    failed: RwLock<HashMap<String, Counter>>,
    in_flight: Gauge,
}

/// Where observations are reported.
#[derive(Clone, Debug)]
pub struct Reports {
    pub metrics: Arc<Metrics>,
    /// Refusals, for the log.
    pub incidents: Arc<Incidents>,
    /// The clock of incidents.
    pub clock: Clock,
    /// Whether the access log is enabled.
    pub access_log: bool,
    /// Whether traces are collected.
    pub traces: bool,
}

/// An observed interface: gRPC or HTTP.
#[derive(Clone, Debug)]
pub struct Observed(Arc<ObservedInterface>);

#[derive(Debug)]
struct ObservedInterface {
    name: &'static str,
    /// The code of most successful answers.
    success: &'static str,
    /// The code for a caller that lacks permission.
    denied: &'static str,
    methods: HashSet<String>,
    reports: Reports,
    /// Methods that were called before.
    called: RwLock<HashMap<String, Arc<MethodMetrics>>>,
}

impl Observed {
    /// The gRPC interface. Calls of other methods are counted under one name, because clients can
    /// make up any number of names.
    pub fn grpc(methods: HashSet<String>, reports: Reports) -> Self {
        Self::new("grpc", ("0", "7"), methods, reports)
    }

    /// The HTTP interface. The router determines the method's name.
    pub fn http(reports: Reports) -> Self {
        Self::new("http", ("200", "403"), HashSet::new(), reports)
    }

    fn new(
        name: &'static str,
        (success, denied): (&'static str, &'static str),
        methods: HashSet<String>,
        reports: Reports,
    ) -> Self {
        let called = RwLock::default();
        Self(Arc::new(ObservedInterface { name, success, denied, methods, reports, called }))
    }
}

impl ObservedInterface {
    /// The method's name from a bounded set: a gRPC method or an HTTP route.
    fn called<Q>(&self, request: &Request<Q>) -> Arc<MethodMetrics> {
        let route = request.extensions().get::<MatchedPath>().map(MatchedPath::as_str);
        let path = route.unwrap_or_else(|| request.uri().path());
        let is_known = || route.is_some() || self.methods.contains(path);
        self.called_before(path).unwrap_or_else(|| {
            let name = if is_known() { path } else { "unknown" };
            self.called_before(name).unwrap_or_else(|| self.first_call(name))
        })
    }

    fn called_before(&self, name: &str) -> Option<Arc<MethodMetrics>> {
        self.called.read().unwrap_or_else(PoisonError::into_inner).get(name).cloned()
    }

    fn first_call(&self, name: &str) -> Arc<MethodMetrics> {
        let method = name.to_owned();
        let duration = DurationLabels { face: self.name, method: method.clone() };
        let succeeded = RequestLabels {
            face: self.name,
            method: method.clone(),
            code: self.success.to_owned(),
        };
        let called = Arc::new(MethodMetrics {
            name: method.clone(),
            duration: self.reports.metrics.durations.get_or_create_owned(&duration),
            succeeded: self.reports.metrics.requests.get_or_create_owned(&succeeded),
            failed: RwLock::default(),
            in_flight: self
                .reports
                .metrics
                .in_flight
                .get_or_create_owned(&FaceLabels { face: self.name }),
        });
        let mut all = self.called.write().unwrap_or_else(PoisonError::into_inner);
        Arc::clone(all.entry(method).or_insert(called))
    }

    fn answered<B>(
        &self,
        (called, span): (&MethodMetrics, &Span),
        took: Duration,
        asked: CallerInfo,
        response: &Response<B>,
    ) {
        let status = response.status();
        let code = match response.headers().get("grpc-status").map(HeaderValue::to_str) {
            Some(Ok(status)) => status,
            _ if self.name == "grpc" && status.is_success() => "0",
            _ => status.as_str(),
        };
        // Not a span field, because it would be formatted for the log with every request.
        let of_trace =
            if code == self.success { self.success.into() } else { Value::from(code.to_owned()) };
        span.set_attribute("code", of_trace);
        tracing::debug!(parent: span, called = called.name, code, "answered");
        let trace = trace_ids::sampled(span).map(|ids| TraceLabels {
            trace_id: ids.trace.to_string(),
            span_id: ids.span.to_string(),
        });
        let at = trace.is_some().then(|| system_time(self.reports.clock.now()));
        called.duration.observe(took.as_secs_f64(), trace, at);
        self.count(called, code);
        self.count_error(code, response);
        let client = asked.permit.as_ref().and_then(|permit| permit.client());
        let source = asked.permit.as_ref().map(|permit| permit.address());
        if code == self.denied {
            let name = client.map_or("", |client| client.name.credential.as_str());
            let kind = IncidentKind::PermissionDenied;
            let incident = Incident { kind, client: name, source, detail: &called.name };
            self.reports.incidents.note(incident, self.reports.clock.now());
        }
        if let Some(ids) = asked.ids {
            let (face, method, client) = (self.name, &called.name, client.map(Arc::as_ref));
            let line = AccessLine { face, method, status: code, client, source, took, ids: *ids };
            // In the span, for its trace id.
            span.in_scope(|| line.log());
        }
    }

    fn count(&self, called: &MethodMetrics, code: &str) {
        if code == self.success {
            called.succeeded.inc();
            return;
        }
        if let Some(known) = called.failed.read().unwrap_or_else(PoisonError::into_inner).get(code)
        {
            known.inc();
            return;
        }
        let (method, code) = (called.name.clone(), code.to_owned());
        let labels = RequestLabels { face: self.name, method, code: code.clone() };
        let counter = self.reports.metrics.requests.get_or_create_owned(&labels);
        counter.inc();
        called.failed.write().unwrap_or_else(PoisonError::into_inner).insert(code, counter);
    }

    /// Counts an error by its reason. A library's own error, such as of an unknown method, has none.
    fn count_error<B>(&self, code: &str, response: &Response<B>) {
        let status = response.status();
        let is_error = code != self.success && (self.name == "grpc" || status.as_u16() >= 400);
        if !is_error {
            return;
        }
        let reason = response.extensions().get::<AnswerReason>().map_or("other", |reason| reason.0);
        let labels = ErrorLabels { face: self.name, reason };
        self.reports.metrics.errors.get_or_create(&labels).inc();
    }
}

fn system_time(moment: Timestamp) -> SystemTime {
    let nanos = u64::try_from(moment.as_nanosecond()).unwrap_or_default();
    SystemTime::UNIX_EPOCH + Duration::from_nanos(nanos)
}

/// Counts a request as in flight until it is dropped.
#[derive(Debug)]
struct InFlight(Arc<MethodMetrics>);

impl InFlight {
    fn new(called: Arc<MethodMetrics>) -> Self {
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
    /// Starts the measurement and the span of a request. The span continues the caller's trace, if
    /// one was sent (W3C Trace Context).
    pub fn begin<Q>(&self, request: &Request<Q>) -> Observation {
        let face = Arc::clone(&self.0);
        let called = face.called(request);
        let parent = traces::parent(request.headers());
        macro_rules! span {
            ($target:expr) => {
                tracing::info_span!(
                    target: $target,
                    "request",
                    otel.kind = "server",
                    otel.name = called.name,
                    face = face.name,
                )
            };
        }
        // Without a trace there are no ids to log, and the span costs nothing at a stricter level.
        let span = if parent.is_some() || face.reports.traces {
            span!(trace_ids::REQUESTS)
        } else {
            span!(module_path!())
        };
        let callers = parent.as_ref().and_then(TraceIds::of);
        if let Some(parent) = parent {
            // This fails if traces are not collected, and then there is no parent to set.
            span.set_parent(parent).ok();
        }
        if let Some(ids) = trace_ids::sampled(&span).or(callers) {
            ids.keep(&span);
        }
        let asked = CallerInfo {
            permit: request.extensions().get().cloned(),
            ids: face.reports.access_log.then(|| Box::new(Ids::of(request.headers()))),
        };
        let (in_flight, stopwatch) = (InFlight::new(called), Stopwatch::start());
        Observation { face, span, in_flight, stopwatch, asked }
    }
}

/// What is known about the caller when the request is answered.
#[derive(Debug)]
struct CallerInfo {
    permit: Option<Arc<RequestPermit>>,
    /// Only for the access log.
    ids: Option<Box<Ids>>,
}

/// A request in flight. It is small, because it is moved with every request.
#[derive(Debug)]
pub struct Observation {
    face: Arc<ObservedInterface>,
    span: Span,
    in_flight: InFlight,
    stopwatch: Stopwatch,
    asked: CallerInfo,
}

impl Observation {
    /// Runs the answer in the request's span, and reports the result.
    pub async fn of<B>(self, answer: impl Future<Output = Response<B>>) -> Response<B> {
        let Self { face, span, in_flight, stopwatch, asked } = self;
        let mut answer = pin!(answer.instrument(span));
        let response = answer.as_mut().await;
        face.answered((&in_flight.0, answer.span()), stopwatch.elapsed(), asked, &response);
        response
    }
}
