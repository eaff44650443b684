//! A server that asks for any client certificate, and clients that authenticate with theirs.

use std::io;

use aws_lc_rs::digest::{SHA256, digest};
use base64::Engine;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use keyward::proto::admin as pb;
use keyward::proto::admin::credential::certificate::Name;
use keyward::proto::admin::credential::{Certificate, Kind, Registration};
use keyward::proto::token as tokens;
use keyward::proto::token::issue_token_request::Credential as Proof;
use keyward::proto::token::token_service_client::TokenServiceClient;
use serde_json::Value;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::time::timeout;
use tonic::Status;
use tonic::transport::{Channel, ClientTlsConfig, Identity};

use super::PATIENCE;
use super::certificates::{Authority, Files, Pair};
use super::client::{HTTP1, Stream, TlsTestClient};
use crate::harness::{Admin, Backend, Keyward};

pub(super) const CRM: &str = "tenants/acme/applications/crm";

/// A server whose listeners take any client certificate.
pub(super) struct Mtls {
    pub(super) kw: Keyward,
    pub(super) authority: Authority,
    pub(super) files: Files,
}

/// An answer over HTTP.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct HttpAnswer {
    pub(super) status: u16,
    pub(super) head: String,
    pub(super) body: Value,
}

impl Mtls {
    pub(super) async fn start(backend: Backend, settings: &[(&'static str, &str)]) -> Self {
        let authority = Authority::new("servers");
        let files = Files::with(&authority.server());
        files.write("server-ca.pem", &authority.pem());
        let paths = ["tls.crt", "tls.key"].map(|name| files.path(name));
        let mut all = vec![("ops.tls.client_auth", "none"), ("tls.client_auth", "any")];
        all.extend([("tls.certificate", &*paths[0]), ("tls.key", &paths[1])]);
        all.extend(settings);
        let kw = backend.start_with(&all).await;
        Self { kw, authority, files }
    }

    /// A gRPC channel of a client with this certificate.
    pub(super) async fn channel(&self, identity: Option<&Pair>) -> Channel {
        let ca = tonic::transport::Certificate::from_pem(self.authority.pem());
        let mut tls = ClientTlsConfig::new().ca_certificate(ca);
        if let Some(pair) = identity {
            tls = tls.identity(Identity::from_pem(chain(pair), &pair.key));
        }
        let url = format!("https://{}", self.kw.server().grpc);
        let endpoint = Channel::from_shared(url).unwrap().tls_config(tls).unwrap();
        endpoint.connect().await.unwrap()
    }

    /// The administrator, on a connection without a certificate.
    pub(super) async fn admin(&self) -> Admin {
        self.kw.admin_on(self.channel(None).await).await
    }

    /// An HTTP connection of a client with this certificate.
    pub(super) async fn connect(&self, identity: Option<&Pair>) -> Stream {
        let client = TlsTestClient::new(&self.authority).identity(identity).alpn(HTTP1);
        client.connect(self.kw.server().http).await.unwrap()
    }

    /// Posts a form on a new connection.
    pub(super) async fn post(
        &self,
        identity: Option<&Pair>,
        path: &str,
        form: &[(&str, &str)],
    ) -> HttpAnswer {
        post(&mut self.connect(identity).await, path, &[], form).await
    }

    /// Asks the token endpoint with nothing but a client id.
    pub(super) async fn token(&self, identity: Option<&Pair>, client_id: &str) -> HttpAnswer {
        let form = [("grant_type", "client_credentials"), ("client_id", client_id)];
        self.post(identity, "/oauth2/token", &form).await
    }

    /// Asks for a token over gRPC.
    pub(super) async fn issue(
        &self,
        identity: Option<&Pair>,
        client_id: &str,
        audiences: &[&str],
    ) -> Result<tokens::IssueTokenResponse, Status> {
        issue(&self.channel(identity).await, client_id, audiences).await
    }

    pub(super) async fn metadata(&self) -> Value {
        let mut stream = self.connect(None).await;
        let request = "GET /.well-known/oauth-authorization-server HTTP/1.1\r\nHost: x\r\n\r\n";
        send(&mut stream, request).await.unwrap().body
    }
}

/// Asks for a token over gRPC, as a client with the certificate of the channel.
pub(super) async fn issue(
    channel: &Channel,
    client_id: &str,
    audiences: &[&str],
) -> Result<tokens::IssueTokenResponse, Status> {
    let proof = tokens::ClientCertificate { client_id: client_id.to_owned() };
    let request = tokens::IssueTokenRequest {
        credential: Some(Proof::ClientCertificate(proof)),
        scopes: Vec::new(),
        audiences: audiences.iter().map(|audience| (*audience).to_owned()).collect(),
    };
    let issued = TokenServiceClient::new(channel.clone()).issue_token(request).await;
    issued.map(tonic::Response::into_inner)
}

/// Posts a form on a connection that stays open.
pub(super) async fn post(
    stream: &mut Stream,
    path: &str,
    headers: &[(&str, &str)],
    form: &[(&str, &str)],
) -> HttpAnswer {
    let form: Vec<_> = form.iter().map(|(name, value)| format!("{name}={value}")).collect();
    let form = form.join("&");
    let headers: Vec<_> =
        headers.iter().map(|(name, value)| format!("{name}: {value}\r\n")).collect();
    let headers = headers.concat();
    let request = format!(
        "POST {path} HTTP/1.1\r\nHost: x\r\nContent-Length: {}\r\n{headers}\
         Content-Type: application/x-www-form-urlencoded\r\n\r\n{form}",
        form.len()
    );
    send(stream, &request).await.unwrap()
}

async fn send(stream: &mut Stream, request: &str) -> io::Result<HttpAnswer> {
    stream.write_all(request.as_bytes()).await?;
    let mut received = Vec::new();
    loop {
        if let Some(answer) = parsed(&received) {
            return Ok(answer);
        }
        let read = timeout(PATIENCE, stream.read_buf(&mut received)).await.expect("an answer");
        if read? == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
    }
}

/// The answer, if it is complete.
fn parsed(received: &[u8]) -> Option<HttpAnswer> {
    let text = str::from_utf8(received).unwrap();
    let (head, body) = text.split_once("\r\n\r\n")?;
    let length = head.lines().find_map(|line| {
        let (name, value) = line.split_once(": ")?;
        name.eq_ignore_ascii_case("content-length").then(|| value.parse::<usize>().unwrap())
    });
    if body.len() < length.unwrap_or_default() {
        return None;
    }
    let lines = head.lines().filter(|line| !line.to_ascii_lowercase().starts_with("date:"));
    Some(HttpAnswer {
        status: head.split(' ').nth(1).unwrap().parse().unwrap(),
        head: lines.collect::<Vec<_>>().join("\n"),
        body: serde_json::from_str(body).unwrap_or_default(),
    })
}

/// All certificates that a client sends, in PEM.
fn chain(pair: &Pair) -> String {
    let all = std::iter::once(&pair.der).chain(&pair.intermediates);
    let block = |der| {
        let base64 = STANDARD.encode(der);
        format!("-----BEGIN CERTIFICATE-----\n{base64}\n-----END CERTIFICATE-----\n")
    };
    all.map(block).collect()
}

/// The `x5t#S256` of a certificate.
pub(super) fn thumbprint(pair: &Pair) -> String {
    URL_SAFE_NO_PAD.encode(digest(&SHA256, &pair.der))
}

/// The claims of a token.
pub(super) fn claims(token: &str) -> Value {
    jsonwebtoken::dangerous::insecure_decode::<Value>(token).unwrap().claims
}

/// A certificate of this authority with this subject.
pub(super) fn of_authority(authority: &Authority, subject: &str) -> Certificate {
    Certificate {
        authorities: authority.pem(),
        name: Some(Name::SubjectDn(subject.to_owned())),
        thumbprints: Vec::new(),
    }
}

/// These certificates themselves.
pub(super) fn pinned(pairs: &[&Pair]) -> Certificate {
    let thumbprints = pairs.iter().map(|pair| thumbprint(pair)).collect();
    Certificate { thumbprints, ..Default::default() }
}

/// Creates a credential of the kind certificate.
pub(super) async fn register(
    admin: &mut Admin,
    application: &str,
    certificate: Certificate,
) -> Result<pb::Credential, Status> {
    let request = pb::CreateCredentialRequest {
        parent: application.to_owned(),
        credential: Some(pb::Credential {
            kind: Kind::Certificate.into(),
            registration: Some(Registration::Certificate(certificate)),
            ..Default::default()
        }),
        request_id: String::new(),
    };
    let made = admin.credentials.create_credential(request).await?.into_inner();
    assert_eq!(made.secret, "");
    Ok(made.credential.unwrap())
}
