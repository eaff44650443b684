//! Opens the database and migrates its schema.

use std::borrow::Cow;
use std::path::Path;
use std::sync::Arc;

use sqlx::migrate::{MigrateError, Migrator};
use sqlx::postgres::PgConnectOptions;
use sqlx::sqlite::{SqliteConnectOptions, SqliteJournalMode, SqlitePoolOptions, SqliteSynchronous};
use sqlx::{Connection, Executor, PgConnection, SqlitePool};

use super::Store;
use super::driver_error::driver_error;
use super::pool_options::PoolOptions;
use super::pool_states::PoolWaits;
use super::pools::{Pools, PostgresPools, PurposePool};
use super::postgres::{self, SessionSettings};
use super::url::{Database, PostgresServers, host};
use crate::error::{Error, Result};

static SQLITE: Migrator = sqlx::migrate!("migrations/sqlite");
static POSTGRES: Migrator = sqlx::migrate!("migrations/postgres");

/// The oldest supported SQLite. The write-ahead log of older versions can lose committed data.
const OLDEST_SQLITE: (u32, u32, u32) = (3, 51, 3);

const APPLIED: &str =
    "select version, checksum from _sqlx_migrations where success order by version";

/// The versions and checksums of the applied migrations.
type AppliedMigrations = Vec<(i64, Vec<u8>)>;

/// Whether all migrations are applied. Then the migrator does not run, because it needs the rights
/// of the schema's owner.
fn is_current(migrator: &Migrator, applied: AppliedMigrations) -> bool {
    let ours = migrator.iter().map(|m| (m.version, m.checksum.to_vec()));
    applied.into_iter().eq(ours)
}

impl Store {
    /// Opens the database and migrates its schema. Refuses the schema of a newer version, and does
    /// not change it.
    pub async fn open(database: &Database, options: PoolOptions) -> Result<Self> {
        let pools = match database {
            Database::Sqlite(path) => open_sqlite(path, database, options).await?,
            Database::Postgres(servers) => {
                Pools::Postgres(Arc::new(open_postgres(servers, database, options).await?))
            }
        };
        Ok(Self { pools, waits: PoolWaits::default() })
    }

    /// Opens the database as it is, without creating, migrating or changing it. Also returns what
    /// its server's settings should be.
    pub async fn inspect(database: &Database, options: PoolOptions) -> Result<(Self, Vec<String>)> {
        let (pools, advice) = match database {
            Database::Sqlite(path) => {
                // A connection that can write removes the log again that it creates. If there is a
                // log, it belongs to a server, or has changes of a killed one.
                let mut log = path.as_os_str().to_owned();
                log.push("-wal");
                let file = SqliteConnectOptions::new()
                    .filename(path)
                    .read_only(Path::new(&log).exists())
                    .busy_timeout(options.acquire_timeout);
                let pool = open_pool(file, PoolOptions { max_connections: 1, ..options }).await?;
                check_sqlite(&pool).await?;
                let (checks, lists, changes) = (pool.clone(), pool.clone(), pool);
                (Pools::Sqlite { checks, lists, changes }, Vec::new())
            }
            Database::Postgres(servers) => {
                let found = postgres::find_primary(servers, options.acquire_timeout).await?;
                let (pools, advice, connection) = check_postgres(servers, found, options).await?;
                connection.close().await.ok();
                (Pools::Postgres(Arc::new(pools)), advice)
            }
        };
        Ok((Self { pools, waits: PoolWaits::default() }, advice))
    }
}

/// The versions and checksums of the migrations that this version has.
pub(super) fn known_migrations(postgres: bool) -> AppliedMigrations {
    let migrator = if postgres { &POSTGRES } else { &SQLITE };
    migrator.iter().map(|m| (m.version, m.checksum.to_vec())).collect()
}

/// The newest schema that this version knows.
pub(super) fn newest_sqlite_schema() -> i64 {
    SQLITE.iter().map(|m| m.version).max().unwrap_or_default()
}

async fn open_sqlite(path: &Path, database: &Database, options: PoolOptions) -> Result<Pools> {
    let pool = |max_connections| sqlite_pool(path, PoolOptions { max_connections, ..options });
    let changes = pool(1).await?;
    check_sqlite(&changes).await?;
    if !is_current(&SQLITE, applied_sqlite(&changes).await?) {
        migration_result(SQLITE.run(&changes).await, database)?;
    }
    let checks = options.checks() + options.changes();
    Ok(Pools::Sqlite { checks: pool(checks).await?, lists: pool(options.lists()).await?, changes })
}

async fn open_postgres(
    servers: &PostgresServers,
    database: &Database,
    options: PoolOptions,
) -> Result<PostgresPools> {
    let found = postgres::wait_for_primary(servers, options.acquire_timeout).await?;
    let name = host(&found.0);
    let (pools, advice, mut connection) = check_postgres(servers, found, options).await?;
    for advice in advice {
        tracing::warn!(server = name, "{advice}");
    }
    migrate_postgres(&mut connection, database, servers.pooled).await?;
    connection.close().await.ok();
    Ok(pools)
}

/// Checks a server, and makes the pools. Also returns what its settings should be.
async fn check_postgres(
    servers: &PostgresServers,
    (server, mut connection): (PgConnectOptions, PgConnection),
    options: PoolOptions,
) -> Result<(PostgresPools, Vec<String>, PgConnection)> {
    let acquire_timeout = options.acquire_timeout;
    let advice = postgres::check_server(&mut connection, options).await?;
    let settings = SessionSettings {
        acquire_timeout,
        detects_disconnects: postgres::detects_disconnects(&mut connection).await?,
        pooled: servers.pooled,
    };
    if !servers.pooled {
        postgres::check_pooler(&mut connection, &server).await?;
    }
    let pool = |max, writes| PurposePool::new(postgres::pool(&server, max, settings, writes));
    let pools = PostgresPools {
        checks: pool(options.checks(), false),
        lists: pool(options.lists(), false),
        changes: pool(options.changes(), true),
        feed: pool(1, false),
        servers: servers.clone(),
        settings,
        primary_lock: tokio::sync::Mutex::default(),
    };
    Ok((pools, advice, connection))
}

/// Migrates the schema. With a pooler, all migrations run in one transaction, which stays on one
/// connection of the server. Otherwise the migrator's lock and prepared statements could be on
/// different connections.
async fn migrate_postgres(
    connection: &mut PgConnection,
    database: &Database,
    pooled: bool,
) -> Result<()> {
    // A pooled connection can have timeouts of other sessions, which must not end a migration.
    const NO_TIMEOUTS: &str = "set local statement_timeout = 0; set local lock_timeout = 0";
    // The number is arbitrary. Only this lock uses it.
    const LOCK: &str = "select pg_advisory_xact_lock(7391265880217)";
    if !pooled {
        if !is_current(&POSTGRES, applied_postgres(connection).await?) {
            connection
                .execute("set statement_timeout = 0; set lock_timeout = 0")
                .await
                .map_err(driver_error)?;
            postgres::check_trigrams(connection).await?;
            migration_result(POSTGRES.run(&mut *connection).await, database)?;
        }
        return Ok(());
    }
    let mut tx = connection.begin().await.map_err(driver_error)?;
    for sql in [NO_TIMEOUTS, LOCK, "deallocate all"] {
        tx.execute(sql).await.map_err(driver_error)?;
    }
    if !is_current(&POSTGRES, applied_postgres(&mut tx).await?) {
        postgres::check_trigrams(&mut tx).await?;
        let migrations = Cow::Borrowed(&*POSTGRES.migrations);
        let without_lock = Migrator { locking: false, migrations, ..Migrator::DEFAULT };
        migration_result(without_lock.run(&mut *tx).await, database)?;
        tx.execute("deallocate all").await.map_err(driver_error)?;
    }
    tx.commit().await.map_err(driver_error)
}

/// Empty if the database has no migrations yet. It is an error if the table cannot be read.
async fn applied_sqlite(pool: &SqlitePool) -> Result<AppliedMigrations> {
    const TABLE_EXISTS: &str = "select count(*) from sqlite_master where name = '_sqlx_migrations'";
    let count: i64 =
        sqlx::query_scalar(TABLE_EXISTS).fetch_one(pool).await.map_err(driver_error)?;
    if count == 0 {
        return Ok(Vec::new());
    }
    sqlx::query_as(APPLIED).fetch_all(pool).await.map_err(driver_error)
}

async fn applied_postgres(connection: &mut PgConnection) -> Result<AppliedMigrations> {
    const TABLE_EXISTS: &str = "select to_regclass('_sqlx_migrations') is not null";
    let exists: bool = sqlx::query_scalar(TABLE_EXISTS)
        .persistent(false)
        .fetch_one(&mut *connection)
        .await
        .map_err(driver_error)?;
    if !exists {
        return Ok(Vec::new());
    }
    sqlx::query_as(APPLIED).persistent(false).fetch_all(connection).await.map_err(driver_error)
}

async fn sqlite_pool(path: &Path, options: PoolOptions) -> Result<SqlitePool> {
    let file = SqliteConnectOptions::new()
        .filename(path)
        .create_if_missing(true)
        .foreign_keys(true)
        .journal_mode(SqliteJournalMode::Wal)
        // Committed data survives a loss of power.
        .synchronous(SqliteSynchronous::Full)
        // Deleted secrets do not remain in free pages.
        .pragma("secure_delete", "on")
        .busy_timeout(options.acquire_timeout);
    open_pool(file, options).await
}

async fn open_pool(file: SqliteConnectOptions, options: PoolOptions) -> Result<SqlitePool> {
    SqlitePoolOptions::new()
        .max_connections(options.max_connections)
        .acquire_timeout(options.acquire_timeout)
        // A connection to a file cannot be closed by a server.
        .test_before_acquire(false)
        .connect_with(file)
        .await
        .map_err(driver_error)
}

/// Checks the version of SQLite and the journal mode of the file.
async fn check_sqlite(pool: &SqlitePool) -> Result<()> {
    let version: String = sqlx::query_scalar("select sqlite_version()")
        .fetch_one(pool)
        .await
        .map_err(driver_error)?;
    let mut parts = version.split('.').map(|part| part.parse().unwrap_or(0));
    let mut next = || parts.next().unwrap_or(0);
    if (next(), next(), next()) < OLDEST_SQLITE {
        let (a, b, c) = OLDEST_SQLITE;
        return Err(Error::internal(format!("SQLite {version} is older than {a}.{b}.{c}")));
    }
    // On some network file systems SQLite accepts the mode but does not use it.
    let mode: String =
        sqlx::query_scalar("pragma journal_mode").fetch_one(pool).await.map_err(driver_error)?;
    if mode != "wal" {
        return Err(Error::internal(format!(
            "its journal mode is {mode} and cannot be changed to wal: use a local disk"
        )));
    }
    Ok(())
}

fn migration_result(outcome: Result<(), MigrateError>, database: &Database) -> Result<()> {
    outcome.map_err(|error| match error {
        MigrateError::VersionMissing(version) | MigrateError::VersionTooNew(version, _) => {
            Error::internal(format!(
                "{database} has schema version {version}, which this version of keyward does not \
                 know: a newer version has migrated it; nothing was changed"
            ))
        }
        MigrateError::VersionMismatch(version) => Error::internal(format!(
            "schema version {version} of {database} differs from that of this keyward; nothing \
             was changed"
        )),
        MigrateError::Execute(error) | MigrateError::ExecuteMigration(error, _) => {
            driver_error(error)
        }
        error => Error::Internal(Box::new(error)),
    })
}
