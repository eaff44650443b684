//! What the files in `deploy/` name exists: metrics and their labels, runbooks, settings. `.ci/deploy`
//! checks their form.

use std::collections::{BTreeMap, BTreeSet};

use keyward::internals::config::{Config, Layers};
use serde_json::Value;

use crate::documents::read;
use crate::metrics_table;

const ALERTS: &str = "deploy/prometheus/alerts.yaml";
const DASHBOARD: &str = "deploy/grafana/keyward.json";

/// Labels that Prometheus adds.
const LABELS_OF_TARGETS: [&str; 3] = ["job", "instance", "le"];

/// The metrics of deploy/README.md with their labels, under each name that a query can use.
/// `table_of_metrics_is_what_servers_export` compares that table with servers.
fn metrics() -> BTreeMap<String, BTreeSet<String>> {
    let mut metrics = BTreeMap::new();
    for row in metrics_table::rows() {
        let labels: BTreeSet<_> = row.labels.iter().map(|(label, _)| label.clone()).collect();
        metrics.extend(row.queried().into_iter().map(|name| (name, labels.clone())));
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

/// A query without the selection at the top of the dashboard.
fn without_selection(query: &str) -> String {
    let mut text = query.to_owned();
    for variable in ["job", "instance", "face"] {
        let selector = format!("{variable}=~\"${variable}\"");
        for (before, after) in [("{", ", "), (", ", ""), ("{", "")] {
            let kept = if before == ", " { "" } else { before };
            text = text.replace(&format!("{before}{selector}{after}"), kept);
        }
    }
    text.replace("{}", "")
}

/// The section "Panels" of deploy/README.md: titles, descriptions and queries, in the order of the
/// dashboard.
#[test]
fn panels_of_the_dashboard_are_described_with_their_queries() {
    let dashboard: Value = serde_json::from_str(&read(DASHBOARD)).unwrap();
    let page = read("deploy/README.md");
    let (_, section) = page.split_once("\n### Panels\n").unwrap();
    let section = section.split("\n## ").next().unwrap();
    let mut described = section.split("\n- *").map(|entry| {
        let entry = entry.split("\n\n").next().unwrap();
        entry.split_whitespace().collect::<Vec<_>>().join(" ")
    });
    // The introduction.
    described.next();
    let mut shown = Vec::new();
    for panel in dashboard["panels"].as_array().unwrap() {
        if panel["type"] == "row" {
            let title = panel["title"].as_str().unwrap();
            assert!(section.contains(&format!("\n**{title}**\n")), "no row {title}");
            continue;
        }
        let mut text = format!("{}*", panel["title"].as_str().unwrap());
        let description = panel["description"].as_str().unwrap_or_default();
        if !description.is_empty() {
            text.push_str(": ");
            text.push_str(description);
        }
        for target in panel["targets"].as_array().unwrap() {
            let query = without_selection(target["expr"].as_str().unwrap());
            text.push_str(&[" `", &query, "`"].concat());
        }
        shown.push(text);
    }
    let described: Vec<_> = described.collect();
    for (described, shown) in described.iter().zip(&shown) {
        assert_eq!(described, shown);
    }
    assert_eq!(described.len(), shown.len());
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
