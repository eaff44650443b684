//! What a command prints: tables for people, JSON for scripts.

use std::fmt::Display;
use std::io::Write;

use clap::ValueEnum;
use comfy_table::Table;
use comfy_table::presets::NOTHING;
use serde::Serialize;
use serde_json::Value;

use super::{Failure, names};

/// How results are printed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub(super) enum Format {
    /// Tables for people
    #[default]
    Table,
    /// JSON for scripts
    Json,
}

/// Columns with resource names of one kind: a table has them as commands take them.
const NAMES: [&str; 4] = ["name", "owner", "roles", "credential"];

/// Something that can be shown: its members are those of its JSON.
pub(super) trait View: Serialize {
    /// The members that a list shows, in order.
    const COLUMNS: &'static [&'static str];
    /// All members, in order.
    const MEMBERS: &'static [&'static str];
}

impl Format {
    /// Prints one thing.
    pub(super) fn one<V: View>(self, view: &V) -> Result<(), Failure> {
        let value = serde_json::to_value(view).map_err(Failure::new)?;
        if self == Self::Json {
            return print_json(&value);
        }
        let mut table = plain();
        for member in V::MEMBERS {
            add_rows(&mut table, member, &value[*member]);
        }
        line(table.trim_fmt());
        Ok(())
    }

    /// Prints several.
    pub(super) fn many<V: View>(self, views: &[V]) -> Result<(), Failure> {
        let values = serde_json::to_value(views).map_err(Failure::new)?;
        if self == Self::Json {
            return print_json(&values);
        }
        let mut table = plain();
        table.set_header(V::COLUMNS.iter().map(|column| column.to_uppercase()));
        for value in values.as_array().into_iter().flatten() {
            table.add_row(V::COLUMNS.iter().map(|column| {
                let name = if NAMES.contains(column) { names::short } else { str::to_owned };
                cell(&value[*column], name)
            }));
        }
        line(table.trim_fmt());
        Ok(())
    }

    /// Says that something was done, to people; scripts have the exit code.
    pub(super) fn done(self, sentence: &str) {
        if self == Self::Table {
            line(sentence);
        }
    }
}

/// Prints JSON.
pub(super) fn print_json(value: &impl Serialize) -> Result<(), Failure> {
    line(serde_json::to_string_pretty(value).map_err(Failure::new)?);
    Ok(())
}

/// Prints a line of the result. Where nobody reads any more (`… | head`), there is
/// nothing left to do.
pub(super) fn line(text: impl Display) {
    if writeln!(std::io::stdout(), "{text}").is_err() {
        std::process::exit(0);
    }
}

/// [`line`] with a format.
macro_rules! say {
    ($($format:tt)+) => {
        $crate::cli::output::line(format_args!($($format)+))
    };
}
pub(super) use say;

/// Says something beside the result, on standard error. Where that cannot be written, on a disk
/// that is full, the work goes on.
pub(super) fn note(sentence: &str) {
    writeln!(std::io::stderr(), "{sentence}").ok();
}

fn plain() -> Table {
    let mut table = Table::new();
    table.load_style(NOTHING);
    table
}

/// A member's row, or one for each of its own members; none for what is empty.
fn add_rows(table: &mut Table, member: &str, value: &Value) {
    if let Value::Object(parts) = value {
        for (part, value) in parts {
            add_rows(table, &format!("{member}.{part}"), value);
        }
        return;
    }
    let text = cell(value, str::to_owned);
    if !text.is_empty() {
        table.add_row([member.to_owned(), text]);
    }
}

fn cell(value: &Value, written: fn(&str) -> String) -> String {
    match value {
        Value::Null => String::new(),
        Value::String(text) => written(text),
        Value::Object(parts) => {
            let said =
                parts.iter().filter(|(_, part)| !matches!(part, Value::Null | Value::Bool(false)));
            let each: Vec<_> =
                said.map(|(name, part)| format!("{name} {}", cell(part, written))).collect();
            each.join(", ")
        }
        Value::Array(items) => {
            let each: Vec<_> = items.iter().map(|item| cell(item, written)).collect();
            each.join(" ")
        }
        other => other.to_string(),
    }
}
