//! OTLP over HTTP/1.1, as binary Protobuf. Each request has a connection of its own, as there are only
//! a few in a minute.

use std::sync::Arc;

use axum::body::Bytes;
use axum::http::{HeaderMap, HeaderValue, Request, StatusCode, Uri, header};
use http_body_util::Full;
use hyper::client::conn::http1::handshake;
use hyper_util::rt::TokioIo;
use prost::Message;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::rustls::crypto::aws_lc_rs;
use tokio_rustls::rustls::pki_types::ServerName;
use tokio_rustls::rustls::{ClientConfig, RootCertStore};

use super::{ExportError, OtlpExport};
use crate::config::OtlpConfig;

/// Where the collector listens.
pub(super) struct HttpLink {
    host: String,
    port: u16,
    authority: HeaderValue,
    /// The path of the endpoint, without a slash at its end.
    path: String,
    tls: Option<(TlsConnector, ServerName<'static>)>,
    headers: HeaderMap,
}

impl std::fmt::Debug for HttpLink {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "HttpLink({}:{}{})", self.host, self.port, self.path)
    }
}

impl HttpLink {
    pub(super) fn new(config: &OtlpConfig) -> Result<Self, String> {
        let wrong = |error: &dyn std::fmt::Display| error.to_string();
        let uri: Uri = config.endpoint.parse().map_err(|error| wrong(&error))?;
        let authority = uri.authority().ok_or("it has no host")?;
        let host = authority.host().trim_matches(['[', ']']).to_owned();
        let is_https = uri.scheme_str() == Some("https");
        let tls = if is_https {
            let name = ServerName::try_from(host.clone()).map_err(|error| wrong(&error))?;
            Some((connector()?, name))
        } else {
            None
        };
        Ok(Self {
            port: authority.port_u16().unwrap_or(if is_https { 443 } else { 80 }),
            authority: authority.as_str().parse().map_err(|error| wrong(&error))?,
            path: uri.path().trim_end_matches('/').to_owned(),
            headers: config.headers.map().clone(),
            host,
            tls,
        })
    }

    pub(super) async fn send(&self, export: &OtlpExport) -> Result<(), ExportError> {
        let (signal, body) = match export {
            OtlpExport::Traces(message) => ("traces", message.encode_to_vec()),
            OtlpExport::Metrics(message) => ("metrics", message.encode_to_vec()),
        };
        let request = self.request(signal, body)?;
        let stream = TcpStream::connect((self.host.as_str(), self.port)).await;
        let stream = stream.map_err(ExportError::temporary)?;
        let status = match &self.tls {
            Some((connector, name)) => {
                let stream = connector.connect(name.clone(), stream).await;
                post(stream.map_err(ExportError::temporary)?, request).await?
            }
            None => post(stream, request).await?,
        };
        let cause = format!("the collector answers {status}");
        match status {
            status if status.is_success() => Ok(()),
            StatusCode::TOO_MANY_REQUESTS
            | StatusCode::BAD_GATEWAY
            | StatusCode::SERVICE_UNAVAILABLE
            | StatusCode::GATEWAY_TIMEOUT => Err(ExportError::temporary(cause)),
            _ => Err(ExportError::lasting(cause)),
        }
    }

    fn request(&self, signal: &str, body: Vec<u8>) -> Result<Request<Full<Bytes>>, ExportError> {
        let mut request = Request::post(format!("{}/v1/{signal}", self.path))
            .body(Full::new(Bytes::from(body)))
            .map_err(ExportError::lasting)?;
        let headers = request.headers_mut();
        headers.extend(self.headers.clone());
        headers.insert(header::HOST, self.authority.clone());
        let kind = HeaderValue::from_static("application/x-protobuf");
        headers.insert(header::CONTENT_TYPE, kind);
        Ok(request)
    }
}

/// The status of the answer. Its body is not read.
async fn post(
    stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static,
    request: Request<Full<Bytes>>,
) -> Result<StatusCode, ExportError> {
    let (mut sender, connection) =
        handshake(TokioIo::new(stream)).await.map_err(ExportError::temporary)?;
    let ended = || ExportError::temporary("the collector closed the connection");
    tokio::select! {
        biased;
        answer = sender.send_request(request) => {
            answer.map(|response| response.status()).map_err(ExportError::temporary)
        }
        outcome = connection => Err(outcome.map_or_else(ExportError::temporary, |()| ended())),
    }
}

/// TLS with the authorities that this machine trusts.
fn connector() -> Result<TlsConnector, String> {
    let mut roots = RootCertStore::empty();
    roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
    let config = ClientConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()))
        .with_safe_default_protocol_versions()
        .map_err(|error| error.to_string())?
        .with_root_certificates(roots)
        .with_no_client_auth();
    Ok(TlsConnector::from(Arc::new(config)))
}
