//! The shutdown: the server drains first, so that load balancers send requests to other servers.
//! Then it finishes the requests in flight, and closes the database last.

use std::time::Duration;

use tokio::time::{sleep, timeout};

use super::Server;

/// The time limit for closing the database.
const CLOSE_TIMEOUT: Duration = Duration::from_secs(5);

impl Server {
    /// Reports that the server is not ready, and still answers requests, until load balancers have
    /// had time to notice.
    pub async fn drain(&self) {
        self.begin_to_drain();
        sleep(self.drain_time).await;
    }

    fn begin_to_drain(&self) {
        self.stopping.drain.cancel();
        self.is_ready.send_replace(false);
    }

    /// Stops the server. It accepts no new connections, gives requests in flight the grace period,
    /// and closes the database.
    pub async fn shutdown(self) {
        self.shutdown_unless(std::future::pending()).await;
    }

    /// The same, but aborts requests in flight as soon as `hurry` completes.
    pub async fn shutdown_unless(self, hurry: impl Future<Output = ()>) {
        self.begin_to_drain();
        self.stopping.stop.cancel();
        self.tasks.close();
        let ended = tokio::select! {
            ended = timeout(self.grace, self.tasks.wait()) => ended.is_ok(),
            () = hurry => false,
        };
        if !ended {
            tracing::warn!("some requests did not finish in time and were aborted");
        }
        self.service.incidents().finish();
        // After the requests: they wait for it.
        if timeout(CLOSE_TIMEOUT, self.service.replay.close()).await.is_err() {
            tracing::warn!("the last one-time tokens were not recorded, and were not accepted");
        }
        if !matches!(timeout(CLOSE_TIMEOUT, self.service.usage.write()).await, Ok(Ok(()))) {
            tracing::warn!("the credential usage of the last seconds was not written");
        }
        if !matches!(timeout(CLOSE_TIMEOUT, self.service.limits.save()).await, Ok(Ok(()))) {
            tracing::warn!("the limit counters of the last seconds were not saved");
        }
        if !matches!(timeout(CLOSE_TIMEOUT, self.service.refusals.write_all()).await, Ok(Ok(()))) {
            tracing::warn!("the last counts of refused attempts were not written");
        }
        if !matches!(timeout(CLOSE_TIMEOUT, self.service.master_keys.leave()).await, Ok(Ok(()))) {
            tracing::warn!(
                "this server could not withdraw the announcement of its master keys: it counts as \
                 running for 30 s"
            );
        }
        if timeout(CLOSE_TIMEOUT, self.store.close()).await.is_err() {
            tracing::warn!("the database connections did not close in time");
        }
    }
}
