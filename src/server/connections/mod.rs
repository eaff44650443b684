//! Accepts connections, limits what a client can use, and closes them gracefully. All three
//! listeners share one accept loop over hyper. Tonic's own server has no jitter for the connection
//! age, and replaces hyper's default limits with no limits.

mod connection;
mod ending;
mod frames;
mod heads;
mod opening;
mod stream;

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use axum::BoxError;
use axum::body::{Bytes, HttpBody as Body};
use futures_util::FutureExt;
use hyper::body::Incoming;
use hyper::{Request, Response};
use hyper_util::rt::{TokioExecutor, TokioTimer};
use hyper_util::server::conn::auto::Builder;
use tokio::net::{TcpListener, TcpStream};
use tokio_util::task::TaskTracker;

use crate::admission::{Admission, Connections, ThrottledLog};
use crate::config::{self, TrustedProxies};
use crate::domain::Source;
use crate::secrets::random;
use crate::server::tls::ListenerTls;
use connection::Connection;

const MAX_CONCURRENT_STREAMS: u32 = 100;
const MAX_HEADER_LIST: u32 = 8 * 1024;
const MAX_HEADERS: usize = 64;
const MAX_PENDING_RESETS: usize = 20;
const MAX_LOCAL_RESETS: usize = 1024;
/// The flow-control window: how many bytes a client can send before they are read. It is the
/// minimum that HTTP/2 allows for a connection. Hyper's default is 1 MiB per connection, which
/// anonymous clients could fill.
const WINDOW: u32 = 65_535;
const KEEP_ALIVE_INTERVAL: Duration = Duration::from_secs(30);
const KEEP_ALIVE_TIMEOUT: Duration = Duration::from_secs(10);
/// How long an HTTP/1.1 connection may be idle between requests. It is longer than the usual
/// timeout of proxies (a minute), so that the proxy closes idle connections, not the server.
const IDLE_TIMEOUT: Duration = Duration::from_secs(75);
/// The pause after a failed accept: the process has no file descriptors left.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

pub(super) use ending::Stopping;

/// What the accept loops of the listeners share.
pub(super) struct AcceptLoops {
    pub(super) stopping: Stopping,
    pub(super) tasks: TaskTracker,
}

impl AcceptLoops {
    /// Starts the accept loop of a listener.
    pub(super) fn serve<B>(
        &self,
        listener: TcpListener,
        handler: impl Handler<B>,
        limits: ListenerLimits,
    ) where
        B: Body<Data = Bytes, Error: Into<BoxError>> + Send + Unpin + 'static,
    {
        let (stopping, tasks) = (self.stopping.clone(), self.tasks.clone());
        self.tasks.spawn(accept(listener, handler, limits, stopping, tasks));
    }
}

/// The bounds of a listener.
#[derive(Clone, Debug)]
pub(super) struct ListenerLimits {
    pub(super) admission: Admission,
    pub(super) places: Arc<Connections>,
    pub(super) trusted: Arc<TrustedProxies>,
    pub(super) http2_only: bool,
    /// `None`: the listener does not use TLS.
    pub(super) tls: Option<Arc<ListenerTls>>,
    pub(super) connection_age: Duration,
    pub(super) request_timeout: Duration,
    pub(super) first_request_timeout: Duration,
}

impl ListenerLimits {
    /// The bounds of a listener with these places.
    pub(super) fn new(
        config: &config::Config,
        admission: &Admission,
        places: Arc<Connections>,
    ) -> Self {
        Self {
            admission: admission.clone(),
            places,
            trusted: Arc::new(config.trusted_proxies.clone()),
            http2_only: false,
            tls: None,
            connection_age: config.limits.connection_age,
            request_timeout: config.limits.request_timeout,
            first_request_timeout: config.limits.first_request_timeout,
        }
    }

    /// The same, for HTTP/2 only.
    pub(super) fn for_grpc(self) -> Self {
        Self { http2_only: true, ..self }
    }

    /// The same, with TLS if there is one.
    pub(super) fn with_tls(self, tls: Option<&Arc<ListenerTls>>) -> Self {
        Self { tls: tls.cloned(), ..self }
    }

    fn builder(&self) -> Builder<TokioExecutor> {
        let mut builder = Builder::new(TokioExecutor::new());
        builder
            .http1()
            .timer(TokioTimer::new())
            .header_read_timeout(IDLE_TIMEOUT)
            .max_headers(MAX_HEADERS)
            .max_buf_size(MAX_HEADER_LIST as usize);
        builder
            .http2()
            .timer(TokioTimer::new())
            .max_concurrent_streams(MAX_CONCURRENT_STREAMS)
            .max_header_list_size(MAX_HEADER_LIST)
            .max_pending_accept_reset_streams(MAX_PENDING_RESETS)
            .max_local_error_reset_streams(MAX_LOCAL_RESETS)
            .initial_stream_window_size(WINDOW)
            .initial_connection_window_size(WINDOW)
            .keep_alive_interval(KEEP_ALIVE_INTERVAL)
            .keep_alive_timeout(KEEP_ALIVE_TIMEOUT);
        if self.http2_only { builder.http2_only() } else { builder }
    }

    /// The configured age with a jitter of 10%, so that connections that were opened together do
    /// not reconnect together.
    fn age(&self) -> Duration {
        let mut byte = [0];
        // If the random source fails, the age has no jitter.
        random::fill(&mut byte).ok();
        self.connection_age.mul_f64(0.9 + 0.2 * f64::from(byte[0]) / 255.0)
    }
}

/// Answers requests.
pub(super) trait Handler<B>:
    Fn(Request<Incoming>) -> <Self as Handler<B>>::Answer + Clone + Send + 'static
{
    type Answer: Future<Output = Response<B>> + Send;
}

impl<F, A, B> Handler<B> for F
where
    F: Fn(Request<Incoming>) -> A + Clone + Send + 'static,
    A: Future<Output = Response<B>> + Send,
{
    type Answer = A;
}

/// Accepts connections until the server stops. Closes a connection immediately if there is no place
/// for it: in the kernel's queue it would block the connections behind it. A failed connection does
/// not affect others.
pub(super) async fn accept<B>(
    listener: TcpListener,
    handler: impl Handler<B>,
    limits: ListenerLimits,
    stopping: Stopping,
    tasks: TaskTracker,
) where
    B: Body<Data = Bytes, Error: Into<BoxError>> + Send + Unpin + 'static,
{
    let builder = limits.builder();
    let mut failures = ThrottledLog::default();
    while let Some(next) = next(&listener, &stopping).await {
        match next {
            Ok((stream, peer)) => {
                if let Some(connection) = Connection::admit(stream, peer, &limits) {
                    let (handler, builder) = (handler.clone(), builder.clone());
                    tasks.spawn(connection.serve(
                        handler,
                        builder,
                        limits.clone(),
                        stopping.clone(),
                    ));
                }
            }
            Err(error) => {
                if let Some(times) = failures.pass() {
                    tracing::warn!(%error, times, "cannot accept a connection");
                }
                tokio::time::sleep(ACCEPT_PAUSE).await;
            }
        }
    }
}

/// The next connection. Once the server stops, only connections that the kernel has already
/// accepted: their clients are connected, and may have sent a request.
async fn next(
    listener: &TcpListener,
    stopping: &Stopping,
) -> Option<io::Result<(TcpStream, SocketAddr)>> {
    match stopping.stop.run_until_cancelled(listener.accept()).await {
        Some(next) => Some(next),
        None => listener.accept().now_or_never().filter(Result::is_ok),
    }
}

fn source(peer: SocketAddr) -> Source {
    Source::of(peer.ip())
}
