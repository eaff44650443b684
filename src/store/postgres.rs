//! What Keyward requires of a PostgreSQL server. Settings of a session are set on each connection.
//! Other requirements are checked at startup, or each time a connection is acquired.
//! `deploy/README.md` lists them for operators.

use std::time::Duration;

use sqlx::postgres::{PgConnectOptions, PgPoolOptions};
use sqlx::{
    AssertSqlSafe, ConnectOptions, Connection as _, Executor, FromRow, PgConnection, PgPool, Row,
};
use tokio::time::{sleep, timeout};

use super::driver_error::{POOLER_ADVICE, driver_error};
use super::pool_options::PoolOptions;
use super::session::{Session, SessionConnection};
use super::url::{PostgresServers, host};
use crate::clock::Stopwatch;
use crate::error::{Error, Result};

/// The isolation level does not depend on the server's default: after a wait for a lock, a
/// statement must read the latest committed row.
pub(super) const BEGIN: &str = "begin isolation level read committed";

/// The timeout of statements that only read. It is for lost connections that the server cannot
/// detect. If it detects a disconnect, the statement ends with its request.
const STATEMENT_TIMEOUT: Duration = Duration::from_mins(1);
/// How often PostgreSQL checks during a statement whether the client is still connected.
const CLIENT_CHECK: Duration = Duration::from_secs(1);
/// The maximum of a PostgreSQL timeout, in milliseconds.
const MAX_MILLIS: u128 = i32::MAX as u128;
/// The first version with `client_connection_check_interval`.
const OLDEST_VERSION: i32 = 14;
/// The pause between attempts to connect at startup.
const RETRY_PAUSE: Duration = Duration::from_millis(100);

/// The current role of a server.
#[derive(Clone, Copy, Debug, FromRow)]
pub(super) struct ServerRole {
    standby: bool,
    read_only: bool,
}

impl ServerRole {
    /// Asks the server of a session.
    pub(super) async fn of(session: &mut Session) -> Result<Self> {
        let named = session.named_statements();
        let outcome = match session.start_statement() {
            Ok(SessionConnection::Postgres(connection)) => Self::ask(connection, named).await,
            Ok(SessionConnection::Sqlite(_)) => Ok(Self { standby: false, read_only: false }),
            Err(error) => Err(error),
        };
        session.finish_statement(outcome)
    }

    async fn ask(connection: &mut PgConnection, named: bool) -> Result<Self, sqlx::Error> {
        const SQL: &str = "select pg_is_in_recovery() as standby, \
            current_setting('transaction_read_only') = 'on' as read_only";
        if named {
            return sqlx::query_as(SQL).fetch_one(connection).await;
        }
        // A simple query is one message. Outside a transaction, a pooler can send the messages of a
        // prepared statement to different connections.
        Self::from_row(&sqlx::raw_sql(SQL).fetch_one(connection).await?)
    }

    /// Refuses a standby, which can lag behind its primary, and a read-only server for writes.
    pub(super) fn check(self, writes: bool) -> Result<()> {
        let refused = |cause: &str| Err(Error::Unavailable(cause.into()));
        if self.standby {
            return refused(
                "the server is a standby (it is in recovery): Keyward needs the primary",
            );
        }
        if self.read_only && writes {
            return refused(
                "the server is read-only (default_transaction_read_only): Keyward needs to write",
            );
        }
        Ok(())
    }
}

/// Finds the primary among the servers. The error has the cause for each server.
pub(super) async fn find_primary(
    servers: &PostgresServers,
    max_wait: Duration,
) -> Result<(PgConnectOptions, PgConnection)> {
    let mut refusals = Vec::new();
    for options in &servers.each {
        let max_wait = servers.connect_timeout.unwrap_or(max_wait);
        match primary(options, servers.pooled, max_wait).await {
            Ok(connection) => return Ok((options.clone(), connection)),
            Err(Error::Unavailable(cause)) => refusals.push(format!("{}: {cause}", host(options))),
            Err(error) => return Err(error),
        }
    }
    Err(Error::Unavailable(refusals.join("; ").into()))
}

async fn primary(
    options: &PgConnectOptions,
    pooled: bool,
    max_wait: Duration,
) -> Result<PgConnection> {
    let connected = async {
        let mut connection = options.connect().await?;
        if !pooled {
            // A default of the role or the database must not end a statement of the start.
            connection.execute("set statement_timeout = 0; set lock_timeout = 0").await?;
        }
        let role = ServerRole::ask(&mut connection, false).await?;
        Ok((connection, role))
    };
    let late = |_| driver_error(sqlx::Error::PoolTimedOut);
    let (connection, role) =
        timeout(max_wait, connected).await.map_err(late)?.map_err(driver_error)?;
    role.check(true)?;
    Ok(connection)
}

/// Like [`find_primary`], and waits for a server that does not answer. At startup of Keyward, the
/// server may be starting too.
pub(super) async fn wait_for_primary(
    servers: &PostgresServers,
    max_wait: Duration,
) -> Result<(PgConnectOptions, PgConnection)> {
    let waiting = Stopwatch::start();
    loop {
        match find_primary(servers, max_wait).await {
            Err(Error::Unavailable(cause)) if waiting.elapsed() < max_wait => {
                let text = cause.to_string();
                if text.contains("in recovery") || text.contains("read-only") {
                    return Err(Error::Unavailable(cause));
                }
                sleep(RETRY_PAUSE).await;
            }
            outcome => return outcome,
        }
    }
}

/// Checks what does not change while the server runs. Returns an error if Keyward cannot use it, and
/// otherwise what its settings should be.
pub(super) async fn check_server(
    connection: &mut PgConnection,
    pool: PoolOptions,
) -> Result<Vec<String>> {
    let version = number(connection, "server_version_num").await? / 10_000;
    if version < OLDEST_VERSION {
        return Err(Error::internal(format!(
            "PostgreSQL {version} is older than {OLDEST_VERSION}"
        )));
    }
    let encoding = setting(connection, "server_encoding").await?;
    if encoding != "UTF8" {
        return Err(Error::internal(format!(
            "its encoding is {encoding}: create the database with encoding 'UTF8'"
        )));
    }
    let mut advice = Vec::new();
    for durable in ["fsync", "full_page_writes"] {
        if setting(connection, durable).await? == "off" {
            advice
                .push(format!("{durable} is off: committed data can be lost if the machine fails"));
        }
    }
    let available = number(connection, "max_connections").await?;
    let ours = pool.max_connections.saturating_add(1);
    if i64::from(available) < i64::from(ours) {
        advice.push(format!(
            "PostgreSQL allows {available} connections (max_connections), but this server may open \
             {ours} (database.max_connections and one more)"
        ));
    }
    Ok(advice)
}

/// Checks before a migration that the extension `pg_trgm` exists or can be created.
pub(super) async fn check_trigrams(connection: &mut PgConnection) -> Result<()> {
    const SQL: &str = "select current_database(), \
        exists (select 1 from pg_extension where extname = 'pg_trgm'), \
        exists (select 1 from pg_available_extensions where name = 'pg_trgm'), \
        has_database_privilege(current_database(), 'create')";
    let row = sqlx::raw_sql(SQL).fetch_one(connection).await.map_err(driver_error)?;
    let database: String = row.try_get(0).map_err(driver_error)?;
    let flag = |column| row.try_get::<bool, usize>(column).map_err(driver_error);
    if flag(1)? {
        return Ok(());
    }
    let advice = if !flag(2)? {
        "install the package with PostgreSQL's contrib modules on the database server".to_owned()
    } else if !flag(3)? {
        format!(
            "run `create extension pg_trgm` there as its owner, or grant create on database \
             {database} to this role"
        )
    } else {
        return Ok(());
    };
    Err(Error::internal(format!(
        "the extension pg_trgm is missing in {database}, which searches need: {advice}"
    )))
}

/// Reads a setting with a simple query, like [`ServerRole::of`].
async fn setting(connection: &mut PgConnection, name: &'static str) -> Result<String> {
    let sql = AssertSqlSafe(format!("select current_setting('{name}')"));
    let row = sqlx::raw_sql(sql).fetch_one(connection).await.map_err(driver_error)?;
    row.try_get(0).map_err(driver_error)
}

async fn number(connection: &mut PgConnection, name: &'static str) -> Result<i32> {
    let value = setting(connection, name).await?;
    value.parse().map_err(|_| Error::internal(format!("its {name} is {value:?}")))
}

/// Refuses a pooler in transaction mode that is not in the settings: session settings of one
/// connection would apply to transactions of others. The check sets a mark on one connection, and
/// looks for it on another.
pub(super) async fn check_pooler(
    connection: &mut PgConnection,
    options: &PgConnectOptions,
) -> Result<()> {
    const MARK: &str = "select set_config('keyward.mark', 'x', false)";
    const UNMARK: &str = "select set_config('keyward.mark', '', false)";
    const SEEN: &str = "select current_setting('keyward.mark', true) = 'x'";
    sqlx::raw_sql(MARK).execute(&mut *connection).await.map_err(driver_error)?;
    let mut other = options.connect().await.map_err(driver_error)?;
    let seen: Option<bool> = sqlx::query_scalar(SEEN)
        .persistent(false)
        .fetch_one(&mut other)
        .await
        .map_err(driver_error)?;
    other.close().await.ok();
    sqlx::raw_sql(UNMARK).execute(&mut *connection).await.map_err(driver_error)?;
    if seen == Some(true) { Err(Error::internal(POOLER_ADVICE)) } else { Ok(()) }
}

/// Whether the server can detect during a statement that the client has disconnected. It depends on
/// the operating system.
pub(super) async fn detects_disconnects(connection: &mut PgConnection) -> Result<bool> {
    const SQL: &str = "set client_connection_check_interval = '1s'; \
        reset client_connection_check_interval";
    match connection.execute(SQL).await {
        Ok(_) => Ok(true),
        Err(sqlx::Error::Database(error)) if error.code().is_some_and(|c| c.starts_with("22")) => {
            tracing::warn!(
                "PostgreSQL cannot detect disconnects on its operating system: a statement may run \
                 for {STATEMENT_TIMEOUT:?} after its request has ended"
            );
            Ok(false)
        }
        Err(error) => Err(driver_error(error)),
    }
}

/// The settings of each connection, or of each transaction with a pooler.
#[derive(Clone, Copy, Debug)]
pub(super) struct SessionSettings {
    pub(super) acquire_timeout: Duration,
    pub(super) detects_disconnects: bool,
    pub(super) pooled: bool,
}

impl SessionSettings {
    /// The SQL that sets them. Statements of a transaction that writes have no timeout: they may
    /// change many rows, and the end of the request closes the connection.
    pub(super) fn sql(self, writes: bool) -> String {
        let wait = self.acquire_timeout.as_millis().clamp(1, MAX_MILLIS);
        let statement = if writes { 0 } else { STATEMENT_TIMEOUT.as_millis() };
        let each = [
            // If a Keyward server hangs or loses its connection in a transaction, its locks must
            // not block revocations on other servers.
            ("idle_in_transaction_session_timeout", wait.to_string()),
            // Long enough for the timeout above to end the transaction that holds the lock.
            ("lock_timeout", (wait * 2).min(MAX_MILLIS).to_string()),
            ("statement_timeout", statement.to_string()),
            // JIT compilation takes longer than our statements.
            ("jit", "off".to_owned()),
            ("default_transaction_isolation", "read committed".to_owned()),
        ];
        let check = CLIENT_CHECK.as_millis().to_string();
        let check = self.detects_disconnects.then_some(("client_connection_check_interval", check));
        let set = |name: &str, value: &str| {
            format!("select set_config('{name}', '{value}', {})", self.pooled)
        };
        let mut sql: Vec<_> =
            each.iter().chain(&check).map(|(name, value)| set(name, value)).collect();
        // A commit must be durable, also on a synchronous standby, whatever the default of the role
        // or database is.
        let durable = set("synchronous_commit", "on");
        sql.push(format!(
            "{durable} where current_setting('synchronous_commit') in ('off', 'local')"
        ));
        sql.join("; ")
    }
}

/// A connection pool. It opens connections when they are needed.
pub(super) fn pool(
    options: &PgConnectOptions,
    max_connections: u32,
    settings: SessionSettings,
    writes: bool,
) -> PgPool {
    let pool = PgPoolOptions::new()
        .max_connections(max_connections)
        .acquire_timeout(settings.acquire_timeout)
        // The check of the server role also tests the connection.
        .test_before_acquire(false);
    if settings.pooled {
        return pool.connect_lazy_with(options.clone());
    }
    let sql = settings.sql(writes);
    pool.after_connect(move |connection, _| {
        let sql = AssertSqlSafe(sql.clone());
        Box::pin(async move { connection.execute(sql).await.map(drop) })
    })
    .connect_lazy_with(options.clone())
}
