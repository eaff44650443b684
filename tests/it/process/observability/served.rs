//! The table of metrics in `deploy/README.md` is what servers export: each metric with its type, its
//! labels and their values, in both directions.

use std::collections::{BTreeMap, BTreeSet};

use keyward::proto::admin as pb;
use keyward::proto::admin::RotateSigningKeyRequest;
use keyward::proto::errors::ErrorReason;
use tempfile::TempDir;
use tokio::net::TcpStream;

use super::Process;
use super::collector::Collector;
use crate::architecture::rust_files;
use crate::documents::{read, root};
use crate::harness::{Backend, Keyward, RedisServer, mask, until};
use crate::metrics_table::{MetricRow, rows};

/// What a server exports of a metric.
#[derive(Debug, Default)]
struct Served {
    kind: String,
    /// Of each label, the values.
    labels: BTreeMap<String, BTreeSet<String>>,
}

async fn scraped(url: String) -> String {
    reqwest::get(url).await.unwrap().text().await.unwrap()
}

/// Adds the metrics of a text, under the names that their samples have.
fn add(text: &str, served: &mut BTreeMap<String, Served>) {
    let mut kind = String::new();
    for line in text.lines() {
        if let Some(rest) = line.strip_prefix("# TYPE ") {
            rest.split(' ').nth(1).unwrap().clone_into(&mut kind);
        }
        if line.starts_with('#') {
            continue;
        }
        let line = line.split(" # ").next().unwrap();
        let (name, labels) = match line.split_once('{') {
            Some((name, rest)) => (name, rest.rsplit_once('}').unwrap().0),
            None => (line.split(' ').next().unwrap(), ""),
        };
        let ends: &[&str] = if kind == "histogram" { &["_bucket", "_sum", "_count"] } else { &[] };
        let name = ends.iter().find_map(|end| name.strip_suffix(end)).unwrap_or(name);
        let metric = served.entry(name.to_owned()).or_default();
        kind.clone_into(&mut metric.kind);
        for label in labels.split("\",").filter(|label| !label.is_empty()) {
            let (label, value) = label.split_once("=\"").unwrap();
            if label != "le" {
                let values = metric.labels.entry(label.to_owned()).or_default();
                values.insert(value.trim_end_matches('"').to_owned());
            }
        }
    }
}

/// A server with PostgreSQL and Redis, after requests of each kind.
async fn busy_server() -> String {
    let redis = RedisServer::start();
    let [kw] = Keyward::replicas(Some(&redis.url()), &[]).await;
    let mut admin = kw.admin().await;
    let (_, crm) = admin.acme().await;
    let application = pb::Application {
        name: "tenants/acme/applications/crm".to_owned(),
        limits: Some(pb::Limits { tokens: 2, ..Default::default() }),
        ..Default::default()
    };
    let request = pb::UpdateApplicationRequest {
        application: Some(application),
        update_mask: mask(&["limits"]),
    };
    admin.applications.update_application(request).await.unwrap();
    let token = crm.token(&kw.grpc()).await;
    assert!(admin.check(&token, &["a"]).await.allowed);
    assert_eq!(kw.token_for(&crm, &[]).await.status, 200);
    assert_eq!(kw.token_for(&crm, &[]).await.status, 429);
    assert!(crm.exchange(&kw.grpc(), &[], &[]).await.is_err());
    let rotated = admin.keys.rotate_signing_key(RotateSigningKeyRequest::default()).await;
    rotated.unwrap();
    kw.server().service.expiry.refresh().await.unwrap();
    scraped(format!("http://{}/metrics", kw.server().ops)).await
}

/// A server with TLS and little room for connections, after a client that speaks plaintext and one
/// connection too many.
async fn crowded_server_with_tls() -> String {
    let folder = TempDir::new().unwrap();
    let made = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
    let file = |name: &str, pem: String| {
        let path = folder.path().join(name);
        std::fs::write(&path, pem).unwrap();
        path.to_str().unwrap().to_owned()
    };
    let certificate = file("tls.crt", made.cert.pem());
    let key = file("tls.key", made.signing_key.serialize_pem());
    let settings = [
        ("http.tls.certificate", certificate.as_str()),
        ("http.tls.key", key.as_str()),
        ("limits.source_connections", "2"),
    ];
    let kw = Backend::Sqlite.start_with(&settings).await;
    let ops = format!("http://{}/metrics", kw.server().ops);
    reqwest::get(format!("http://{}/", kw.server().http)).await.ok();
    let mut held = Vec::new();
    until("a connection is refused", async || {
        held.push(TcpStream::connect(kw.server().http).await.unwrap());
        scraped(ops.clone()).await.contains("keyward_admission_refused_total{")
    })
    .await;
    scraped(ops).await
}

/// A process, which has a log, with a collector.
async fn process_with_a_collector() -> String {
    let collector = Collector::start("grpc").await;
    let server = Process::start(&[
        ("KEYWARD_TELEMETRY_OTLP_ENDPOINT", collector.endpoint.as_str()),
        ("KEYWARD_TELEMETRY_OTLP_METRICS_INTERVAL", "1s"),
    ]);
    server.get_token(None).await;
    until("metrics are sent", async || {
        server.metrics().await.contains("keyward_otlp_exports_total{")
    })
    .await;
    let metrics = server.metrics().await;
    server.stop().await;
    metrics
}

/// All values that a label without a fixed list can have, if they are known.
fn known_values(label: &str) -> Option<BTreeSet<String>> {
    if label != "reason" {
        return None;
    }
    let reasons = (1..1000).filter_map(|number| ErrorReason::try_from(number).ok());
    let reasons =
        reasons.map(|reason| reason.as_str_name().trim_start_matches("ERROR_REASON_").to_owned());
    let source: String = rust_files(&root().join("src/http")).iter().map(read).collect();
    let codes = source.split('"').skip(1).step_by(2).filter(|word| {
        !word.is_empty() && word.bytes().all(|byte| byte.is_ascii_lowercase() || byte == b'_')
    });
    Some(reasons.chain(codes.map(str::to_owned)).chain(["other".to_owned()]).collect())
}

/// Whether the code has this value: as a literal, or as a variant of an enum.
fn is_in_code(value: &str, source: &str) -> bool {
    let variant = value.split('_').map(|word| {
        let (first, rest) = word.split_at(1);
        first.to_uppercase() + rest
    });
    let variant: String = variant.collect();
    source.contains(&format!("\"{value}\"")) || source.contains(&format!("    {variant},\n"))
}

#[tokio::test(flavor = "multi_thread")]
async fn table_of_metrics_is_what_servers_export() {
    let mut served = BTreeMap::new();
    let busy = Box::pin(busy_server()).await;
    add(&busy, &mut served);
    add(&Box::pin(crowded_server_with_tls()).await, &mut served);
    add(&Box::pin(process_with_a_collector()).await, &mut served);

    let table: BTreeMap<String, MetricRow> =
        rows().into_iter().map(|row| (row.name.clone(), row)).collect();
    let names = |names: Vec<&String>| names.into_iter().cloned().collect::<BTreeSet<_>>();
    assert_eq!(
        names(served.keys().collect()),
        names(table.keys().collect()),
        "served, in the table"
    );

    let source: String = rust_files(&root().join("src")).iter().map(read).collect();
    let mut wrong = Vec::new();
    for (name, Served { kind, labels }) in &served {
        let row = &table[name];
        if row.kind != *kind {
            wrong.push(format!("{name} is a {kind}, not a {}", row.kind));
        }
        let documented: BTreeSet<_> = row.labels.iter().map(|(label, _)| label).collect();
        if documented != labels.keys().collect() {
            wrong.push(format!("{name} has the labels {:?}", labels.keys()));
        }
        for (label, values) in &row.labels {
            let of_label = labels.get(label).cloned().unwrap_or_default();
            let all = if values.is_empty() { known_values(label) } else { Some(values.clone()) };
            let unknown: Vec<_> = all.iter().flat_map(|all| of_label.difference(all)).collect();
            if !unknown.is_empty() {
                wrong.push(format!("{name}: {label} has the values {unknown:?} too"));
            }
            let gone = values.difference(&of_label).filter(|value| !is_in_code(value, &source));
            wrong.extend(gone.map(|value| format!("{name}: {label} has no value {value}")));
        }
    }
    assert!(wrong.is_empty(), "deploy/README.md, Metrics:\n{}", wrong.join("\n"));

    // A value that only a stranger can choose would be here.
    assert!(!busy.contains("acme") && !busy.contains("crm"), "{busy}");
}
