//! One TLS handshake: its result, and what is counted and logged of it.

use std::collections::HashMap;
use std::io;
use std::net::SocketAddr;
use std::sync::{Arc, PoisonError};

use tokio::net::TcpStream;
use tokio::time::{Instant, timeout_at};
use tokio_rustls::TlsAcceptor;
use tokio_rustls::rustls::{self, HandshakeKind, ProtocolVersion, ServerConnection};
use tokio_rustls::server::TlsStream;

use super::{ActiveTls, ListenerTls, Offered, unix_time};
use crate::admission::ThrottledLog;
use crate::domain::ClientCertificate;

/// A finished handshake.
pub(in crate::server) struct Handshaken {
    pub(in crate::server) stream: TlsStream<TcpStream>,
    pub(in crate::server) is_http2: bool,
    pub(in crate::server) certificate: Option<ClientCertificate>,
}

/// A client, for the log.
#[derive(Clone, Copy, Debug)]
pub(in crate::server) struct TlsClient {
    pub(in crate::server) address: SocketAddr,
    /// When the handshake must be finished.
    pub(in crate::server) deadline: Instant,
}

/// Why a handshake failed. The names are values of a metric's label.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum FailureKind {
    /// The client has no certificate, or one that is refused.
    ClientCertificate,
    /// The client ended the handshake, for example because it does not trust the server's
    /// certificate.
    RefusedByClient,
    /// No common version, cipher suite or protocol.
    Incompatible,
    /// The client does not use TLS.
    Plaintext,
    /// The deadline passed.
    Timeout,
    /// Anything else, such as bytes that are not TLS, or a closed connection.
    Broken,
}

/// Log lines of failed handshakes, at a bounded rate for each kind.
#[derive(Debug, Default)]
pub(super) struct HandshakeFailureLog(HashMap<FailureKind, ThrottledLog>);

impl FailureKind {
    fn name(self) -> &'static str {
        match self {
            Self::ClientCertificate => "client_certificate",
            Self::RefusedByClient => "refused_by_client",
            Self::Incompatible => "incompatible",
            Self::Plaintext => "plaintext",
            Self::Timeout => "timeout",
            Self::Broken => "broken",
        }
    }

    fn of(error: &io::Error) -> Self {
        let inner = error.get_ref().and_then(|error| error.downcast_ref::<rustls::Error>());
        match inner {
            Some(rustls::Error::InvalidCertificate(_) | rustls::Error::NoCertificatesPresented) => {
                Self::ClientCertificate
            }
            Some(rustls::Error::AlertReceived(_)) => Self::RefusedByClient,
            Some(rustls::Error::PeerIncompatible(_) | rustls::Error::NoApplicationProtocol) => {
                Self::Incompatible
            }
            _ => Self::Broken,
        }
    }
}

impl ListenerTls {
    /// Does the handshake within its deadline. If it fails earlier, the stream is returned: the
    /// client has not read the alert yet.
    pub(in crate::server) async fn handshake(
        &self,
        stream: TcpStream,
        client: TlsClient,
    ) -> Result<Handshaken, Option<TcpStream>> {
        let active = self.active();
        let acceptor = TlsAcceptor::from(Arc::clone(&active.config));
        let accept = acceptor.accept(stream).into_fallible();
        let stream = match timeout_at(client.deadline, accept).await {
            Ok(Ok(stream)) => stream,
            Ok(Err((error, stream))) => {
                self.failed(FailureKind::of(&error), client, &error.to_string());
                return Err(Some(stream));
            }
            Err(_) => {
                self.failed(FailureKind::Timeout, client, "the handshake was not finished in time");
                return Err(None);
            }
        };
        let (_, session) = stream.get_ref();
        if let Err(error) = self.verify_resumed(&active, session) {
            self.failed(FailureKind::ClientCertificate, client, &error.to_string());
            return Err(None);
        }
        let is_http2 = session.alpn_protocol() == Some(b"h2");
        if self.offered == Offered::Http2 && !is_http2 {
            let says = "the client does not offer HTTP/2 (ALPN h2), which gRPC needs";
            self.failed(FailureKind::Incompatible, client, says);
            return Err(None);
        }
        self.metrics.handshake(self.face, "ok", version(session));
        let certificates = session.peer_certificates().unwrap_or_default();
        let certificate = ClientCertificate::presented(certificates.iter().map(AsRef::as_ref));
        Ok(Handshaken { stream, is_http2, certificate })
    }

    /// Verifies the client certificate of a resumed session again. A ticket lives for hours, and the
    /// certificate can have expired since the first handshake.
    fn verify_resumed(
        &self,
        active: &ActiveTls,
        session: &ServerConnection,
    ) -> Result<(), rustls::Error> {
        if session.handshake_kind() != Some(HandshakeKind::Resumed) {
            return Ok(());
        }
        let (Some(verifier), Some([leaf, chain @ ..])) =
            (&active.verifier, session.peer_certificates())
        else {
            return Ok(());
        };
        let now = unix_time(self.clock.now()).ok_or(rustls::Error::FailedToGetCurrentTime)?;
        verifier.verify_client_cert(leaf, chain, now).map(drop)
    }

    /// Notes a client that does not use TLS.
    pub(in crate::server) fn note_plaintext(&self, client: TlsClient) {
        self.failed(FailureKind::Plaintext, client, "the client does not use TLS");
    }

    /// Notes a client that sent nothing until the deadline.
    pub(in crate::server) fn note_silent(&self, client: TlsClient) {
        self.failed(FailureKind::Timeout, client, "the client sent nothing");
    }

    fn failed(&self, kind: FailureKind, client: TlsClient, cause: &str) {
        let (face, result) = (self.face, kind.name());
        self.metrics.handshake(face, result, "none");
        let mut failures = self.failures.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(times) = failures.0.entry(kind).or_default().pass() {
            let source = client.address.ip();
            tracing::info!(face, result, %source, cause, times, "a TLS handshake failed");
        }
    }
}

fn version(session: &ServerConnection) -> &'static str {
    match session.protocol_version() {
        Some(ProtocolVersion::TLSv1_3) => "1.3",
        _ => "1.2",
    }
}
