//! `grpc.health.v1.Health`: whether the server is ready. A client checks the whole server (`""`) or
//! one service. All services have the same status.

use std::collections::HashSet;
use std::pin::Pin;
use std::sync::Arc;

use futures_util::stream;
use tokio::sync::watch;
use tokio_stream::Stream;
use tokio_util::sync::CancellationToken;
use tonic::{Request, Response, Status};
use tonic_health::pb::health_check_response::ServingStatus;
use tonic_health::pb::health_server::Health;
use tonic_health::pb::{HealthCheckRequest, HealthCheckResponse};

/// The health of all served services.
#[derive(Clone, Debug)]
pub(super) struct HealthOfServices {
    services: Arc<HashSet<String>>,
    is_ready: watch::Receiver<bool>,
    stop: CancellationToken,
}

/// The state of a stream.
struct Watching {
    is_known: bool,
    sent: Option<ServingStatus>,
    is_ready: watch::Receiver<bool>,
    stop: CancellationToken,
}

impl HealthOfServices {
    pub(super) fn new(
        services: HashSet<String>,
        is_ready: watch::Receiver<bool>,
        stop: CancellationToken,
    ) -> Self {
        Self { services: Arc::new(services), is_ready, stop }
    }

    fn knows(&self, service: &str) -> bool {
        service.is_empty() || self.services.contains(service)
    }
}

#[tonic::async_trait]
impl Health for HealthOfServices {
    async fn check(
        &self,
        request: Request<HealthCheckRequest>,
    ) -> Result<Response<HealthCheckResponse>, Status> {
        if !self.knows(&request.get_ref().service) {
            return Err(Status::not_found("no such service"));
        }
        Ok(Response::new(response(status(*self.is_ready.borrow()))))
    }

    type WatchStream = Pin<Box<dyn Stream<Item = Result<HealthCheckResponse, Status>> + Send>>;

    /// For an unknown service it sends `SERVICE_UNKNOWN` and keeps the stream open, as the health
    /// protocol requires: if the call failed, clients would retry it for ever.
    async fn watch(
        &self,
        request: Request<HealthCheckRequest>,
    ) -> Result<Response<Self::WatchStream>, Status> {
        let watching = Watching {
            is_known: self.knows(&request.get_ref().service),
            sent: None,
            is_ready: self.is_ready.clone(),
            stop: self.stop.clone(),
        };
        let statuses = stream::unfold(watching, |mut watching| async {
            let status = watching.next().await?;
            Some((Ok(response(status)), watching))
        });
        Ok(Response::new(Box::pin(statuses)))
    }
}

impl Watching {
    /// Waits for a status that differs from the last one. Returns `None` once the server stops.
    async fn next(&mut self) -> Option<ServingStatus> {
        loop {
            let is_ready = *self.is_ready.borrow_and_update();
            let now = if self.is_known { status(is_ready) } else { ServingStatus::ServiceUnknown };
            if self.sent.replace(now) != Some(now) {
                return Some(now);
            }
            tokio::select! {
                // Sends the last status before the stream ends.
                biased;
                changed = self.is_ready.changed() => changed.ok()?,
                () = self.stop.cancelled() => return None,
            }
        }
    }
}

fn status(is_ready: bool) -> ServingStatus {
    if is_ready { ServingStatus::Serving } else { ServingStatus::NotServing }
}

fn response(status: ServingStatus) -> HealthCheckResponse {
    HealthCheckResponse { status: status.into() }
}
