//! TLS on all listeners: handshakes, client certificates, reloads, and clients that must not send
//! secrets in plaintext.

mod authentication;
mod bound;
mod certificates;
mod client;
mod clients;
mod exchange;
mod handshakes;
mod mtls;
mod mutual;
mod reload;
mod silent;
mod start;
mod tickets;

use std::net::SocketAddr;
use std::time::Duration;

use crate::harness::{Backend, Keyward, until};
use certificates::{Authority, Files, Pair};
use client::{HTTP1, TlsTestClient, get};

/// Long enough for a loaded machine.
const PATIENCE: Duration = Duration::from_mins(1);

/// A server whose HTTP listener has TLS, with its authority and files.
struct TlsKeyward {
    kw: Keyward,
    authority: Authority,
    files: Files,
}

impl TlsKeyward {
    /// Starts it. With `clients`, it asks for certificates of that authority.
    async fn start(clients: Option<&Authority>, settings: &[(&'static str, &str)]) -> Self {
        let authority = Authority::new("server authority");
        let files = Files::with(&authority.server());
        let mut all = vec![
            ("http.tls.certificate", files.path("tls.crt")),
            ("http.tls.key", files.path("tls.key")),
            ("tls.reload_interval", "20ms".to_owned()),
        ];
        if let Some(clients) = clients {
            files.write("ca.crt", &clients.pem());
            all.push(("http.tls.client_ca", files.path("ca.crt")));
        }
        all.extend(settings.iter().map(|(key, value)| (*key, (*value).to_owned())));
        let all: Vec<_> = all.iter().map(|(key, value)| (*key, value.as_str())).collect();
        let kw = Backend::Sqlite.start_with(&all).await;
        Self { kw, authority, files }
    }

    fn http(&self) -> SocketAddr {
        self.kw.server().http
    }

    fn client(&self) -> TlsTestClient {
        TlsTestClient::new(&self.authority)
    }

    /// The status line of a request on a new connection, or the error.
    async fn ask(&self, identity: Option<&Pair>) -> std::io::Result<String> {
        let client = self.client().identity(identity).alpn(HTTP1);
        get(&mut client.connect(self.http()).await?).await
    }

    async fn metrics(&self) -> String {
        let url = format!("http://{}/metrics", self.kw.server().ops);
        reqwest::get(url).await.unwrap().text().await.unwrap()
    }

    /// The value of a metric with these labels, or 0.
    async fn metric(&self, name: &str) -> i64 {
        let metrics = self.metrics().await;
        let value = metrics.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
        value.map_or(0, |value| value.parse().unwrap())
    }

    async fn reloads(&self, outcome: &str) -> i64 {
        let labels = format!("{{face=\"http\",outcome=\"{outcome}\"}}");
        self.metric(&format!("keyward_certificate_reloads_total{labels}")).await
    }
}
