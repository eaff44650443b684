//! Where everything is kept: SQLite or PostgreSQL, through one SQL for both.
//!
//! A [`Session`] reads; a [`Tx`] is a session that also writes, all or nothing. Rows
//! become domain values here and drivers' errors become [`Error`]s; neither leaves
//! this module. There is no storage trait: two known databases need none.

mod affected;
mod application_lists;
mod application_pages;
mod applications;
mod audit;
mod connect;
mod credentials;
mod endpoints;
mod policies;
mod revocations;
mod roles;
mod row;
mod scopes;
mod signing_keys;
mod tenants;
mod usage;
mod users;

use std::ops::{Deref, DerefMut};

use sqlx::pool::PoolConnection;
use sqlx::{PgConnection, PgPool, Postgres, Sqlite, SqliteConnection, SqlitePool, Transaction};

pub use affected::Affected;
pub use application_lists::Owned;
pub use audit::Changed;
pub use connect::{Database, PoolOptions};
pub use revocations::Feed;
pub use signing_keys::SigningKeyRow;
pub use usage::LastUseOf;

use crate::error::{Error, Result};

/// Runs one statement over either driver; the macros below say what comes back. What
/// stands for `$1`, `$2` … follows the statement.
macro_rules! on {
    ($session:expr, $query:ident($sql:expr $(, $value:expr)*), $fetch:ident) => {
        match $session.connection() {
            $crate::store::Connection::Sqlite(connection) => {
                sqlx::$query($sql)$(.bind($value))*.$fetch(connection).await
            }
            $crate::store::Connection::Postgres(connection) => {
                sqlx::$query($sql)$(.bind($value))*.$fetch(connection).await
            }
        }
        .map_err($crate::store::fault)
    };
}
use on;

/// The row, if there is one.
macro_rules! find_row {
    ($session:expr, $sql:expr $(, $value:expr)* $(,)?) => {
        $crate::store::on!($session, query_as($sql $(, $value)*), fetch_optional)
    };
}
use find_row;

/// All rows.
macro_rules! list_rows {
    ($session:expr, $sql:expr $(, $value:expr)* $(,)?) => {
        $crate::store::on!($session, query_as($sql $(, $value)*), fetch_all)
    };
}
use list_rows;

/// All values of the one column.
macro_rules! list_values {
    ($session:expr, $sql:expr $(, $value:expr)* $(,)?) => {
        $crate::store::on!($session, query_scalar($sql $(, $value)*), fetch_all)
    };
}
use list_values;

/// The one value of the one row.
macro_rules! one_value {
    ($session:expr, $sql:expr $(, $value:expr)* $(,)?) => {
        $crate::store::on!($session, query_scalar($sql $(, $value)*), fetch_one)
    };
}
use one_value;

/// How many rows were written.
macro_rules! execute {
    ($session:expr, $sql:expr $(, $value:expr)* $(,)?) => {
        match $session.connection() {
            $crate::store::Connection::Sqlite(connection) => {
                sqlx::query($sql)$(.bind($value))*.execute(connection).await
                    .map(|done| done.rows_affected())
            }
            $crate::store::Connection::Postgres(connection) => {
                sqlx::query($sql)$(.bind($value))*.execute(connection).await
                    .map(|done| done.rows_affected())
            }
        }
        .map_err($crate::store::fault)
    };
}
use execute;

/// The database. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Store {
    pool: Pool,
}

#[derive(Clone, Debug)]
enum Pool {
    /// SQLite has one writer at a time: a pool of one connection makes them queue in
    /// order, where many connections would poll for the lock.
    Sqlite { read: SqlitePool, write: SqlitePool },
    Postgres {
        pool: PgPool,
        /// One connection more, for what must not wait behind the requests.
        apart: PgPool,
    },
}

/// Rows that stand in the way of something, or that something is about.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Found {
    /// How many there are.
    pub count: i64,
    /// The resource names of the first few.
    pub first: Vec<String>,
}

/// A connection that reads.
#[derive(Debug)]
pub struct Session(Link);

#[derive(Debug)]
enum Link {
    Sqlite(PoolConnection<Sqlite>),
    Postgres(PoolConnection<Postgres>),
    SqliteTx(Transaction<'static, Sqlite>),
    PostgresTx(Transaction<'static, Postgres>),
}

enum Connection<'a> {
    Sqlite(&'a mut SqliteConnection),
    Postgres(&'a mut PgConnection),
}

/// A transaction: what it writes is there when [`Tx::commit`] has answered, and
/// dropping it undoes everything.
#[derive(Debug)]
pub struct Tx(Session);

impl Store {
    /// A connection to read with.
    pub async fn read(&self) -> Result<Session> {
        let link = match &self.pool {
            Pool::Sqlite { read, .. } => Link::Sqlite(read.acquire().await.map_err(fault)?),
            Pool::Postgres { pool, .. } => Link::Postgres(pool.acquire().await.map_err(fault)?),
        };
        Ok(Session(link))
    }

    /// A connection to read with that no request can keep busy.
    pub async fn read_apart(&self) -> Result<Session> {
        match &self.pool {
            Pool::Sqlite { .. } => self.read().await,
            Pool::Postgres { apart, .. } => {
                Ok(Session(Link::Postgres(apart.acquire().await.map_err(fault)?)))
            }
        }
    }

    /// A transaction to write in.
    pub async fn begin(&self) -> Result<Tx> {
        let link = match &self.pool {
            Pool::Sqlite { write, .. } => {
                Link::SqliteTx(write.begin_with("begin immediate").await.map_err(fault)?)
            }
            Pool::Postgres { pool, .. } => Link::PostgresTx(pool.begin().await.map_err(fault)?),
        };
        Ok(Tx(Session(link)))
    }

    /// Whether the database answers.
    pub async fn ping(&self) -> Result<()> {
        let mut session = self.read().await?;
        execute!(session, "select 1").map(drop)
    }

    /// Gives the connections back, after what is under way.
    pub async fn close(&self) {
        match &self.pool {
            Pool::Sqlite { read, write } => {
                read.close().await;
                write.close().await;
            }
            Pool::Postgres { pool, apart } => {
                apart.close().await;
                pool.close().await;
            }
        }
    }
}

impl Session {
    /// Cuts a connection that does not answer, which would make the next one wait too.
    pub fn abandon(self) {
        match self.0 {
            Link::Postgres(connection) => drop(connection.detach()),
            Link::Sqlite(_) | Link::SqliteTx(_) | Link::PostgresTx(_) => {}
        }
    }

    fn connection(&mut self) -> Connection<'_> {
        match &mut self.0 {
            Link::Sqlite(c) => Connection::Sqlite(c),
            Link::SqliteTx(c) => Connection::Sqlite(c),
            Link::Postgres(c) => Connection::Postgres(c),
            Link::PostgresTx(c) => Connection::Postgres(c),
        }
    }
}

impl Tx {
    /// Makes everything written durable.
    pub async fn commit(self) -> Result<()> {
        match self.0.0 {
            Link::SqliteTx(tx) => tx.commit().await.map_err(fault),
            Link::PostgresTx(tx) => tx.commit().await.map_err(fault),
            Link::Sqlite(_) | Link::Postgres(_) => Err(Error::internal("not a transaction")),
        }
    }
}

impl Deref for Tx {
    type Target = Session;

    fn deref(&self) -> &Session {
        &self.0
    }
}

impl DerefMut for Tx {
    fn deref_mut(&mut self) -> &mut Session {
        &mut self.0
    }
}

/// A driver's error in our terms: a database that cannot be reached, is full or asks
/// to try again is unavailable; what else goes wrong is our own fault.
fn fault(error: sqlx::Error) -> Error {
    let passing = match &error {
        sqlx::Error::Io(_)
        | sqlx::Error::Tls(_)
        | sqlx::Error::PoolTimedOut
        | sqlx::Error::PoolClosed
        | sqlx::Error::WorkerCrashed => true,
        sqlx::Error::Database(database) => database.code().is_some_and(|code| is_passing(&code)),
        _ => false,
    };
    if passing { Error::Unavailable(Box::new(error)) } else { Error::Internal(Box::new(error)) }
}

/// PostgreSQL: connection (08), resources (53), operator intervention (57), rollback
/// (40) and system (58) classes. SQLite: busy 5, locked 6, I/O 10, full 13, and their
/// extended codes, which keep the primary code in the low byte.
fn is_passing(code: &str) -> bool {
    if code.len() == 5 {
        // A transaction that rested too long (25P03) was ended: this server had hung.
        return code == "25P03"
            || ["08", "53", "57", "40", "58"].iter().any(|class| code.starts_with(class));
    }
    code.parse::<u32>().is_ok_and(|code| matches!(code & 0xff, 5 | 6 | 10 | 13))
}
