//! A connection in use. It goes back to its pool only if it is known to be as good as new:
//! one with a statement in flight, or whose database failed, is closed instead.

use std::ops::{Deref, DerefMut};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use sqlx::pool::PoolConnection;
use sqlx::{AssertSqlSafe, PgConnection, Postgres, SqlSafeStr, Sqlite, SqliteConnection};
use tokio::runtime::Handle;

use super::fault::fault;
use super::postgres::BEGIN;
use crate::error::{Error, Result};

/// A connection that reads.
#[derive(Debug)]
pub struct Session {
    /// There until the session is dropped.
    link: Option<Link>,
    /// Whether statements may keep names in the server, to be prepared once.
    named_statements: bool,
    in_transaction: bool,
    condition: Condition,
    /// Set when a statement of SQLite is to end at once.
    interrupt: Option<Arc<AtomicBool>>,
}

/// Whether a connection can go back to its pool.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Condition {
    Good,
    /// A statement was sent whose answer was not read to its end.
    InFlight,
    /// The database failed at a statement.
    Failed,
}

#[derive(Debug)]
pub(super) enum Link {
    Sqlite(PoolConnection<Sqlite>),
    Postgres(PoolConnection<Postgres>),
}

pub(super) enum Connection<'a> {
    Sqlite(&'a mut SqliteConnection),
    Postgres(&'a mut PgConnection),
}

/// A transaction: what it writes is there when [`Tx::commit`] has answered, and
/// dropping it undoes everything.
#[derive(Debug)]
pub struct Tx(Session);

impl Session {
    pub(super) fn new(link: Link, named_statements: bool) -> Self {
        let condition = Condition::Good;
        let interrupt = None;
        Self { link: Some(link), named_statements, in_transaction: false, condition, interrupt }
    }

    /// Whether it is one of PostgreSQL.
    pub(super) fn is_postgres(&self) -> bool {
        matches!(self.link, Some(Link::Postgres(_)))
    }

    /// Whether statements may keep names in the server.
    pub(super) fn named_statements(&self) -> bool {
        self.named_statements
    }

    /// The connection, for one statement. Its outcome goes to [`Session::settle`]; a caller who
    /// leaves before that leaves a statement in flight.
    pub(super) fn statement(&mut self) -> Result<Connection<'_>, sqlx::Error> {
        if self.condition == Condition::Failed {
            // The database may have ended the transaction: what came next would stand alone.
            return Err(sqlx::Error::PoolClosed);
        }
        self.condition = Condition::InFlight;
        match &mut self.link {
            Some(Link::Sqlite(connection)) => Ok(Connection::Sqlite(connection)),
            Some(Link::Postgres(connection)) => Ok(Connection::Postgres(connection)),
            None => Err(sqlx::Error::PoolClosed),
        }
    }

    /// Takes note of how a statement ended.
    pub(super) fn settle<T>(&mut self, outcome: Result<T, sqlx::Error>) -> Result<T> {
        let outcome = outcome.map_err(fault);
        self.condition = match outcome {
            Err(Error::Unavailable(_)) => Condition::Failed,
            _ => Condition::Good,
        };
        outcome
    }

    /// Runs statements that have no parameters and no rows of interest.
    async fn run(&mut self, sql: impl SqlSafeStr) -> Result<()> {
        let sql = sqlx::raw_sql(sql);
        let outcome = match self.statement() {
            Ok(Connection::Sqlite(connection)) => sql.execute(connection).await.map(drop),
            Ok(Connection::Postgres(connection)) => sql.execute(connection).await.map(drop),
            Err(error) => Err(error),
        };
        self.settle(outcome)
    }

    /// The connection must not be used again.
    pub(super) fn discard(mut self) {
        self.condition = Condition::Failed;
    }

    /// Lets a statement of SQLite end when the session is dropped before the answer is there.
    /// PostgreSQL notices that by itself.
    pub(super) async fn interruptible(mut self) -> Result<Self> {
        /// So many steps of its virtual machine take well under a millisecond.
        const STEPS: i32 = 10_000;
        if let Some(Link::Sqlite(connection)) = &mut self.link {
            let interrupt = Arc::new(AtomicBool::new(false));
            let seen = Arc::clone(&interrupt);
            let mut handle = connection.lock_handle().await.map_err(fault)?;
            handle.set_progress_handler(STEPS, move || !seen.load(Ordering::Relaxed));
            drop(handle);
            self.interrupt = Some(interrupt);
        }
        Ok(self)
    }

    /// Begins a transaction with this statement.
    pub(super) async fn begin(mut self, sql: &'static str) -> Result<Tx> {
        self.run(sql).await?;
        self.in_transaction = true;
        Ok(Tx(self))
    }

    /// Begins a transaction with settings of its own.
    pub(super) async fn begin_pooled(&mut self, settings: &str) -> Result<()> {
        self.run(AssertSqlSafe(format!("{BEGIN}; {settings}"))).await?;
        self.in_transaction = true;
        Ok(())
    }

    async fn commit(mut self) -> Result<()> {
        let outcome = self.run("commit").await;
        self.end_transaction(outcome.is_err());
        outcome
    }

    /// After a commit that failed nothing tells whether the transaction is still open: SQLite
    /// leaves it open if there was no room, or ends it, as it sees fit.
    fn end_transaction(&mut self, failed: bool) {
        self.in_transaction = false;
        if failed {
            self.condition = Condition::Failed;
        }
    }
}

impl Drop for Session {
    fn drop(&mut self) {
        let Some(mut link) = self.link.take() else { return };
        if self.condition == Condition::InFlight
            && let Some(interrupt) = &self.interrupt
        {
            interrupt.store(true, Ordering::Relaxed);
        }
        if self.condition != Condition::Good {
            // The next user would wait for the answer to a statement that is of no use any
            // more, or meet the same failure. Closing ends the statement too.
            link.close_on_drop();
        } else if self.in_transaction {
            match Handle::try_current() {
                Ok(runtime) => drop(runtime.spawn(link.roll_back())),
                Err(_) => link.close_on_drop(),
            }
        }
    }
}

impl Link {
    fn close_on_drop(&mut self) {
        match self {
            Self::Sqlite(connection) => connection.close_on_drop(),
            Self::Postgres(connection) => connection.close_on_drop(),
        }
    }

    async fn roll_back(mut self) {
        let sql = sqlx::raw_sql("rollback");
        let rolled_back = match &mut self {
            Self::Sqlite(connection) => sql.execute(&mut **connection).await.map(drop),
            Self::Postgres(connection) => sql.execute(&mut **connection).await.map(drop),
        };
        if rolled_back.is_err() {
            self.close_on_drop();
        }
    }
}

impl Tx {
    /// The transaction that a session is in.
    pub(super) fn of(session: Session) -> Self {
        Self(session)
    }

    /// Makes everything written durable. Once it was sent, a commit is waited for even if the
    /// caller leaves: with a standby away, PostgreSQL may take long to answer, and a
    /// connection given up meanwhile would be one more that waits in the server.
    pub async fn commit(self) -> Result<()> {
        let Self(session) = self;
        let committed = tokio::spawn(session.commit());
        committed.await.map_err(|error| Error::Internal(Box::new(error)))?
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

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use tokio::time::timeout;

    use crate::store::{Database, PoolOptions, Store};

    #[tokio::test]
    async fn statement_of_sqlite_ends_with_its_request() {
        const ENDLESS: &str = "with recursive numbers(n) as \
            (select 1 union all select n + 1 from numbers) select count(*) from numbers";
        let folder = tempfile::tempdir().unwrap();
        let database = Database::Sqlite(folder.path().join("keyward.db"));
        let pool = PoolOptions { max_connections: 3, acquire_timeout: Duration::from_secs(10) };
        let store = Store::open(&database, pool).await.unwrap();
        let mut session = store.read_list().await.unwrap();
        timeout(Duration::from_millis(50), session.run(ENDLESS)).await.unwrap_err();
        drop(session);
        // The only connection for lists is there again, which a running statement would hold.
        let mut next = timeout(Duration::from_secs(20), store.read_list()).await.unwrap().unwrap();
        next.run("select 1").await.unwrap();
        drop(next);
        timeout(Duration::from_secs(20), store.close()).await.expect("nothing runs any more");
    }
}
