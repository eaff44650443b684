//! What the files in `deploy/` name exists: metrics and their labels, runbooks, settings. `.ci/deploy`
//! checks their form.

use std::collections::{BTreeMap, BTreeSet};

use keyward::internals::config::{Config, Layers};
use serde_json::Value;

use crate::documents::{read, rows};

const ALERTS: &str = "deploy/prometheus/alerts.yaml";
const DASHBOARD: &str = "deploy/grafana/keyward.json";

/// Labels that Prometheus adds.
const LABELS_OF_TARGETS: [&str; 3] = ["job", "instance", "le"];

/// The metrics of deploy/README.md with their labels, under each name that a query can use.
/// `every_metric_is_documented` compares that table with a server.
fn metrics() -> BTreeMap<String, BTreeSet<String>> {
    let spans = |cell: &str| -> Vec<String> {
        cell.split('`').skip(1).step_by(2).map(str::to_owned).collect()
    };
    let mut metrics = BTreeMap::new();
    for row in rows(&read("deploy/README.md"), "Metrics") {
        let [name, labels, meaning] = row.as_slice() else { continue };
        let Some(name) = spans(name).into_iter().find(|name| name.starts_with("keyward_")) else {
            continue;
        };
        let labels: BTreeSet<_> = spans(labels).into_iter().collect();
        if meaning.contains("histogram") {
            for suffix in ["bucket", "sum", "count"] {
                metrics.insert(format!("{name}_{suffix}"), labels.clone());
            }
        } else {
            metrics.insert(name, labels);
        }
    }
    metrics
}

/// The queries of the alerts, with the lines that follow `expr: |`.
fn alert_queries() -> Vec<String> {
    let text = read(ALERTS);
    let mut queries = Vec::new();
    for rest in text.split("  expr: ").skip(1) {
        let end = rest.find("\n        for:").expect("`for` follows `expr`");
        queries.push(rest[..end].trim_start_matches('|').to_owned());
    }
    queries
}

fn dashboard_queries() -> Vec<String> {
    fn collect(value: &Value, queries: &mut Vec<String>) {
        match value {
            Value::Object(fields) => {
                let texts = ["expr", "definition"].iter().filter_map(|name| fields.get(*name));
                queries.extend(texts.filter_map(Value::as_str).map(str::to_owned));
                fields.values().for_each(|value| collect(value, queries));
            }
            Value::Array(values) => values.iter().for_each(|value| collect(value, queries)),
            _ => {}
        }
    }
    let mut queries = Vec::new();
    collect(&serde_json::from_str(&read(DASHBOARD)).unwrap(), &mut queries);
    queries
}

fn is_name(c: char) -> bool {
    c.is_ascii_alphanumeric() || c == '_'
}

/// The name at the start of a text, and the rest.
fn split_name(text: &str) -> (&str, &str) {
    text.split_at(text.find(|c| !is_name(c)).unwrap_or(text.len()))
}

/// What stands in the parentheses or braces that the text begins with.
fn group(text: &str, open: char, close: char) -> Option<&str> {
    text.trim_start().strip_prefix(open)?.split(close).next()
}

/// The metrics of a query, each with the labels of its selector.
fn selectors(query: &str) -> Vec<(&str, Vec<&str>)> {
    let mut found = Vec::new();
    let starts = query.match_indices("keyward_").map(|(start, _)| start);
    for start in starts.filter(|start| !query[..*start].ends_with(is_name)) {
        let (name, rest) = split_name(&query[start..]);
        // Labels are before the quoted values: `a="x", b=~"y"`.
        let matchers = group(rest, '{', '}').unwrap_or_default().split('"').step_by(2);
        let labels = matchers.map(|text| split_name(text.trim_start_matches([',', ' '])).0);
        found.push((name, labels.filter(|label| !label.is_empty()).collect()));
    }
    found
}

/// The labels by which a query groups.
fn grouped_by(query: &str) -> Vec<&str> {
    let groups = query.split(" by ").skip(1).filter_map(|rest| group(rest, '(', ')'));
    groups.flat_map(|labels| labels.split(',').map(str::trim)).collect()
}

#[test]
fn queries_use_metrics_and_labels_that_exist() {
    let metrics = metrics();
    let (alerts, dashboard) = (alert_queries(), dashboard_queries());
    assert!(alerts.len() > 10 && dashboard.len() > 20, "{} {}", alerts.len(), dashboard.len());
    let mut wrong = Vec::new();
    for query in alerts.iter().chain(&dashboard) {
        let selectors = selectors(query);
        let mut known: BTreeSet<&str> = LABELS_OF_TARGETS.into();
        for (name, _) in &selectors {
            match metrics.get(*name) {
                Some(labels) => known.extend(labels.iter().map(String::as_str)),
                None => wrong.push(format!("no metric {name}: {query}")),
            }
        }
        if selectors.is_empty() {
            continue;
        }
        let labels = selectors.iter().flat_map(|(_, labels)| labels.iter().copied());
        let unknown = labels.chain(grouped_by(query)).filter(|label| !known.contains(label));
        wrong.extend(unknown.map(|label| format!("no label {label}: {query}")));
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn every_alert_has_a_runbook_and_a_test() {
    let text = read(ALERTS);
    let alerts: BTreeSet<_> =
        text.lines().filter_map(|line| line.trim().strip_prefix("- alert: ")).collect();
    let links: BTreeSet<_> =
        text.lines().filter_map(|line| line.trim().strip_prefix("runbook_url: ")).collect();
    let expected: BTreeSet<_> = alerts
        .iter()
        .map(|alert| format!("deploy/README.md#runbook-{}", alert.to_lowercase()))
        .collect();
    assert_eq!(links, expected.iter().map(String::as_str).collect());

    let page = read("deploy/README.md");
    let runbooks: BTreeSet<_> =
        page.lines().filter_map(|line| line.strip_prefix("### Runbook: ")).collect();
    assert_eq!(runbooks, alerts, "sections `### Runbook: NAME` of deploy/README.md");

    let tests = read("deploy/prometheus/alerts_test.yaml");
    let tested: BTreeSet<_> =
        tests.lines().filter_map(|line| line.strip_prefix("  - name: ")).collect();
    assert_eq!(tested, alerts);
}

/// The variables of Keyward that a text names.
fn variables(text: &str) -> BTreeSet<String> {
    let found = text.match_indices("KEYWARD_").map(|(start, _)| split_name(&text[start..]).0);
    found.filter(|name| !name.ends_with('_')).map(str::to_owned).collect()
}

#[test]
fn variables_of_deployments_are_settings() {
    let settings = Config::read(Layers::default()).unwrap().settings;
    let known: BTreeSet<_> = settings
        .iter()
        .map(|setting| format!("KEYWARD_{}", setting.key.replace('.', "_").to_uppercase()))
        .collect();
    let mut text = ["deploy/compose.yaml", "deploy/systemd/keyward.service", "deploy/Dockerfile"]
        .map(read)
        .join("\n");
    for face in ["GRPC", "HTTP", "OPS"] {
        for file in ["_helpers.tpl", "migration.yaml"] {
            let template = read(format!("deploy/helm/keyward/templates/{file}"));
            text += &template.replace("{{ upper $face }}", face);
        }
    }
    // Variables of the scripts of compose, not of Keyward.
    let of_scripts = ["KEYWARD_DATABASE_PASSWORD", "KEYWARD_HOSTS"];
    let unknown: Vec<_> = variables(&text)
        .into_iter()
        .filter(|name| !known.contains(name) && !of_scripts.contains(&name.as_str()))
        .collect();
    assert!(unknown.is_empty(), "no such settings: {unknown:?}");
}
