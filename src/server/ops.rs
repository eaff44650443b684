//! The face for operators: is it alive, is it ready, how is it doing.

use std::sync::Arc;

use axum::Router;
use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::get;

use crate::service::Service;
use crate::telemetry::Metrics;

/// `/livez`, `/readyz` and `/metrics`.
pub(super) fn router(service: Arc<Service>, metrics: Arc<Metrics>) -> Router {
    let ready = Router::new().route("/readyz", get(ready)).with_state(service);
    let metrics = Router::new().route("/metrics", get(encode)).with_state(metrics);
    Router::new().route("/livez", get(async || "ok\n")).merge(ready).merge(metrics)
}

/// 200 if a request could be answered now, else 503.
async fn ready(State(service): State<Arc<Service>>) -> Response {
    match service.check_ready().await {
        Ok(()) => "ok\n".into_response(),
        Err(_) => {
            (StatusCode::SERVICE_UNAVAILABLE, "the database does not answer\n").into_response()
        }
    }
}

async fn encode(State(metrics): State<Arc<Metrics>>) -> Response {
    const OPEN_METRICS: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";
    match metrics.encode() {
        Ok(text) => ([(header::CONTENT_TYPE, OPEN_METRICS)], text).into_response(),
        Err(_) => StatusCode::INTERNAL_SERVER_ERROR.into_response(),
    }
}
