//! A connection in use. It returns to its pool only if it is reusable. It is closed if a statement
//! is in flight, or if a statement failed because of the state of the database.

use std::ops::{Deref, DerefMut};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use sqlx::pool::PoolConnection;
use sqlx::{
    AssertSqlSafe, Connection, PgConnection, Postgres, SqlSafeStr, Sqlite, SqliteConnection,
};
use tokio::runtime::Handle;

use super::driver_error::driver_error;
use crate::clock::Stopwatch;
use crate::error::{Error, Result};

/// A connection that reads.
#[derive(Debug)]
pub struct Session {
    /// `None` only while the session is dropped.
    connection: Option<OwnedConnection>,
    /// Whether statements may be prepared with a name, and reused.
    named_statements: bool,
    in_transaction: bool,
    state: ConnectionState,
    /// Set to interrupt a running statement of SQLite.
    interrupt: Option<Arc<AtomicBool>>,
    /// What the sessions of PostgreSQL know about prepared statements.
    outdated: Option<Arc<OutdatedStatements>>,
}

/// When a prepared statement was last found to be outdated. Then those of other connections are, too.
#[derive(Debug, Default)]
pub(super) struct OutdatedStatements(Mutex<Option<Stopwatch>>);

impl OutdatedStatements {
    /// How long connections that are taken from a pool prepare their statements again. A migration
    /// changes a few tables in this time.
    const SPAN: Duration = Duration::from_mins(1);

    fn found(&self) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Some(Stopwatch::start());
    }

    fn were_found(&self) -> bool {
        let found = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        found.is_some_and(|since| since.elapsed() < Self::SPAN)
    }
}

/// Whether a connection can return to its pool.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum ConnectionState {
    Reusable,
    /// A statement was sent, and its result was not read to the end.
    InFlight,
    /// A statement failed because of the state of the database.
    Failed,
}

#[derive(Debug)]
pub(super) enum OwnedConnection {
    Sqlite(PoolConnection<Sqlite>),
    Postgres(PoolConnection<Postgres>),
}

pub(super) enum SessionConnection<'a> {
    Sqlite(&'a mut SqliteConnection),
    Postgres(&'a mut PgConnection),
}

/// A transaction. [`Tx::commit`] makes its writes durable. If it is dropped, it is rolled back.
#[derive(Debug)]
pub struct Tx(Session);

impl Session {
    pub(super) fn new(connection: OwnedConnection, named_statements: bool) -> Self {
        let state = ConnectionState::Reusable;
        let interrupt = None;
        Self {
            connection: Some(connection),
            named_statements,
            in_transaction: false,
            state,
            interrupt,
            outdated: None,
        }
    }

    /// The same, with knowledge of outdated statements. In a transaction, a statement cannot be
    /// repeated, so they are removed before.
    pub(super) async fn without_outdated_statements(
        mut self,
        outdated: &Arc<OutdatedStatements>,
    ) -> Result<Self> {
        self.outdated = Some(Arc::clone(outdated));
        if outdated.were_found()
            && let Some(OwnedConnection::Postgres(connection)) = &mut self.connection
        {
            connection.clear_cached_statements().await.map_err(driver_error)?;
        }
        Ok(self)
    }

    /// Forgets prepared statements after one of them was outdated. Returns whether it can be
    /// repeated: in a transaction it cannot, because PostgreSQL has ended the transaction.
    pub(super) async fn prepare_again(&mut self) -> bool {
        if let Some(outdated) = &self.outdated {
            outdated.found();
        }
        tracing::info!("a migration has changed tables: statements are prepared again");
        match &mut self.connection {
            Some(OwnedConnection::Postgres(connection)) if !self.in_transaction => {
                connection.clear_cached_statements().await.is_ok()
            }
            _ => false,
        }
    }

    /// Whether the database is PostgreSQL.
    pub(super) fn is_postgres(&self) -> bool {
        matches!(self.connection, Some(OwnedConnection::Postgres(_)))
    }

    /// Whether statements may be prepared with a name, and reused.
    pub(super) fn named_statements(&self) -> bool {
        self.named_statements
    }

    /// The connection, for one statement. The caller gives the result to
    /// [`Session::finish_statement`]. Until then, the statement is in flight.
    pub(super) fn start_statement(&mut self) -> Result<SessionConnection<'_>, sqlx::Error> {
        if self.state == ConnectionState::Failed {
            // The database may have ended the transaction. The next statement would run outside it.
            return Err(sqlx::Error::PoolClosed);
        }
        self.state = ConnectionState::InFlight;
        match &mut self.connection {
            Some(OwnedConnection::Sqlite(connection)) => Ok(SessionConnection::Sqlite(connection)),
            Some(OwnedConnection::Postgres(connection)) => {
                Ok(SessionConnection::Postgres(connection))
            }
            None => Err(sqlx::Error::PoolClosed),
        }
    }

    /// Records the result of a statement.
    pub(super) fn finish_statement<T>(&mut self, outcome: Result<T, sqlx::Error>) -> Result<T> {
        let outcome = outcome.map_err(driver_error);
        self.state = match outcome {
            Err(Error::Unavailable(_)) => ConnectionState::Failed,
            _ => ConnectionState::Reusable,
        };
        outcome
    }

    /// Runs statements without parameters, and ignores their rows.
    async fn run(&mut self, sql: impl SqlSafeStr) -> Result<()> {
        let sql = sqlx::raw_sql(sql);
        let outcome = match self.start_statement() {
            Ok(SessionConnection::Sqlite(connection)) => sql.execute(connection).await.map(drop),
            Ok(SessionConnection::Postgres(connection)) => sql.execute(connection).await.map(drop),
            Err(error) => Err(error),
        };
        self.finish_statement(outcome)
    }

    /// Closes the connection.
    pub(super) fn discard(mut self) {
        self.state = ConnectionState::Failed;
    }

    /// Interrupts a running statement of SQLite when the session is dropped. PostgreSQL detects the
    /// disconnect itself.
    pub(super) async fn interruptible(mut self) -> Result<Self> {
        /// This number of steps of its virtual machine takes well under a millisecond.
        const STEPS: i32 = 10_000;
        if let Some(OwnedConnection::Sqlite(connection)) = &mut self.connection {
            let interrupt = Arc::new(AtomicBool::new(false));
            let interrupted = Arc::clone(&interrupt);
            let mut handle = connection.lock_handle().await.map_err(driver_error)?;
            handle.set_progress_handler(STEPS, move || !interrupted.load(Ordering::Relaxed));
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

    /// Begins a transaction with these statements.
    pub(super) async fn begin_pooled(&mut self, sql: String) -> Result<()> {
        self.run(AssertSqlSafe(sql)).await?;
        self.in_transaction = true;
        Ok(())
    }

    async fn commit(mut self) -> Result<()> {
        let outcome = self.run("commit").await;
        self.end_transaction(outcome.is_err());
        outcome
    }

    /// After a failed commit it is unknown whether the transaction is still open. For example,
    /// SQLite may or may not keep it open when the disk is full.
    fn end_transaction(&mut self, failed: bool) {
        self.in_transaction = false;
        if failed {
            self.state = ConnectionState::Failed;
        }
    }
}

impl Drop for Session {
    fn drop(&mut self) {
        let Some(mut connection) = self.connection.take() else { return };
        if self.state == ConnectionState::InFlight
            && let Some(interrupt) = &self.interrupt
        {
            interrupt.store(true, Ordering::Relaxed);
        }
        if self.state != ConnectionState::Reusable {
            // The next request would wait for a statement that is no longer needed, or would fail
            // in the same way. Closing also ends the statement.
            connection.close_on_drop();
        } else if self.in_transaction {
            match Handle::try_current() {
                Ok(runtime) => drop(runtime.spawn(connection.roll_back())),
                Err(_) => connection.close_on_drop(),
            }
        }
    }
}

impl OwnedConnection {
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

    /// Commits the transaction. The commit runs to its end even if the caller is dropped: without
    /// its synchronous standby, PostgreSQL can take long to answer, and a closed connection would
    /// still wait in the server.
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
    async fn sqlite_statement_ends_with_its_request() {
        const ENDLESS: &str = "with recursive numbers(n) as \
            (select 1 union all select n + 1 from numbers) select count(*) from numbers";
        let folder = tempfile::tempdir().unwrap();
        let database = Database::Sqlite(folder.path().join("keyward.db"));
        let pool = PoolOptions { max_connections: 3, acquire_timeout: Duration::from_secs(10) };
        let store = Store::open(&database, pool).await.unwrap();
        let mut session = store.read_list().await.unwrap();
        timeout(Duration::from_millis(50), session.run(ENDLESS)).await.unwrap_err();
        drop(session);
        // A running statement would hold the only connection for lists.
        let mut next = timeout(Duration::from_secs(20), store.read_list()).await.unwrap().unwrap();
        next.run("select 1").await.unwrap();
        drop(next);
        timeout(Duration::from_secs(20), store.close()).await.expect("no statement is running");
    }
}
