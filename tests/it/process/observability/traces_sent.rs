//! Traces reach a collector over gRPC and HTTP, and a collector that is away costs nothing.

use tokio::net::TcpListener;

use super::collector::{Collector, attribute};
use super::{Process, SPAN_ID, TRACE_ID, TRACEPARENT, hex, lines, value};
use crate::harness::{in_time, until};

#[tokio::test(flavor = "multi_thread")]
async fn spans_reach_the_collector_over_each_protocol() {
    for protocol in ["grpc", "http/protobuf"] {
        let collector = Collector::start(protocol).await;
        let server = Process::start(&[
            ("KEYWARD_TELEMETRY_OTLP_ENDPOINT", &collector.endpoint),
            ("KEYWARD_TELEMETRY_OTLP_PROTOCOL", protocol),
            ("KEYWARD_TELEMETRY_OTLP_HEADERS", "api-key=a%20secret"),
            ("OTEL_RESOURCE_ATTRIBUTES", "deployment.environment.name=test"),
        ]);
        server.get_token(Some(TRACEPARENT)).await;
        server.stop().await;
        collector.look(|taken| {
            let span = taken.spans.iter().find(|span| hex(&span.trace_id) == TRACE_ID);
            let span = span.unwrap_or_else(|| panic!("{protocol}: {taken:?}"));
            assert_eq!(span.name, "/oauth2/token");
            assert_eq!(hex(&span.parent_span_id), SPAN_ID);
            assert_eq!(attribute(&span.attributes, "code").as_deref(), Some("200"));
            assert!(taken.keys.iter().all(|key| key.as_deref() == Some("a secret")), "{taken:?}");
            let of = |name| attribute(&taken.resources[0].attributes, name);
            assert_eq!(of("service.name").as_deref(), Some("keyward"));
            assert_eq!(of("service.version").as_deref(), Some(env!("CARGO_PKG_VERSION")));
            assert_eq!(of("deployment.environment.name").as_deref(), Some("test"));
            assert!(of("service.instance.id").is_some_and(|id| id.len() == 32));
        });
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn standard_variables_select_the_collector() {
    let (ours, others) = (Collector::start("http/protobuf").await, Collector::start("grpc").await);
    let standard = [
        ("OTEL_EXPORTER_OTLP_ENDPOINT", ours.endpoint.as_str()),
        ("OTEL_EXPORTER_OTLP_PROTOCOL", "http/protobuf"),
        ("OTEL_EXPORTER_OTLP_HEADERS", "api-key=standard"),
        ("OTEL_EXPORTER_OTLP_TIMEOUT", "5000"),
        ("OTEL_SERVICE_NAME", "keyward-eu"),
    ];
    let server = Process::start(&standard);
    server.get_token(None).await;
    server.stop().await;
    ours.look(|taken| {
        assert_eq!(taken.keys.first(), Some(&Some("standard".to_owned())));
        let name = attribute(&taken.resources[0].attributes, "service.name");
        assert_eq!(name.as_deref(), Some("keyward-eu"));
        taken.spans.clear();
    });

    // Keyward's own variables take precedence.
    let own = [
        ("KEYWARD_TELEMETRY_OTLP_ENDPOINT", others.endpoint.as_str()),
        ("KEYWARD_TELEMETRY_OTLP_PROTOCOL", "grpc"),
    ];
    let server = Process::start(&[&standard[..], &own].concat());
    server.get_token(None).await;
    server.stop().await;
    assert!(ours.look(|taken| taken.spans.is_empty()));
    assert!(!others.look(|taken| taken.spans.is_empty()));
}

#[tokio::test(flavor = "multi_thread")]
async fn export_is_tried_again_while_the_collector_is_unavailable() {
    for protocol in ["grpc", "http/protobuf"] {
        let collector = Collector::start(protocol).await;
        collector.look(|taken| taken.refuse = 2);
        let server = Process::start(&[
            ("KEYWARD_TELEMETRY_OTLP_ENDPOINT", &collector.endpoint),
            ("KEYWARD_TELEMETRY_OTLP_PROTOCOL", protocol),
        ]);
        server.get_token(Some(TRACEPARENT)).await;
        let log = server.stop().await;
        collector.look(|taken| {
            assert_eq!(taken.keys.len(), 3, "{protocol}: two refused, one taken");
            assert_eq!(taken.spans.len(), 1, "{protocol}: {taken:?}");
        });
        assert!(!log.contains("takes no traces"), "nothing was lost: {log}");
    }
}

/// A collector that accepts connections and never answers.
#[tokio::test(flavor = "multi_thread")]
async fn silent_collector_delays_neither_requests_nor_the_stop() {
    for protocol in ["grpc", "http/protobuf"] {
        let silent = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let endpoint = format!("http://{}", silent.local_addr().unwrap());
        let server = Process::start(&[
            ("KEYWARD_TELEMETRY_OTLP_ENDPOINT", &endpoint),
            ("KEYWARD_TELEMETRY_OTLP_PROTOCOL", protocol),
            // Longer than anything waits: only the bound of the stop can end it.
            ("KEYWARD_TELEMETRY_OTLP_TIMEOUT", "1m"),
            ("KEYWARD_TELEMETRY_OTLP_METRICS_INTERVAL", "1s"),
        ]);
        in_time("requests are answered", async {
            for _ in 0..20 {
                server.get_token(None).await;
            }
        })
        .await;
        // Metrics are sent first, so an export is under way.
        in_time("an export begins", silent.accept()).await.unwrap();
        let log = in_time("the server stops", server.stop()).await;
        assert!(log.contains("the last traces could not be sent"), "{protocol}: {log}");
        assert!(log.contains("the last metrics could not be sent"), "{protocol}: {log}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn lost_exports_are_counted_and_logged_once() {
    let closed = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let endpoint = format!("http://{}", closed.local_addr().unwrap());
    drop(closed);
    let server = Process::start(&[
        ("KEYWARD_TELEMETRY_OTLP_ENDPOINT", &endpoint),
        ("KEYWARD_TELEMETRY_OTLP_PROTOCOL", "http/protobuf"),
        ("KEYWARD_TELEMETRY_OTLP_TIMEOUT", "100ms"),
        ("KEYWARD_TELEMETRY_OTLP_METRICS_INTERVAL", "1s"),
    ]);
    let failed = r#"keyward_otlp_exports_total{signal="metrics",result="failed"}"#;
    until("two exports fail", async || value(&server.metrics().await, failed) >= Some(2_u64)).await;
    let log = server.stop().await;
    let logged = log.lines().filter(|line| line.contains("takes no traces or metrics")).count();
    assert_eq!(logged, 1, "{log}");
    assert!(!lines(&log, "keyward::error").is_empty(), "with the cause: {log}");
}
