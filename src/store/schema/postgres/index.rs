//! Builds an index concurrently. A build that fails or is killed leaves an invalid index, which
//! costs each write and helps no read; the next attempt drops it.

use std::time::Duration;

use sqlx::migrate::Migration;
use sqlx::{AssertSqlSafe, Connection, Executor, PgConnection};

use super::observer::Observer;
use super::statements::{LOCK, one, read, record};
use crate::clock::Stopwatch;
use crate::error::{Error, Result};
use crate::store::postgres::BEGIN;

/// The index that a migration builds.
pub(super) struct ConcurrentIndex {
    name: String,
    /// The oldest program that can use the schema. Such a migration has no other statement, so it
    /// says this in a comment.
    oldest_program: i64,
}

/// Begins the comment.
const OLDEST_PROGRAM: &str = "-- oldest-program: ";

impl ConcurrentIndex {
    /// `None` if the migration runs in a transaction. Otherwise it must be one statement `create
    /// index concurrently`.
    pub(super) fn of(migration: &Migration) -> Result<Option<Self>> {
        if !migration.no_tx {
            return Ok(None);
        }
        let sql = migration.sql.as_str();
        let oldest = sql.lines().find_map(|line| line.strip_prefix(OLDEST_PROGRAM));
        let oldest_program = oldest.and_then(|oldest| oldest.trim().parse().ok());
        match (index_name(sql), oldest_program) {
            (Some(name), Some(oldest_program)) => Ok(Some(Self { name, oldest_program })),
            _ => Err(Error::internal(format!(
                "migration {:04} is outside a transaction, and not one `create index concurrently` \
                 with a line `{OLDEST_PROGRAM}NUMBER`",
                migration.version
            ))),
        }
    }

    /// Builds it and records the migration. Returns `false` if another process has the lock, or has
    /// applied it.
    pub(super) async fn build(
        self,
        connection: &mut PgConnection,
        migration: &Migration,
        max_wait: Duration,
        observer: Observer<'_>,
    ) -> Result<bool, sqlx::Error> {
        if !one::<bool>(connection, format!("select pg_try_advisory_lock({LOCK})")).await? {
            return Ok(false);
        }
        let built = self.build_with_lock(connection, migration, max_wait, observer).await;
        // If this fails, the connection is broken, and the server has freed the lock.
        one::<bool>(connection, format!("select pg_advisory_unlock({LOCK})")).await?;
        built
    }

    async fn build_with_lock(
        &self,
        connection: &mut PgConnection,
        migration: &Migration,
        max_wait: Duration,
        observer: Observer<'_>,
    ) -> Result<bool, sqlx::Error> {
        let applied = read(connection).await?;
        if applied.has(migration.version) {
            return Ok(false);
        }
        // Readers and writers do not queue behind this statement, so it can wait for long.
        let lock_timeout = max_wait.as_millis().clamp(1, i32::MAX.unsigned_abs().into());
        let settings = format!("set statement_timeout = 0; set lock_timeout = {lock_timeout}");
        connection.execute(sqlx::raw_sql(AssertSqlSafe(settings))).await?;
        let started = Stopwatch::start();
        let pid = one::<i32>(connection, "select pg_backend_pid()".to_owned()).await?;
        let name = &self.name;
        if self.is_valid(connection).await? == Some(false) {
            observer
                .progress
                .step(format!("dropping the invalid index {name} of an earlier attempt"));
            let drop_index = AssertSqlSafe(format!("drop index concurrently {name}"));
            let drop_index = async { connection.execute(sqlx::raw_sql(drop_index)).await };
            observer.during(pid, drop_index).await?;
        }
        // A process that was killed after the build has not recorded it.
        if self.is_valid(connection).await?.is_none() {
            let sql = sqlx::raw_sql(migration.sql.clone());
            observer.during(pid, async { connection.execute(sql).await }).await?;
        }
        let mut tx = connection.begin_with(BEGIN).await?;
        sqlx::query("insert into schema_compatibility (migration, oldest_program) values ($1, $2)")
            .bind(migration.version)
            .bind(self.oldest_program)
            .persistent(false)
            .execute(&mut *tx)
            .await?;
        record(&mut tx, migration, started.elapsed()).await?;
        tx.commit().await?;
        Ok(true)
    }

    /// Whether the index is valid; `None` if there is no such index.
    async fn is_valid(&self, connection: &mut PgConnection) -> Result<Option<bool>, sqlx::Error> {
        const SQL: &str = "select i.indisvalid from pg_index i \
            where i.indexrelid = to_regclass($1)";
        sqlx::query_scalar(SQL).bind(&self.name).persistent(false).fetch_optional(connection).await
    }
}

/// The name in `create [unique] index concurrently NAME on …`, if that is the only statement.
fn index_name(sql: &str) -> Option<String> {
    let code: Vec<_> = sql.lines().filter(|line| !line.trim_start().starts_with("--")).collect();
    let code = code.join(" ");
    let mut statements = code.split(';').filter(|statement| !statement.trim().is_empty());
    let only = statements.next()?;
    if statements.next().is_some() || !only.trim_start().starts_with("create ") {
        return None;
    }
    let mut words = only.split_whitespace().skip_while(|word| *word != "concurrently").skip(1);
    let name = words.next()?;
    let is_name = name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_');
    (is_name && words.next() == Some("on")).then(|| name.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn name_is_read_from_a_single_statement() {
        let name = |sql: &str| index_name(sql);
        let comment = "-- no-transaction\n-- Why.\n";
        let sql = format!("{comment}create index concurrently a_by_b on a (b);\n");
        assert_eq!(name(&sql).as_deref(), Some("a_by_b"));
        assert_eq!(name("create unique index concurrently x\n  on a (b)").as_deref(), Some("x"));
        for sql in [
            "create index x on a (b)",
            "create index concurrently if not exists x on a (b)",
            "create index concurrently on a (b)",
            "create index concurrently x on a (b); select 1",
            "drop index concurrently x",
            "",
        ] {
            assert_eq!(name(sql), None, "{sql}");
        }
    }
}
