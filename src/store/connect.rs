//! Opens the database and migrates its schema.

use std::path::Path;
use std::sync::Arc;

use sqlx::migrate::Migration;
use sqlx::postgres::PgConnectOptions;
use sqlx::sqlite::{SqliteConnectOptions, SqliteJournalMode, SqlitePoolOptions, SqliteSynchronous};
use sqlx::{Connection, PgConnection, SqlitePool};

use super::Store;
use super::driver_error::driver_error;
use super::pool_options::PoolOptions;
use super::pool_states::PoolWaits;
use super::pools::{Pools, PostgresPools, PurposePool};
use super::postgres::{self, SessionSettings};
use super::schema::{
    PostgresMigrator, SchemaOptions, SchemaProgress, SqliteMigrator, newest, postgres_migrations,
    sqlite_migrations,
};
use super::url::{Database, PostgresServers, host};
use crate::error::{Error, Result};

/// The oldest supported SQLite. The write-ahead log of older versions can lose committed data.
const OLDEST_SQLITE: (u32, u32, u32) = (3, 51, 3);

impl Store {
    /// Opens the database and migrates its schema, or waits until another process has. Refuses a
    /// schema that this version cannot use, and does not change it.
    pub async fn open_with(
        database: &Database,
        options: PoolOptions,
        schema: SchemaOptions,
        progress: &SchemaProgress,
    ) -> Result<Self> {
        let migrations = match database {
            Database::Sqlite(_) => sqlite_migrations(),
            Database::Postgres(_) => postgres_migrations(),
        };
        let task = SchemaTask { migrations, options: schema, progress };
        Self::open_as(database, options, task).await
    }

    /// Opens the database and migrates its schema.
    #[cfg(any(test, feature = "internals"))]
    pub async fn open(database: &Database, options: PoolOptions) -> Result<Self> {
        let max_wait = std::time::Duration::from_mins(10);
        let schema = SchemaOptions { mode: super::MigrationMode::Auto, max_wait };
        Self::open_with(database, options, schema, &SchemaProgress::default()).await
    }

    /// Like [`Store::open`], as a version of Keyward with these migrations.
    #[cfg(feature = "internals")]
    pub async fn open_as_version(
        database: &Database,
        options: PoolOptions,
        schema: SchemaOptions,
        progress: &SchemaProgress,
        migrations: &[Migration],
    ) -> Result<Self> {
        let task = SchemaTask { migrations, options: schema, progress };
        Self::open_as(database, options, task).await
    }

    async fn open_as(
        database: &Database,
        options: PoolOptions,
        task: SchemaTask<'_>,
    ) -> Result<Self> {
        let pools = match database {
            Database::Sqlite(path) => open_sqlite(path, options, task).await?,
            Database::Postgres(servers) => {
                Pools::Postgres(Arc::new(open_postgres(servers, options, task).await?))
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

/// The newest schema that this version knows.
pub(super) fn newest_sqlite_schema() -> i64 {
    newest(sqlite_migrations())
}

/// What to do about the schema.
#[derive(Clone, Copy)]
struct SchemaTask<'a> {
    migrations: &'a [Migration],
    options: SchemaOptions,
    progress: &'a SchemaProgress,
}

async fn open_sqlite(path: &Path, options: PoolOptions, task: SchemaTask<'_>) -> Result<Pools> {
    let pool = |max_connections| sqlite_pool(path, PoolOptions { max_connections, ..options });
    let changes = pool(1).await?;
    check_sqlite(&changes).await?;
    let SchemaTask { migrations, options: schema, progress } = task;
    SqliteMigrator { pool: &changes, migrations, options: schema, progress }.run().await?;
    let checks = options.checks() + options.changes();
    Ok(Pools::Sqlite { checks: pool(checks).await?, lists: pool(options.lists()).await?, changes })
}

async fn open_postgres(
    servers: &PostgresServers,
    options: PoolOptions,
    task: SchemaTask<'_>,
) -> Result<PostgresPools> {
    let found = postgres::wait_for_primary(servers, options.acquire_timeout).await?;
    let (server, name) = (found.0.clone(), host(&found.0));
    let (pools, advice, mut connection) = check_postgres(servers, found, options).await?;
    for advice in advice {
        tracing::warn!(server = name, "{advice}");
    }
    let SchemaTask { migrations, options: schema, progress } = task;
    let migrator = PostgresMigrator {
        connection: &mut connection,
        server: &server,
        pooled: servers.pooled,
        migrations,
        options: schema,
        progress,
    };
    migrator.run().await?;
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
        outdated: Arc::default(),
        primary_lock: tokio::sync::Mutex::default(),
    };
    Ok((pools, advice, connection))
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
