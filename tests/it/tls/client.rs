//! A TLS client that a test controls.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;
use tokio_rustls::rustls::crypto::aws_lc_rs;
use tokio_rustls::rustls::pki_types::pem::PemObject;
use tokio_rustls::rustls::pki_types::{PrivateKeyDer, ServerName};
use tokio_rustls::rustls::sign::{CertifiedKey, SingleCertAndKey};
use tokio_rustls::rustls::version::{TLS12, TLS13};
use tokio_rustls::rustls::{ClientConfig, RootCertStore, SupportedProtocolVersion};

use super::PATIENCE;
use super::certificates::{Authority, Pair};

pub(super) type Stream = TlsStream<TcpStream>;

pub(super) const HTTP1: &[&str] = &["http/1.1"];
pub(super) const HTTP2: &[&str] = &["h2"];
pub(super) const VERSIONS: [&SupportedProtocolVersion; 2] = [&TLS12, &TLS13];

pub(super) struct TlsTestClient {
    roots: Arc<RootCertStore>,
    identity: Option<Pair>,
    versions: Vec<&'static SupportedProtocolVersion>,
    alpn: &'static [&'static str],
}

impl TlsTestClient {
    /// A client that trusts an authority.
    pub(super) fn new(authority: &Authority) -> Self {
        let mut roots = RootCertStore::empty();
        roots.add(authority.der().into()).unwrap();
        let versions = VERSIONS.to_vec();
        Self { roots: Arc::new(roots), identity: None, versions, alpn: &[] }
    }

    pub(super) fn identity(self, identity: Option<&Pair>) -> Self {
        Self { identity: identity.cloned(), ..self }
    }

    pub(super) fn version(self, version: &'static SupportedProtocolVersion) -> Self {
        Self { versions: vec![version], ..self }
    }

    pub(super) fn alpn(self, alpn: &'static [&'static str]) -> Self {
        Self { alpn, ..self }
    }

    /// The configuration. Connections that share it resume sessions.
    pub(super) fn config(&self) -> Arc<ClientConfig> {
        let builder = ClientConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()))
            .with_protocol_versions(&self.versions)
            .unwrap()
            .with_root_certificates(Arc::clone(&self.roots));
        let mut config = match &self.identity {
            Some(pair) => {
                let key = PrivateKeyDer::from_pem_slice(pair.key.as_bytes()).unwrap();
                let key = aws_lc_rs::default_provider().key_provider.load_private_key(key).unwrap();
                let chain = std::iter::once(&pair.der).chain(&pair.intermediates);
                let chain = chain.map(|der| der.clone().into()).collect();
                // Not checked: a test can have a certificate with the key of another.
                let resolver = SingleCertAndKey::from(CertifiedKey::new(chain, key));
                builder.with_client_cert_resolver(Arc::new(resolver))
            }
            None => builder.with_no_client_auth(),
        };
        config.alpn_protocols = self.alpn.iter().map(|name| name.as_bytes().to_vec()).collect();
        Arc::new(config)
    }

    pub(super) async fn connect(&self, server: SocketAddr) -> io::Result<Stream> {
        connect(self.config(), server).await
    }
}

pub(super) async fn connect(config: Arc<ClientConfig>, server: SocketAddr) -> io::Result<Stream> {
    let stream = TcpStream::connect(server).await?;
    let name = ServerName::IpAddress(server.ip().into());
    let handshake = TlsConnector::from(config).connect(name, stream);
    timeout(PATIENCE, handshake).await.expect("the handshake ends")
}

/// Sends a request, and returns the status line of its answer. With TLS 1.3, a server refuses a
/// client certificate only here.
pub(super) async fn get(stream: &mut Stream) -> io::Result<String> {
    let path = "/.well-known/oauth-authorization-server";
    stream.write_all(format!("GET {path} HTTP/1.1\r\nHost: x\r\n\r\n").as_bytes()).await?;
    answer(stream).await
}

/// The status line of the answer to a request, whose body is a JSON object.
pub(super) async fn answer(stream: &mut Stream) -> io::Result<String> {
    let mut answer = Vec::new();
    while !answer.ends_with(b"}") {
        let read = timeout(PATIENCE, stream.read_buf(&mut answer)).await.expect("an answer");
        if read? == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
    }
    let answer = String::from_utf8(answer).unwrap();
    Ok(answer.lines().next().unwrap().to_owned())
}
