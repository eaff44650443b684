//! OTLP over gRPC.

use opentelemetry_proto::tonic::collector::metrics::v1::metrics_service_client::MetricsServiceClient;
use opentelemetry_proto::tonic::collector::trace::v1::trace_service_client::TraceServiceClient;
use tonic::metadata::MetadataMap;
use tonic::transport::{Channel, ClientTlsConfig, Endpoint};
use tonic::{Code, Request, Status};

use super::{ExportError, OtlpExport};
use crate::config::OtlpConfig;

/// A channel to the collector, which connects at the first request.
#[derive(Debug)]
pub(super) struct GrpcLink {
    channel: Channel,
    headers: MetadataMap,
}

impl GrpcLink {
    pub(super) fn new(config: &OtlpConfig) -> Result<Self, String> {
        let endpoint = Endpoint::from_shared(config.endpoint.clone());
        let mut endpoint = endpoint.map_err(|error| error.to_string())?;
        if endpoint.uri().scheme_str() == Some("https") {
            let tls = ClientTlsConfig::new().with_native_roots();
            endpoint = endpoint.tls_config(tls).map_err(|error| error.to_string())?;
        }
        Ok(Self {
            channel: endpoint.connect_timeout(config.timeout).connect_lazy(),
            headers: MetadataMap::from_headers(config.headers.map().clone()),
        })
    }

    pub(super) async fn send(&self, export: OtlpExport) -> Result<(), ExportError> {
        let channel = self.channel.clone();
        let outcome = match export {
            OtlpExport::Traces(message) => {
                let request = self.request(message);
                TraceServiceClient::new(channel).export(request).await.map(drop)
            }
            OtlpExport::Metrics(message) => {
                let request = self.request(message);
                MetricsServiceClient::new(channel).export(request).await.map(drop)
            }
        };
        outcome.map_err(|status| error(&status))
    }

    fn request<T>(&self, message: T) -> Request<T> {
        let mut request = Request::new(message);
        *request.metadata_mut() = self.headers.clone();
        request
    }
}

/// The specification of OTLP says which codes are worth another attempt. `RESOURCE_EXHAUSTED` is only
/// if the collector says when, so it is not here.
fn error(status: &Status) -> ExportError {
    let cause = format!("{:?}: {}", status.code(), status.message());
    match status.code() {
        Code::Cancelled
        | Code::DeadlineExceeded
        | Code::Aborted
        | Code::OutOfRange
        | Code::Unavailable
        | Code::DataLoss => ExportError::temporary(cause),
        _ => ExportError::lasting(cause),
    }
}
