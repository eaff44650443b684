//! TLS of one listener: its certificate files, which are reloaded when they change, and its
//! handshakes.
//!
//! A handshake uses the configuration of its moment. A reload replaces the configuration and leaves
//! connections alone.

mod bundle;
mod clients;
mod handshake;
mod listeners;
mod metrics;
mod reload;

use std::sync::{Arc, Mutex, PoisonError, RwLock};

use jiff::Timestamp;
use tokio_rustls::rustls::crypto::{CryptoProvider, aws_lc_rs};
use tokio_rustls::rustls::pki_types::UnixTime;
use tokio_rustls::rustls::server::danger::ClientCertVerifier;
use tokio_rustls::rustls::server::{NoServerSessionStorage, ProducesTickets};
use tokio_rustls::rustls::sign::SingleCertAndKey;
use tokio_rustls::rustls::time_provider::TimeProvider;
use tokio_rustls::rustls::version::{TLS12, TLS13};
use tokio_rustls::rustls::{self, ServerConfig};

pub(super) use handshake::TlsClient;
pub(super) use listeners::Listeners;

use crate::clock::Clock;
use crate::config::TlsFiles;
use bundle::{Bundle, Expiries, FileContents, Fingerprint, TlsFileError};
use handshake::HandshakeFailureLog;
use metrics::TlsMetrics;

/// The protocols that a listener offers (ALPN, RFC 7301).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Offered {
    /// gRPC needs HTTP/2.
    Http2,
    Http2AndHttp1,
}

/// A listener's TLS.
#[derive(Debug)]
pub(super) struct ListenerTls {
    face: &'static str,
    files: TlsFiles,
    offered: Offered,
    provider: Arc<CryptoProvider>,
    clock: Clock,
    metrics: TlsMetrics,
    active: RwLock<Arc<ActiveTls>>,
    failures: Mutex<HandshakeFailureLog>,
}

/// What new handshakes use.
#[derive(Debug)]
struct ActiveTls {
    config: Arc<ServerConfig>,
    /// Verifies client certificates, if clients are asked for one.
    verifier: Option<Arc<dyn ClientCertVerifier>>,
    expiries: Expiries,
    fingerprint: Fingerprint,
    clients_fingerprint: Fingerprint,
}

/// Gives rustls the server's clock, which tests can move.
#[derive(Debug)]
struct RustlsTime(Clock);

impl TimeProvider for RustlsTime {
    fn current_time(&self) -> Option<UnixTime> {
        unix_time(self.0.now())
    }
}

fn unix_time(time: Timestamp) -> Option<UnixTime> {
    Some(UnixTime::since_unix_epoch(time.duration_since(Timestamp::UNIX_EPOCH).try_into().ok()?))
}

impl ListenerTls {
    /// Reads the files. Any fault in them is an error.
    fn load(
        face: &'static str,
        files: &TlsFiles,
        offered: Offered,
        clock: &Clock,
        metrics: &TlsMetrics,
    ) -> Result<Arc<Self>, LoadError> {
        let provider = Arc::new(aws_lc_rs::default_provider());
        let bundle = FileContents::read(files)?.parse(files, &provider, clock.now())?;
        let active = activate(bundle, offered, &provider, clock, None)?;
        metrics.begin(face);
        metrics.set_expiries(face, &active.expiries);
        Ok(Arc::new(Self {
            face,
            files: files.clone(),
            offered,
            provider,
            clock: clock.clone(),
            metrics: metrics.clone(),
            active: RwLock::new(Arc::new(active)),
            failures: Mutex::default(),
        }))
    }

    fn active(&self) -> Arc<ActiveTls> {
        Arc::clone(&self.active.read().unwrap_or_else(PoisonError::into_inner))
    }

    /// Uses new files for new handshakes.
    fn replace(&self, bundle: Bundle) -> Result<(), LoadError> {
        let before = self.active();
        let active = activate(bundle, self.offered, &self.provider, &self.clock, Some(&before))?;
        self.metrics.set_expiries(self.face, &active.expiries);
        *self.active.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(active);
        Ok(())
    }
}

/// Why files cannot be used.
#[derive(Debug, thiserror::Error)]
pub(super) enum LoadError {
    #[error(transparent)]
    File(#[from] TlsFileError),
    #[error("TLS cannot be set up: {0}")]
    Rustls(#[from] rustls::Error),
    #[error("client certificates cannot be verified: {0}")]
    Verifier(#[from] rustls::server::VerifierBuilderError),
}

/// Builds what handshakes use.
///
/// A resumed session inherits the client's certificate from its first handshake (RFC 8446, section
/// 2.2), so tickets are worthless after any change of the client authorities: the new configuration
/// has new ticket keys. A renewed certificate of the server alone keeps them.
fn activate(
    bundle: Bundle,
    offered: Offered,
    provider: &Arc<CryptoProvider>,
    clock: &Clock,
    before: Option<&ActiveTls>,
) -> Result<ActiveTls, LoadError> {
    let Bundle { identity, clients, expiries, fingerprint, clients_fingerprint } = bundle;
    let verifier = clients.verifier(provider)?;
    let time = Arc::new(RustlsTime(clock.clone()));
    let builder = ServerConfig::builder_with_details(Arc::clone(provider), time)
        .with_protocol_versions(&[&TLS13, &TLS12])?;
    let builder = match &verifier {
        Some(verifier) => builder.with_client_cert_verifier(Arc::clone(verifier)),
        None => builder.with_no_client_auth(),
    };
    let mut config = builder.with_cert_resolver(Arc::new(SingleCertAndKey::from(identity)));
    config.alpn_protocols = match offered {
        Offered::Http2 => vec![b"h2".to_vec()],
        Offered::Http2AndHttp1 => vec![b"h2".to_vec(), b"http/1.1".to_vec()],
    };
    config.ticketer = ticketer(before, &clients_fingerprint)?;
    // Tickets hold the session. Sessions in memory would outlive a change of the authorities.
    config.session_storage = Arc::new(NoServerSessionStorage {});
    Ok(ActiveTls { config: Arc::new(config), verifier, expiries, fingerprint, clients_fingerprint })
}

fn ticketer(
    before: Option<&ActiveTls>,
    clients_fingerprint: &[u8],
) -> Result<Arc<dyn ProducesTickets>, rustls::Error> {
    match before {
        Some(before) if before.clients_fingerprint == clients_fingerprint => {
            Ok(Arc::clone(&before.config.ticketer))
        }
        _ => aws_lc_rs::Ticketer::new(),
    }
}
