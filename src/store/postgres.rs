//! What Keyward relies on in a PostgreSQL server that it does not control. Whatever can be set
//! is set on each connection; what cannot is checked: at the start, or each time that a connection
//! is taken. `deploy/README.md` lists it for operators.

use std::time::Duration;

use sqlx::postgres::{PgConnectOptions, PgPoolOptions};
use sqlx::{
    AssertSqlSafe, ConnectOptions, Connection as _, Executor, FromRow, PgConnection, PgPool, Row,
};
use tokio::time::{sleep, timeout};

use super::PoolOptions;
use super::fault::{POOLER, fault};
use super::session::{Connection, Session};
use super::url::{Servers, host};
use crate::clock::Stopwatch;
use crate::error::{Error, Result};

/// Whatever the server's default is: rows that were locked are read as they are then.
pub(super) const BEGIN: &str = "begin isolation level read committed";

/// How long a statement that reads may take whose caller cannot be noticed to have left, since the
/// wire was lost. All others end with their requests.
const STATEMENT_TIMEOUT: Duration = Duration::from_mins(1);
/// How often PostgreSQL looks whether the caller of a running statement is still there.
const CLIENT_CHECK: Duration = Duration::from_secs(1);
/// The longest span that PostgreSQL knows, in milliseconds.
const MAX_MILLIS: u128 = i32::MAX as u128;
/// The first version that notices a caller who leaves.
const OLDEST_VERSION: i32 = 14;
/// The pause before another attempt to connect at the start.
const PAUSE: Duration = Duration::from_millis(100);

/// What a server is at the moment.
#[derive(Clone, Copy, Debug, FromRow)]
pub(super) struct Role {
    standby: bool,
    read_only: bool,
}

impl Role {
    /// Asks the server at the other end of a session.
    pub(super) async fn of(session: &mut Session) -> Result<Self> {
        let named = session.named_statements();
        let outcome = match session.statement() {
            Ok(Connection::Postgres(connection)) => Self::ask(connection, named).await,
            Ok(Connection::Sqlite(_)) => Ok(Self { standby: false, read_only: false }),
            Err(error) => Err(error),
        };
        session.settle(outcome)
    }

    async fn ask(connection: &mut PgConnection, named: bool) -> Result<Self, sqlx::Error> {
        const SQL: &str = "select pg_is_in_recovery() as standby, \
            current_setting('transaction_read_only') = 'on' as read_only";
        if named {
            return sqlx::query_as(SQL).fetch_one(connection).await;
        }
        // As one message: outside of a transaction a pooler may give the messages of a statement
        // with parameters different connections.
        Self::from_row(&sqlx::raw_sql(SQL).fetch_one(connection).await?)
    }

    /// Refuses a server that may know less than its primary, and one that takes no writes where
    /// there will be some.
    pub(super) fn check(self, writes: bool) -> Result<()> {
        let refused = |why: &str| Err(Error::Unavailable(why.into()));
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

/// Of several servers, the one that is the primary; why none is.
pub(super) async fn find_primary(
    servers: &Servers,
    longest: Duration,
) -> Result<(PgConnectOptions, PgConnection)> {
    let mut refusals = Vec::new();
    for options in &servers.each {
        match primary(options, servers.connect_timeout.unwrap_or(longest)).await {
            Ok(connection) => return Ok((options.clone(), connection)),
            Err(Error::Unavailable(cause)) => refusals.push(format!("{}: {cause}", host(options))),
            Err(error) => return Err(error),
        }
    }
    Err(Error::Unavailable(refusals.join("; ").into()))
}

async fn primary(options: &PgConnectOptions, longest: Duration) -> Result<PgConnection> {
    let connected = async {
        let mut connection = options.connect().await?;
        let role = Role::ask(&mut connection, false).await?;
        Ok((connection, role))
    };
    let late = |_| fault(sqlx::Error::PoolTimedOut);
    let (connection, role) = timeout(longest, connected).await.map_err(late)?.map_err(fault)?;
    role.check(true)?;
    Ok(connection)
}

/// The same at a start, when the server may be starting too: one that does not answer is
/// waited for.
pub(super) async fn wait_for_primary(
    servers: &Servers,
    longest: Duration,
) -> Result<(PgConnectOptions, PgConnection)> {
    let waiting = Stopwatch::start();
    loop {
        match find_primary(servers, longest).await {
            Err(Error::Unavailable(cause)) if waiting.elapsed() < longest => {
                let words = cause.to_string();
                if words.contains("in recovery") || words.contains("read-only") {
                    return Err(Error::Unavailable(cause));
                }
                sleep(PAUSE).await;
            }
            outcome => return outcome,
        }
    }
}

/// Checks at the start what stays as it is while the server runs.
pub(super) async fn check_server(
    connection: &mut PgConnection,
    options: &PgConnectOptions,
    pool: PoolOptions,
) -> Result<()> {
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
    for durable in ["fsync", "full_page_writes"] {
        if setting(connection, durable).await? == "off" {
            tracing::warn!(
                server = host(options),
                "{durable} is off: what was acknowledged can be lost when the machine fails"
            );
        }
    }
    let most = number(connection, "max_connections").await?;
    let ours = pool.max_connections.saturating_add(1);
    if i64::from(most) < i64::from(ours) {
        tracing::warn!(
            server = host(options),
            "PostgreSQL takes {most} connections (max_connections), and this server alone may open \
             {ours} (database.max_connections and one more)"
        );
    }
    Ok(())
}

/// Checks before a migration that the extension for searches is there, or can be added.
pub(super) async fn check_trigrams(connection: &mut PgConnection) -> Result<()> {
    const SQL: &str = "select current_database(), \
        exists (select 1 from pg_extension where extname = 'pg_trgm'), \
        exists (select 1 from pg_available_extensions where name = 'pg_trgm'), \
        has_database_privilege(current_database(), 'create')";
    let row = sqlx::raw_sql(SQL).fetch_one(connection).await.map_err(fault)?;
    let database: String = row.try_get(0).map_err(fault)?;
    let is = |column| row.try_get::<bool, usize>(column).map_err(fault);
    if is(1)? {
        return Ok(());
    }
    let what_to_do = if !is(2)? {
        "install the package that has PostgreSQL's contrib modules on the database server"
            .to_owned()
    } else if !is(3)? {
        format!(
            "run `create extension pg_trgm` there as its owner, or grant create on database \
             {database} to this role"
        )
    } else {
        return Ok(());
    };
    Err(Error::internal(format!(
        "the extension pg_trgm is missing in {database}, which searches need: {what_to_do}"
    )))
}

/// Asked as one message, as [`Role`] is.
async fn setting(connection: &mut PgConnection, name: &'static str) -> Result<String> {
    let sql = AssertSqlSafe(format!("select current_setting('{name}')"));
    let row = sqlx::raw_sql(sql).fetch_one(connection).await.map_err(fault)?;
    row.try_get(0).map_err(fault)
}

async fn number(connection: &mut PgConnection, name: &'static str) -> Result<i32> {
    let value = setting(connection, name).await?;
    value.parse().map_err(|_| Error::internal(format!("its {name} is {value:?}")))
}

/// Refuses a pooler that gives each transaction another connection, unless the settings say that
/// there is one: what is set on one connection must not be met on another.
pub(super) async fn check_pooler(
    connection: &mut PgConnection,
    options: &PgConnectOptions,
) -> Result<()> {
    const MARK: &str = "select set_config('keyward.mark', 'x', false)";
    const UNMARK: &str = "select set_config('keyward.mark', '', false)";
    const SEEN: &str = "select current_setting('keyward.mark', true) = 'x'";
    sqlx::raw_sql(MARK).execute(&mut *connection).await.map_err(fault)?;
    let mut other = options.connect().await.map_err(fault)?;
    let seen: Option<bool> =
        sqlx::query_scalar(SEEN).persistent(false).fetch_one(&mut other).await.map_err(fault)?;
    other.close().await.ok();
    sqlx::raw_sql(UNMARK).execute(&mut *connection).await.map_err(fault)?;
    if seen == Some(true) { Err(Error::internal(POOLER)) } else { Ok(()) }
}

/// Whether the server can notice that the caller of a running statement left: not on every
/// system.
pub(super) async fn notices_leaving(connection: &mut PgConnection) -> Result<bool> {
    const SQL: &str = "set client_connection_check_interval = '1s'; \
        reset client_connection_check_interval";
    match connection.execute(SQL).await {
        Ok(_) => Ok(true),
        Err(sqlx::Error::Database(error)) if error.code().is_some_and(|c| c.starts_with("22")) => {
            tracing::warn!(
                "PostgreSQL cannot notice there that a caller leaves: a statement may outlive its \
                 request by {STATEMENT_TIMEOUT:?}"
            );
            Ok(false)
        }
        Err(error) => Err(fault(error)),
    }
}

/// What is set on each connection, or, behind a pooler, in each transaction.
#[derive(Clone, Copy, Debug)]
pub(super) struct Settings {
    pub(super) acquire_timeout: Duration,
    pub(super) notices_leaving: bool,
    pub(super) pooled: bool,
}

impl Settings {
    /// As statements. A transaction that writes has no timeout of its statements: what changes
    /// many rows may take as long as its request, whose end closes the connection.
    pub(super) fn sql(self, writes: bool) -> String {
        let wait = self.acquire_timeout.as_millis().clamp(1, MAX_MILLIS);
        let statement = if writes { 0 } else { STATEMENT_TIMEOUT.as_millis() };
        let each = [
            // A server that hangs, or has lost its wire, in the midst of a transaction would keep
            // all others from revoking anything.
            ("idle_in_transaction_session_timeout", wait.to_string()),
            // One that waits for a lock waits until such a transaction was ended, and no longer.
            ("lock_timeout", (wait * 2).min(MAX_MILLIS).to_string()),
            ("statement_timeout", statement.to_string()),
            // To compile a statement takes longer than any of ours runs.
            ("jit", "off".to_owned()),
            ("default_transaction_isolation", "read committed".to_owned()),
        ];
        let check = CLIENT_CHECK.as_millis().to_string();
        let check = self.notices_leaving.then_some(("client_connection_check_interval", check));
        let set = |name: &str, value: &str| {
            format!("select set_config('{name}', '{value}', {})", self.pooled)
        };
        let mut sql: Vec<_> =
            each.iter().chain(&check).map(|(name, value)| set(name, value)).collect();
        // What is acknowledged is durable, on the synchronous standby too if there is one, whatever
        // the default of the role or database is.
        let durable = set("synchronous_commit", "on");
        sql.push(format!(
            "{durable} where current_setting('synchronous_commit') in ('off', 'local')"
        ));
        sql.join("; ")
    }
}

/// A pool of connections; none is opened before it is needed.
pub(super) fn pool(
    options: &PgConnectOptions,
    max_connections: u32,
    settings: Settings,
    writes: bool,
) -> PgPool {
    let pool = PgPoolOptions::new()
        .max_connections(max_connections)
        .acquire_timeout(settings.acquire_timeout)
        // Each is asked what it leads to, which says more.
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
