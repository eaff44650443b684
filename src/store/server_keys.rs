//! The table `server_keys`: which master keys each running server holds.

use jiff::Timestamp;
use sqlx::FromRow;

use super::{Session, Tx, execute, list_rows};
use crate::clock::from_microsecond;
use crate::domain::ServerKeys;
use crate::error::Result;

#[derive(FromRow)]
struct ServerKeysRow {
    id: String,
    name: String,
    primary_key: String,
    additional_key: Option<String>,
    seen_at: i64,
}

impl Session {
    /// The servers that announced themselves since this time, by name.
    pub async fn list_server_keys(&mut self, since: Timestamp) -> Result<Vec<ServerKeys>> {
        const SQL: &str = "select id, name, primary_key, additional_key, seen_at from server_keys \
            where seen_at >= $1 order by name, id";
        let rows: Vec<ServerKeysRow> = list_rows!(self, SQL, since.as_microsecond())?;
        let keys = rows.into_iter().map(|row| ServerKeys {
            id: row.id,
            name: row.name,
            primary: row.primary_key,
            additional: row.additional_key,
            seen_at: from_microsecond(row.seen_at),
        });
        Ok(keys.collect())
    }
}

impl Tx {
    /// Lets no other server announce itself until the end of the transaction.
    pub async fn lock_server_keys(&mut self) -> Result<()> {
        // The number is arbitrary. Only these locks use it.
        const SQL: &str = "select pg_advisory_xact_lock(1801812339)";
        if !self.is_postgres() {
            // SQLite has one writer at a time, so this transaction is the only one.
            return Ok(());
        }
        execute!(self, SQL).map(drop)
    }

    /// Announces a server.
    pub async fn set_server_keys(&mut self, keys: &ServerKeys) -> Result<()> {
        const SQL: &str = "insert into server_keys (id, name, primary_key, additional_key, seen_at) \
            values ($1, $2, $3, $4, $5) on conflict (id) do update \
            set name = excluded.name, primary_key = excluded.primary_key, \
              additional_key = excluded.additional_key, seen_at = excluded.seen_at";
        execute!(
            self,
            SQL,
            &keys.id,
            &keys.name,
            &keys.primary,
            keys.additional.as_deref(),
            keys.seen_at.as_microsecond()
        )
        .map(drop)
    }

    /// Deletes the rows of servers that were last seen before this time.
    pub async fn delete_server_keys_before(&mut self, end: Timestamp) -> Result<()> {
        const SQL: &str = "delete from server_keys where seen_at < $1";
        execute!(self, SQL, end.as_microsecond()).map(drop)
    }

    /// Deletes the row of a server that stops.
    pub async fn delete_server_keys(&mut self, id: &str) -> Result<()> {
        const SQL: &str = "delete from server_keys where id = $1";
        execute!(self, SQL, id).map(drop)
    }
}
