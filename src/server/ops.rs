//! The interface for operators: liveness, readiness and metrics.

use std::sync::Arc;

use axum::Router;
use axum::extract::{Request, State};
use axum::http::{StatusCode, header};
use axum::middleware::{Next, from_fn};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use tokio_util::sync::CancellationToken;

use crate::admission::Admission;
use crate::http::names_one_host;
use crate::redis::Redis;
use crate::service::Service;
use crate::telemetry::Metrics;

/// `/livez`, `/readyz` and `/metrics`. A draining server is not ready.
pub(super) fn router(
    service: Arc<Service>,
    metrics: Arc<Metrics>,
    drain: CancellationToken,
) -> Router {
    let ready =
        Router::new().route("/readyz", get(ready)).with_state((Arc::clone(&service), drain));
    let metrics = Router::new().route("/metrics", get(encode)).with_state((metrics, service));
    Router::new()
        .route("/livez", get(async || "ok\n"))
        .merge(ready)
        .merge(metrics)
        .layer(from_fn(require_host))
}

/// 200 if the server can serve requests, otherwise 503, with a line for each dependency.
async fn ready(State((service, drain)): State<(Arc<Service>, CancellationToken)>) -> Response {
    if drain.is_cancelled() {
        let says = "not ready\nserver: it is shutting down\n";
        return (StatusCode::SERVICE_UNAVAILABLE, says).into_response();
    }
    let readiness = service.readiness().await;
    let status =
        if readiness.is_ready() { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
    (status, readiness.to_string()).into_response()
}

/// Refuses an HTTP/1.1 request without a `Host`, as the HTTP interface does.
pub(super) async fn require_host(request: Request, next: Next) -> Response {
    if names_one_host(&request) {
        return next.run(request).await;
    }
    (StatusCode::BAD_REQUEST, "a request must have one Host header, of a host\n").into_response()
}

async fn encode(State((metrics, service)): State<(Arc<Metrics>, Arc<Service>)>) -> Response {
    const OPEN_METRICS: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";
    let live = service.revocations();
    metrics.set_revocations(live.staleness(), live.index().len(), service.feeds.watching());
    for (what, kept) in service.cached() {
        metrics.set_cache_entries(what, kept);
    }
    let keys = service.signing.counts();
    metrics.set_signing_keys(keys.age, keys.by_state.map(|(state, count)| (state.as_str(), count)));
    match metrics.encode() {
        Ok(text) => ([(header::CONTENT_TYPE, OPEN_METRICS)], text).into_response(),
        Err(_) => StatusCode::INTERNAL_SERVER_ERROR.into_response(),
    }
}

/// The metrics of this server.
pub(super) fn metrics(service: &Service, redis: Option<&Redis>, admission: &Admission) -> Metrics {
    let mut metrics = Metrics::default();
    metrics.add("secret_hashes", "Hashes of secrets computed", service.hashes().clone());
    metrics.add(
        "secrets_rehashed",
        "Hashes of secrets moved to the primary master key after a use",
        service.moved_hashes().clone(),
    );
    metrics.add(
        "limits_exceeded",
        "Requests and tokens that exceeded a limit, refused or only observed",
        service.exceeded().clone(),
    );
    metrics.add(
        "admission_refused",
        "Connections and requests refused or ended because a budget was used up",
        admission.refused().clone(),
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
    if let Some(redis) = redis {
        metrics.add("redis_commands", "Commands sent to Redis", redis.commands().clone());
        metrics.add("redis_up", "Whether Redis is reachable", redis.up().clone());
        metrics.add(
            "limiter_fallbacks",
            "Limit decisions made without Redis, with this server's share",
            service.limiter().fallbacks().clone(),
        );
    }
    metrics
}
