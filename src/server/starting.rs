//! The operations listener. While the server starts, it says that the process is alive and what the
//! start waits for: a migration can take long, and must not look like a process that hangs.

use std::sync::{Arc, OnceLock};

use axum::Router;
use axum::body::Body;
use axum::extract::State;
use axum::http::StatusCode;
use axum::middleware::from_fn;
use axum::routing::get;
use futures_util::FutureExt;
use tower::ServiceExt;

use super::connections::Handler;
use super::ops;
use crate::store::SchemaProgress;

/// The router of the operations listener: at first the one of a starting server.
#[derive(Clone)]
pub(super) struct OpsRouter {
    starting: Router,
    started: Arc<OnceLock<Router>>,
}

impl OpsRouter {
    pub(super) fn new(progress: SchemaProgress) -> Self {
        let starting = Router::new()
            .route("/livez", get(async || "ok\n"))
            .route("/readyz", get(not_ready))
            .route("/metrics", get(async || (StatusCode::SERVICE_UNAVAILABLE, STARTING)))
            .with_state(progress)
            .layer(from_fn(ops::require_host));
        Self { starting, started: Arc::default() }
    }

    /// The server has started: from now on, this router answers.
    pub(super) fn start(&self, router: Router) {
        // It is called once.
        self.started.set(router).ok();
    }

    pub(super) fn handler(self) -> impl Handler<Body> {
        move |request| {
            let router = self.started.get().unwrap_or(&self.starting).clone();
            router.oneshot(request).map(|Ok(response)| response)
        }
    }
}

const STARTING: &str = "not ready\nserver: it is starting\n";

async fn not_ready(State(progress): State<SchemaProgress>) -> (StatusCode, String) {
    let step = progress.text();
    let schema = if step.is_empty() { step } else { format!("schema: {step}\n") };
    (StatusCode::SERVICE_UNAVAILABLE, format!("{STARTING}{schema}"))
}
