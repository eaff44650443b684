//! Opening the database and bringing its schema up to date.

use std::borrow::Cow;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use sqlx::migrate::{MigrateError, Migrator};
use sqlx::sqlite::{SqliteConnectOptions, SqliteJournalMode, SqlitePoolOptions, SqliteSynchronous};
use sqlx::{Connection, Executor, PgConnection, SqlitePool};

use super::Store;
use super::fault::fault;
use super::pools::{Pools, PostgresPools, PurposePool};
use super::postgres::{self, Settings};
use super::url::{Database, Servers};
use crate::error::{Error, Result};

static SQLITE: Migrator = sqlx::migrate!("migrations/sqlite");
static POSTGRES: Migrator = sqlx::migrate!("migrations/postgres");

/// The oldest SQLite whose write-ahead log does not lose what it acknowledged.
const OLDEST_SQLITE: (u32, u32, u32) = (3, 51, 3);

/// How connections to the database are kept.
#[derive(Clone, Copy, Debug)]
pub struct PoolOptions {
    /// The most there are at once, of all purposes but the list of revocations: three at least.
    pub max_connections: u32,
    /// How long a request waits for one before the database counts as away.
    pub acquire_timeout: Duration,
}

impl PoolOptions {
    /// How many are for lists and reports.
    fn lists(self) -> u32 {
        (self.max_connections / 4).max(1)
    }

    /// How many are for changes, revocations among them.
    fn changes(self) -> u32 {
        (self.max_connections * 3 / 8).max(1)
    }

    /// How many are for checks and tokens.
    fn checks(self) -> u32 {
        self.max_connections.saturating_sub(self.lists() + self.changes()).max(1)
    }
}

const APPLIED: &str =
    "select version, checksum from _sqlx_migrations where success order by version";

/// The versions and checksums of the migrations that a database has.
type Applied = Vec<(i64, Vec<u8>)>;

/// Whether a schema is exactly ours: then nothing is run, which would need the rights of
/// the schema's owner.
fn is_current(migrator: &Migrator, applied: Applied) -> bool {
    let ours = migrator.iter().map(|m| (m.version, m.checksum.to_vec()));
    applied.into_iter().eq(ours)
}

impl Store {
    /// Opens the database and brings its schema up to date. A schema from a newer
    /// version is left as it is, and refused.
    pub async fn open(database: &Database, options: PoolOptions) -> Result<Self> {
        let pools = match database {
            Database::Sqlite(path) => open_sqlite(path, database, options).await?,
            Database::Postgres(servers) => {
                Pools::Postgres(Arc::new(open_postgres(servers, database, options).await?))
            }
        };
        Ok(Self { pools })
    }
}

async fn open_sqlite(path: &Path, database: &Database, options: PoolOptions) -> Result<Pools> {
    let pool = |max_connections| sqlite_pool(path, PoolOptions { max_connections, ..options });
    let changes = pool(1).await?;
    check_sqlite(&changes).await?;
    if !is_current(&SQLITE, applied_sqlite(&changes).await?) {
        migrated(SQLITE.run(&changes).await, database)?;
    }
    let checks = options.checks() + options.changes();
    Ok(Pools::Sqlite { checks: pool(checks).await?, lists: pool(options.lists()).await?, changes })
}

async fn open_postgres(
    servers: &Servers,
    database: &Database,
    options: PoolOptions,
) -> Result<PostgresPools> {
    let longest = options.acquire_timeout;
    let (server, mut connection) = postgres::wait_for_primary(servers, longest).await?;
    postgres::check_server(&mut connection, &server, options).await?;
    let settings = Settings {
        acquire_timeout: longest,
        notices_leaving: postgres::notices_leaving(&mut connection).await?,
        pooled: servers.pooled,
    };
    if !servers.pooled {
        postgres::check_pooler(&mut connection, &server).await?;
    }
    migrate_postgres(&mut connection, database, servers.pooled).await?;
    connection.close().await.ok();
    let pool = |most, writes| PurposePool::new(postgres::pool(&server, most, settings, writes));
    Ok(PostgresPools {
        checks: pool(options.checks(), false),
        lists: pool(options.lists(), false),
        changes: pool(options.changes(), true),
        feed: pool(1, false),
        servers: servers.clone(),
        settings,
        looking: tokio::sync::Mutex::default(),
    })
}

/// Brings the schema up to date. Behind a pooler in one transaction, which keeps one connection of
/// the server: there, the migrator's lock and names of statements would go astray.
async fn migrate_postgres(
    connection: &mut PgConnection,
    database: &Database,
    pooled: bool,
) -> Result<()> {
    // What other sessions left behind must not end a migration.
    const UNBOUND: &str = "set local statement_timeout = 0; set local lock_timeout = 0";
    // An arbitrary number, for this lock alone.
    const LOCK: &str = "select pg_advisory_xact_lock(7391265880217)";
    if !pooled {
        if !is_current(&POSTGRES, applied_postgres(connection).await?) {
            connection
                .execute("set statement_timeout = 0; set lock_timeout = 0")
                .await
                .map_err(fault)?;
            postgres::check_trigrams(connection).await?;
            migrated(POSTGRES.run(&mut *connection).await, database)?;
        }
        return Ok(());
    }
    let mut tx = connection.begin().await.map_err(fault)?;
    for sql in [UNBOUND, LOCK, "deallocate all"] {
        tx.execute(sql).await.map_err(fault)?;
    }
    if !is_current(&POSTGRES, applied_postgres(&mut tx).await?) {
        postgres::check_trigrams(&mut tx).await?;
        let migrations = Cow::Borrowed(&*POSTGRES.migrations);
        let without_lock = Migrator { locking: false, migrations, ..Migrator::DEFAULT };
        migrated(without_lock.run(&mut *tx).await, database)?;
        tx.execute("deallocate all").await.map_err(fault)?;
    }
    tx.commit().await.map_err(fault)
}

/// None if the database has not been migrated at all; what cannot be read is a fault.
async fn applied_sqlite(pool: &SqlitePool) -> Result<Applied> {
    const THERE: &str = "select count(*) from sqlite_master where name = '_sqlx_migrations'";
    let there: i64 = sqlx::query_scalar(THERE).fetch_one(pool).await.map_err(fault)?;
    if there == 0 {
        return Ok(Vec::new());
    }
    sqlx::query_as(APPLIED).fetch_all(pool).await.map_err(fault)
}

async fn applied_postgres(connection: &mut PgConnection) -> Result<Applied> {
    const THERE: &str = "select to_regclass('_sqlx_migrations') is not null";
    let there: bool = sqlx::query_scalar(THERE)
        .persistent(false)
        .fetch_one(&mut *connection)
        .await
        .map_err(fault)?;
    if !there {
        return Ok(Vec::new());
    }
    sqlx::query_as(APPLIED).persistent(false).fetch_all(connection).await.map_err(fault)
}

async fn sqlite_pool(path: &Path, options: PoolOptions) -> Result<SqlitePool> {
    let file = SqliteConnectOptions::new()
        .filename(path)
        .create_if_missing(true)
        .foreign_keys(true)
        .journal_mode(SqliteJournalMode::Wal)
        // What was acknowledged survives a loss of power.
        .synchronous(SqliteSynchronous::Full)
        // What was destroyed is not left lying in free pages.
        .pragma("secure_delete", "on")
        .busy_timeout(options.acquire_timeout);
    SqlitePoolOptions::new()
        .max_connections(options.max_connections)
        .acquire_timeout(options.acquire_timeout)
        // A file does not hang up.
        .test_before_acquire(false)
        .connect_with(file)
        .await
        .map_err(fault)
}

/// Checks what the file and the library must be.
async fn check_sqlite(pool: &SqlitePool) -> Result<()> {
    let version: String =
        sqlx::query_scalar("select sqlite_version()").fetch_one(pool).await.map_err(fault)?;
    let mut parts = version.split('.').map(|part| part.parse().unwrap_or(0));
    let mut next = || parts.next().unwrap_or(0);
    if (next(), next(), next()) < OLDEST_SQLITE {
        let (a, b, c) = OLDEST_SQLITE;
        return Err(Error::internal(format!("SQLite {version} is older than {a}.{b}.{c}")));
    }
    // Some network file systems say yes to it and do something else.
    let mode: String =
        sqlx::query_scalar("pragma journal_mode").fetch_one(pool).await.map_err(fault)?;
    if mode != "wal" {
        return Err(Error::internal(format!(
            "its journal mode is {mode} and cannot be changed to wal: use a local disk"
        )));
    }
    Ok(())
}

fn migrated(outcome: Result<(), MigrateError>, database: &Database) -> Result<()> {
    outcome.map_err(|error| match error {
        MigrateError::VersionMissing(version) | MigrateError::VersionTooNew(version, _) => {
            Error::internal(format!(
                "{database} has schema version {version}, which this version of keyward does not \
                 know: it was written by a newer one; nothing was changed"
            ))
        }
        MigrateError::VersionMismatch(version) => Error::internal(format!(
            "{database} has another schema version {version} than this keyward; nothing was changed"
        )),
        MigrateError::Execute(error) | MigrateError::ExecuteMigration(error, _) => fault(error),
        error => Error::Internal(Box::new(error)),
    })
}
