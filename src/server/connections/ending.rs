//! When a connection ends, and how the client is informed. Over HTTP/2 a GOAWAY says which requests
//! are still answered. Over HTTP/1.1 the last answer says `Connection: close` (RFC 9112, section
//! 9.6): a connection that is just closed loses the request that is on its way.

use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{Notify, oneshot};
use tokio::time::{Instant, sleep, sleep_until};
use tokio_util::sync::CancellationToken;

use super::IDLE_TIMEOUT;
use super::stream::{LINGER, Phase};

/// The two steps in which a server stops.
#[derive(Clone, Debug, Default)]
pub(in crate::server) struct Stopping {
    /// It is no longer ready, and answers every request.
    pub(in crate::server) drain: CancellationToken,
    /// It takes no new connections, and requests under way end.
    pub(in crate::server) stop: CancellationToken,
}

/// How a connection is ended.
pub(super) enum End {
    /// It is old, or the server stops: requests under way are answered.
    Gracefully,
    /// It sent no request in time, or made room for another one.
    AtOnce,
}

/// What ends a connection.
pub(super) struct Ending {
    /// Of a connection that speaks HTTP/1.1.
    pub(super) phase: Option<Arc<Phase>>,
    pub(super) stopping: Stopping,
    /// How old it gets.
    pub(super) age: Duration,
    pub(super) request_timeout: Duration,
    /// A client of HTTP/2 may connect before it has something to ask.
    pub(super) first_request_by: Option<Instant>,
    /// The first request was received.
    pub(super) established: Arc<Notify>,
    /// Its place is needed for another connection. The sender is dropped with the first request.
    pub(super) cut: oneshot::Receiver<()>,
}

impl Stopping {
    /// Waits until the server stops, and then as long as a client may take.
    pub(super) async fn stopped(&self) {
        self.stop.cancelled().await;
        sleep(LINGER).await;
    }
}

impl Ending {
    /// Waits until the connection has to end.
    pub(super) async fn wait(self) -> End {
        let Self { phase, stopping, established, cut, .. } = self;
        let is_http1 = phase.is_some();
        let mut begins = pin!(async {
            let stop = if is_http1 { &stopping.drain } else { &stopping.stop };
            stop.run_until_cancelled(sleep(self.age)).await;
            if let Some(phase) = phase {
                phase.close_after_next();
            }
        });
        let mut cut = pin!(async {
            if cut.await.is_err() {
                std::future::pending::<()>().await;
            }
        });
        let mut has_begun = false;
        loop {
            tokio::select! {
                biased;
                () = established.notified() => break,
                () = begins.as_mut(), if !has_begun => has_begun = true,
                () = cut.as_mut() => return End::AtOnce,
                () = past(self.first_request_by) => return End::AtOnce,
                () = stopping.stopped(), if has_begun => return End::Gracefully,
            }
            if has_begun && !is_http1 {
                return End::Gracefully;
            }
        }
        if !has_begun {
            begins.await;
        }
        if is_http1 {
            // The next answer ends it. Without one, it ends as idle.
            tokio::select! {
                () = stopping.stopped() => {}
                () = sleep(IDLE_TIMEOUT + self.request_timeout) => {}
            }
        }
        End::Gracefully
    }
}

/// Waits for a moment, or for ever.
async fn past(moment: Option<Instant>) {
    match moment {
        Some(moment) => sleep_until(moment).await,
        None => std::future::pending().await,
    }
}
