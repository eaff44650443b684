//! A host that answers over TLS as a test says.

use std::collections::{HashMap, VecDeque};
use std::fs;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair};
use tempfile::TempDir;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::TcpListener;
use tokio::sync::Notify;
use tokio::task::JoinHandle;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::rustls::ServerConfig;
use tokio_rustls::rustls::crypto::aws_lc_rs;
use tokio_rustls::rustls::pki_types::PrivateKeyDer;

/// What the host does with a request.
#[derive(Clone)]
pub(crate) enum Reply {
    /// Writes these bytes and closes the connection.
    Bytes(Vec<u8>),
    /// Writes these bytes, then nothing more, and keeps the connection.
    Hang(Vec<u8>),
    /// Writes these bytes once the test says so.
    When(Arc<Notify>, Vec<u8>),
    /// Writes zeros until the connection ends.
    Endless(Vec<u8>),
}

impl Reply {
    /// JSON with the status 200 and more lines of the header.
    pub(crate) fn json(lines: &str, body: &str) -> Self {
        Self::with("200 OK", &format!("content-type: application/json\r\n{lines}"), body)
    }

    pub(crate) fn with(status: &str, lines: &str, body: &str) -> Self {
        let length = body.len();
        Self::Bytes(
            format!("HTTP/1.1 {status}\r\n{lines}content-length: {length}\r\n\r\n{body}").into(),
        )
    }
}

/// Replies in their order; the last one is repeated.
type Replies = Arc<Mutex<VecDeque<Reply>>>;
/// Replies of other paths than the usual one.
type Routes = Arc<Mutex<HashMap<String, Reply>>>;

pub(crate) struct StubHost {
    address: SocketAddr,
    scheme: &'static str,
    replies: Replies,
    routes: Routes,
    connections: Arc<AtomicUsize>,
    requests: Arc<AtomicUsize>,
    folder: TempDir,
    listening: JoinHandle<()>,
}

impl Drop for StubHost {
    fn drop(&mut self) {
        self.listening.abort();
    }
}

impl StubHost {
    pub(crate) async fn start(reply: Reply) -> Self {
        Self::listen("https", reply).await
    }

    /// Without TLS.
    pub(crate) async fn plaintext(reply: Reply) -> Self {
        Self::listen("http", reply).await
    }

    async fn listen(scheme: &'static str, reply: Reply) -> Self {
        let folder = tempfile::Builder::new().prefix("keyward-outbound-").tempdir().unwrap();
        let tls = acceptor(&folder);
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let replies: Replies = Arc::new(Mutex::new([reply].into()));
        let routes = Routes::default();
        let (connections, requests) = (Arc::new(AtomicUsize::new(0)), Arc::default());
        let (answers, accepted) = (Arc::clone(&replies), Arc::clone(&connections));
        let others = Arc::clone(&routes);
        let counted: Arc<AtomicUsize> = Arc::clone(&requests);
        let listening = tokio::spawn(async move {
            loop {
                let (stream, _) = listener.accept().await.unwrap();
                accepted.fetch_add(1, Ordering::SeqCst);
                let (answers, counted, tls) = (answers.clone(), counted.clone(), tls.clone());
                let others = others.clone();
                tokio::spawn(async move {
                    if scheme == "http" {
                        serve(stream, (&answers, &others), &counted).await;
                    } else if let Ok(stream) = tls.accept(stream).await {
                        serve(stream, (&answers, &others), &counted).await;
                    }
                });
            }
        });
        Self { address, scheme, replies, routes, connections, requests, folder, listening }
    }

    pub(crate) fn url(&self, host: &str) -> String {
        format!("{}://{host}:{}/jwks?of=a", self.scheme, self.address.port())
    }

    /// The host as an issuer.
    pub(crate) fn origin(&self, host: &str) -> String {
        format!("{}://{host}:{}", self.scheme, self.address.port())
    }

    /// From now on, the host answers so for this path.
    pub(crate) fn route(&self, path: &str, reply: Reply) {
        self.routes.lock().unwrap().insert(path.to_owned(), reply);
    }

    pub(crate) fn port(&self) -> u16 {
        self.address.port()
    }

    pub(crate) fn ca_file(&self) -> PathBuf {
        self.folder.path().join("ca.pem")
    }

    /// The number of accepted connections.
    pub(crate) fn connections(&self) -> usize {
        self.connections.load(Ordering::SeqCst)
    }

    /// The number of requests.
    pub(crate) fn requests(&self) -> usize {
        self.requests.load(Ordering::SeqCst)
    }

    /// From now on, the host answers so.
    pub(crate) fn answer(&self, reply: Reply) {
        *self.replies.lock().unwrap() = [reply].into();
    }
}

async fn serve(
    mut stream: impl AsyncRead + AsyncWrite + Unpin,
    (replies, routes): (&Replies, &Routes),
    requests: &AtomicUsize,
) {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        match stream.read_u8().await {
            Ok(byte) => head.push(byte),
            Err(_) => return,
        }
    }
    requests.fetch_add(1, Ordering::SeqCst);
    let text = String::from_utf8_lossy(&head);
    let path =
        text.strip_prefix("GET ").and_then(|rest| rest.split_once(" HTTP/1.1\r\n")).unwrap().0;
    let known = routes.lock().unwrap().get(path).cloned();
    let reply = if let Some(reply) = known {
        reply
    } else {
        assert_eq!(path, "/jwks?of=a");
        let mut replies = replies.lock().unwrap();
        if replies.len() > 1 { replies.pop_front().unwrap() } else { replies[0].clone() }
    };
    // The client may be gone before all is written.
    match reply {
        Reply::Bytes(bytes) => {
            stream.write_all(&bytes).await.ok();
            stream.shutdown().await.ok();
        }
        Reply::Hang(bytes) => {
            stream.write_all(&bytes).await.ok();
            stream.flush().await.ok();
            stream.read_to_end(&mut Vec::new()).await.ok();
        }
        Reply::When(notify, bytes) => {
            notify.notified().await;
            stream.write_all(&bytes).await.ok();
            stream.shutdown().await.ok();
        }
        Reply::Endless(bytes) => {
            stream.write_all(&bytes).await.ok();
            while stream.write_all(&[b'0'; 4096]).await.is_ok() {}
        }
    }
}

/// TLS with a certificate for `localhost` and loopback. Writes its authority into the folder.
fn acceptor(folder: &TempDir) -> TlsAcceptor {
    let mut params = CertificateParams::default();
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let authority = CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap();
    fs::write(folder.path().join("ca.pem"), authority.pem()).unwrap();
    let names = ["localhost".to_owned(), "127.0.0.1".to_owned()];
    let key = KeyPair::generate().unwrap();
    let certificate = CertificateParams::new(names).unwrap().signed_by(&key, &authority).unwrap();
    let key = PrivateKeyDer::try_from(key.serialize_der()).unwrap();
    let config = ServerConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()))
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(vec![certificate.der().clone()], key)
        .unwrap();
    TlsAcceptor::from(Arc::new(config))
}
