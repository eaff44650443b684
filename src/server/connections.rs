//! Connections: accepted, bounded in every way that a stranger could stretch, and ended
//! in peace. One loop for all three listeners, over hyper: tonic's own server knows no
//! jitter, and passes unset limits on as none at all.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use axum::BoxError;
use axum::body::{Bytes, HttpBody as Body};
use futures_util::FutureExt;
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper::{Request, Response};
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::conn::auto::Builder;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, oneshot};
use tokio_util::sync::CancellationToken;
use tokio_util::task::{AbortOnDropHandle, TaskTracker};

use crate::config::{self, TrustedProxies};
use crate::secrets::random;

const MAX_CONCURRENT_STREAMS: u32 = 100;
const MAX_HEADER_LIST: u32 = 8 * 1024;
const MAX_HEADERS: usize = 64;
const MAX_PENDING_RESETS: usize = 20;
const MAX_LOCAL_RESETS: usize = 1024;
const KEEP_ALIVE_INTERVAL: Duration = Duration::from_secs(30);
const KEEP_ALIVE_TIMEOUT: Duration = Duration::from_secs(10);
/// How long a stranger may take to say which protocol he speaks.
const FIRST_WORDS_TIMEOUT: Duration = Duration::from_secs(10);
const PEEK_PAUSE: Duration = Duration::from_millis(20);
/// How long an HTTP/1.1 connection may take to finish its headers, or be idle between
/// requests: longer than proxies keep theirs (a minute), so that they end them, not we.
const HEADER_TIMEOUT: Duration = Duration::from_secs(75);
/// How long to rest when the machine has no descriptor left for another connection.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

/// The bounds that can be configured.
#[derive(Clone, Debug)]
pub(super) struct Limits {
    max_connections: usize,
    connection_age: Duration,
    request_timeout: Duration,
    http2_only: bool,
    trusted: Arc<TrustedProxies>,
}

impl Limits {
    pub(super) fn new(limits: &config::Limits, trusted: &TrustedProxies) -> Self {
        Self {
            max_connections: limits.max_connections,
            connection_age: limits.connection_age,
            request_timeout: limits.request_timeout,
            http2_only: false,
            trusted: Arc::new(trusted.clone()),
        }
    }

    /// gRPC is HTTP/2 and nothing else.
    pub(super) fn for_grpc(self) -> Self {
        Self { http2_only: true, ..self }
    }

    fn builder(&self) -> Builder<TokioExecutor> {
        let mut builder = Builder::new(TokioExecutor::new());
        builder
            .http1()
            .timer(TokioTimer::new())
            .header_read_timeout(HEADER_TIMEOUT)
            .max_headers(MAX_HEADERS)
            .max_buf_size(MAX_HEADER_LIST as usize);
        builder
            .http2()
            .timer(TokioTimer::new())
            .max_concurrent_streams(MAX_CONCURRENT_STREAMS)
            .max_header_list_size(MAX_HEADER_LIST)
            .max_pending_accept_reset_streams(MAX_PENDING_RESETS)
            .max_local_error_reset_streams(MAX_LOCAL_RESETS)
            .keep_alive_interval(KEEP_ALIVE_INTERVAL)
            .keep_alive_timeout(KEEP_ALIVE_TIMEOUT);
        if self.http2_only { builder.http2_only() } else { builder }
    }

    /// A tenth more or less than the configured age, so that connections made at once
    /// do not all come back at once.
    fn age(&self) -> Duration {
        let mut byte = [0];
        // Without randomness there is no jitter, and that is no reason to fail.
        random::fill(&mut byte).ok();
        self.connection_age.mul_f64(0.9 + 0.2 * f64::from(byte[0]) / 255.0)
    }
}

/// What answers requests, at any time.
pub(super) trait Face<B>:
    Fn(Request<Incoming>) -> <Self as Face<B>>::Answer + Clone + Send + 'static
{
    type Answer: Future<Output = Response<B>> + Send;
}

impl<F, A, B> Face<B> for F
where
    F: Fn(Request<Incoming>) -> A + Clone + Send + 'static,
    A: Future<Output = Response<B>> + Send,
{
    type Answer = A;
}

/// Accepts connections until told to stop. A connection that fails ends alone.
pub(super) async fn accept<B>(
    listener: TcpListener,
    face: impl Face<B>,
    limits: Limits,
    stop: CancellationToken,
    tasks: TaskTracker,
) where
    B: Body<Data = Bytes, Error: Into<BoxError>> + Send + 'static,
{
    let builder = limits.builder();
    let room = Arc::new(Semaphore::new(limits.max_connections));
    loop {
        // Full: the rest waits in the listener's own queue.
        let next = async {
            let permit = Arc::clone(&room).acquire_owned().await.ok()?;
            Some((listener.accept().await, permit))
        };
        match stop.run_until_cancelled(next).await.flatten() {
            Some((Ok((stream, peer)), permit)) => {
                let connection = Connection { stream, peer, _permit: permit };
                let ends =
                    connection.serve(face.clone(), builder.clone(), limits.clone(), stop.clone());
                tasks.spawn(ends);
            }
            Some((Err(error), _)) => {
                tracing::warn!(%error, "a connection was not accepted");
                tokio::time::sleep(ACCEPT_PAUSE).await;
            }
            None => return,
        }
    }
}

/// A connection that was accepted.
struct Connection {
    stream: TcpStream,
    peer: SocketAddr,
    _permit: OwnedSemaphorePermit,
}

impl Connection {
    async fn serve<B>(
        self,
        face: impl Face<B>,
        builder: Builder<TokioExecutor>,
        limits: Limits,
        stop: CancellationToken,
    ) where
        B: Body<Data = Bytes, Error: Into<BoxError>> + Send + 'static,
    {
        let Self { stream, peer, _permit } = self;
        let first = tokio::time::timeout(FIRST_WORDS_TIMEOUT, protocol(&stream));
        match stop.run_until_cancelled(first).await {
            Some(Ok(Some(Protocol::Http2))) => {}
            Some(Ok(Some(Protocol::Http1))) if !limits.http2_only => {}
            _ => return,
        }
        // Small answers must not wait for each other.
        if stream.set_nodelay(true).is_err() {
            return;
        }
        let trusted = Arc::clone(&limits.trusted);
        let service = service_fn(move |mut request: Request<Incoming>| {
            // The audit log and usage tell where a request came from.
            let source = trusted.source(peer, request.headers());
            request.extensions_mut().insert(source);
            face(request).map(Ok::<_, Infallible>)
        });
        let mut connection = pin!(builder.serve_connection(TokioIo::new(stream), service));
        // By a task of its own: what is waited for here is looked at with every request.
        let (end, ending) = oneshot::channel();
        let age = limits.age();
        let _clock = AbortOnDropHandle::new(tokio::spawn(async move {
            stop.run_until_cancelled(tokio::time::sleep(age)).await;
            end.send(()).ok();
        }));
        let ended = tokio::select! {
            biased;
            outcome = connection.as_mut() => Some(outcome),
            _ = ending => None,
        };
        let outcome = if let Some(outcome) = ended {
            outcome
        } else {
            connection.as_mut().graceful_shutdown();
            let last = tokio::time::timeout(limits.request_timeout, connection);
            last.await.unwrap_or(Ok(()))
        };
        if let Err(error) = outcome {
            tracing::debug!(error, "a connection broke");
        }
    }
}

/// What a stranger speaks.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Protocol {
    Http1,
    Http2,
}

/// What the other side speaks, by the first bytes it sends: those of HTTP/2 are fixed
/// (RFC 9113, section 3.4). They are looked at and left where they are.
async fn protocol(stream: &TcpStream) -> Option<Protocol> {
    const PREFACE: &[u8; 24] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
    let mut first = [0; PREFACE.len()];
    loop {
        match stream.peek(&mut first).await {
            Ok(0) | Err(_) => return None,
            Ok(n) if first[..n] != PREFACE[..n] => return Some(Protocol::Http1),
            Ok(n) if n == PREFACE.len() => return Some(Protocol::Http2),
            // A part of it: the rest is on its way, and looking again does not wait.
            Ok(_) => tokio::time::sleep(PEEK_PAUSE).await,
        }
    }
}
