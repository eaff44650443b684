//! Migrates a SQLite file, one migration at a time, each in a transaction of its own.

use sqlx::SqlitePool;
use sqlx::migrate::{Migrate, MigrateError, Migration};

use super::state::file_name;
use super::wait::BoundedWait;
use super::{Applied, MigrationMode, SchemaOptions, SchemaProgress};
use crate::clock::Stopwatch;
use crate::error::{Error, Result};
use crate::store::driver_error::driver_error;

const TABLE: &str = "_sqlx_migrations";

pub(in crate::store) struct SqliteMigrator<'a> {
    pub(in crate::store) pool: &'a SqlitePool,
    pub(in crate::store) migrations: &'a [Migration],
    pub(in crate::store) options: SchemaOptions,
    pub(in crate::store) progress: &'a SchemaProgress,
}

impl SqliteMigrator<'_> {
    /// Brings the schema up to date, or waits until another process has.
    pub(in crate::store) async fn run(self) -> Result<()> {
        let mut wait = BoundedWait::new(self.options);
        loop {
            let applied = applied(self.pool).await?;
            let state = applied.compare(self.migrations);
            let needs_migration = state.needs_migration()?;
            let Some(next) = applied.next(self.migrations).filter(|_| needs_migration) else {
                return Ok(());
            };
            if self.options.mode == MigrationMode::Auto {
                self.apply(next).await?;
                continue;
            }
            wait.missing(self.migrations.len().saturating_sub(applied.migrations.len()));
            wait.pause(self.progress, &format!("{state}: waiting for `keyward migrate`"), "")
                .await?;
        }
    }

    async fn apply(&self, migration: &Migration) -> Result<()> {
        let name = file_name(migration);
        self.progress.set(format!("applying migration {name}"));
        let started = Stopwatch::start();
        let mut connection = self.pool.acquire().await.map_err(driver_error)?;
        connection.ensure_migrations_table(TABLE).await.map_err(migrate_error)?;
        connection.apply(TABLE, migration).await.map_err(migrate_error)?;
        let took = started.elapsed();
        self.progress.step(format!("applied migration {name} in {took:.1?}"));
        Ok(())
    }
}

/// What the file says about its migrations.
pub(in crate::store) async fn applied(pool: &SqlitePool) -> Result<Applied> {
    const EXISTS: &str = "select count(*) from sqlite_master where name = $1";
    const MIGRATIONS: &str =
        "select version, checksum from _sqlx_migrations where success order by version";
    const COMPATIBILITY: &str =
        "select migration, oldest_program from schema_compatibility order by migration";
    let exists = async |table: &'static str| {
        let count: i64 = sqlx::query_scalar(EXISTS).bind(table).fetch_one(pool).await?;
        Ok::<_, sqlx::Error>(count > 0)
    };
    let read = async {
        let mut applied = Applied::default();
        if exists(TABLE).await? {
            applied.migrations = sqlx::query_as(MIGRATIONS).fetch_all(pool).await?;
        }
        if exists("schema_compatibility").await? {
            applied.compatibility = sqlx::query_as(COMPATIBILITY).fetch_all(pool).await?;
        }
        Ok(applied)
    };
    read.await.map_err(driver_error)
}

fn migrate_error(error: MigrateError) -> Error {
    match error {
        MigrateError::Execute(error) | MigrateError::ExecuteMigration(error, _) => {
            driver_error(error)
        }
        error => Error::Internal(Box::new(error)),
    }
}
