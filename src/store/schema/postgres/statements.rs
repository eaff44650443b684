//! The statements of the migrator. They have no name on the server, so that they also work through a
//! pooler, which gives each transaction another connection.

use std::time::Duration;

use sqlx::migrate::Migration;
use sqlx::{AssertSqlSafe, Connection, PgConnection};

use crate::error::Result;
use crate::store::driver_error::driver_error;
use crate::store::postgres::BEGIN;
use crate::store::schema::Applied;

/// The key of the advisory lock. The number is arbitrary, and only migrations use it. Versions
/// without `schema_compatibility` use it behind a pooler.
pub(super) const LOCK: i64 = 7_391_265_880_217;

/// Adds the row of a migration that was applied.
pub(super) async fn record(
    connection: &mut PgConnection,
    migration: &Migration,
    took: Duration,
) -> Result<(), sqlx::Error> {
    const SQL: &str = "insert into _sqlx_migrations \
        (version, description, success, checksum, execution_time) values ($1, $2, true, $3, $4)";
    sqlx::query(SQL)
        .bind(migration.version)
        .bind(&*migration.description)
        .bind(&*migration.checksum)
        .bind(i64::try_from(took.as_nanos()).unwrap_or(i64::MAX))
        .persistent(false)
        .execute(connection)
        .await
        .map(drop)
}

/// What the database says about its migrations. In a transaction, which a pooler keeps on one
/// connection of the server.
pub(super) async fn applied(connection: &mut PgConnection) -> Result<Applied> {
    let read = async {
        let mut tx = connection.begin_with(BEGIN).await?;
        let applied = read(&mut tx).await?;
        tx.rollback().await?;
        Ok(applied)
    };
    read.await.map_err(driver_error)
}

pub(super) async fn read(tx: &mut PgConnection) -> Result<Applied, sqlx::Error> {
    const MIGRATIONS: &str =
        "select version, checksum from _sqlx_migrations where success order by version";
    const COMPATIBILITY: &str =
        "select migration, oldest_program from schema_compatibility order by migration";
    let mut applied = Applied::default();
    if exists(tx, "_sqlx_migrations").await? {
        applied.migrations =
            sqlx::query_as(MIGRATIONS).persistent(false).fetch_all(&mut *tx).await?;
    }
    if exists(tx, "schema_compatibility").await? {
        applied.compatibility =
            sqlx::query_as(COMPATIBILITY).persistent(false).fetch_all(&mut *tx).await?;
    }
    Ok(applied)
}

async fn exists(tx: &mut PgConnection, table: &str) -> Result<bool, sqlx::Error> {
    one(tx, format!("select to_regclass('{table}') is not null")).await
}

/// The value of the only row and column.
pub(super) async fn one<T>(connection: &mut PgConnection, sql: String) -> Result<T, sqlx::Error>
where
    T: for<'r> sqlx::Decode<'r, sqlx::Postgres> + sqlx::Type<sqlx::Postgres> + Send + Unpin,
{
    sqlx::query_scalar(AssertSqlSafe(sql)).persistent(false).fetch_one(connection).await
}
