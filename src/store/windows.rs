//! The table of limit counters. Only a process without other replicas and without Redis saves them.

use serde_json::{from_str, to_string};
use sqlx::{AssertSqlSafe, FromRow};

use super::usage::rows;
use super::{Session, Tx, execute, list_rows};
use crate::domain::CountedWindow;
use crate::error::{Error, Result};

#[derive(FromRow)]
struct WindowRow {
    name: String,
    length: i64,
    newest: i64,
    ends_at: i64,
    parts: String,
}

impl Session {
    /// The windows that have counts at `now`.
    pub async fn counted_windows(&mut self, now: i64) -> Result<Vec<CountedWindow>> {
        const SQL: &str = "select name, length, newest, ends_at, parts from counted_windows \
            where ends_at > $1";
        let found: Vec<WindowRow> = list_rows!(self, SQL, now)?;
        let window = |row: WindowRow| {
            let WindowRow { name, length, newest, ends_at, parts } = row;
            Ok(CountedWindow { name, length, newest, ends_at, parts: from_str(&parts)? })
        };
        let windows = found.into_iter().map(window).collect::<Result<_, serde_json::Error>>();
        windows.map_err(|error| Error::Internal(Box::new(error)))
    }
}

impl Tx {
    /// Adds or replaces windows. Each name must occur only once.
    pub async fn write_counted_windows(&mut self, windows: &[CountedWindow]) -> Result<()> {
        let sql = format!(
            "insert into counted_windows (name, length, newest, ends_at, parts) \
             select value ->> 0, cast(value ->> 1 as bigint), cast(value ->> 2 as bigint), \
               cast(value ->> 3 as bigint), value ->> 4 from {} where true \
             on conflict (name) do update set newest = excluded.newest, \
               ends_at = excluded.ends_at, parts = excluded.parts",
            rows(self)
        );
        let windows: Result<Vec<_>, _> = windows
            .iter()
            .map(|window| {
                let CountedWindow { name, length, newest, ends_at, parts } = window;
                Ok((name, length, newest, ends_at, to_string(parts)?))
            })
            .collect();
        let json = windows.and_then(|windows| to_string(&windows));
        let json = json.map_err(|error| Error::Internal(Box::new(error)))?;
        execute!(self, AssertSqlSafe(sql), json).map(drop)
    }

    /// Deletes windows without counts at `now`.
    pub async fn delete_counted_windows(&mut self, now: i64) -> Result<()> {
        const SQL: &str = "delete from counted_windows where ends_at <= $1";
        execute!(self, SQL, now).map(drop)
    }
}
