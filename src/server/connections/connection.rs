//! One connection, from its admission to its end.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::task::{Context, Poll};

use axum::BoxError;
use axum::body::{Bytes, HttpBody as Body};
use axum::http::{HeaderMap, HeaderValue, header};
use futures_util::FutureExt;
use hyper::Request;
use hyper::body::{Frame, Incoming, SizeHint};
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo};
use hyper_util::server::conn::auto::Builder;
use tokio::net::TcpStream;
use tokio::sync::{Notify, oneshot};
use tokio::time::{sleep, timeout};
use tokio_util::task::AbortOnDropHandle;

use super::ending::{End, Ending, Stopping};
use super::frames::FrameMeter;
use super::opening::{self, Opened, Protocol};
use super::stream::{BoundedIo, Http1, Http1Phase, Http2, ProtocolBounds};
use super::{Handler, ListenerLimits, source};
use crate::admission::{ConnectionPermit, RequestPermit, SourceGate};
use crate::domain::Source;
use crate::server::tls::TlsClient;

const CLOSE: HeaderValue = HeaderValue::from_static("close");

/// A connection that was accepted and has a place.
pub(super) struct Connection {
    stream: TcpStream,
    peer: Peer,
    permit: ConnectionPermit,
    /// Fires when another connection needs the place.
    cut: oneshot::Receiver<()>,
}

/// The other end of a connection: a client, or a trusted proxy.
#[derive(Clone)]
struct Peer {
    address: SocketAddr,
    gate: Arc<SourceGate>,
    is_proxy: bool,
}

impl Connection {
    /// Admits a connection if there is a place for it.
    pub(super) fn admit(
        stream: TcpStream,
        address: SocketAddr,
        limits: &ListenerLimits,
    ) -> Option<Self> {
        let state = limits.admission.source(source(address));
        let is_proxy = limits.trusted.trusts(address.ip());
        let (permit, cut) = limits.places.admit(&state, is_proxy)?;
        let gate = limits.admission.gate(state);
        Some(Self { stream, peer: Peer { address, gate, is_proxy }, permit, cut })
    }

    pub(super) async fn serve<B>(
        self,
        handler: impl Handler<B>,
        builder: Builder<TokioExecutor>,
        limits: ListenerLimits,
        stopping: Stopping,
    ) where
        B: Body<Data = Bytes, Error: Into<BoxError>> + Send + Unpin + 'static,
    {
        let Self { stream, peer, permit, mut cut } = self;
        let first_request_by = sleep(limits.first_request_timeout).deadline();
        let client = TlsClient { address: peer.address, deadline: first_request_by };
        let opened = tokio::select! {
            opened = opening::open(stream, client, limits.tls.as_deref()) => opened,
            Ok(()) = &mut cut => None,
            // Waits a moment, since the first request may be in transit.
            () = stopping.stopped() => None,
        };
        let Some(Opened { transport, protocol, certificate }) = opened else { return };
        if limits.http2_only && protocol == Protocol::Http1 {
            return;
        }
        // Nagle's algorithm would delay small answers.
        if transport.set_nodelay().is_err() {
            return;
        }
        let is_tls = transport.is_tls();
        // The negotiated protocol, whatever the first bytes are: its bounds apply.
        let builder = match protocol {
            Protocol::Http1 if is_tls => builder.http1_only(),
            Protocol::Http2 if is_tls && !limits.http2_only => builder.http2_only(),
            _ => builder,
        };
        if protocol == Protocol::Http2 {
            permit.quiet();
        }
        let (bounds, phase) = limits.bounds(protocol, &peer, &stopping);
        let established = Arc::new(Notify::new());
        let first_request = Arc::clone(&established);
        let request_limits = limits.clone();
        let of_connection = phase.clone();
        let service = service_fn(move |mut request: Request<Incoming>| {
            if !permit.is_established() && permit.establish() {
                first_request.notify_one();
            }
            let phase = phase.clone().inspect(|phase| phase.request());
            let held = Arc::new(request_limits.request(&peer, request.headers()));
            request.extensions_mut().insert(Arc::clone(&held));
            if let Some(certificate) = &certificate {
                request.extensions_mut().insert(certificate.clone());
            }
            handler(request).map(move |mut answer| {
                if let Some(phase) = phase {
                    phase.answered();
                    if phase.is_last() {
                        answer.headers_mut().insert(header::CONNECTION, CLOSE);
                    }
                }
                Ok::<_, Infallible>(answer.map(|body| BodyWithPermit { body, _permit: held }))
            })
        });
        let io = TokioIo::new(BoundedIo::new(transport, bounds));
        let mut connection = pin!(builder.serve_connection(io, service));
        // A separate task waits for the end: everything in the `select!` below is polled with every
        // request.
        let (end, ending) = oneshot::channel();
        let request_timeout = limits.request_timeout;
        let first_request_by = (protocol == Protocol::Http1).then_some(first_request_by);
        let wait = Ending {
            phase: of_connection,
            stopping,
            age: limits.age(),
            request_timeout,
            first_request_by,
            established,
            cut,
        };
        let _clock = AbortOnDropHandle::new(tokio::spawn(async move {
            end.send(wait.wait().await).ok();
        }));
        let ended = tokio::select! {
            biased;
            outcome = connection.as_mut() => Ok(outcome),
            end = ending => Err(end),
        };
        let outcome = match ended {
            Ok(outcome) => outcome,
            Err(Ok(End::AtOnce)) => {
                if is_tls {
                    // Best effort: the client learns that nothing is missing.
                    connection.as_mut().graceful_shutdown();
                    connection.now_or_never();
                }
                return;
            }
            Err(_) => {
                connection.as_mut().graceful_shutdown();
                timeout(request_timeout, connection).await.unwrap_or(Ok(()))
            }
        };
        if let Err(error) = outcome {
            tracing::debug!(error, "connection failed");
        }
    }
}

impl ListenerLimits {
    /// The bounds of a protocol and, for HTTP/1.1, the state of the connection.
    fn bounds(
        &self,
        protocol: Protocol,
        peer: &Peer,
        stopping: &Stopping,
    ) -> (ProtocolBounds, Option<Arc<Http1Phase>>) {
        match protocol {
            Protocol::Http1 => {
                let phase = Http1Phase::new();
                if stopping.drain.is_cancelled() {
                    phase.close_after_next();
                }
                let http1 = Http1::new(&phase, self.first_request_timeout);
                (ProtocolBounds::Http1(http1), Some(phase))
            }
            Protocol::Http2 => {
                let bounds = Http2 {
                    meter: FrameMeter::new(),
                    admission: self.admission.clone(),
                    source: peer.gate.source(),
                };
                (ProtocolBounds::Http2(Box::new(bounds)), None)
            }
        }
    }

    /// The resources that a request holds until it is answered. A request from a trusted proxy
    /// counts for the client that the proxy names.
    fn request(&self, peer: &Peer, headers: &HeaderMap) -> RequestPermit {
        let size = headers.iter().map(|(name, value)| name.as_str().len() + value.len()).sum();
        if !peer.is_proxy {
            return peer.gate.request(peer.address.ip(), size);
        }
        let address = self.trusted.source(peer.address, headers).ip();
        let gate = self.admission.gate(self.admission.source(Source::of(address)));
        gate.request(address, size).through(peer.address.ip())
    }
}

/// The body of an answer. It keeps the permit of its request until it is sent.
struct BodyWithPermit<B> {
    body: B,
    _permit: Arc<RequestPermit>,
}

impl<B: Body + Unpin> Body for BodyWithPermit<B> {
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
