//! Snapshots of a SQLite database, for backups.

use std::collections::BTreeSet;
use std::path::Path;
use std::time::Duration;

use sqlx::sqlite::{SqliteConnectOptions, SqliteConnection};
use sqlx::{AssertSqlSafe, ConnectOptions, Connection, FromRow};
use strum::VariantArray;

use super::connect::newest_sqlite_schema;
use super::driver_error::driver_error;
use super::sealed::{SealedColumn, key_id_of_hash};
use crate::error::{Error, Result};

/// How long to wait for another process that holds the database.
const BUSY_TIMEOUT: Duration = Duration::from_secs(30);

/// What a database says about itself.
#[derive(Clone, Debug, PartialEq, Eq, FromRow)]
pub struct SnapshotContents {
    /// The version of the schema.
    pub schema: i64,
    /// The name of the list of revocations.
    pub list: String,
    /// The number of the last revocation.
    pub last_revocation: i64,
    /// The id of the master key under which the newest signing key is sealed. `None` if there are
    /// no signing keys.
    pub master_key: Option<String>,
}

/// Writes a consistent copy of a SQLite database to `target`, an empty file. A server may use the
/// database meanwhile: readers and writers continue.
pub async fn copy_database(database: &Path, target: &Path) -> Result<()> {
    let target = target
        .to_str()
        .ok_or_else(|| Error::internal(format!("{} is not valid UTF-8", target.display())))?;
    let mut connection = open(database).await?;
    // VACUUM INTO reads one snapshot, and copies no free pages.
    let copied = sqlx::query("vacuum into $1").bind(target).execute(&mut connection).await;
    connection.close().await.ok();
    copied.map(drop).map_err(driver_error)
}

/// Reads a copy of a database. Returns an error if it is damaged.
pub async fn snapshot_contents(file: &Path) -> Result<SnapshotContents> {
    const SQL: &str = "select \
        (select max(version) from _sqlx_migrations where success) as schema, \
        (select id from revocation_feed) as list, \
        (select last_number from revocation_feed) as last_revocation, \
        (select substr(sealed_private_key, 1, instr(sealed_private_key, '.') - 1) \
          from signing_keys order by generation desc limit 1) as master_key";
    let mut connection = open(file).await?;
    let read = async {
        let sound: String =
            sqlx::query_scalar("pragma quick_check(1)").fetch_one(&mut connection).await?;
        let contents: SnapshotContents = sqlx::query_as(SQL).fetch_one(&mut connection).await?;
        Ok((sound, contents))
    };
    let read = read.await.map_err(driver_error);
    connection.close().await.ok();
    match read? {
        (sound, contents) if sound == "ok" => Ok(contents),
        (fault, _) => Err(Error::internal(format!("the database is damaged: {fault}"))),
    }
}

/// The ids of all master keys that something in a copy of a database needs.
pub async fn snapshot_master_keys(file: &Path) -> Result<Vec<String>> {
    const HASHES: &str = "select distinct substr(hash, instr(hash, 'keyid=') + 6, 11) \
        from secrets where instr(hash, 'keyid=') > 0";
    let mut connection = open(file).await?;
    let read = async {
        let mut ids = BTreeSet::new();
        for column in SealedColumn::VARIANTS {
            let (table, sealed) = column.place();
            // A backup can be of an older schema.
            let columns: i64 =
                sqlx::query_scalar("select count(*) from pragma_table_info($1) where name = $2")
                    .bind(table)
                    .bind(sealed)
                    .fetch_one(&mut connection)
                    .await?;
            if columns > 0 {
                let sql = format!(
                    "select distinct substr({sealed}, 1, 8) from {table} where {sealed} is not null"
                );
                let found: Vec<String> =
                    sqlx::query_scalar(AssertSqlSafe(sql)).fetch_all(&mut connection).await?;
                ids.extend(found);
            }
        }
        let hashes: Vec<String> = sqlx::query_scalar(HASHES).fetch_all(&mut connection).await?;
        ids.extend(hashes.iter().filter_map(|id| key_id_of_hash(id)));
        Ok(ids.into_iter().collect())
    };
    let read = read.await.map_err(driver_error);
    connection.close().await.ok();
    read
}

/// The newest schema that this version knows.
pub fn newest_schema() -> i64 {
    newest_sqlite_schema()
}

/// Not read-only: such a connection cannot remove the write-ahead log when it is closed.
async fn open(file: &Path) -> Result<SqliteConnection> {
    SqliteConnectOptions::new()
        .filename(file)
        .busy_timeout(BUSY_TIMEOUT)
        .connect()
        .await
        .map_err(driver_error)
}
