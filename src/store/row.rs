//! From rows to domain values. A row that breaks a rule of the domain was not written
//! by us, or by a fault of ours: the error names table, column and row.

use crate::clock::from_microsecond;
use crate::domain::{Fault, LastUse, Limits, Moment, Record};
use crate::error::{Error, Result};

/// Names the row that a value was read from.
#[derive(Clone, Copy, Debug)]
pub(super) struct At<'a> {
    /// The table.
    pub(super) table: &'static str,
    /// The row's key.
    pub(super) key: &'a str,
}

impl At<'_> {
    /// The value, or an error that tells where it stands.
    pub(super) fn column<T>(self, column: &str, value: Result<T, Fault>) -> Result<T> {
        let Self { table, key } = self;
        value.map_err(|fault| {
            Error::internal(format!("{table}.{column} of row {key:?} {}", fault.0))
        })
    }
}

/// A moment from its column.
pub(super) fn moment(micros: Option<i64>) -> Option<Moment> {
    micros.map(Moment::from_microsecond)
}

/// A moment for its column.
pub(super) fn micros(moment: Option<Moment>) -> Option<i64> {
    moment.map(Moment::as_microsecond)
}

/// Version and times from their columns.
pub(super) fn record(revision: i64, created_at: i64, updated_at: i64) -> Record {
    Record {
        revision,
        created_at: from_microsecond(created_at),
        updated_at: from_microsecond(updated_at),
    }
}

/// The last use from its columns: nought is never.
pub(super) fn last_use(at: i64, address: Option<String>) -> Option<LastUse> {
    (at != 0).then(|| LastUse { at: from_microsecond(at), address })
}

/// Limits from their column: null is none of one's own.
pub(super) fn limits(at: At<'_>, column: &str, text: Option<&str>) -> Result<Option<Limits>> {
    at.column(column, text.map(Limits::parse).transpose())
}

/// Limits for their column.
pub(super) fn limits_text(limits: Option<Limits>) -> Option<String> {
    limits.map(|limits| limits.to_string())
}
