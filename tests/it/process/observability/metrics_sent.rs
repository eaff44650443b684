//! Metrics over OTLP are those of `/metrics`.

use opentelemetry_proto::tonic::metrics::v1::{Metric, metric, number_data_point};

use super::collector::{Collector, attribute};
use super::{Process, value};
use crate::harness::until_some;

/// A number of a metric with this value of a label.
fn number(metrics: &[Metric], name: &str, label: (&str, &str)) -> Option<i64> {
    let found = metrics.iter().find(|metric| metric.name == name)?;
    let points = match found.data.as_ref()? {
        metric::Data::Sum(sum) => &sum.data_points,
        metric::Data::Gauge(gauge) => &gauge.data_points,
        other => panic!("{other:?}"),
    };
    let has_label = |attributes: &[_]| attribute(attributes, label.0).as_deref() == Some(label.1);
    let point = points.iter().find(|point| has_label(&point.attributes))?;
    match point.value? {
        number_data_point::Value::AsInt(number) => Some(number),
        number_data_point::Value::AsDouble(_) => None,
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn metrics_are_sent_with_the_names_and_numbers_that_are_served() {
    for protocol in ["grpc", "http/protobuf"] {
        let collector = Collector::start(protocol).await;
        let server = Process::start(&[
            ("KEYWARD_TELEMETRY_OTLP_ENDPOINT", &collector.endpoint),
            ("KEYWARD_TELEMETRY_OTLP_PROTOCOL", protocol),
            ("KEYWARD_TELEMETRY_OTLP_METRICS_INTERVAL", "1s"),
        ]);
        for _ in 0..3 {
            server.get_token(None).await;
        }
        let tokens = "keyward_tokens_issued_total";
        let grant = ("grant", "client_credentials");
        let sent = until_some("the tokens are sent", async || {
            let sent = collector.look(|taken| taken.metrics.last().cloned())?;
            (number(&sent, tokens, grant) == Some(3)).then_some(sent)
        })
        .await;
        let scraped = server.metrics().await;
        let issued = r#"keyward_tokens_issued_total{grant="client_credentials"}"#;
        assert_eq!(value(&scraped, issued), Some(3));

        // Each metric that is served with a value is sent, under the name of its samples.
        for sample in scraped.lines().filter(|line| !line.starts_with('#')) {
            let name = sample.split(['{', ' ']).next().unwrap();
            let of_histogram = ["_bucket", "_sum", "_count"];
            let name = of_histogram.iter().find_map(|end| name.strip_suffix(end)).unwrap_or(name);
            // Counted by the exports themselves.
            if name != "keyward_otlp_exports_total" {
                assert!(sent.iter().any(|metric| metric.name == name), "{name} is not sent");
            }
        }
        let durations = sent.iter().find(|m| m.name == "keyward_request_duration_seconds");
        let Some(metric::Data::Histogram(durations)) = &durations.unwrap().data else {
            panic!("{durations:?}")
        };
        let of_tokens = durations.data_points.iter().find(|point| {
            attribute(&point.attributes, "method").as_deref() == Some("/oauth2/token")
        });
        let of_tokens = of_tokens.unwrap();
        assert_eq!((of_tokens.count, of_tokens.bucket_counts.iter().sum::<u64>()), (3, 3));
        assert_eq!(of_tokens.bucket_counts.len(), of_tokens.explicit_bounds.len() + 1);
        assert!(of_tokens.start_time_unix_nano < of_tokens.time_unix_nano);
        server.stop().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn metrics_are_not_sent_by_default_and_the_last_ones_at_the_stop() {
    for (interval, expected) in [("never", 0), ("1h", 1)] {
        let collector = Collector::start("grpc").await;
        let server = Process::start(&[
            ("KEYWARD_TELEMETRY_OTLP_ENDPOINT", &collector.endpoint),
            ("KEYWARD_TELEMETRY_OTLP_METRICS_INTERVAL", interval),
        ]);
        server.get_token(None).await;
        server.stop().await;
        assert_eq!(collector.look(|taken| taken.metrics.len()), expected, "{interval}");
    }
}
