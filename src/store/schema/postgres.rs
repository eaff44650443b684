//! Migrates PostgreSQL while servers use it.
//!
//! Each migration runs in a short transaction of its own, which waits for locks for a moment only:
//! statements of servers queue behind a statement that waits for a table. After that, it lets them
//! pass and tries again. An index of a large table is built concurrently, outside a transaction.
//!
//! One process migrates at a time. The others try the lock, and have no transaction between two
//! attempts: a concurrent build of an index waits for the snapshots of all transactions, so a
//! process that waits for the lock in a statement would wait for it, and the build for the process.

mod index;
mod observer;
mod statements;

use std::time::Duration;

use sqlx::migrate::Migration;
use sqlx::postgres::PgConnectOptions;
use sqlx::{AssertSqlSafe, Connection, Executor, PgConnection};

use super::state::file_name;
use super::wait::BoundedWait;
use super::{MigrationMode, SchemaOptions, SchemaProgress};
use crate::clock::Stopwatch;
use crate::error::{Error, Result};
use crate::store::driver_error::driver_error;
use crate::store::postgres::{BEGIN, check_trigrams};
use index::ConcurrentIndex;
use observer::{Observer, Seen};
use statements::{LOCK, applied, one, read, record};

/// How long a migration waits for a lock on a table. Statements of servers wait behind it.
const LOCK_TIMEOUT: Duration = Duration::from_millis(500);

pub(in crate::store) struct PostgresMigrator<'a> {
    pub(in crate::store) connection: &'a mut PgConnection,
    /// The same server, to observe the connection from another one.
    pub(in crate::store) server: &'a PgConnectOptions,
    /// Whether a pooler gives each transaction another connection.
    pub(in crate::store) pooled: bool,
    pub(in crate::store) migrations: &'a [Migration],
    pub(in crate::store) options: SchemaOptions,
    pub(in crate::store) progress: &'a SchemaProgress,
}

/// The result of an attempt to apply one migration.
enum Attempted {
    Applied,
    /// Another process migrates.
    OtherMigrates,
    /// Other sessions hold locks.
    Blocked,
}

impl PostgresMigrator<'_> {
    /// Brings the schema up to date, or waits until another process has.
    pub(in crate::store) async fn run(mut self) -> Result<()> {
        let mut wait = BoundedWait::new(self.options);
        loop {
            let applied = applied(self.connection).await?;
            let state = applied.compare(self.migrations);
            if !state.needs_migration()? {
                return Ok(());
            }
            let Some(next) = applied.next(self.migrations) else { return Ok(()) };
            wait.missing(self.migrations.len().saturating_sub(applied.migrations.len()));
            if self.options.mode == MigrationMode::Wait {
                let what = format!("{state}: waiting for `keyward migrate`");
                wait.pause(self.progress, &what, "").await?;
                continue;
            }
            let seen = Seen::default();
            match self.attempt(next, &seen).await {
                Ok(Attempted::OtherMigrates) => {
                    let what = format!("{state}: another process migrates");
                    let holder = observer::holder_of_lock(self.connection, LOCK).await?;
                    wait.pause(self.progress, &what, &holder).await?;
                }
                Ok(Attempted::Blocked) => {
                    let what = format!("migration {:04} waits for locks", next.version);
                    wait.pause(self.progress, &what, &seen.blockers()).await?;
                }
                // An older version of Keyward uses another lock, and may have applied it meanwhile.
                Err(error) if !self.is_applied(next.version).await => return Err(error),
                Ok(Attempted::Applied) | Err(_) => {}
            }
        }
    }

    async fn is_applied(&mut self, version: i64) -> bool {
        let applied = applied(self.connection).await;
        applied.is_ok_and(|applied| applied.has(version))
    }

    async fn attempt(&mut self, migration: &Migration, seen: &Seen) -> Result<Attempted> {
        let started = Stopwatch::start();
        let name = file_name(migration);
        self.progress.set(format!("applying migration {name}"));
        check_trigrams(self.connection).await?;
        let observer = Observer { server: self.server, progress: self.progress, name: &name, seen };
        let applied = match ConcurrentIndex::of(migration)? {
            None => in_transaction(self.connection, self.migrations, migration, observer).await,
            Some(index) => {
                if self.pooled {
                    return Err(Error::internal(format!(
                        "migration {name} builds an index concurrently, which the pooler of \
                         database.pooler cannot do: run `keyward migrate` with the address of \
                         PostgreSQL itself"
                    )));
                }
                index.build(self.connection, migration, self.options.max_wait, observer).await
            }
        };
        match applied {
            Ok(true) => {
                let took = started.elapsed();
                self.progress.step(format!("applied migration {name} in {took:.1?}"));
                Ok(Attempted::Applied)
            }
            Ok(false) => Ok(Attempted::OtherMigrates),
            Err(error) if is_blocked(&error) => Ok(Attempted::Blocked),
            Err(error) => Err(driver_error(error)),
        }
    }
}

/// Applies a migration in a transaction. Returns `false` if another process has the lock, or has
/// applied it.
async fn in_transaction(
    connection: &mut PgConnection,
    ours: &[Migration],
    migration: &Migration,
    observer: Observer<'_>,
) -> Result<bool, sqlx::Error> {
    let mut tx = connection.begin_with(BEGIN).await?;
    let applied = apply(&mut tx, ours, migration, observer).await;
    if matches!(applied, Ok(true)) {
        tx.commit().await?;
    } else {
        // At once, so that no transaction is open during a pause.
        tx.rollback().await?;
    }
    applied
}

async fn apply(
    tx: &mut PgConnection,
    ours: &[Migration],
    migration: &Migration,
    observer: Observer<'_>,
) -> Result<bool, sqlx::Error> {
    const TABLE: &str = "create table if not exists _sqlx_migrations (version bigint primary key, \
        description text not null, installed_on timestamptz not null default now(), \
        success boolean not null, checksum bytea not null, execution_time bigint not null)";
    // A pooled connection can have timeouts of other sessions, which must not end a migration.
    let settings = format!(
        "set local statement_timeout = 0; set local idle_in_transaction_session_timeout = 0; \
         set local client_min_messages = warning; set local lock_timeout = {}",
        LOCK_TIMEOUT.as_millis()
    );
    tx.execute(sqlx::raw_sql(AssertSqlSafe(settings))).await?;
    if !one::<bool>(tx, format!("select pg_try_advisory_xact_lock({LOCK})")).await? {
        return Ok(false);
    }
    let applied = read(tx).await?;
    if applied.next(ours).is_none_or(|next| next.version != migration.version) {
        return Ok(false);
    }
    if applied.migrations.is_empty() {
        tx.execute(sqlx::raw_sql(TABLE)).await?;
    }
    let started = Stopwatch::start();
    let pid = one::<i32>(tx, "select pg_backend_pid()".to_owned()).await?;
    let sql = sqlx::raw_sql(migration.sql.clone());
    observer.during(pid, async { tx.execute(sql).await }).await?;
    record(tx, migration, started.elapsed()).await?;
    Ok(true)
}

/// Whether a lock was not free in time, or the statement was chosen to end a deadlock. Both can
/// succeed later.
fn is_blocked(error: &sqlx::Error) -> bool {
    let code = error.as_database_error().and_then(sqlx::error::DatabaseError::code);
    matches!(code.as_deref(), Some("55P03" | "40P01"))
}
