//! A collector: it takes OTLP over gRPC and HTTP, and keeps what it takes.

use std::convert::Infallible;
use std::sync::{Arc, Mutex};

use http_body_util::{BodyExt, Full};
use hyper::body::{Bytes, Incoming};
use hyper::header::HeaderValue;
use hyper::service::service_fn;
use hyper::{HeaderMap, Request as HttpRequest, Response as HttpResponse, StatusCode};
use hyper_util::rt::TokioIo;
use opentelemetry_proto::tonic::collector::metrics::v1::metrics_service_server::{
    MetricsService, MetricsServiceServer,
};
use opentelemetry_proto::tonic::collector::metrics::v1::{
    ExportMetricsServiceRequest, ExportMetricsServiceResponse,
};
use opentelemetry_proto::tonic::collector::trace::v1::trace_service_server::{
    TraceService, TraceServiceServer,
};
use opentelemetry_proto::tonic::collector::trace::v1::{
    ExportTraceServiceRequest, ExportTraceServiceResponse,
};
use opentelemetry_proto::tonic::common::v1::{KeyValue, any_value};
use opentelemetry_proto::tonic::metrics::v1::Metric;
use opentelemetry_proto::tonic::resource::v1::Resource;
use opentelemetry_proto::tonic::trace::v1::Span;
use prost::Message;
use tokio::net::TcpListener;
use tonic::metadata::MetadataValue;
use tonic::transport::Server;
use tonic::transport::server::TcpIncoming;
use tonic::{Request, Response, Status};

/// What a collector took.
#[derive(Debug, Default)]
pub(super) struct Taken {
    /// The header `api-key` of each request.
    pub(super) keys: Vec<Option<String>>,
    pub(super) spans: Vec<Span>,
    /// The metrics of each request.
    pub(super) metrics: Vec<Vec<Metric>>,
    pub(super) resources: Vec<Resource>,
    /// How many of the next requests are refused as unavailable.
    pub(super) refuse: usize,
}

impl Taken {
    /// Takes a request, or refuses it.
    fn admit(&mut self, key: Option<&[u8]>) -> bool {
        self.keys.push(key.map(|key| String::from_utf8(key.to_vec()).unwrap()));
        let refused = self.refuse > 0;
        self.refuse = self.refuse.saturating_sub(1);
        !refused
    }

    fn traces(&mut self, request: ExportTraceServiceRequest) {
        for of_resource in request.resource_spans {
            self.resources.extend(of_resource.resource);
            self.spans.extend(of_resource.scope_spans.into_iter().flat_map(|scope| scope.spans));
        }
    }

    fn metrics(&mut self, request: ExportMetricsServiceRequest) {
        for of_resource in request.resource_metrics {
            self.resources.extend(of_resource.resource);
            let metrics = of_resource.scope_metrics.into_iter().flat_map(|scope| scope.metrics);
            self.metrics.push(metrics.collect());
        }
    }
}

/// A running collector. Clones share what it took.
#[derive(Clone, Debug)]
pub(super) struct Collector {
    /// Its URL.
    pub(super) endpoint: String,
    taken: Arc<Mutex<Taken>>,
}

/// The value of an attribute.
pub(super) fn attribute(attributes: &[KeyValue], name: &str) -> Option<String> {
    let found = attributes.iter().find(|attribute| attribute.key == name)?;
    match found.value.clone()?.value? {
        any_value::Value::StringValue(text) => Some(text),
        other => Some(format!("{other:?}")),
    }
}

impl Collector {
    /// A collector of the protocol `grpc` or `http/protobuf`.
    pub(super) async fn start(protocol: &str) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let endpoint = format!("http://{}", listener.local_addr().unwrap());
        let collector = Self { endpoint, taken: Arc::default() };
        let serving = collector.clone();
        match protocol {
            "grpc" => drop(tokio::spawn(async move {
                Server::builder()
                    .add_service(TraceServiceServer::new(serving.clone()))
                    .add_service(MetricsServiceServer::new(serving))
                    .serve_with_incoming(TcpIncoming::from(listener))
                    .await
                    .unwrap();
            })),
            "http/protobuf" => drop(tokio::spawn(serving.serve_http(listener))),
            other => panic!("{other}"),
        }
        collector
    }

    /// Looks at what it took.
    pub(super) fn look<T>(&self, look: impl FnOnce(&mut Taken) -> T) -> T {
        look(&mut self.taken.lock().unwrap())
    }

    async fn serve_http(self, listener: TcpListener) {
        loop {
            let (stream, _) = listener.accept().await.unwrap();
            let collector = self.clone();
            let answer = service_fn(move |request| collector.clone().answer(request));
            let connection = TokioIo::new(stream);
            tokio::spawn(
                hyper::server::conn::http1::Builder::new().serve_connection(connection, answer),
            );
        }
    }

    async fn answer(
        self,
        request: HttpRequest<Incoming>,
    ) -> Result<HttpResponse<Full<Bytes>>, Infallible> {
        let (parts, body) = request.into_parts();
        let body = body.collect().await.unwrap().to_bytes();
        let headers: &HeaderMap = &parts.headers;
        assert_eq!(headers["content-type"], "application/x-protobuf");
        let key = headers.get("api-key").map(HeaderValue::as_bytes);
        let status = self.look(|taken| {
            if !taken.admit(key) {
                return StatusCode::SERVICE_UNAVAILABLE;
            }
            match parts.uri.path() {
                "/v1/traces" => taken.traces(ExportTraceServiceRequest::decode(body).unwrap()),
                "/v1/metrics" => taken.metrics(ExportMetricsServiceRequest::decode(body).unwrap()),
                _ => return StatusCode::NOT_FOUND,
            }
            StatusCode::OK
        });
        Ok(HttpResponse::builder().status(status).body(Full::default()).unwrap())
    }

    fn admit<T>(&self, request: &Request<T>) -> Result<(), Status> {
        let key = request.metadata().get("api-key").map(MetadataValue::as_bytes);
        let admitted = self.look(|taken| taken.admit(key));
        admitted.then_some(()).ok_or_else(|| Status::unavailable("retry"))
    }
}

#[tonic::async_trait]
impl TraceService for Collector {
    async fn export(
        &self,
        request: Request<ExportTraceServiceRequest>,
    ) -> Result<Response<ExportTraceServiceResponse>, Status> {
        self.admit(&request)?;
        self.look(|taken| taken.traces(request.into_inner()));
        Ok(Response::new(ExportTraceServiceResponse::default()))
    }
}

#[tonic::async_trait]
impl MetricsService for Collector {
    async fn export(
        &self,
        request: Request<ExportMetricsServiceRequest>,
    ) -> Result<Response<ExportMetricsServiceResponse>, Status> {
        self.admit(&request)?;
        self.look(|taken| taken.metrics(request.into_inner()));
        Ok(Response::new(ExportMetricsServiceResponse::default()))
    }
}
