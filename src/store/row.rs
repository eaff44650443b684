//! Converts columns to domain values. An invalid value was written by hand or because of a bug, so
//! the error names the table, column and row.

use crate::clock::from_microsecond;
use crate::domain::{Fault, LastUse, Limits, Moment, Record};
use crate::error::{Error, Result};

/// A row of a table, for errors.
#[derive(Clone, Copy, Debug)]
pub(super) struct RowRef<'a> {
    pub(super) table: &'static str,
    pub(super) key: &'a str,
}

impl RowRef<'_> {
    /// Returns the value, or an error that names its column.
    pub(super) fn column<T>(self, column: &str, value: Result<T, Fault>) -> Result<T> {
        let Self { table, key } = self;
        value.map_err(|fault| {
            Error::internal(format!("{table}.{column} of row {key:?} {}", fault.0))
        })
    }
}

/// Converts a column to a moment.
pub(super) fn moment(micros: Option<i64>) -> Option<Moment> {
    micros.map(Moment::from_microsecond)
}

/// Converts a moment to a column.
pub(super) fn micros(moment: Option<Moment>) -> Option<i64> {
    moment.map(Moment::as_microsecond)
}

/// Converts the columns of the revision and times.
pub(super) fn record(revision: i64, created_at: i64, updated_at: i64) -> Record {
    Record {
        revision,
        created_at: from_microsecond(created_at),
        updated_at: from_microsecond(updated_at),
    }
}

/// Converts the columns of the last use. The time 0 means never.
pub(super) fn last_use(at: i64, address: Option<String>) -> Option<LastUse> {
    (at != 0).then(|| LastUse { at: from_microsecond(at), address })
}

/// Converts a column to limits. Null means that the resource has no limits of its own.
pub(super) fn limits(at: RowRef<'_>, column: &str, text: Option<&str>) -> Result<Option<Limits>> {
    at.column(column, text.map(Limits::parse).transpose())
}

/// Converts limits to a column.
pub(super) fn limits_text(limits: Option<Limits>) -> Option<String> {
    limits.map(|limits| limits.to_string())
}

/// Converts a list of words, which contain no spaces, to a column.
pub(super) fn joined(words: impl IntoIterator<Item = impl ToString>) -> String {
    let each: Vec<_> = words.into_iter().map(|word| word.to_string()).collect();
    each.join(" ")
}
