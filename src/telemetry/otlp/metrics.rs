//! Metrics over OTLP: the text of `/metrics` as messages, so that both have the same names, labels and
//! numbers. The SDK takes no metrics of another registry.

use std::collections::BTreeMap;

use jiff::Timestamp;
use opentelemetry_proto::tonic::collector::metrics::v1::ExportMetricsServiceRequest;
use opentelemetry_proto::tonic::common::v1::{AnyValue, InstrumentationScope, KeyValue, any_value};
use opentelemetry_proto::tonic::metrics::v1::{
    AggregationTemporality, Gauge, Histogram, HistogramDataPoint, Metric, NumberDataPoint,
    ResourceMetrics, ScopeMetrics, Sum, metric, number_data_point,
};
use opentelemetry_proto::tonic::resource::v1::Resource;
use opentelemetry_proto::transform::common::tonic::ResourceAttributesWithSchema;

use super::{Collector, OtlpExport, OtlpProcess};
use crate::config::OtlpConfig;

/// Sends the metrics of this process.
#[derive(Debug)]
pub struct MetricsExport {
    collector: Collector,
    resource: Resource,
    started_at: Timestamp,
}

impl MetricsExport {
    /// `started_at` is when counters began at 0.
    pub fn new(
        config: &OtlpConfig,
        process: &OtlpProcess,
        started_at: Timestamp,
    ) -> Result<Self, String> {
        let attributes = ResourceAttributesWithSchema::from(&process.resource()).attributes.0;
        let resource = Resource { attributes, ..Resource::default() };
        Ok(Self { collector: Collector::new(config, process)?, resource, started_at })
    }

    /// Sends metrics in the `OpenMetrics` text format, as they are at this time. A failure is logged
    /// and counted; the next export has the same counters.
    pub async fn send(&self, text: &str, now: Timestamp) {
        let metrics = Families::parse(text).metrics((nanos(self.started_at), nanos(now)));
        let scope = InstrumentationScope {
            name: "keyward".to_owned(),
            version: env!("CARGO_PKG_VERSION").to_owned(),
            ..InstrumentationScope::default()
        };
        let scope_metrics = ScopeMetrics { scope: Some(scope), metrics, schema_url: String::new() };
        let resource_metrics = vec![ResourceMetrics {
            resource: Some(self.resource.clone()),
            scope_metrics: vec![scope_metrics],
            schema_url: String::new(),
        }];
        let request = ExportMetricsServiceRequest { resource_metrics };
        self.collector.send(OtlpExport::Metrics(request)).await.ok();
    }
}

fn nanos(moment: Timestamp) -> u64 {
    u64::try_from(moment.as_nanosecond()).unwrap_or_default()
}

type Labels = Vec<(String, String)>;

/// A family of metrics in the text.
#[derive(Debug, Default)]
struct TextFamily<'a> {
    name: &'a str,
    kind: &'a str,
    help: &'a str,
    samples: Vec<TextSample<'a>>,
}

/// One line of values.
#[derive(Debug)]
struct TextSample<'a> {
    name: &'a str,
    labels: Labels,
    value: &'a str,
}

#[derive(Debug)]
struct Families<'a>(Vec<TextFamily<'a>>);

impl<'a> Families<'a> {
    /// Reads what `Metrics::encode` writes.
    fn parse(text: &'a str) -> Self {
        let mut families: Vec<TextFamily<'a>> = Vec::new();
        for line in text.lines() {
            if let Some(rest) = line.strip_prefix("# HELP ") {
                let (name, help) = rest.split_once(' ').unwrap_or((rest, ""));
                families.push(TextFamily { name, help, ..TextFamily::default() });
            } else if let (Some(rest), Some(family)) =
                (line.strip_prefix("# TYPE "), families.last_mut())
            {
                family.kind = rest.split_once(' ').map_or("", |(_, kind)| kind);
            } else if let (Some(sample), Some(family)) = (sample(line), families.last_mut()) {
                family.samples.push(sample);
            }
        }
        Self(families)
    }

    fn metrics(self, times: (u64, u64)) -> Vec<Metric> {
        self.0.into_iter().filter_map(|family| family.metric(times)).collect()
    }
}

/// Reads a line of values: `name{label="value"} 1 # exemplar`.
fn sample(line: &str) -> Option<TextSample<'_>> {
    if line.starts_with('#') {
        return None;
    }
    let end = line.find(['{', ' '])?;
    let (name, mut rest) = line.split_at(end);
    let mut labels = Labels::new();
    if let Some(inside) = rest.strip_prefix('{') {
        rest = inside;
        while let Some((label, after)) = rest.split_once("=\"") {
            let (value, after) = quoted(after)?;
            labels.push((label.trim_start_matches(',').to_owned(), value));
            rest = after;
            if let Some(after) = rest.strip_prefix('}') {
                rest = after;
                break;
            }
        }
    }
    let value = rest.split_whitespace().next()?;
    Some(TextSample { name, labels, value })
}

/// A value up to its closing quote, and the rest.
fn quoted(text: &str) -> Option<(String, &str)> {
    let mut value = String::new();
    let mut characters = text.char_indices();
    while let Some((at, character)) = characters.next() {
        match character {
            '"' => return Some((value, &text[at + 1..])),
            '\\' => match characters.next()?.1 {
                'n' => value.push('\n'),
                escaped => value.push(escaped),
            },
            character => value.push(character),
        }
    }
    None
}

impl TextFamily<'_> {
    /// The metric, under the name that its samples have.
    fn metric(self, times: (u64, u64)) -> Option<Metric> {
        let name = match self.kind {
            "histogram" => self.name,
            _ => self.samples.first()?.name,
        };
        let (name, description) = (name.to_owned(), self.help.trim_end_matches('.').to_owned());
        let cumulative = AggregationTemporality::Cumulative.into();
        let data = match self.kind {
            "histogram" => metric::Data::Histogram(Histogram {
                data_points: self.histogram_points(times)?,
                aggregation_temporality: cumulative,
            }),
            "counter" => metric::Data::Sum(Sum {
                data_points: self.number_points(times),
                aggregation_temporality: cumulative,
                is_monotonic: true,
            }),
            _ => metric::Data::Gauge(Gauge { data_points: self.number_points((0, times.1)) }),
        };
        Some(Metric { name, description, data: Some(data), ..Metric::default() })
    }

    fn number_points(&self, (started_at, now): (u64, u64)) -> Vec<NumberDataPoint> {
        let point = |sample: &TextSample<'_>| {
            let value = match sample.value.parse() {
                Ok(whole) => number_data_point::Value::AsInt(whole),
                Err(_) => number_data_point::Value::AsDouble(sample.value.parse().ok()?),
            };
            Some(NumberDataPoint {
                attributes: attributes(&sample.labels),
                start_time_unix_nano: started_at,
                time_unix_nano: now,
                value: Some(value),
                ..NumberDataPoint::default()
            })
        };
        self.samples.iter().filter_map(point).collect()
    }

    /// The text counts what is at most a bound; OTLP what is between two bounds.
    fn histogram_points(&self, (started_at, now): (u64, u64)) -> Option<Vec<HistogramDataPoint>> {
        let mut points: BTreeMap<Labels, HistogramDataPoint> = BTreeMap::new();
        for TextSample { name, labels, value } in &self.samples {
            let (bounds, labels): (Vec<_>, Labels) =
                labels.iter().cloned().partition(|(label, _)| label == "le");
            let point = points.entry(labels).or_insert_with_key(|labels| HistogramDataPoint {
                attributes: attributes(labels),
                start_time_unix_nano: started_at,
                time_unix_nano: now,
                ..HistogramDataPoint::default()
            });
            match name.strip_prefix(self.name)? {
                "_sum" => point.sum = value.parse().ok(),
                "_count" => point.count = value.parse().ok()?,
                _ => {
                    let below: u64 = point.bucket_counts.iter().sum();
                    let within: u64 = value.parse().ok()?;
                    point.bucket_counts.push(within.saturating_sub(below));
                    let bound = bounds.first().map(|(_, bound)| bound.as_str());
                    let bound: f64 = bound?.trim_start_matches('+').parse().ok()?;
                    if bound.is_finite() {
                        point.explicit_bounds.push(bound);
                    }
                }
            }
        }
        Some(points.into_values().collect())
    }
}

fn attributes(labels: &[(String, String)]) -> Vec<KeyValue> {
    let attribute = |(key, value): &(String, String)| KeyValue {
        key: key.clone(),
        value: Some(AnyValue { value: Some(any_value::Value::StringValue(value.clone())) }),
        ..KeyValue::default()
    };
    labels.iter().map(attribute).collect()
}

#[cfg(test)]
mod tests {
    use prometheus_client::metrics::counter::Counter;
    use prometheus_client::metrics::exemplar::HistogramWithExemplars;
    use prometheus_client::metrics::family::Family;
    use prometheus_client::metrics::gauge::Gauge as TextGauge;
    use prometheus_client::registry::Registry;

    use super::*;

    type StringLabels = Vec<(String, String)>;

    fn labelled(value: &str) -> StringLabels {
        vec![("what".to_owned(), value.to_owned())]
    }

    #[test]
    fn text_of_the_registry_becomes_the_same_numbers() {
        let mut registry = Registry::with_prefix("keyward");
        let counters = Family::<StringLabels, Counter>::default();
        registry.register("things", "Things", counters.clone());
        counters.get_or_create(&labelled("odd \" \\ \n, } value")).inc_by(7);
        let gauge = TextGauge::<f64, std::sync::atomic::AtomicU64>::default();
        registry.register("age_seconds", "An age", gauge.clone());
        gauge.set(1.5);
        let durations = HistogramWithExemplars::<StringLabels>::new([0.1, 1.0].into_iter());
        registry.register("duration_seconds", "A duration", durations.clone());
        for seconds in [0.05, 0.5, 0.6, 3.0] {
            durations.observe(seconds, Some(labelled("trace")), None);
        }
        let mut text = String::new();
        prometheus_client::encoding::text::encode(&mut text, &registry).unwrap();

        let metrics = Families::parse(&text).metrics((1, 2));
        let names: Vec<_> = metrics.iter().map(|metric| metric.name.as_str()).collect();
        let expected = ["keyward_things_total", "keyward_age_seconds", "keyward_duration_seconds"];
        assert_eq!(names, expected, "{text}");
        let [Some(metric::Data::Sum(things)), Some(metric::Data::Gauge(age)), Some(data)] =
            [0, 1, 2].map(|n| metrics[n].data.clone())
        else {
            panic!("{metrics:?}")
        };
        let metric::Data::Histogram(durations) = data else { panic!("{metrics:?}") };
        let thing = &things.data_points[0];
        assert!(things.is_monotonic);
        assert_eq!(thing.value, Some(number_data_point::Value::AsInt(7)));
        assert_eq!((thing.start_time_unix_nano, thing.time_unix_nano), (1, 2));
        assert_eq!(thing.attributes, attributes(&labelled("odd \" \\ \n, } value")));
        let age = age.data_points[0].value;
        assert_eq!(age, Some(number_data_point::Value::AsDouble(1.5)));
        let duration = &durations.data_points[0];
        assert_eq!(duration.explicit_bounds, [0.1, 1.0]);
        assert_eq!((duration.bucket_counts.as_slice(), duration.count), ([1, 2, 1].as_slice(), 4));
        assert!((duration.sum.unwrap() - 4.15).abs() < 1e-9);
    }
}
