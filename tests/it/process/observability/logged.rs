//! Lines of a request have the ids of its trace, and buckets of durations name one.

use super::collector::Collector;
use super::{Process, SPAN_ID, TRACE_ID, TRACEPARENT, hex, lines};

const ACCESS: (&str, &str) = ("KEYWARD_TELEMETRY_ACCESS_LOG", "true");

/// A level at which requests without a trace have no span.
const STRICT: (&str, &str) = ("KEYWARD_TELEMETRY_LOG", "warn,keyward::cli=info");

#[tokio::test(flavor = "multi_thread")]
async fn lines_of_a_sampled_request_have_its_trace_and_span() {
    let collector = Collector::start("grpc").await;
    let endpoint = ("KEYWARD_TELEMETRY_OTLP_ENDPOINT", collector.endpoint.as_str());
    let server = Process::start(&[endpoint, ACCESS, STRICT]);
    server.get_token(None).await;
    server.get_token(Some(TRACEPARENT)).await;
    let log = server.stop().await;
    let logged = lines(&log, "keyward::access");
    let spans = collector.look(|taken| std::mem::take(&mut taken.spans));
    assert_eq!((logged.len(), spans.len()), (2, 2), "{log}");
    for (line, span) in logged.iter().zip(&spans) {
        assert_eq!(line["trace_id"], hex(&span.trace_id), "{line}");
        assert_eq!(line["span_id"], hex(&span.span_id), "{line}");
    }
    assert_eq!(logged[1]["trace_id"], TRACE_ID, "the caller's trace");
    assert_ne!(logged[1]["span_id"], SPAN_ID, "a span of its own");
}

#[tokio::test(flavor = "multi_thread")]
async fn lines_have_the_callers_ids_without_a_collector() {
    let server = Process::start(&[ACCESS, STRICT]);
    server.get_token(Some(TRACEPARENT)).await;
    server.get_token(None).await;
    server.get_token(Some("00-00000000000000000000000000000000-00f067aa0ba902b7-01")).await;
    // Refusals are lines inside of the request.
    assert_eq!(server.ask("wrong", Some(TRACEPARENT)).await, 401);
    let log = server.stop().await;
    let logged = lines(&log, "keyward::access");
    let ids: Vec<_> = logged.iter().map(|line| (&line["trace_id"], &line["span_id"])).collect();
    let (trace, span, none) = (TRACE_ID.into(), SPAN_ID.into(), serde_json::Value::Null);
    assert_eq!(ids, [(&trace, &span), (&none, &none), (&none, &none), (&trace, &span)]);
    let refused = &lines(&log, "keyward::refused")[0];
    assert_eq!((&refused["trace_id"], &refused["span_id"]), (&trace, &span), "{refused}");
}

#[tokio::test(flavor = "multi_thread")]
async fn buckets_name_a_sampled_trace() {
    let collector = Collector::start("grpc").await;
    let bucket = |metrics: &str| {
        let start = "keyward_request_duration_seconds_bucket{";
        let labels = r#"face="http",method="/oauth2/token"}"#;
        let mut lines =
            metrics.lines().filter(|line| line.starts_with(start) && line.contains(labels));
        lines.find(|line| line.contains(" # {")).map(str::to_owned)
    };
    for (share, named) in [("0", false), ("1", true)] {
        let server = Process::start(&[
            ("KEYWARD_TELEMETRY_OTLP_ENDPOINT", &collector.endpoint),
            ("KEYWARD_TELEMETRY_TRACE_SAMPLING", share),
        ]);
        server.get_token(Some(TRACEPARENT)).await;
        let metrics = server.metrics().await;
        let exemplar = bucket(&metrics);
        assert_eq!(exemplar.is_some(), named, "{share}: {metrics}");
        server.stop().await;
        let Some(exemplar) = exemplar else { continue };
        let (_, exemplar) = exemplar.split_once(" # ").unwrap();
        let span = collector.look(|taken| hex(&taken.spans[0].span_id));
        let labels = format!(r#"{{trace_id="{TRACE_ID}",span_id="{span}"}} "#);
        let rest = exemplar.strip_prefix(labels.as_str());
        let rest = rest.unwrap_or_else(|| panic!("{exemplar}"));
        // The duration and the time.
        let numbers: Vec<f64> = rest.split(' ').map(|number| number.parse().unwrap()).collect();
        assert!(numbers.len() == 2 && numbers[0] > 0.0 && numbers[1] > 1e9, "{exemplar}");
    }
}
