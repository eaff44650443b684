//! How a server stops: it drains first, so that load balancers send their requests elsewhere, then
//! ends what is under way, and closes the database last.

use std::time::Duration;

use tokio::time::{sleep, timeout};

use super::Server;

/// How long the database may take to be closed.
const CLOSE_TIMEOUT: Duration = Duration::from_secs(5);

impl Server {
    /// Says that this server is not ready, and answers what still comes, for as long as load
    /// balancers may need to notice.
    pub async fn drain(&self) {
        self.begin_to_drain();
        sleep(self.drain_time).await;
    }

    fn begin_to_drain(&self) {
        self.stopping.drain.cancel();
        self.is_ready.send_replace(false);
    }

    /// Stops: no new connections, requests under way end within the grace, then the
    /// database is closed.
    pub async fn shutdown(self) {
        self.shutdown_unless(std::future::pending()).await;
    }

    /// The same; requests under way are cut as soon as `hurry` says so.
    pub async fn shutdown_unless(self, hurry: impl Future<Output = ()>) {
        self.begin_to_drain();
        self.stopping.stop.cancel();
        self.tasks.close();
        let ended = tokio::select! {
            ended = timeout(self.grace, self.tasks.wait()) => ended.is_ok(),
            () = hurry => false,
        };
        if !ended {
            tracing::warn!("some requests did not end in time and were cut");
        }
        self.service.incidents().finish();
        if !matches!(timeout(CLOSE_TIMEOUT, self.service.usage.write()).await, Ok(Ok(()))) {
            tracing::warn!("the last seconds' use of credentials was not written");
        }
        if !matches!(timeout(CLOSE_TIMEOUT, self.service.limits.save()).await, Ok(Ok(()))) {
            tracing::warn!("what limits counted in the last seconds was not saved");
        }
        if !matches!(timeout(CLOSE_TIMEOUT, self.service.refusals.write_all()).await, Ok(Ok(()))) {
            tracing::warn!("the last counts of refused attempts were not written");
        }
        if timeout(CLOSE_TIMEOUT, self.store.close()).await.is_err() {
            tracing::warn!("the database did not say goodbye in time");
        }
    }
}
