//! Traces are exported over OTLP as part of the caller's trace, and contain no secrets.

use std::convert::Infallible;

use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper::{Request, Response};
use hyper_util::rt::{TokioExecutor, TokioIo};
use hyper_util::server::conn::auto::Builder;
use tempfile::TempDir;
use tokio::net::TcpListener;
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};

use super::binary::{Finished, Serving, exported, keyward};

const TRACE_ID: [u8; 16] = [
    0x4b, 0xf9, 0x2f, 0x35, 0x77, 0xb3, 0x4d, 0xa6, 0xa3, 0xce, 0x92, 0x9d, 0x0e, 0x0e, 0x47, 0x36,
];

/// A collector that passes on the bytes of every export.
async fn collect(listener: TcpListener, exports: UnboundedSender<Vec<u8>>) {
    loop {
        let (stream, _) = listener.accept().await.unwrap();
        let exports = exports.clone();
        tokio::spawn(async move {
            let take = service_fn(move |request: Request<Incoming>| {
                let exports = exports.clone();
                async move {
                    assert!(request.uri().path().ends_with("TraceService/Export"));
                    let body = request.into_body().collect().await.unwrap().to_bytes();
                    exports.send(body.to_vec()).ok();
                    let answer = Response::builder()
                        .header("content-type", "application/grpc")
                        .header("grpc-status", "0")
                        .body(Full::<bytes::Bytes>::default());
                    Ok::<_, Infallible>(answer.unwrap())
                }
            });
            let connection = TokioIo::new(stream);
            Builder::new(TokioExecutor::new()).serve_connection(connection, take).await.ok();
        });
    }
}

/// Starts a collector. Returns its URL and the exports that it receives.
async fn collector() -> (String, UnboundedReceiver<Vec<u8>>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let endpoint = format!("http://{}", listener.local_addr().unwrap());
    let (exports, exported) = unbounded_channel();
    tokio::spawn(collect(listener, exports));
    (endpoint, exported)
}

fn contains(bytes: &[u8], part: &[u8]) -> bool {
    bytes.windows(part.len()).any(|window| window == part)
}

#[tokio::test(flavor = "multi_thread")]
async fn request_span_belongs_to_callers_trace() {
    let (endpoint, mut exported_spans) = collector().await;
    let folder = TempDir::new().unwrap();
    let path = folder.path().to_str().unwrap().to_owned();
    let printed = Finished::of(&mut keyward(["bootstrap", "--data-dir", &path])).worked();
    let (id, secret) =
        (exported(&printed, "KEYWARD_CLIENT_ID"), exported(&printed, "KEYWARD_CLIENT_SECRET"));
    let file = folder.path().join("keyward.toml");
    std::fs::write(
        &file,
        format!("[telemetry]\nlog = \"debug\"\notlp_endpoint = \"{endpoint}\"\n"),
    )
    .unwrap();
    let serving = Serving::start(&["--data-dir", &path, "--config", file.to_str().unwrap()]);

    let answer = reqwest::Client::new()
        .post(format!("{}/oauth2/token", serving.http))
        .header("traceparent", "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01")
        .basic_auth(id, Some(secret))
        .form(&[("grant_type", "client_credentials")])
        .send()
        .await
        .unwrap();
    assert_eq!(answer.status(), 200);
    let token = answer.text().await.unwrap();

    // The server sends the remaining spans when it stops.
    let log = tokio::task::spawn_blocking(move || serving.stop_with_log("-TERM")).await.unwrap();
    let mut spans = Vec::new();
    while let Ok(export) = exported_spans.try_recv() {
        spans.extend(export);
    }
    assert!(contains(&spans, &TRACE_ID), "the caller's trace");
    assert!(contains(&spans, b"/oauth2/token") && contains(&spans, b"keyward"));
    let token = token.split('"').find(|part| part.starts_with("eyJ")).unwrap();
    for secret in [secret, token] {
        assert!(!contains(&spans, secret.as_bytes()), "a secret in a trace");
        assert!(!log.contains(secret), "a secret in the log");
    }
    assert!(log.contains("/oauth2/token"), "the log has the path: {log}");
}

/// All exports for requests with these `traceparent` headers.
async fn spans_of(sampling: Option<&str>, parents: &[&str], state: &str) -> Vec<u8> {
    let (endpoint, mut exported) = collector().await;
    let folder = TempDir::new().unwrap();
    let path = folder.path().to_str().unwrap();
    let file = folder.path().join("keyward.toml");
    let mut settings = format!("[telemetry]\notlp_endpoint = \"{endpoint}\"\n");
    settings.extend(sampling.map(|sampling| format!("trace_sampling = \"{sampling}\"\n")));
    std::fs::write(&file, settings).unwrap();
    let serving = Serving::start(&["--data-dir", path, "--config", file.to_str().unwrap()]);
    for parent in parents {
        let url = format!("{}/oauth2/jwks", serving.http);
        let request = reqwest::Client::new().get(url).header("traceparent", *parent);
        let answer = request.header("tracestate", state).send().await.unwrap();
        assert_eq!(answer.status(), 200);
    }
    tokio::task::spawn_blocking(move || serving.stop("-TERM")).await.unwrap();
    let mut spans = Vec::new();
    while let Ok(export) = exported.try_recv() {
        spans.extend(export);
    }
    spans
}

#[tokio::test(flavor = "multi_thread")]
async fn callers_sampling_flag_applies_only_if_configured() {
    const UNSAMPLED: &str = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-00";
    const SAMPLED: &str = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";
    for (sampling, parent, sent) in [
        (None, UNSAMPLED, true),
        (None, SAMPLED, true),
        (Some("always"), UNSAMPLED, true),
        (Some("1"), UNSAMPLED, true),
        (Some("0"), SAMPLED, false),
        (Some("caller"), UNSAMPLED, false),
        (Some("caller"), SAMPLED, true),
    ] {
        let spans = spans_of(sampling, &[parent], "a=b").await;
        assert_eq!(contains(&spans, &TRACE_ID), sent, "{sampling:?} {parent}");
    }
}

/// The sampler of OpenTelemetry's SDK decides by the last bytes of the trace id, so callers could
/// choose what is sampled.
#[tokio::test(flavor = "multi_thread")]
async fn callers_trace_id_does_not_affect_sampling() {
    let ids = |end: &str| {
        let parents = (1..=64).map(|n| format!("00-{n:016x}{end}-00f067aa0ba902b7-01"));
        parents.collect::<Vec<_>>()
    };
    for end in ["ffffffffffffffff", "0000000000000001"] {
        let parents = ids(end);
        let parents: Vec<_> = parents.iter().map(String::as_str).collect();
        let spans = spans_of(Some("0.5"), &parents, "a=b").await;
        let sent = (1..=64_u64).filter(|n| {
            let id = [
                n.to_be_bytes().to_vec(),
                u64::from_str_radix(end, 16).unwrap().to_be_bytes().to_vec(),
            ];
            contains(&spans, &id.concat())
        });
        // With random sampling, all or none of 64 has a probability of 2^-63.
        assert!((1..64).contains(&sent.count()), "{end}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn long_tracestate_of_caller_is_dropped() {
    const PARENT: &str = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";
    let long = format!("vendor={}", "x".repeat(250));
    let longer = (0..16).map(|n| format!("v{n}={}", "y".repeat(250))).collect::<Vec<_>>().join(",");
    let spans = spans_of(None, &[PARENT], &long).await;
    assert!(contains(&spans, &TRACE_ID) && contains(&spans, b"vendor=xxx"));
    let spans = spans_of(None, &[PARENT], &longer).await;
    assert!(contains(&spans, &TRACE_ID) && !contains(&spans, b"yyyy"));
}
