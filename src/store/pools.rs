//! The connections, in pools by purpose: checks, tokens and revocations never wait behind
//! lists, searches and reports. A connection to PostgreSQL is asked what it leads to each time it
//! is taken, since an address may lead to another server than a moment ago.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use sqlx::pool::PoolConnection;
use sqlx::{PgPool, Pool, Postgres, SqlitePool};
use tokio::time::timeout;

use super::fault::fault;
use super::postgres::{self, Role, Settings};
use super::session::{Link, Session, Tx};
use super::url::{Servers, host};
use super::{execute, one_value};
use crate::clock::{Stopwatch, from_microsecond};
use crate::error::{Error, Result};

/// For so long after a server turned out to be of no use, it is not asked again.
const REFUSED: Duration = Duration::from_millis(250);

/// The database. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Store {
    pub(super) pools: Pools,
}

#[derive(Clone, Debug)]
pub(super) enum Pools {
    /// SQLite has one writer at a time: a pool of one connection makes them queue in
    /// order, where many connections would poll for the lock.
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
    /// One connection, which reads the list of revocations.
    pub(super) feed: PurposePool,
    pub(super) servers: Servers,
    pub(super) settings: Settings,
    /// Held by the one that looks for the primary.
    pub(super) looking: tokio::sync::Mutex<()>,
}

/// The connections for one purpose.
#[derive(Debug)]
pub(super) struct PurposePool {
    pool: PgPool,
    /// When the server was last of no use for it, and why.
    refused: Mutex<Option<(Stopwatch, String)>>,
}

impl PurposePool {
    pub(super) fn new(pool: PgPool) -> Self {
        Self { pool, refused: Mutex::default() }
    }

    fn note_refusal(&self, error: &Error) {
        if let Error::Unavailable(cause) = error {
            let refusal = Some((Stopwatch::start(), cause.to_string()));
            *self.refused.lock().unwrap_or_else(PoisonError::into_inner) = refusal;
        }
    }

    /// Lest every request opens a connection to a server that is of no use.
    fn refused_lately(&self) -> Result<()> {
        let refused = self.refused.lock().unwrap_or_else(PoisonError::into_inner);
        match &*refused {
            Some((when, why)) if when.elapsed() < REFUSED => {
                Err(Error::Unavailable(why.clone().into()))
            }
            _ => Ok(()),
        }
    }
}

/// What a connection is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Purpose {
    Checks,
    Lists,
    Changes,
    Feed,
}

impl Store {
    /// Whether this process is the only one with this database.
    pub fn is_alone(&self) -> bool {
        matches!(self.pools, Pools::Sqlite { .. })
    }

    /// A connection to read with, for a check or a token.
    pub async fn read(&self) -> Result<Session> {
        self.session(Purpose::Checks).await
    }

    /// A connection to read with that may take long, for a list or a report.
    pub async fn read_list(&self) -> Result<Session> {
        self.session(Purpose::Lists).await
    }

    /// A connection to read with that no request can keep busy, for the list of revocations.
    pub async fn read_apart(&self) -> Result<Session> {
        self.session(Purpose::Feed).await
    }

    /// A transaction to write in.
    pub async fn begin(&self) -> Result<Tx> {
        match &self.pools {
            Pools::Sqlite { changes, .. } => {
                let link = Link::Sqlite(changes.acquire().await.map_err(fault)?);
                Session::new(link, true).begin("begin immediate").await
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
        match &self.pools {
            Pools::Sqlite { checks, lists, .. } => {
                let is_list = purpose == Purpose::Lists;
                let pool = if is_list { lists } else { checks };
                let link = Link::Sqlite(pool.acquire().await.map_err(fault)?);
                let session = Session::new(link, true);
                if is_list { session.interruptible().await } else { Ok(session) }
            }
            Pools::Postgres(pools) => pools.session(purpose).await,
        }
    }

    /// Whether the database can take a write now: writes one. Answers the latest time that any
    /// server ever had.
    pub async fn check_writable(&self, at: jiff::Timestamp) -> Result<jiff::Timestamp> {
        const SQL: &str = "update readiness \
            set checked_at = case when checked_at < $1 then $1 else checked_at end \
            returning checked_at";
        let mut tx = self.begin().await?;
        let latest: i64 = one_value!(tx, SQL, at.as_microsecond())?;
        tx.commit().await?;
        Ok(from_microsecond(latest))
    }

    /// Whether the database answers.
    pub async fn ping(&self) -> Result<()> {
        let mut session = self.read().await?;
        execute!(session, "select 1").map(drop)
    }

    /// Gives the connections back, after what is under way.
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

impl PostgresPools {
    fn pool(&self, purpose: Purpose) -> &PurposePool {
        match purpose {
            Purpose::Checks => &self.checks,
            Purpose::Lists => &self.lists,
            Purpose::Changes => &self.changes,
            Purpose::Feed => &self.feed,
        }
    }

    async fn session(&self, purpose: Purpose) -> Result<Session> {
        self.pool(purpose).refused_lately()?;
        match self.checked(purpose).await {
            Err(Error::Unavailable(_)) if self.move_to_primary().await => {
                self.checked(purpose).await
            }
            outcome => outcome,
        }
    }

    /// A connection that leads to a server fit for the purpose. Idle ones may lead elsewhere, or
    /// nowhere: they are closed, until there is a new one.
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
                        pool.note_refusal(&error);
                        return Err(error);
                    }
                }
            }
        }
    }

    /// Makes sure of the server at the other end. Behind a pooler, a session is a transaction from
    /// here on, which has one connection of the server and its settings.
    async fn prepare(&self, session: &mut Session, writes: bool) -> Result<()> {
        if self.servers.pooled {
            session.begin_pooled(&self.settings.sql(writes)).await?;
        }
        Role::of(session).await?.check(writes)
    }

    async fn connect(&self, pool: &PgPool) -> Result<Session> {
        let connection = acquire(pool, self.servers.connect_timeout).await?;
        Ok(Session::new(Link::Postgres(connection), !self.servers.pooled))
    }

    /// Of several servers, goes over to the one that is the primary now; whether that is
    /// another one than before.
    async fn move_to_primary(&self) -> bool {
        let [_, _, ..] = self.servers.each[..] else { return false };
        let _turn = self.looking.lock().await;
        let before = self.checks.pool.connect_options();
        let Ok((options, _)) =
            postgres::find_primary(&self.servers, self.settings.acquire_timeout).await
        else {
            return false;
        };
        let moved = host(&before) != host(&options);
        if moved {
            tracing::warn!(primary = host(&options), "another server is the primary");
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
        Some(longest)
            if pool.num_idle() == 0 && pool.size() < pool.options().get_max_connections() =>
        {
            let late = |_| fault(sqlx::Error::PoolTimedOut);
            timeout(longest, pool.acquire()).await.map_err(late)?.map_err(fault)
        }
        _ => pool.acquire().await.map_err(fault),
    }
}
