//! The table of metrics in `deploy/README.md`.

use std::collections::BTreeSet;

use crate::documents;

/// A row of the table.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct MetricRow {
    pub(crate) name: String,
    pub(crate) kind: String,
    /// Each label with its values; none if they are not listed.
    pub(crate) labels: Vec<(String, BTreeSet<String>)>,
}

impl MetricRow {
    /// The names that a query can use.
    pub(crate) fn queried(&self) -> Vec<String> {
        match self.kind.as_str() {
            "histogram" => {
                ["bucket", "sum", "count"].map(|end| format!("{}_{end}", self.name)).to_vec()
            }
            _ => vec![self.name.clone()],
        }
    }
}

/// All rows.
pub(crate) fn rows() -> Vec<MetricRow> {
    let spans = |cell: &str| -> Vec<String> {
        cell.split('`').skip(1).step_by(2).map(str::to_owned).collect()
    };
    let mut found = Vec::new();
    for row in documents::rows(&documents::read("deploy/README.md"), "Metrics") {
        let [name, kind, labels, meaning, _watch] = row.as_slice() else {
            panic!("{row:?} has other columns")
        };
        let Some(name) = documents::word(name) else { continue };
        assert!(!meaning.is_empty(), "{name} has no meaning");
        let labels = labels.split(';').map(spans).filter(|label| !label.is_empty());
        let labels = labels.map(|mut label| (label.remove(0), label.into_iter().collect()));
        found.push(MetricRow {
            name: name.to_owned(),
            kind: kind.clone(),
            labels: labels.collect(),
        });
    }
    assert!(found.len() > 30, "{found:?}");
    found
}
