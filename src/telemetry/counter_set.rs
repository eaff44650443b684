//! Counters that are counted where it happens, as one metric with labels. The code that counts has a
//! handle of its own, and looks nothing up.

use prometheus_client::encoding::{EncodeMetric, MetricEncoder};
use prometheus_client::metrics::MetricType;
use prometheus_client::metrics::counter::Counter;

/// The names and values of the labels of one counter.
pub type FixedLabels = Vec<(&'static str, &'static str)>;

/// Counters, each with its labels. The labels must differ.
#[derive(Debug)]
pub(super) struct CounterSet(pub(super) Vec<(FixedLabels, Counter)>);

impl EncodeMetric for CounterSet {
    fn encode(&self, mut encoder: MetricEncoder<'_>) -> Result<(), std::fmt::Error> {
        self.0.iter().try_for_each(|(labels, counter)| {
            let encoder = encoder.encode_family(labels)?;
            counter.encode(encoder)
        })
    }

    fn metric_type(&self) -> MetricType {
        MetricType::Counter
    }
}
