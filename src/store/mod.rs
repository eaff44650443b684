//! Where everything is kept: SQLite or PostgreSQL, through one SQL for both.
//!
//! A [`Session`] reads; a [`Tx`] is a session that also writes, all or nothing. Rows
//! become domain values here and drivers' errors become an [`Error`](crate::error::Error);
//! neither leaves this module. There is no storage trait: two known databases need none.

mod affected;
mod application_lists;
mod application_pages;
mod applications;
mod audit;
mod changes;
mod connect;
mod credentials;
mod declaration;
mod endpoints;
mod fault;
mod folding;
mod policies;
mod pools;
mod postgres;
mod revocations;
mod roles;
mod row;
mod scopes;
mod session;
mod signing_keys;
mod tenants;
mod url;
mod usage;
mod users;
mod windows;

pub use affected::Affected;
pub use application_lists::Owned;
pub use changes::TenantChange;
pub use connect::PoolOptions;
pub use pools::Store;
pub use revocations::Feed;
pub use session::{Session, Tx};
pub use signing_keys::SigningKeyRow;
pub use url::{Database, Pooler};
pub use usage::LastUseOf;

use session::Connection;

/// Runs one statement over either driver; the macros below say what comes back. What
/// stands for `$1`, `$2` … follows the statement.
macro_rules! on {
    ($session:expr, $query:ident($sql:expr $(, $value:expr)*), $fetch:ident) => {{
        let named = $session.named_statements();
        let outcome = match $session.statement() {
            Ok($crate::store::Connection::Sqlite(connection)) => {
                sqlx::$query($sql)$(.bind($value))*.$fetch(connection).await
            }
            Ok($crate::store::Connection::Postgres(connection)) => {
                sqlx::$query($sql)$(.bind($value))*.persistent(named).$fetch(connection).await
            }
            Err(error) => Err(error),
        };
        $session.settle(outcome)
    }};
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
    ($session:expr, $sql:expr $(, $value:expr)* $(,)?) => {{
        let named = $session.named_statements();
        let outcome = match $session.statement() {
            Ok($crate::store::Connection::Sqlite(connection)) => {
                sqlx::query($sql)$(.bind($value))*.execute(connection).await
                    .map(|done| done.rows_affected())
            }
            Ok($crate::store::Connection::Postgres(connection)) => {
                sqlx::query($sql)$(.bind($value))*.persistent(named).execute(connection).await
                    .map(|done| done.rows_affected())
            }
            Err(error) => Err(error),
        };
        $session.settle(outcome)
    }};
}
use execute;

/// Rows that stand in the way of something, or that something is about.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Found {
    /// How many there are.
    pub count: i64,
    /// The resource names of the first few.
    pub first: Vec<String>,
}
