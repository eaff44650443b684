//! What a command prints: tables for people, JSON for scripts.

use std::fmt::Display;
use std::io::Write;

use clap::ValueEnum;
use comfy_table::Table;
use comfy_table::presets::NOTHING;
use serde::Serialize;
use serde_json::Value;

use super::{Failure, names};
use crate::domain::is_hidden;

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
    line(json_escaped(&serde_json::to_string_pretty(value).map_err(Failure::new)?));
    Ok(())
}

/// Prints lines of the result. What a terminal would obey or hide is escaped: others wrote it.
pub(super) fn line(text: impl Display) {
    print(format!("{}\n", escaped(&text.to_string(), &['\n'])).as_bytes());
}

/// Prints bytes as they are. Where they are read no longer (`… | head`), there is nothing left
/// to do.
pub(super) fn print(bytes: &[u8]) {
    let mut out = std::io::stdout();
    if out.write_all(bytes).and_then(|()| out.flush()).is_err() {
        std::process::exit(0);
    }
}

/// The text with each hidden character written out, but for those that are meant.
fn escaped(text: &str, meant: &[char]) -> String {
    let mut escaped = String::with_capacity(text.len());
    for c in text.chars() {
        if is_hidden(c) && !meant.contains(&c) {
            escaped.extend(c.escape_default());
        } else {
            escaped.push(c);
        }
    }
    escaped
}

/// JSON that means the same, with each hidden character of its strings written out.
pub(super) fn json_escaped(json: &str) -> String {
    let mut escaped = String::with_capacity(json.len());
    for c in json.chars() {
        // Control characters of ASCII are written out already, or stand between the values.
        if is_hidden(c) && (c as u32) > 0x7e {
            let mut units = [0; 2];
            let units = c.encode_utf16(&mut units);
            escaped.extend(units.iter().map(|unit| format!("\\u{unit:04x}")));
        } else {
            escaped.push(c);
        }
    }
    escaped
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
    writeln!(std::io::stderr(), "{}", escaped(sentence, &['\n'])).ok();
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
        Value::String(text) => escaped(&written(text), &[]),
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hidden_characters_are_written_out() {
        let value = Value::String("a\u{202e}b\u{1b}[31m\nc\u{200b}d é".to_owned());
        let shown = cell(&value, str::to_owned);
        assert_eq!(shown, "a\\u{202e}b\\u{1b}[31m\\nc\\u{200b}d é");
        let json = json_escaped(&serde_json::to_string_pretty(&[&value]).unwrap());
        assert!(json.chars().all(|c| c == '\n' || !is_hidden(c)), "{json}");
        let read: Vec<Value> = serde_json::from_str(&json).unwrap();
        assert_eq!(read, [value], "it means the same");
        let tag = json_escaped("\"\u{e0041}\"");
        assert_eq!(tag, "\"\\udb40\\udc41\"");
        assert_eq!(serde_json::from_str::<String>(&tag).unwrap(), "\u{e0041}");
    }
}
