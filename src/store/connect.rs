//! Opening the database and bringing its schema up to date.

use std::fmt;
use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::time::Duration;

use sqlx::migrate::{MigrateError, Migrator};
use sqlx::postgres::{PgConnectOptions, PgPoolOptions};
use sqlx::sqlite::{SqliteConnectOptions, SqliteJournalMode, SqlitePoolOptions, SqliteSynchronous};
use sqlx::{AssertSqlSafe, Executor, PgPool, SqlitePool};

use super::{Pool, Store, fault};
use crate::domain::Fault;
use crate::error::{Error, Result};

static SQLITE: Migrator = sqlx::migrate!("migrations/sqlite");
static POSTGRES: Migrator = sqlx::migrate!("migrations/postgres");

/// The longest span that PostgreSQL knows, in milliseconds.
const MOST_MILLIS: u128 = i32::MAX as u128;

/// The oldest SQLite whose write-ahead log does not lose what it acknowledged.
const OLDEST_SQLITE: (u32, u32, u32) = (3, 51, 3);

/// How connections to the database are kept.
#[derive(Clone, Copy, Debug)]
pub struct PoolOptions {
    /// The most there are at once.
    pub max_connections: u32,
    /// How long a request waits for one before the database counts as away.
    pub acquire_timeout: Duration,
}

/// Which database, as `sqlite:PATH` or `postgres://…`.
#[derive(Clone)]
pub enum Database {
    /// A file.
    Sqlite(PathBuf),
    /// A server, by URL.
    Postgres(Box<PgConnectOptions>),
}

impl Database {
    /// Reads a database URL.
    pub fn parse(url: &str) -> Result<Self, Fault> {
        if let Some(path) = url.strip_prefix("sqlite:") {
            let path = path.strip_prefix("//").unwrap_or(path);
            if path.is_empty() || path.contains('?') || path == ":memory:" {
                return Err(Fault::new("must name a file, as sqlite:PATH"));
            }
            return Ok(Self::Sqlite(path.into()));
        }
        if url.starts_with("postgres://") || url.starts_with("postgresql://") {
            if let Some(unknown) = unknown_parameter(url) {
                return Err(Fault::new(format!(
                    "has the parameter {unknown:?}, which is not one of {}",
                    PARAMETERS.join(", ")
                )));
            }
            // The driver's own words could repeat the password.
            return PgConnectOptions::from_str(url)
                .map(|options| Self::Postgres(Box::new(options.application_name("keyward"))))
                .map_err(|_| Fault::new("is not a well-formed postgres:// URL"));
        }
        Err(Fault::new("must begin with sqlite: or postgres://"))
    }
}

/// What the driver knows. It would ignore anything else, and a misspelt `sslmode` must
/// not mean an unprotected connection.
const PARAMETERS: [&str; 12] = [
    "sslmode",
    "sslrootcert",
    "sslcert",
    "sslkey",
    "statement-cache-capacity",
    "host",
    "hostaddr",
    "port",
    "dbname",
    "user",
    "password",
    "application_name",
];

fn unknown_parameter(url: &str) -> Option<String> {
    let (_, query) = url.split_once('?')?;
    form_urlencoded::parse(query.as_bytes())
        .map(|(name, _)| name.into_owned())
        .find(|name| !PARAMETERS.contains(&name.as_str()))
}

impl fmt::Display for Database {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Sqlite(path) => write!(f, "sqlite:{}", path.display()),
            Self::Postgres(options) => write!(
                f,
                "postgres://{}:{}/{}",
                options.get_host(),
                options.get_port(),
                options.get_database().unwrap_or_default()
            ),
        }
    }
}

impl fmt::Debug for Database {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// The versions and checksums of the migrations that a database has; none if it has not
/// been migrated at all.
macro_rules! applied {
    ($pool:expr) => {
        sqlx::query_as::<_, (i64, Vec<u8>)>(
            "select version, checksum from _sqlx_migrations where success order by version",
        )
        .fetch_all($pool)
        .await
        .unwrap_or_default()
    };
}

/// Whether a schema is exactly ours: then nothing is run, which would need the rights of
/// the schema's owner.
fn is_current(migrator: &Migrator, applied: Vec<(i64, Vec<u8>)>) -> bool {
    let ours = migrator.iter().map(|m| (m.version, m.checksum.to_vec()));
    applied.into_iter().eq(ours)
}

impl Store {
    /// Opens the database and brings its schema up to date. A schema from a newer
    /// version is left as it is, and refused.
    pub async fn open(database: &Database, options: PoolOptions) -> Result<Self> {
        let pool = match database {
            Database::Sqlite(path) => {
                let one = PoolOptions { max_connections: 1, ..options };
                let write = sqlite_pool(path, one).await?;
                check_sqlite_version(&write).await?;
                if !is_current(&SQLITE, applied!(&write)) {
                    migrated(SQLITE.run(&write).await, database)?;
                }
                let read = sqlite_pool(path, options).await?;
                Pool::Sqlite { read, write }
            }
            Database::Postgres(server) => {
                let pool = postgres_pool(server, options).await?;
                if !is_current(&POSTGRES, applied!(&pool)) {
                    migrated(POSTGRES.run(&pool).await, database)?;
                }
                let one = PoolOptions { max_connections: 1, ..options };
                Pool::Postgres { pool, apart: postgres_pool(server, one).await? }
            }
        };
        Ok(Self { pool })
    }
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

async fn postgres_pool(server: &PgConnectOptions, options: PoolOptions) -> Result<PgPool> {
    let limit = format!(
        "set idle_in_transaction_session_timeout = {}; set jit = off",
        options.acquire_timeout.as_millis().clamp(1, MOST_MILLIS)
    );
    PgPoolOptions::new()
        .max_connections(options.max_connections)
        .acquire_timeout(options.acquire_timeout)
        // A server that hangs, or has lost its wire, in the midst of a transaction would keep
        // all others from revoking anything. And to compile a statement takes longer than any
        // of ours runs.
        .after_connect(move |connection, _| {
            let limit = AssertSqlSafe(limit.clone());
            Box::pin(async move { connection.execute(limit).await.map(drop) })
        })
        .connect_with(server.clone())
        .await
        .map_err(fault)
}

async fn check_sqlite_version(pool: &SqlitePool) -> Result<()> {
    let version: String =
        sqlx::query_scalar("select sqlite_version()").fetch_one(pool).await.map_err(fault)?;
    let mut parts = version.split('.').map(|part| part.parse().unwrap_or(0));
    let mut next = || parts.next().unwrap_or(0);
    if (next(), next(), next()) < OLDEST_SQLITE {
        let (a, b, c) = OLDEST_SQLITE;
        return Err(Error::internal(format!("SQLite {version} is older than {a}.{b}.{c}")));
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
        MigrateError::Execute(error) => fault(error),
        error => Error::Internal(Box::new(error)),
    })
}
