//! The connection pools, one for each purpose: checks, tokens and revocations never wait for lists,
//! searches and reports. Each time a connection to PostgreSQL is acquired, the role of its server
//! is checked, because an address can lead to a different server after a failover.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use sqlx::pool::PoolConnection;
use sqlx::{PgPool, Pool, Postgres, SqlitePool};
use tokio::time::timeout;

use super::driver_error::driver_error;
use super::pool_states::{PoolState, PoolWaits, Purpose};
use super::postgres::{self, ServerRole, SessionSettings};
use super::session::{OutdatedStatements, OwnedConnection, Session, Tx};
use super::url::{PostgresServers, host};
use super::{execute, one_value};
use crate::clock::{Stopwatch, from_microsecond};
use crate::error::{Error, Result};

/// After a failed connection, new requests fail at once for this time.
const FAILURE_BACKOFF: Duration = Duration::from_millis(250);

/// The database. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Store {
    pub(super) pools: Pools,
    pub(super) waits: PoolWaits,
}

#[derive(Clone, Debug)]
pub(super) enum Pools {
    /// SQLite has one writer at a time. In a pool with one connection, writers queue in order. With
    /// more connections they would poll for the lock.
    Sqlite {
        checks: SqlitePool,
        lists: SqlitePool,
        changes: SqlitePool,
    },
    Postgres(Arc<PostgresPools>),
}

#[derive(Debug)]
pub(super) struct PostgresPools {
    pub(super) checks: PurposePool,
    pub(super) lists: PurposePool,
    pub(super) changes: PurposePool,
    /// One connection that reads the revocation feed.
    pub(super) feed: PurposePool,
    pub(super) servers: PostgresServers,
    pub(super) settings: SessionSettings,
    pub(super) outdated: Arc<OutdatedStatements>,
    /// Held while a request searches for the primary.
    pub(super) primary_lock: tokio::sync::Mutex<()>,
}

/// The connection pool for one purpose.
#[derive(Debug)]
pub(super) struct PurposePool {
    pool: PgPool,
    /// The time and cause of the last failed connection.
    last_failure: Mutex<Option<(Stopwatch, String)>>,
}

impl PurposePool {
    pub(super) fn new(pool: PgPool) -> Self {
        Self { pool, last_failure: Mutex::default() }
    }

    fn record_failure(&self, error: &Error) {
        if let Error::Unavailable(cause) = error {
            let failure = Some((Stopwatch::start(), cause.to_string()));
            *self.last_failure.lock().unwrap_or_else(PoisonError::into_inner) = failure;
        }
    }

    /// Returns the last failure if it is recent, so that not every request opens a connection to an
    /// unusable server.
    fn check_recent_failure(&self) -> Result<()> {
        let last_failure = self.last_failure.lock().unwrap_or_else(PoisonError::into_inner);
        match &*last_failure {
            Some((since, cause)) if since.elapsed() < FAILURE_BACKOFF => {
                Err(Error::Unavailable(cause.clone().into()))
            }
            _ => Ok(()),
        }
    }
}

impl Store {
    /// Whether only one process can use this database.
    pub fn is_single_process(&self) -> bool {
        matches!(self.pools, Pools::Sqlite { .. })
    }

    /// A connection for the short reads of a check or a token.
    pub async fn read(&self) -> Result<Session> {
        self.session(Purpose::Checks).await
    }

    /// A connection for the long reads of a list or a report.
    pub async fn read_list(&self) -> Result<Session> {
        self.session(Purpose::Lists).await
    }

    /// The connection for reads of the revocation feed. Requests do not use it.
    pub async fn read_revocation_feed(&self) -> Result<Session> {
        self.session(Purpose::Revocations).await
    }

    /// Begins a transaction that writes.
    pub async fn begin(&self) -> Result<Tx> {
        let _waiting = self.waits.begin(Purpose::Changes);
        match &self.pools {
            Pools::Sqlite { changes, .. } => {
                let connection =
                    OwnedConnection::Sqlite(changes.acquire().await.map_err(driver_error)?);
                Session::new(connection, true).begin("begin immediate").await
            }
            Pools::Postgres(pools) => {
                let session = pools.session(Purpose::Changes).await?;
                if pools.servers.pooled {
                    Ok(Tx::of(session))
                } else {
                    session.begin(postgres::BEGIN).await
                }
            }
        }
    }

    async fn session(&self, purpose: Purpose) -> Result<Session> {
        let _waiting = self.waits.begin(purpose);
        match &self.pools {
            Pools::Sqlite { checks, lists, .. } => {
                let is_list = purpose == Purpose::Lists;
                let pool = if is_list { lists } else { checks };
                let connection =
                    OwnedConnection::Sqlite(pool.acquire().await.map_err(driver_error)?);
                let session = Session::new(connection, true);
                if is_list { session.interruptible().await } else { Ok(session) }
            }
            Pools::Postgres(pools) => pools.session(purpose).await,
        }
    }

    /// Checks with a write that the database is writable. Returns the latest time that the clock of
    /// any server has had.
    pub async fn check_writable(&self, at: jiff::Timestamp) -> Result<jiff::Timestamp> {
        const SQL: &str = "update readiness \
            set checked_at = case when checked_at < $1 then $1 else checked_at end \
            returning checked_at";
        let mut tx = self.begin().await?;
        let latest: i64 = one_value!(tx, SQL, at.as_microsecond())?;
        tx.commit().await?;
        Ok(from_microsecond(latest))
    }

    /// Checks that the database answers.
    pub async fn ping(&self) -> Result<()> {
        let mut session = self.read().await?;
        execute!(session, "select 1").map(drop)
    }

    /// Closes all connections, after the requests that use them.
    pub async fn close(&self) {
        match &self.pools {
            Pools::Sqlite { checks, lists, changes } => {
                checks.close().await;
                lists.close().await;
                changes.close().await;
            }
            Pools::Postgres(pools) => {
                for pool in [&pools.feed, &pools.checks, &pools.lists, &pools.changes] {
                    pool.pool.close().await;
                }
            }
        }
    }
}

impl Store {
    /// The state of each pool. SQLite has none for the revocation feed.
    pub fn pool_states(&self) -> Vec<PoolState> {
        match &self.pools {
            Pools::Sqlite { checks, lists, changes } => vec![
                self.waits.state(Purpose::Checks, checks),
                self.waits.state(Purpose::Lists, lists),
                self.waits.state(Purpose::Changes, changes),
            ],
            Pools::Postgres(pools) => {
                [Purpose::Checks, Purpose::Lists, Purpose::Changes, Purpose::Revocations]
                    .map(|purpose| self.waits.state(purpose, pools.connections(purpose)))
                    .to_vec()
            }
        }
    }
}

impl PostgresPools {
    pub(super) fn connections(&self, purpose: Purpose) -> &PgPool {
        &self.pool(purpose).pool
    }

    fn pool(&self, purpose: Purpose) -> &PurposePool {
        match purpose {
            Purpose::Checks => &self.checks,
            Purpose::Lists => &self.lists,
            Purpose::Changes => &self.changes,
            Purpose::Revocations => &self.feed,
        }
    }

    async fn session(&self, purpose: Purpose) -> Result<Session> {
        self.pool(purpose).check_recent_failure()?;
        match self.checked(purpose).await {
            Err(Error::Unavailable(_)) if self.move_to_primary().await => {
                self.checked(purpose).await
            }
            outcome => outcome,
        }
    }

    /// A connection to a server that is usable for the purpose. Idle connections can be broken, or
    /// lead to a server that is no longer the primary: those are closed, and the next one is
    /// checked.
    async fn checked(&self, purpose: Purpose) -> Result<Session> {
        let pool = self.pool(purpose);
        loop {
            let is_new = pool.pool.num_idle() == 0;
            let mut session = self.connect(&pool.pool).await?;
            match self.prepare(&mut session, purpose == Purpose::Changes).await {
                Ok(()) => return Ok(session),
                Err(error) => {
                    session.discard();
                    if is_new {
                        pool.record_failure(&error);
                        return Err(error);
                    }
                }
            }
        }
    }

    /// Checks the role of the server. With a pooler, begins a transaction first: it keeps one
    /// connection of the server, with the settings that this sets.
    async fn prepare(&self, session: &mut Session, writes: bool) -> Result<()> {
        if self.servers.pooled {
            let sql = format!("{}; {}", postgres::BEGIN, self.settings.sql(writes));
            session.begin_pooled(sql).await?;
        }
        ServerRole::of(session).await?.check(writes)
    }

    async fn connect(&self, pool: &PgPool) -> Result<Session> {
        let connection = acquire(pool, self.servers.connect_timeout).await?;
        let session = Session::new(OwnedConnection::Postgres(connection), !self.servers.pooled);
        session.without_outdated_statements(&self.outdated).await
    }

    /// Changes the pools to the server that is the primary now. Returns whether it is a different
    /// one.
    async fn move_to_primary(&self) -> bool {
        let [_, _, ..] = self.servers.each[..] else { return false };
        let _guard = self.primary_lock.lock().await;
        let before = self.checks.pool.connect_options();
        let Ok((options, _)) =
            postgres::find_primary(&self.servers, self.settings.acquire_timeout).await
        else {
            return false;
        };
        let moved = host(&before) != host(&options);
        if moved {
            tracing::warn!(primary = host(&options), "the primary has changed");
            for pool in [&self.checks, &self.lists, &self.changes, &self.feed] {
                pool.pool.set_connect_options(options.clone());
            }
        }
        moved
    }
}

async fn acquire(
    pool: &Pool<Postgres>,
    connect_timeout: Option<Duration>,
) -> Result<PoolConnection<Postgres>> {
    match connect_timeout {
        Some(connect_timeout)
            if pool.num_idle() == 0 && pool.size() < pool.options().get_max_connections() =>
        {
            let late = |_| driver_error(sqlx::Error::PoolTimedOut);
            timeout(connect_timeout, pool.acquire()).await.map_err(late)?.map_err(driver_error)
        }
        _ => pool.acquire().await.map_err(driver_error),
    }
}
