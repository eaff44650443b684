//! What a command prints: tables for people, JSON for scripts.

use std::fmt::Display;
use std::io::Write;

use clap::ValueEnum;
use comfy_table::Table;
use comfy_table::presets::NOTHING;
use serde::Serialize;
use serde_json::Value;

use super::Failure;

/// How results are printed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub(super) enum Format {
    /// Tables for people
    #[default]
    Table,
    /// JSON for scripts
    Json,
}

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
            let text = cell(&value[*member]);
            if !text.is_empty() {
                table.add_row([(*member).to_owned(), text]);
            }
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
            table.add_row(V::COLUMNS.iter().map(|column| cell(&value[*column])));
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

/// Says something beside the result.
#[expect(clippy::print_stderr, reason = "beside the result, which goes to standard output")]
pub(super) fn note(sentence: &str) {
    eprintln!("{sentence}");
}

fn plain() -> Table {
    let mut table = Table::new();
    table.load_style(NOTHING);
    table
}

fn cell(value: &Value) -> String {
    match value {
        Value::Null => String::new(),
        Value::String(text) => text.clone(),
        Value::Array(items) => items.iter().map(cell).collect::<Vec<_>>().join(" "),
        other => other.to_string(),
    }
}
