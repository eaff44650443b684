//! gRPC channels, and explanations of connection errors. The underlying libraries report what they
//! saw ("invalid compression flag: 123"), not the cause.

mod client_tls;

use std::error::Error;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;

use http::{HeaderValue, Request, Response, Uri, header};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::sync::OnceCell;
use tokio::time::timeout;
use tonic::Status;
use tonic::body::Body;
use tonic::transport::{Channel, Endpoint};
use tower::BoxError;
use tower::Service;

pub use client_tls::CertificateFiles;
pub(crate) use client_tls::{ClientTls, exposes_secrets};

const ENDED: &str =
    "the server ended the TLS handshake, so it probably does not use TLS: try http://";
/// With TLS 1.3, a server refuses a client certificate only after the client has finished its
/// handshake, and the alert that says so can be lost with the connection.
const UNANSWERED: &str = "the server ended the connection right after the TLS handshake; it \
     probably requires a client certificate that it accepts: name its file and the file of its key \
     (--client-certificate and --client-key)";
/// The time limit for finding out which protocol a server uses.
const PROBE_TIMEOUT: Duration = Duration::from_secs(2);

/// A channel that explains answers which are not gRPC.
#[derive(Clone, Debug)]
pub(crate) struct GrpcChannel {
    channel: Channel,
    uri: Uri,
    probe: ProtocolProbe,
    /// Whether the server has answered a call. Clones share it.
    has_answered: Arc<AtomicBool>,
}

/// The protocol that a server uses instead of gRPC. Determined once, so that reconnecting clients
/// do not probe each time. Clones share the result.
#[derive(Clone, Debug, Default)]
pub(crate) struct ProtocolProbe(Arc<OnceCell<Option<String>>>);

impl GrpcChannel {
    /// Connects, or explains why that is not possible.
    pub(crate) async fn connect(
        endpoint: &Endpoint,
        probe: &ProtocolProbe,
    ) -> Result<Self, String> {
        let uri = endpoint.uri().clone();
        match endpoint.connect().await {
            Ok(channel) => {
                let has_answered = Arc::default();
                Ok(Self { channel, uri, probe: probe.clone(), has_answered })
            }
            Err(error) => Err(explain(&error, &uri)),
        }
    }
}

impl Service<Request<Body>> for GrpcChannel {
    type Response = Response<Body>;
    type Error = BoxError;
    type Future = Pin<Box<dyn Future<Output = Result<Response<Body>, BoxError>> + Send>>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), BoxError>> {
        self.channel.poll_ready(context).map_err(Into::into)
    }

    fn call(&mut self, request: Request<Body>) -> Self::Future {
        let answer = self.channel.call(request);
        let (uri, probe) = (self.uri.clone(), self.probe.clone());
        let has_answered = Arc::clone(&self.has_answered);
        Box::pin(async move {
            match answer.await {
                Ok(response) if is_grpc(&response) => {
                    has_answered.store(true, Ordering::Relaxed);
                    Ok(response)
                }
                Ok(response) => Err(Status::unavailable(not_grpc(&response, &uri)).into()),
                Err(error) => {
                    let cause = innermost(&error);
                    let explained = match advice(&cause, &uri) {
                        Some(words) => Some(words),
                        None if is_https(&uri)
                            && !has_answered.load(Ordering::Relaxed)
                            && !is_away(&error) =>
                        {
                            Some(format!("{UNANSWERED} ({cause})"))
                        }
                        None => probe.explain(&error, &uri).await,
                    };
                    match explained {
                        Some(words) => Err(Status::unavailable(words).into()),
                        None => Err(error.into()),
                    }
                }
            }
        })
    }
}

fn is_https(uri: &Uri) -> bool {
    uri.scheme_str() == Some("https")
}

fn is_grpc<B>(response: &Response<B>) -> bool {
    let kind = response.headers().get(header::CONTENT_TYPE);
    kind.is_some_and(|kind| kind.as_bytes().starts_with(b"application/grpc"))
}

fn not_grpc<B>(response: &Response<B>, uri: &Uri) -> String {
    let kind = response.headers().get(header::CONTENT_TYPE).map(HeaderValue::to_str);
    let kind = kind.and_then(Result::ok).unwrap_or("no content type");
    format!(
        "{uri} answers HTTP {} with {kind}, which is not gRPC: use the address of grpc.listen \
          (default port 50051)",
        response.status()
    )
}

/// The root cause of an error. The outer errors only say that something failed.
pub(crate) fn innermost(error: &dyn Error) -> String {
    match error.source() {
        Some(source) => innermost(source),
        None => error.to_string(),
    }
}

/// The cause and advice.
fn explain(error: &dyn Error, uri: &Uri) -> String {
    let cause = innermost(error);
    let ended = ["eof", "reset", "roken pipe", "closed"];
    // Servers without TLS close the connection when they receive a handshake.
    if is_https(uri) && ended.iter().any(|sign| cause.contains(sign)) {
        return format!("{ENDED} ({cause})");
    }
    advice(&cause, uri).unwrap_or(cause)
}

/// Advice for an error of TLS.
fn advice(cause: &str, uri: &Uri) -> Option<String> {
    if !is_https(uri) {
        return None;
    }
    if let Some((_, alert)) = cause.split_once("received fatal alert: ") {
        return Some(format!("{} ({cause})", refused(alert)));
    }
    let host = uri.host().unwrap_or_default();
    let other_name =
        format!("the certificate is not valid for {host}: use a name that it contains");
    let advice = [
        (
            "UnknownIssuer",
            "the certificate's issuer is not trusted on this machine; name a file with its \
           authorities (--ca, or SSL_CERT_FILE)",
        ),
        ("NotValidForName", other_name.as_str()),
        ("not valid for name", other_name.as_str()),
        ("NotValidYet", "the certificate is not valid yet: check the clocks"),
        ("xpired", "the certificate has expired"),
        ("InvalidContentType", "the server does not use TLS: use http://"),
        (
            "HTTP/2 was not negotiated",
            "the server uses TLS but does not offer HTTP/2, which gRPC needs",
        ),
    ];
    let (_, advice) = advice.into_iter().find(|(sign, _)| cause.contains(sign))?;
    Some(format!("{advice} ({cause})"))
}

/// Why a server refuses a handshake, by the name of its alert (RFC 8446, section 6.2).
fn refused(alert: &str) -> &'static str {
    match alert.trim() {
        "CertificateRequired" => {
            "the server requires a client certificate: name its file and the file of its key \
             (--client-certificate and --client-key)"
        }
        "CertificateExpired" => "the server refuses the client certificate: it has expired",
        "UnknownCA"
        | "BadCertificate"
        | "CertificateUnknown"
        | "UnsupportedCertificate"
        | "CertificateRevoked"
        | "DecryptError"
        | "AccessDenied" => {
            "the server refuses the client certificate: its authority is not one that the server \
             accepts"
        }
        "NoApplicationProtocol" => {
            "the server uses TLS but does not offer HTTP/2: use the address of grpc.listen \
             (default port 50051)"
        }
        "ProtocolVersion" | "HandshakeFailure" => {
            "the server offers no common version or cipher suite of TLS"
        }
        _ => "the server refuses the TLS handshake",
    }
}

impl ProtocolProbe {
    /// The protocol that a server uses instead of HTTP/2 without TLS, if a call failed because of
    /// that.
    async fn explain(&self, error: &tonic::transport::Error, uri: &Uri) -> Option<String> {
        if uri.scheme_str() != Some("http") || is_away(error) {
            return None;
        }
        self.0.get_or_init(|| detect_other_protocol(uri)).await.clone()
    }
}

async fn detect_other_protocol(uri: &Uri) -> Option<String> {
    let first = timeout(PROBE_TIMEOUT, first_bytes(uri)).await.ok()?.ok()?;
    match first[..] {
        // A TLS record: an alert or a handshake message (RFC 8446, section 5.1).
        [0x15 | 0x16, 3, ..] => Some(format!("{uri} uses TLS: use https://")),
        _ if first.starts_with(b"HTTP/1") => Some(format!(
            "{uri} uses HTTP/1.1 and not HTTP/2: use the address of grpc.listen \
              (default port 50051)"
        )),
        _ => None,
    }
}

/// Whether the connection failed, or there was no answer in time.
fn is_away(error: &(dyn Error + 'static)) -> bool {
    let mut next = Some(error);
    while let Some(error) = next {
        if error.is::<tonic::TimeoutExpired>()
            || error.downcast_ref::<io::Error>().is_some_and(|error| {
                use io::ErrorKind::{
                    ConnectionRefused, HostUnreachable, NetworkUnreachable, TimedOut,
                };
                [ConnectionRefused, HostUnreachable, NetworkUnreachable, TimedOut]
                    .contains(&error.kind())
            })
        {
            return true;
        }
        next = error.source();
    }
    false
}

/// The first bytes that a server sends after a `ClientHello`. A TLS server answers with a handshake
/// message or an alert, whichever versions and cipher suites it supports.
async fn first_bytes(uri: &Uri) -> io::Result<Vec<u8>> {
    // A ClientHello of TLS 1.2 (RFC 5246, section 7.4.1.2): a random value of zeros, six cipher
    // suites, no compression, no extensions.
    const HELLO: &[u8] = b"\x16\x03\x01\0\x37\x01\0\0\x33\x03\x03\
        \0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\
        \0\0\x0c\xc0\x2f\xc0\x2b\xc0\x30\xc0\x2c\0\x9c\0\x2f\x01\0";
    let host = uri.host().unwrap_or_default().trim_matches(['[', ']']);
    let mut stream = TcpStream::connect((host, uri.port_u16().unwrap_or(80))).await?;
    stream.write_all(HELLO).await?;
    let mut first = Vec::with_capacity(16);
    while first.len() < 6 && stream.read_buf(&mut first).await? > 0 {}
    Ok(first)
}
