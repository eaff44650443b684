//! One connection, from its place to its end.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::task::{Context, Poll};

use axum::BoxError;
use axum::body::{Bytes, HttpBody as Body};
use axum::http::HeaderMap;
use futures_util::FutureExt;
use hyper::Request;
use hyper::body::{Frame, Incoming, SizeHint};
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo};
use hyper_util::server::conn::auto::Builder;
use tokio::net::TcpStream;
use tokio::sync::{Notify, oneshot};
use tokio::time::{Instant, sleep, sleep_until, timeout, timeout_at};
use tokio_util::sync::CancellationToken;
use tokio_util::task::AbortOnDropHandle;

use super::frames::FrameMeter;
use super::stream::{Bounds, Heads, Http2, Phase, Watched};
use super::{Face, Limits, Protocol, protocol, source};
use crate::admission::{ConnectionPermit, Gate, RequestPermit};
use crate::domain::Source;

/// A connection that was accepted and has a place.
pub(super) struct Connection {
    stream: TcpStream,
    peer: Peer,
    permit: ConnectionPermit,
    /// Ends when the place is needed for another connection.
    cut: oneshot::Receiver<()>,
}

/// Who is at the other end.
#[derive(Clone)]
struct Peer {
    address: SocketAddr,
    gate: Arc<Gate>,
    is_proxy: bool,
}

/// Why a connection is ended.
enum End {
    /// It is old, or the server stops: requests under way are answered.
    Gracefully,
    /// It sent no request in time, or made room for another one.
    AtOnce,
}

impl Connection {
    /// A connection, if there is a place for it.
    pub(super) fn admit(stream: TcpStream, address: SocketAddr, limits: &Limits) -> Option<Self> {
        let state = limits.admission.source(source(address));
        let is_proxy = limits.trusted.trusts(address.ip());
        let (permit, cut) = limits.places.admit(&state, is_proxy)?;
        let gate = limits.admission.gate(state);
        Some(Self { stream, peer: Peer { address, gate, is_proxy }, permit, cut })
    }

    pub(super) async fn serve<B>(
        self,
        face: impl Face<B>,
        builder: Builder<TokioExecutor>,
        limits: Limits,
        stop: CancellationToken,
    ) where
        B: Body<Data = Bytes, Error: Into<BoxError>> + Send + Unpin + 'static,
    {
        let Self { stream, peer, permit, mut cut } = self;
        let first_request_by = sleep(limits.first_request_timeout).deadline();
        let spoken = async {
            tokio::select! {
                spoken = timeout_at(first_request_by, protocol(&stream)) => spoken.ok()?,
                Ok(()) = &mut cut => None,
            }
        };
        let protocol = match stop.run_until_cancelled(spoken).await.flatten() {
            Some(Protocol::Http1) if limits.http2_only => return,
            Some(protocol) => protocol,
            None => return,
        };
        // Small answers must not wait for each other.
        if stream.set_nodelay(true).is_err() {
            return;
        }
        let (bounds, phase) = match protocol {
            Protocol::Http1 => {
                let phase = Phase::new();
                let heads = Heads::new(&phase, limits.first_request_timeout);
                (Bounds::Http1(heads), Some(phase))
            }
            Protocol::Http2 => {
                permit.quiet();
                let bounds = Http2 {
                    meter: FrameMeter::new(),
                    admission: limits.admission.clone(),
                    source: peer.gate.source(),
                };
                (Bounds::Http2(Box::new(bounds)), None)
            }
        };
        let established = Arc::new(Notify::new());
        let first_request = Arc::clone(&established);
        let request_limits = limits.clone();
        let service = service_fn(move |mut request: Request<Incoming>| {
            if !permit.is_established() && permit.establish() {
                first_request.notify_one();
            }
            let phase = phase.clone().inspect(|phase| phase.request());
            let held = Arc::new(request_limits.request(&peer, request.headers()));
            request.extensions_mut().insert(Arc::clone(&held));
            face(request).map(move |answer| {
                if let Some(phase) = phase {
                    phase.answered();
                }
                Ok::<_, Infallible>(answer.map(|body| Held { body, _permit: held }))
            })
        });
        let io = TokioIo::new(Watched::new(stream, bounds));
        let mut connection = pin!(builder.serve_connection(io, service));
        // By a task of its own: what is waited for here is looked at with every request.
        let (end, ending) = oneshot::channel();
        let (age, request_timeout) = (limits.age(), limits.request_timeout);
        // A client of HTTP/2 may connect before it has something to ask.
        let first_request_by = (protocol == Protocol::Http1).then_some(first_request_by);
        let _clock = AbortOnDropHandle::new(tokio::spawn(async move {
            let mut old = pin!(stop.run_until_cancelled(sleep(age)));
            let why = tokio::select! {
                biased;
                () = established.notified() => None,
                _ = old.as_mut() => Some(End::Gracefully),
                // Only if it was sent: the sender is dropped with the first request.
                Ok(()) = cut => Some(End::AtOnce),
                () = past(first_request_by) => Some(End::AtOnce),
            };
            if why.is_none() {
                old.await;
            }
            end.send(why.unwrap_or(End::Gracefully)).ok();
        }));
        let ended = tokio::select! {
            biased;
            outcome = connection.as_mut() => Ok(outcome),
            end = ending => Err(end),
        };
        let outcome = match ended {
            Ok(outcome) => outcome,
            Err(Ok(End::AtOnce)) => return,
            Err(_) => {
                connection.as_mut().graceful_shutdown();
                timeout(request_timeout, connection).await.unwrap_or(Ok(()))
            }
        };
        if let Err(error) = outcome {
            tracing::debug!(error, "a connection broke");
        }
    }
}

/// Waits for a moment, or for ever.
async fn past(moment: Option<Instant>) {
    match moment {
        Some(moment) => sleep_until(moment).await,
        None => std::future::pending().await,
    }
}

impl Limits {
    /// What a request holds until it is answered. One that a trusted proxy passes on is its
    /// client's.
    fn request(&self, peer: &Peer, headers: &HeaderMap) -> RequestPermit {
        let size = headers.iter().map(|(name, value)| name.as_str().len() + value.len()).sum();
        if !peer.is_proxy {
            return peer.gate.request(peer.address.ip(), size);
        }
        let address = self.trusted.source(peer.address, headers).ip();
        self.admission.gate(self.admission.source(Source::of(address))).request(address, size)
    }
}

/// The body of an answer, with what its request holds until it was sent.
struct Held<B> {
    body: B,
    _permit: Arc<RequestPermit>,
}

impl<B: Body + Unpin> Body for Held<B> {
    type Data = B::Data;
    type Error = B::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Self::Data>, Self::Error>>> {
        Pin::new(&mut self.body).poll_frame(context)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}
