//! Sends the spans that the SDK has collected.

use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
use opentelemetry_proto::transform::common::tonic::ResourceAttributesWithSchema;
use opentelemetry_proto::transform::trace::tonic::group_spans_by_resource_and_scope;
use opentelemetry_sdk::Resource;
use opentelemetry_sdk::error::{OTelSdkError, OTelSdkResult};
use opentelemetry_sdk::trace::{SpanData, SpanExporter};

use super::{Collector, OtlpExport};

/// An exporter of spans. The SDK calls it from a thread of its own, with a bounded queue before it.
#[derive(Debug)]
pub(in crate::telemetry) struct CollectorSpans {
    collector: Collector,
    resource: ResourceAttributesWithSchema,
}

impl CollectorSpans {
    pub(in crate::telemetry) fn new(collector: Collector) -> Self {
        Self { collector, resource: ResourceAttributesWithSchema::default() }
    }
}

impl SpanExporter for CollectorSpans {
    async fn export(&self, batch: Vec<SpanData>) -> OTelSdkResult {
        let resource_spans = group_spans_by_resource_and_scope(batch, &self.resource);
        let request = ExportTraceServiceRequest { resource_spans };
        let sent = self.collector.send(OtlpExport::Traces(request)).await;
        sent.map_err(OTelSdkError::InternalFailure)
    }

    fn set_resource(&mut self, resource: &Resource) {
        self.resource = resource.into();
    }
}
