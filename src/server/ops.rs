//! The interface for operators: liveness, readiness and metrics.

use std::sync::Arc;

use axum::Router;
use axum::extract::{Request, State};
use axum::http::{StatusCode, header};
use axum::middleware::{Next, from_fn};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use tokio_util::sync::CancellationToken;

use super::scrape::Scrape;
use crate::http::names_one_host;
use crate::service::Service;

/// `/livez`, `/readyz` and `/metrics`. A draining server is not ready.
pub(super) fn router(service: &Arc<Service>, scrape: Scrape, drain: CancellationToken) -> Router {
    let ready = Router::new().route("/readyz", get(ready)).with_state((Arc::clone(service), drain));
    let metrics = Router::new().route("/metrics", get(encode)).with_state(scrape);
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

async fn encode(State(scrape): State<Scrape>) -> Response {
    const OPEN_METRICS: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";
    match scrape.text() {
        Ok(text) => ([(header::CONTENT_TYPE, OPEN_METRICS)], text).into_response(),
        Err(_) => StatusCode::INTERNAL_SERVER_ERROR.into_response(),
    }
}
