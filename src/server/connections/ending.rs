//! When a connection ends, and how the client learns of it. Over HTTP/2 a GOAWAY frame says which
//! requests are still answered. Over HTTP/1.1 the last answer has `Connection: close` (RFC 9112,
//! section 9.6): closing without it loses a request in transit.

use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{Notify, oneshot};
use tokio::time::{Instant, sleep, sleep_until};
use tokio_util::sync::CancellationToken;

use super::IDLE_TIMEOUT;
use super::stream::{Http1Phase, LINGER};

/// The two steps of a shutdown.
#[derive(Clone, Debug, Default)]
pub(in crate::server) struct Stopping {
    /// The server is no longer ready, but still answers every request.
    pub(in crate::server) drain: CancellationToken,
    /// The server accepts no new connections, and finishes the requests in flight.
    pub(in crate::server) stop: CancellationToken,
}

/// How a connection is ended.
pub(super) enum End {
    /// The connection is old, or the server stops. Requests in flight are answered.
    Gracefully,
    /// It sent no request in time, or another connection needs its place.
    AtOnce,
}

/// What ends a connection.
pub(super) struct Ending {
    /// The state of an HTTP/1.1 connection. `None` for HTTP/2.
    pub(super) phase: Option<Arc<Http1Phase>>,
    pub(super) stopping: Stopping,
    /// The maximum age of the connection.
    pub(super) age: Duration,
    pub(super) request_timeout: Duration,
    /// Unset for HTTP/2, whose clients may connect long before their first request.
    pub(super) first_request_by: Option<Instant>,
    /// Notified by the first request.
    pub(super) established: Arc<Notify>,
    /// Fires when another connection needs the place. The first request drops the sender.
    pub(super) cut: oneshot::Receiver<()>,
}

impl Stopping {
    /// Waits until the server stops, and then for [`LINGER`], the time that a client has to send a
    /// request.
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
            // The next answer closes the connection. Without one, the idle timeout does.
            tokio::select! {
                () = stopping.stopped() => {}
                () = sleep(IDLE_TIMEOUT + self.request_timeout) => {}
            }
        }
        End::Gracefully
    }
}

/// Waits until a moment. Without one, waits for ever.
async fn past(moment: Option<Instant>) {
    match moment {
        Some(moment) => sleep_until(moment).await,
        None => std::future::pending().await,
    }
}
