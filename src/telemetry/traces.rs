//! Traces, exported over OTLP. They continue the callers' traces.

use std::hash::{BuildHasher, RandomState};

use axum::http::HeaderMap;
use opentelemetry::propagation::{Extractor, TextMapPropagator};
use opentelemetry::trace::{Link, SpanKind, TraceContextExt, TraceId};
use opentelemetry::{Context, KeyValue};
use opentelemetry_sdk::propagation::TraceContextPropagator;
use opentelemetry_sdk::trace::{
    Sampler, SamplingDecision, SamplingResult, SdkTracerProvider, ShouldSample,
};

use super::TelemetryError;
use super::otlp::{Collector, CollectorSpans, OtlpProcess};
use crate::config::{OtlpConfig, TraceSampling};

/// The maximum length of trace headers: the length of `tracestate` that W3C Trace Context requires
/// participants to propagate.
const MAX_HEADER: usize = 512;

pub(super) fn provider(
    config: &OtlpConfig,
    process: &OtlpProcess,
    sampling: TraceSampling,
) -> Result<SdkTracerProvider, TelemetryError> {
    let collector = Collector::new(config, process).map_err(TelemetryError::Otlp)?;
    let exporter = CollectorSpans::new(collector);
    let provider = SdkTracerProvider::builder().with_batch_exporter(exporter);
    let provider = match sampling {
        TraceSampling::Always => provider.with_sampler(Sampler::AlwaysOn),
        TraceSampling::Share(share) => provider.with_sampler(Share::new(share)),
        TraceSampling::Caller => {
            provider.with_sampler(Sampler::ParentBased(Box::new(Sampler::AlwaysOn)))
        }
    };
    Ok(provider.with_resource(process.resource()).build())
}

/// Samples a share of the traces. The SDK's sampler decides by the trace id, which clients choose.
/// This one decides by a keyed hash of it.
#[derive(Clone, Debug)]
struct Share {
    /// The threshold, as a part of 2^64.
    below: u64,
    keys: RandomState,
}

impl Share {
    fn new(share: f64) -> Self {
        #[expect(
            clippy::cast_possible_truncation,
            clippy::cast_precision_loss,
            clippy::cast_sign_loss,
            reason = "the share is between 0 and 1, and the cast saturates"
        )]
        let below = (share * u64::MAX as f64) as u64;
        Self { below, keys: RandomState::new() }
    }
}

impl ShouldSample for Share {
    fn should_sample(
        &self,
        parent: Option<&Context>,
        trace: TraceId,
        _name: &str,
        _kind: &SpanKind,
        _attributes: &[KeyValue],
        _links: &[Link],
    ) -> SamplingResult {
        let sampled = self.keys.hash_one(trace.to_bytes()) < self.below;
        let decision =
            if sampled { SamplingDecision::RecordAndSample } else { SamplingDecision::Drop };
        let state = parent.map(|parent| parent.span().span_context().trace_state().clone());
        SamplingResult { decision, attributes: Vec::new(), trace_state: state.unwrap_or_default() }
    }
}

/// The parent trace of a request, if the caller sent one (W3C Trace Context).
pub(super) fn parent(headers: &HeaderMap) -> Option<Context> {
    let sent = headers.contains_key("traceparent");
    sent.then(|| TraceContextPropagator::new().extract(&Headers(headers)))
}

struct Headers<'a>(&'a HeaderMap);

impl Extractor for Headers<'_> {
    fn get(&self, key: &str) -> Option<&str> {
        let value = self.0.get(key)?.to_str().ok()?;
        // The value is kept in memory until its span is exported.
        (value.len() <= MAX_HEADER).then_some(value)
    }

    fn keys(&self) -> Vec<&str> {
        self.0.keys().map(axum::http::HeaderName::as_str).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sampled(share: f64, sampler: Option<&Share>) -> usize {
        let own = Share::new(share);
        let sampler = sampler.unwrap_or(&own);
        let decisions = (0..10_000_u128).map(|id| {
            let id = TraceId::from(id + 1);
            sampler.should_sample(None, id, "", &SpanKind::Server, &[], &[]).decision
        });
        decisions.filter(|decision| *decision == SamplingDecision::RecordAndSample).count()
    }

    #[test]
    fn share_of_traces_is_sampled_for_any_ids() {
        // A sampler that compares ids would sample all or none of these small ids.
        let some = sampled(0.1, None);
        assert!((500..2000).contains(&some), "{some}");
        assert_eq!(sampled(0.0, None), 0);
        assert_eq!(sampled(1.0, None), 10_000);
        let one = Share::new(0.5);
        assert_eq!(sampled(0.5, Some(&one)), sampled(0.5, Some(&one)), "the decision is per trace");
    }
}
