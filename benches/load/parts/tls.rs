//! Tokens over gRPC with TLS on connections that are kept, beside the same without TLS, and new
//! handshakes. Callers run on the same machine, so their part of the encryption counts too.

use std::net::SocketAddr;
use std::sync::Arc;

use futures_util::{StreamExt, stream};
use keyward::proto::token::token_service_client::TokenServiceClient;
use rcgen::{CertifiedKey, generate_simple_self_signed};
use tempfile::TempDir;
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::rustls::client::Resumption;
use tokio_rustls::rustls::crypto::aws_lc_rs;
use tokio_rustls::rustls::pki_types::ServerName;
use tokio_rustls::rustls::{ClientConfig, RootCertStore};
use tonic::transport::{Certificate, Channel, ClientTlsConfig};

use crate::callers::{AsksForTokens, issue_request};
use crate::load::{Caller, Measured, Shape};
use crate::report::{Figure, Target};
use crate::rounds::{Side, each, in_turns};
use crate::scene::{HASHES, Scene};
use crate::settings::{Part, Settings};

/// Handshakes in progress at the same time.
const HANDSHAKES: usize = 16;

/// A self-signed certificate for loopback (ECDSA P-256), in files.
struct Identity {
    folder: TempDir,
    pem: String,
    der: Vec<u8>,
}

impl Identity {
    fn new() -> Self {
        let CertifiedKey { cert, signing_key } =
            generate_simple_self_signed(["127.0.0.1".to_owned()]).unwrap();
        let folder = tempfile::Builder::new().prefix("keyward-tls-").tempdir().unwrap();
        std::fs::write(folder.path().join("tls.crt"), cert.pem()).unwrap();
        std::fs::write(folder.path().join("tls.key"), signing_key.serialize_pem()).unwrap();
        Self { folder, pem: cert.pem(), der: cert.der().to_vec() }
    }

    fn path(&self, name: &str) -> String {
        self.folder.path().join(name).display().to_string()
    }

    async fn connect(&self, grpc: &str) -> Channel {
        let tls = ClientTlsConfig::new().ca_certificate(Certificate::from_pem(&self.pem));
        let url = grpc.replace("http://", "https://");
        Channel::from_shared(url).unwrap().tls_config(tls).unwrap().connect().await.unwrap()
    }

    /// A client that resumes sessions or not.
    fn client(&self, resumption: Resumption) -> Arc<ClientConfig> {
        let mut roots = RootCertStore::empty();
        roots.add(self.der.clone().into()).unwrap();
        let mut config =
            ClientConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()))
                .with_safe_default_protocol_versions()
                .unwrap()
                .with_root_certificates(roots)
                .with_no_client_auth();
        config.alpn_protocols = vec![b"h2".to_vec()];
        config.resumption = resumption;
        Arc::new(config)
    }
}

/// Opens connections, and closes each after its handshake.
struct Handshakes {
    config: Arc<ClientConfig>,
    server: SocketAddr,
}

impl Caller for Handshakes {
    async fn call(&mut self) -> bool {
        let stream = TcpStream::connect(self.server).await.expect("a connection");
        let name = ServerName::IpAddress(self.server.ip().into());
        let connector = TlsConnector::from(Arc::clone(&self.config));
        connector.connect(name, stream).await.expect("a handshake");
        true
    }
}

pub(super) async fn measure(settings: &Settings) -> Vec<Figure> {
    let identity = Identity::new();
    let plain = Scene::new(&[]).await;
    let mut secure = Scene::new(&[]).await;
    let files = [
        ("KEYWARD_GRPC_TLS_CERTIFICATE", identity.path("tls.crt")),
        ("KEYWARD_GRPC_TLS_KEY", identity.path("tls.key")),
    ];
    secure.keyward.restart_with(files).await;
    let grpc = secure.keyward.grpc();
    first_uses(&secure, identity.connect(&grpc).await).await;

    let mut figures = Vec::new();
    for shape in [Shape::MANY, Shape::FEW] {
        let channels: Vec<_> =
            stream::iter(0..shape.connections).then(|_| identity.connect(&grpc)).collect().await;
        let over_tls = AsksForTokens::over(&channels, shape, &secure.clients);
        let sides = [
            Side::new(secure.keyward.process(), over_tls),
            Side::new(
                plain.keyward.process(),
                AsksForTokens::connect(&plain.keyward.grpc(), shape, &plain.clients).await,
            ),
        ];
        let [tls, plaintext] = in_turns(settings, settings.rounds(), sides).await;
        let title = shape.title();
        let figure = |name: &str, unit, number: fn(&Measured) -> f64| {
            Figure::new(Part::Tls, format!("{name} over TLS, {title}"), unit, each(&tls, number))
                .beside("plaintext", each(&plaintext, number))
        };
        figures.extend([
            figure("tokens", "/s", Measured::rate)
                .target(Target::AtLeast(0.85))
                .note(tls[0].in_words()),
            figure("processor time of a token", "µs", Measured::cpu_each),
        ]);
    }

    let server = grpc.trim_start_matches("http://").parse().unwrap();
    let callers = |resumption: fn() -> Resumption| {
        // Each caller resumes its own sessions.
        let caller = |_| Handshakes { config: identity.client(resumption()), server };
        (0..HANDSHAKES).map(caller).collect::<Vec<_>>()
    };
    let sides = [
        Side::new(secure.keyward.process(), callers(Resumption::disabled)),
        Side::new(secure.keyward.process(), callers(|| Resumption::in_memory_sessions(8))),
    ];
    let [full, resumed] = in_turns(settings, settings.rounds(), sides).await;
    figures.extend([
        Figure::new(Part::Tls, "new handshakes", "/s", each(&full, Measured::rate))
            .beside("with tickets at hand", each(&resumed, Measured::rate))
            .note(full[0].in_words()),
        Figure::new(
            Part::Tls,
            "processor time of a handshake",
            "µs",
            each(&full, Measured::cpu_each),
        )
        .beside("with tickets at hand", each(&resumed, Measured::cpu_each)),
    ]);
    figures
}

/// Uses each credential once after the restart, which needs a hash.
async fn first_uses(scene: &Scene, channel: Channel) {
    let issuing = TokenServiceClient::new(channel);
    stream::iter(&scene.clients)
        .for_each_concurrent(HASHES, |client| {
            let mut issuing = issuing.clone();
            async move {
                issuing.issue_token(issue_request(client)).await.unwrap();
            }
        })
        .await;
}
