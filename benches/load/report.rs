//! Figures: a measurement, its comparison and its target; as a table for people, and as JSON to
//! compare with the next run.

use std::fs;
use std::path::Path;

use comfy_table::Table;
use comfy_table::presets::NOTHING;
use keyward::internals::clock::Clock;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use crate::machine;
use crate::settings::{Part, Settings};

/// A measurement, once per round.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Figure {
    part: String,
    name: String,
    unit: String,
    samples: Vec<f64>,
    baseline: Option<Baseline>,
    target: Option<Target>,
    note: String,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
struct Baseline {
    name: String,
    samples: Vec<f64>,
}

/// The target of a figure: its ratio, if it has one.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Target {
    AtLeast(f64),
    AtMost(f64),
}

impl Figure {
    pub(crate) fn new(part: Part, name: impl Into<String>, unit: &str, samples: Vec<f64>) -> Self {
        assert!(!samples.is_empty(), "a figure was measured");
        let (part, name, unit) = (part.to_string(), name.into(), unit.to_owned());
        Self { part, name, unit, samples, baseline: None, target: None, note: String::new() }
    }

    /// The comparison, measured in the same rounds.
    pub(crate) fn beside(mut self, name: &str, samples: Vec<f64>) -> Self {
        assert_eq!(samples.len(), self.samples.len(), "they were measured in turns");
        self.baseline = Some(Baseline { name: name.to_owned(), samples });
        self
    }

    pub(crate) fn target(mut self, target: Target) -> Self {
        self.target = Some(target);
        self
    }

    pub(crate) fn note(mut self, note: impl Into<String>) -> Self {
        self.note = note.into();
        self
    }

    pub(crate) fn title(&self) -> String {
        let beside = self.baseline.as_ref().map(|baseline| format!(" beside {}", baseline.name));
        format!("{}: {}{}", self.part, self.name, beside.unwrap_or_default())
    }

    /// The ratios, if there is a comparison; otherwise the values.
    fn values_or_ratios(&self) -> Vec<f64> {
        let Some(baseline) = &self.baseline else { return self.samples.clone() };
        self.samples.iter().zip(&baseline.samples).map(|(ours, theirs)| ours / theirs).collect()
    }

    /// Whether the target is met, if there is one.
    pub(crate) fn is_met(&self) -> Option<bool> {
        let value = median(&self.values_or_ratios());
        Some(match self.target? {
            Target::AtLeast(least) => value >= least,
            Target::AtMost(max) => value <= max,
        })
    }

    /// The median of the ratios, if there is a comparison; otherwise of the values.
    pub(crate) fn median(&self) -> f64 {
        median(&self.values_or_ratios())
    }

    fn row(&self) -> [String; 6] {
        let value = |samples: &[f64]| format!("{} {}", number(median(samples)), self.unit);
        let ratio = self.baseline.as_ref().map(|_| {
            let ratios = self.values_or_ratios();
            let (least, max) = (fold(&ratios, f64::min), fold(&ratios, f64::max));
            format!("{:.2} ({least:.2}–{max:.2})", median(&ratios))
        });
        let beside = self.baseline.as_ref();
        let beside = beside.map(|b| format!("{}: {}", b.name, number(median(&b.samples))));
        let target = self.target.map(|target| {
            let (sign, bound) = match target {
                Target::AtLeast(bound) => (">=", bound),
                Target::AtMost(bound) => ("<=", bound),
            };
            let met = if self.is_met() == Some(true) { "met" } else { "MISSED" };
            format!("{sign} {bound} {met}")
        });
        let or_nothing = Option::unwrap_or_default;
        [
            self.name.clone(),
            value(&self.samples),
            or_nothing(beside),
            or_nothing(ratio),
            or_nothing(target),
            self.note.clone(),
        ]
    }
}

/// The table for people.
pub(crate) fn table(figures: &[Figure]) -> Table {
    let mut table = framed(["figure", "keyward", "beside", "ratio (min–max)", "target", "note"]);
    table.add_rows(figures.iter().map(Figure::row));
    table
}

fn framed<const N: usize>(header: [&str; N]) -> Table {
    let mut table = Table::new();
    table.load_style(NOTHING);
    table.set_header(header);
    table
}

/// A whole run.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Report {
    at: String,
    revision: Option<String>,
    machine: Value,
    rounds: u32,
    seconds: f64,
    figures: Vec<Figure>,
}

impl Report {
    pub(crate) fn new(settings: &Settings) -> Self {
        Self {
            at: Clock::system().now().to_string(),
            revision: machine::revision(),
            machine: machine::facts(),
            rounds: *settings.rounds().end(),
            seconds: settings.seconds,
            figures: Vec::new(),
        }
    }

    pub(crate) fn add(&mut self, figures: Vec<Figure>) {
        self.figures.extend(figures);
    }

    pub(crate) fn figures(&self) -> impl Iterator<Item = &Figure> {
        self.figures.iter()
    }

    /// Writes the file. Returns its path.
    pub(crate) fn write<'a>(&self, file: &'a Path) -> &'a Path {
        if let Some(folder) = file.parent() {
            fs::create_dir_all(folder).unwrap();
        }
        let mut report = json!(self);
        for (figure, written) in self.figures.iter().zip(report["figures"].as_array_mut().unwrap())
        {
            written["median"] = json!(median(&figure.values_or_ratios()));
            written["met"] = json!(figure.is_met());
        }
        fs::write(file, serde_json::to_string_pretty(&report).unwrap()).unwrap();
        file
    }

    /// An earlier run.
    pub(crate) fn read(file: &Path) -> Self {
        let text = fs::read_to_string(file);
        let text = text.unwrap_or_else(|error| panic!("{}: {error}", file.display()));
        serde_json::from_str(&text).unwrap_or_else(|error| panic!("{}: {error}", file.display()))
    }

    /// The changes since another run.
    pub(crate) fn compare(&self, older: &Self) -> Table {
        let revision = |report: &Self| report.revision.clone().unwrap_or_default();
        let (then, now) = (revision(older), revision(self));
        let mut table =
            framed(["figure", &format!("then {then}"), &format!("now {now}"), "change"]);
        for figure in &self.figures {
            let title = figure.title();
            let same = older.figures.iter().find(|other| other.title() == title);
            let Some(before) = same else { continue };
            let (then, now) =
                (median(&before.values_or_ratios()), median(&figure.values_or_ratios()));
            let change = format!("{:+.1}%", (now / then - 1.0) * 100.0);
            table.add_row([title, number(then), number(now), change]);
        }
        table
    }
}

/// The median.
pub(crate) fn median(samples: &[f64]) -> f64 {
    let mut sorted = samples.to_vec();
    sorted.sort_by(f64::total_cmp);
    let middle = sorted.len() / 2;
    if sorted.len() % 2 == 1 {
        sorted[middle]
    } else {
        f64::midpoint(sorted[middle - 1], sorted[middle])
    }
}

fn fold(samples: &[f64], choose: fn(f64, f64) -> f64) -> f64 {
    samples.iter().copied().reduce(choose).unwrap_or(f64::NAN)
}

/// With a reasonable number of digits.
fn number(value: f64) -> String {
    match value.abs() {
        a if a >= 100.0 => format!("{value:.0}"),
        a if a >= 10.0 => format!("{value:.1}"),
        _ => format!("{value:.2}"),
    }
}
