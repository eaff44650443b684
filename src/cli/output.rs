//! The output of commands: tables for people; JSON, YAML and names for scripts.

use clap::{Args, ValueEnum};
use serde_json::{Map, Value};

use super::client::Listed;
use super::print::{escaped, json_escaped, line, note, print_json};
use super::table::{self, GridColumn};
use super::{Failure, names, suggest};
use crate::domain::is_hidden;

/// The format of results.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub(super) enum Format {
    /// Tables for people
    #[default]
    Table,
    /// JSON for scripts; errors too are JSON, on standard error
    Json,
    /// YAML
    Yaml,
    /// Resource names, one in a line
    Name,
}

/// The output flags.
#[derive(Clone, Debug, Default, Args)]
#[command(next_help_heading = "Output")]
pub(super) struct Output {
    /// The output format
    #[arg(
        global = true,
        short = 'o',
        long = "output",
        value_name = "FORMAT",
        value_enum,
        default_value_t
    )]
    format: Format,
    /// Print only these columns, in this order; `a.b` for a part of a column
    #[arg(global = true, long, value_name = "NAMES", value_delimiter = ',')]
    columns: Vec<String>,
    /// Print all columns of a table, without truncation
    #[arg(global = true, long, conflicts_with = "columns")]
    wide: bool,
}

/// Where a column is shown.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum ColumnPlace {
    /// In all formats. A table leaves out columns that do not fit, those with the highest rank
    /// first.
    Listed(u8),
    /// The same, but only in tables.
    Table(u8),
    /// In all formats except tables of several rows. `--wide` adds it there.
    Member,
}

/// A column of a table, and a member of a JSON object.
pub(super) struct Column<T> {
    name: &'static str,
    shown: ColumnPlace,
    value: fn(&T) -> Value,
}

/// A column that is in the default table.
pub(super) const fn listed<T>(rank: u8, name: &'static str, value: fn(&T) -> Value) -> Column<T> {
    Column { name, shown: ColumnPlace::Listed(rank), value }
}

/// A column that is in the default table, but not in JSON and YAML.
pub(super) const fn table_only<T>(
    rank: u8,
    name: &'static str,
    value: fn(&T) -> Value,
) -> Column<T> {
    Column { name, shown: ColumnPlace::Table(rank), value }
}

/// A column that is not in the default table.
pub(super) const fn member<T>(name: &'static str, value: fn(&T) -> Value) -> Column<T> {
    Column { name, shown: ColumnPlace::Member, value }
}

/// A result that can be printed.
pub(super) trait Tabular: Sized + 'static {
    const COLUMNS: &'static [Column<Self>];
}

/// A column to print.
struct Selected<'a, T: 'static> {
    title: &'a str,
    rank: u8,
    column: &'static Column<T>,
    /// The selected part of the value, as a JSON pointer.
    part: String,
}

impl<T> Selected<'_, T> {
    fn value(&self, item: &T) -> Value {
        let value = (self.column.value)(item);
        value.pointer(&self.part).cloned().unwrap_or_default()
    }
}

impl Output {
    pub(super) fn is_table(&self) -> bool {
        self.format == Format::Table
    }

    /// Prints one result.
    pub(super) fn one<T: Tabular>(&self, item: &T) -> Result<(), Failure> {
        self.one_with(item, None)
    }

    /// Prints one result with an additional member.
    pub(super) fn one_with<T: Tabular>(
        &self,
        item: &T,
        further: Option<(&str, String)>,
    ) -> Result<(), Failure> {
        let all = T::COLUMNS.iter().filter(|column| !matches!(column.shown, ColumnPlace::Table(_)));
        let columns = self.selected(all)?;
        let mut members: Vec<_> =
            columns.iter().map(|column| (column.title.to_owned(), column.value(item))).collect();
        members.extend(further.map(|(name, value)| (name.to_owned(), Value::String(value))));
        match self.format {
            Format::Table => {
                let mut rows = Vec::with_capacity(members.len());
                for (name, value) in &members {
                    add_rows(&mut rows, name, value);
                }
                line(table::pairs(&rows));
                Ok(())
            }
            Format::Name => print_name(item),
            Format::Json | Format::Yaml => self.value(&Value::Object(Map::from_iter(members))),
        }
    }

    /// Prints several results.
    pub(super) fn many<T: Tabular>(&self, items: &[T]) -> Result<(), Failure> {
        match self.format {
            Format::Table => self.table(items),
            Format::Name => items.iter().try_for_each(print_name),
            Format::Json | Format::Yaml => self.value(&self.objects(items)?),
        }
    }

    /// Prints a list. If it is truncated, a note says how to list more.
    pub(super) fn list<T: Tabular>(&self, list: &Listed<T>) -> Result<(), Failure> {
        self.many(&list.items)?;
        if let Some(limit) = list.truncated_at {
            let more = limit.saturating_mul(10);
            note(&format!("there are more than {limit}: --limit {more} lists more, --limit 0 all"));
        }
        Ok(())
    }

    /// Prints one item of an endless list: a line of JSON, a YAML document, or the result of
    /// `text`.
    pub(super) fn streamed<T: Tabular>(
        &self,
        item: T,
        text: impl FnOnce(&T) -> String,
    ) -> Result<(), Failure> {
        let items = [item];
        match self.format {
            Format::Table => line(text(&items[0])),
            Format::Name => return print_name(&items[0]),
            Format::Yaml => self.value(&self.objects(&items)?)?,
            Format::Json => {
                for value in self.objects(&items)?.as_array().into_iter().flatten() {
                    line(json_escaped(&serde_json::to_string(value).map_err(Failure::new)?));
                }
            }
        }
        Ok(())
    }

    /// Prints a word, or an object in JSON and YAML.
    pub(super) fn word(&self, word: &str, object: impl FnOnce() -> Value) -> Result<(), Failure> {
        match self.format {
            Format::Table | Format::Name => {
                line(word);
                Ok(())
            }
            Format::Json | Format::Yaml => self.value(&object()),
        }
    }

    /// Prints a value as YAML if that is the format, otherwise as JSON.
    pub(super) fn value(&self, value: &Value) -> Result<(), Failure> {
        if self.format != Format::Yaml {
            return print_json(value);
        }
        let yaml = serde_saphyr::to_string(value).map_err(Failure::new)?;
        if yaml.chars().any(|c| is_hidden(c) && c != '\n') {
            // JSON is valid YAML, and can escape every character.
            return print_json(value);
        }
        line(yaml.trim_end());
        Ok(())
    }

    /// Refuses `-o name` for a result with a secret: the secret would be lost.
    pub(super) fn check_secret(&self) -> Result<(), Failure> {
        if self.format == Format::Name {
            return Err(Failure::usage("-o name prints no secret, but it is shown only once"));
        }
        Ok(())
    }

    /// Reports success to people. Scripts use the exit code.
    pub(super) fn done(&self, sentence: &str) {
        if self.is_table() {
            line(sentence);
        }
    }

    fn objects<T: Tabular>(&self, items: &[T]) -> Result<Value, Failure> {
        let all = T::COLUMNS.iter().filter(|column| !matches!(column.shown, ColumnPlace::Table(_)));
        let columns = self.selected(all)?;
        let object = |item| {
            let members =
                columns.iter().map(|column| (column.title.to_owned(), column.value(item)));
            Value::Object(members.collect())
        };
        Ok(items.iter().map(object).collect())
    }

    /// Prints a table. On a terminal it has only the columns that fit.
    fn table<T: Tabular>(&self, items: &[T]) -> Result<(), Failure> {
        let default = |column: &&Column<T>| self.wide || column.shown != ColumnPlace::Member;
        let columns = self.selected(T::COLUMNS.iter().filter(default))?;
        let grid = columns.iter().map(|column| GridColumn {
            title: column.title.to_uppercase(),
            rank: column.rank,
            cells: items.iter().map(|item| cell(column.title, &column.value(item))).collect(),
        });
        let whole = self.wide || !self.columns.is_empty();
        let width = if whole { None } else { table::terminal_width() };
        let (grid, hidden) = table::fit(grid.collect(), width);
        line(table::render(&grid));
        if !hidden.is_empty() {
            note(&format!(
                "columns not shown: {}; --wide prints all, --columns NAMES selects some",
                hidden.join(", ").to_lowercase()
            ));
        }
        Ok(())
    }

    /// The columns that `--columns` selects, or these by default.
    fn selected<T: Tabular>(
        &self,
        default: impl Iterator<Item = &'static Column<T>>,
    ) -> Result<Vec<Selected<'_, T>>, Failure> {
        if self.columns.is_empty() {
            let each = default.map(|column| Selected {
                title: column.name,
                rank: match column.shown {
                    ColumnPlace::Listed(rank) | ColumnPlace::Table(rank) => rank,
                    ColumnPlace::Member => u8::MAX,
                },
                column,
                part: String::new(),
            });
            return Ok(each.collect());
        }
        self.columns.iter().map(|title| select(title)).collect()
    }
}

fn select<T: Tabular>(title: &str) -> Result<Selected<'_, T>, Failure> {
    let (name, part) = title.split_once('.').unwrap_or((title, ""));
    let part = if part.is_empty() { String::new() } else { format!("/{}", part.replace('.', "/")) };
    let mut columns = T::COLUMNS.iter();
    let column = columns.find(|column| column.name == name).ok_or_else(|| {
        let names: Vec<_> = T::COLUMNS.iter().map(|column| column.name.to_owned()).collect();
        let hint = suggest::nearest(name, &names).map(suggest::did_you_mean).unwrap_or_default();
        Failure::usage(format!(
            "--columns: there is no column {name}; there are {}{hint}",
            names.join(", ")
        ))
    })?;
    Ok(Selected { title, rank: 0, column, part })
}

fn print_name<T: Tabular>(item: &T) -> Result<(), Failure> {
    let column = T::COLUMNS.iter().find(|column| column.name == "name");
    let column = column.ok_or_else(|| {
        Failure::usage("-o name: these have no resource names; use -o json with --columns")
    })?;
    line((column.value)(item).as_str().unwrap_or_default());
    Ok(())
}

/// Adds a row for a value, or a row for each member of an object. Skips empty values.
fn add_rows(rows: &mut Vec<(String, String)>, member: &str, value: &Value) {
    if let Value::Object(parts) = value {
        for (part, value) in parts {
            add_rows(rows, &format!("{member}.{part}"), value);
        }
        return;
    }
    let text = text_of(value, str::to_owned);
    if !text.is_empty() {
        rows.push((member.to_owned(), text));
    }
}

/// Columns with resource names of one kind. Tables show the short form that commands accept.
const NAMES: [&str; 4] = ["name", "owner", "roles", "credential"];
/// A column with names of all kinds, of which only some have a short form.
const RESOURCE: &str = "resource";

fn cell(column: &str, value: &Value) -> String {
    let form = match column {
        RESOURCE => names::short_resource,
        column if NAMES.contains(&column) => names::short,
        _ => str::to_owned,
    };
    text_of(value, form)
}

fn text_of(value: &Value, form: fn(&str) -> String) -> String {
    match value {
        Value::Null => String::new(),
        Value::String(text) => escaped(&form(text), &[]),
        Value::Object(parts) => {
            let set =
                parts.iter().filter(|(_, part)| !matches!(part, Value::Null | Value::Bool(false)));
            let each: Vec<_> =
                set.map(|(name, part)| format!("{name} {}", text_of(part, form))).collect();
            each.join(", ")
        }
        Value::Array(items) => {
            let each: Vec<_> = items.iter().map(|item| text_of(item, form)).collect();
            each.join(" ")
        }
        other => other.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hidden_characters_in_cells_are_escaped() {
        let value = Value::String("a\u{202e}b\u{1b}[31m\nc\u{200b}d é".to_owned());
        assert_eq!(cell("text", &value), "a\\u{202e}b\\u{1b}[31m\\nc\\u{200b}d é");
    }
}
