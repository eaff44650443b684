//! Fetching one document.

use std::net::{IpAddr, SocketAddr};
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use futures_util::future::select_ok;
use http::{HeaderMap, Request, Response, StatusCode, Uri, header};
use http_body_util::{BodyExt, Empty};
use hyper::body::{Body, Bytes, Incoming};
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use prometheus_client::metrics::counter::Counter;
use serde::de::IgnoredAny;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpStream, lookup_host};
use tokio::sync::Semaphore;
use tokio::time::timeout;
use tokio_rustls::rustls::pki_types::ServerName;

use super::tls::OutboundTls;
use super::{OutboundMetrics, OutboundOptions, is_public};
use crate::domain::Fault;

/// The maximum size of a document.
pub const MAX_DOCUMENT: usize = 256 * 1024;
const MAX_URL: usize = 2048;
/// The time for everything: the queue, the name, the connection, the answer.
const TOTAL_TIME: Duration = Duration::from_secs(5);
const CONNECT_TIME: Duration = Duration::from_secs(2);
/// How many documents are fetched at once, and how many more wait.
const CONCURRENT: usize = 8;
const QUEUE: usize = 64;
/// The addresses of a host that are tried, all at once.
const MAX_ADDRESSES: usize = 4;
const MAX_HEADERS: usize = 64;
const MAX_HEAD: usize = 16 * 1024;

/// A document of another host.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FetchedDocument {
    /// JSON.
    pub body: Vec<u8>,
    /// For how long the host says that it is current (`Cache-Control`).
    pub max_age: Option<Duration>,
}

/// Why a document could not be fetched. The texts have nothing that the host sent.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum FetchError {
    #[error("the address {}", .0.0)]
    Url(Fault),
    #[error("the host has no public address, and none in outbound.allowed_networks")]
    AddressRefused,
    #[error("the name of the host cannot be resolved")]
    Resolve,
    #[error("the host cannot be reached")]
    Connect,
    #[error("the TLS handshake failed: {0}")]
    Tls(String),
    #[error("the host did not answer within 5 seconds")]
    Timeout,
    #[error("the connection broke: {0}")]
    Broken(String),
    #[error("{0}")]
    Setup(String),
    #[error("the host redirects, which is not followed: name the final address")]
    Redirect,
    #[error("the host answered with the status {0}")]
    Status(u16),
    #[error("the answer is not declared as JSON")]
    ContentType,
    #[error("the answer is compressed, though that was not asked for")]
    Encoding,
    #[error("the answer has more than 262144 bytes")]
    TooLarge,
    #[error("the answer is not JSON")]
    NotJson,
    #[error("too many documents are fetched at once")]
    Busy,
}

impl FetchError {
    fn counter<'a>(&self, metrics: &'a OutboundMetrics) -> &'a Counter {
        match self {
            Self::Url(_) | Self::AddressRefused => &metrics.address,
            Self::Busy => &metrics.busy,
            Self::Resolve
            | Self::Connect
            | Self::Tls(_)
            | Self::Timeout
            | Self::Broken(_)
            | Self::Setup(_) => &metrics.unreachable,
            Self::Redirect
            | Self::Status(_)
            | Self::ContentType
            | Self::Encoding
            | Self::TooLarge
            | Self::NotJson => &metrics.answer,
        }
    }
}

/// Fetches documents. Clones share their bounds.
#[derive(Clone, Debug)]
pub struct Fetcher(Arc<FetcherParts>);

#[derive(Debug)]
struct FetcherParts {
    options: OutboundOptions,
    tls: OutboundTls,
    /// Places of those who fetch and wait.
    places: Semaphore,
    /// Places of those who fetch.
    active: Semaphore,
    /// Look-ups of names. They run on threads and cannot be ended, so they keep their place until
    /// they are done, even if no request waits for them any more.
    lookups: Arc<Semaphore>,
    metrics: OutboundMetrics,
}

/// A checked address of a document.
struct Target {
    uri: Uri,
    host: String,
    port: u16,
    is_https: bool,
}

impl Fetcher {
    /// Fails if the file of authorities cannot be used.
    pub fn new(options: OutboundOptions, metrics: OutboundMetrics) -> Result<Self, String> {
        let tls = OutboundTls::new(options.ca_file.clone())?;
        Ok(Self(Arc::new(FetcherParts {
            options,
            tls,
            places: Semaphore::new(CONCURRENT + QUEUE),
            active: Semaphore::new(CONCURRENT),
            lookups: Arc::new(Semaphore::new(CONCURRENT)),
            metrics,
        })))
    }

    pub fn metrics(&self) -> &OutboundMetrics {
        &self.0.metrics
    }

    /// Checks the form of an address, and its host if that is an IP address. A name is resolved,
    /// and its addresses are checked, when the document is fetched.
    pub fn check_url(&self, url: &str) -> Result<(), Fault> {
        let target = self.target(url)?;
        match target.host.parse() {
            Ok(address) if !self.may_reach(address) => Err(Fault::new(
                "must have a public address, or one in the setting outbound.allowed_networks",
            )),
            _ => Ok(()),
        }
    }

    /// Checks the form of an address that is not fetched.
    pub fn check_form(&self, url: &str) -> Result<(), Fault> {
        self.target(url).map(drop)
    }

    /// Fetches a JSON document, within fixed bounds of time and size.
    pub async fn get_json(&self, url: &str) -> Result<FetchedDocument, FetchError> {
        let outcome = match self.0.places.try_acquire() {
            Ok(_place) => {
                let fetched = timeout(TOTAL_TIME, self.fetch(url)).await;
                fetched.unwrap_or(Err(FetchError::Timeout))
            }
            Err(_) => Err(FetchError::Busy),
        };
        let counter = match &outcome {
            Ok(_) => &self.0.metrics.fetched,
            Err(error) => error.counter(&self.0.metrics),
        };
        counter.inc();
        outcome
    }

    async fn fetch(&self, url: &str) -> Result<FetchedDocument, FetchError> {
        let target = self.target(url).map_err(FetchError::Url)?;
        let _active = self.0.active.acquire().await.map_err(|_| FetchError::Busy)?;
        let addresses = self.addresses(&target).await?;
        let stream = connect(&addresses).await?;
        let request = request(&target)?;
        if !target.is_https {
            return exchange(stream, request).await;
        }
        let connector = self.0.tls.connector().await.map_err(FetchError::Setup)?;
        let name = ServerName::try_from(target.host)
            .map_err(|_| FetchError::Url(Fault::new("must have a valid host name")))?;
        let handshake = timeout(CONNECT_TIME, connector.connect(name, stream)).await;
        let stream = handshake
            .map_err(|_| FetchError::Timeout)?
            .map_err(|error| FetchError::Tls(error.to_string()))?;
        exchange(stream, request).await
    }

    fn target(&self, url: &str) -> Result<Target, Fault> {
        let wrong = || Fault::new("must be an https URL without user, password and fragment");
        if url.len() > MAX_URL {
            return Err(Fault::new("must have at most 2048 characters"));
        }
        // `Uri` would drop a fragment.
        let uri: Uri = url.parse().map_err(|_| wrong())?;
        let authority = uri.authority().ok_or_else(wrong)?;
        let host = authority.host();
        if authority.as_str().contains('@') || url.contains('#') || host.is_empty() {
            return Err(wrong());
        }
        let host = host.trim_matches(['[', ']']).to_owned();
        let is_https = match uri.scheme_str() {
            Some("https") => true,
            Some("http") if self.0.options.plaintext_hosts.contains(&host) => false,
            Some("http") => {
                return Err(Fault::new(
                    "must be an https URL: http is only for hosts in outbound.plaintext_hosts",
                ));
            }
            _ => return Err(wrong()),
        };
        let port = match authority.port() {
            Some(port) => port.as_u16(),
            // A port that is no number in range is not a port for `authority`, but is in its text.
            None if authority.as_str() == authority.host() => {
                if is_https {
                    443
                } else {
                    80
                }
            }
            None => return Err(wrong()),
        };
        Ok(Target { uri, host, port, is_https })
    }

    fn may_reach(&self, address: IpAddr) -> bool {
        is_public(address) || self.0.options.allowed_networks.contains(address)
    }

    /// The addresses of the host that may be reached. The connection goes to one of them, so the
    /// name is not resolved a second time, to something else.
    async fn addresses(&self, target: &Target) -> Result<Vec<SocketAddr>, FetchError> {
        let found = match target.host.parse() {
            Ok(address) => vec![SocketAddr::new(address, target.port)],
            Err(_) => self.look_up(target).await?,
        };
        let mut allowed: Vec<_> =
            found.into_iter().filter(|address| self.may_reach(address.ip())).collect();
        allowed.truncate(MAX_ADDRESSES);
        if allowed.is_empty() { Err(FetchError::AddressRefused) } else { Ok(allowed) }
    }

    async fn look_up(&self, target: &Target) -> Result<Vec<SocketAddr>, FetchError> {
        let place = Arc::clone(&self.0.lookups).acquire_owned().await;
        let place = place.map_err(|_| FetchError::Busy)?;
        let (host, port) = (target.host.clone(), target.port);
        let look_up = tokio::spawn(async move {
            let found = lookup_host((host, port)).await.map(Iterator::collect::<Vec<_>>);
            drop(place);
            found
        });
        match look_up.await {
            Ok(Ok(found)) if !found.is_empty() => Ok(found),
            _ => Err(FetchError::Resolve),
        }
    }
}

/// The first connection that is there.
async fn connect(addresses: &[SocketAddr]) -> Result<TcpStream, FetchError> {
    let attempts = addresses.iter().map(|address| Box::pin(TcpStream::connect(*address)));
    match timeout(CONNECT_TIME, select_ok(attempts)).await {
        Ok(Ok((stream, _))) => Ok(stream),
        Ok(Err(_)) => Err(FetchError::Connect),
        Err(_) => Err(FetchError::Timeout),
    }
}

fn request(target: &Target) -> Result<Request<Empty<Bytes>>, FetchError> {
    let path = target.uri.path_and_query().map_or("/", |path| path.as_str());
    let authority = target.uri.authority().map_or("", |authority| authority.as_str());
    Request::get(path)
        .header(header::HOST, authority)
        .header(header::ACCEPT, "application/jwk-set+json, application/json")
        .header(header::USER_AGENT, concat!("keyward/", env!("CARGO_PKG_VERSION")))
        .body(Empty::new())
        .map_err(|_| FetchError::Url(Fault::new("must be a valid URL")))
}

async fn exchange(
    stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static,
    request: Request<Empty<Bytes>>,
) -> Result<FetchedDocument, FetchError> {
    let broken = |error: hyper::Error| FetchError::Broken(error.to_string());
    let mut builder = http1::Builder::new();
    builder.max_buf_size(MAX_HEAD).max_headers(MAX_HEADERS);
    let (mut sender, connection) = builder.handshake(TokioIo::new(stream)).await.map_err(broken)?;
    let answer = async {
        let response = sender.send_request(request).await.map_err(broken)?;
        read(response).await
    };
    // The connection ends with this future, whatever the host does.
    let mut answer = pin!(answer);
    let mut connection = pin!(connection);
    tokio::select! {
        biased;
        document = &mut answer => document,
        // The rest of the answer is in memory when the connection has ended.
        _ = &mut connection => answer.await,
    }
}

async fn read(mut response: Response<Incoming>) -> Result<FetchedDocument, FetchError> {
    let (status, headers) = (response.status(), response.headers());
    if status.is_redirection() {
        return Err(FetchError::Redirect);
    }
    if status != StatusCode::OK {
        return Err(FetchError::Status(status.as_u16()));
    }
    if !is_json(headers) {
        return Err(FetchError::ContentType);
    }
    if headers.get(header::CONTENT_ENCODING).is_some_and(|encoding| encoding != "identity") {
        return Err(FetchError::Encoding);
    }
    let max_age = max_age(headers);
    let announced = response.body().size_hint().lower();
    if usize::try_from(announced).map_or(true, |length| length > MAX_DOCUMENT) {
        return Err(FetchError::TooLarge);
    }
    let mut body = Vec::new();
    while let Some(frame) = response.body_mut().frame().await {
        let frame = frame.map_err(|error| FetchError::Broken(error.to_string()))?;
        let Ok(data) = frame.into_data() else { continue };
        if body.len() + data.len() > MAX_DOCUMENT {
            return Err(FetchError::TooLarge);
        }
        body.extend_from_slice(&data);
    }
    serde_json::from_slice::<IgnoredAny>(&body).map_err(|_| FetchError::NotJson)?;
    Ok(FetchedDocument { body, max_age })
}

fn is_json(headers: &HeaderMap) -> bool {
    let kind = headers.get(header::CONTENT_TYPE).and_then(|kind| kind.to_str().ok());
    let Some(kind) = kind else { return false };
    let kind = kind.split(';').next().unwrap_or_default().trim().to_ascii_lowercase();
    match kind.split_once('/') {
        Some(("application", name)) => name == "json" || name.ends_with("+json"),
        Some((_, name)) => name.ends_with("+json"),
        None => false,
    }
}

/// `max-age` of `Cache-Control`, and 0 for `no-store` and `no-cache`.
fn max_age(headers: &HeaderMap) -> Option<Duration> {
    let lines = headers.get_all(header::CACHE_CONTROL).iter();
    let directives = lines.filter_map(|line| line.to_str().ok()).flat_map(|line| line.split(','));
    let mut ages = directives.filter_map(|directive| {
        let (name, value) = directive.trim().split_once('=').unwrap_or((directive.trim(), ""));
        match name.to_ascii_lowercase().as_str() {
            "max-age" => value.trim_matches('"').parse().ok().map(Duration::from_secs),
            "no-store" | "no-cache" => Some(Duration::ZERO),
            _ => None,
        }
    });
    let first = ages.next()?;
    Some(ages.fold(first, Duration::min))
}
