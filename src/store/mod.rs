//! The database: SQLite or PostgreSQL, with the same SQL for both.
//!
//! A [`Session`] reads. A [`Tx`] is a session in a transaction that also writes. This module
//! converts rows to domain values, and drivers' errors to an [`Error`](crate::error::Error). There
//! is no storage trait, because there are only these two databases.

mod affected;
mod application_lists;
mod application_pages;
mod applications;
mod audit;
mod audit_chain;
mod audit_search;
mod backup;
mod changes;
mod connect;
mod credential_expiry;
mod credentials;
mod declaration;
mod driver_error;
mod endpoints;
mod federated_credentials;
mod folding;
mod inspection;
mod last_uses;
mod policies;
mod pool_options;
mod pool_states;
mod pools;
mod postgres;
mod revocation_chunk;
mod revocations;
mod roles;
mod row;
mod schema;
mod scopes;
mod sealed;
mod server_keys;
mod session;
mod signing_keys;
mod spent_tokens;
mod tenants;
mod url;
mod usage;
mod users;
mod windows;

pub use affected::Affected;
pub use application_lists::OwnedResources;
pub use audit_chain::ChainedEvent;
pub use backup::{copy_database, newest_schema, snapshot_contents, snapshot_master_keys};
pub use changes::TenantChange;
pub use inspection::{ConnectionCounts, CredentialEnd, Standby};
pub use pool_options::PoolOptions;
pub use pools::Store;
pub use revocation_chunk::{RevocationChunk, TokenRevocation};
pub use revocations::RevocationFeed;
pub use schema::{
    MigrationMode, SchemaOptions, SchemaProgress, SchemaReport, SchemaState, UnsupportedSchema,
};
pub use sealed::{SealedColumn, SealedItem, SealedValue};
pub use session::{Session, Tx};
pub use signing_keys::{SealedSigningKey, StoredSigningKey};
pub use url::{Database, Pooler};
pub use usage::CredentialUse;

use session::SessionConnection;

/// Runs one statement with the driver of the session. The values of `$1`, `$2` … follow the
/// statement. The macros below differ in what they return. A statement that PostgreSQL refuses
/// because a migration has changed its columns is prepared again, and run once more.
macro_rules! run_statement {
    ($session:expr, $query:ident($sql:expr $(, $value:expr)*), $fetch:ident) => {
        $crate::store::run_statement!(
            $session, $query($sql $(, $value)*), $fetch, std::convert::identity
        )
    };
    ($session:expr, $query:ident($sql:expr $(, $value:expr)*), $fetch:ident, $result:expr) => {{
        let sql = sqlx::SqlSafeStr::into_sql_str($sql);
        let mut is_repeated = false;
        loop {
            let named = $session.named_statements();
            let outcome = match $session.start_statement() {
                Ok($crate::store::SessionConnection::Sqlite(connection)) => {
                    sqlx::$query(sql.clone())$(.bind(&$value))*.$fetch(connection).await
                        .map($result)
                }
                Ok($crate::store::SessionConnection::Postgres(connection)) => {
                    sqlx::$query(sql.clone())$(.bind(&$value))*.persistent(named).$fetch(connection)
                        .await.map($result)
                }
                Err(error) => Err(error),
            };
            let is_outdated =
                outcome.as_ref().is_err_and($crate::store::driver_error::is_outdated_statement);
            if !is_outdated || is_repeated || !$session.prepare_again().await {
                break $session.finish_statement(outcome);
            }
            is_repeated = true;
        }
    }};
}
use run_statement;

/// Returns the row, if there is one.
macro_rules! find_row {
    ($session:expr, $sql:expr $(, $value:expr)* $(,)?) => {
        $crate::store::run_statement!($session, query_as($sql $(, $value)*), fetch_optional)
    };
}
use find_row;

/// Returns the only row.
macro_rules! one_row {
    ($session:expr, $sql:expr $(, $value:expr)* $(,)?) => {
        $crate::store::run_statement!($session, query_as($sql $(, $value)*), fetch_one)
    };
}
use one_row;

/// Returns all rows.
macro_rules! list_rows {
    ($session:expr, $sql:expr $(, $value:expr)* $(,)?) => {
        $crate::store::run_statement!($session, query_as($sql $(, $value)*), fetch_all)
    };
}
use list_rows;

/// Returns all values of the only column.
macro_rules! list_values {
    ($session:expr, $sql:expr $(, $value:expr)* $(,)?) => {
        $crate::store::run_statement!($session, query_scalar($sql $(, $value)*), fetch_all)
    };
}
use list_values;

/// Returns the value of the only row and column.
macro_rules! one_value {
    ($session:expr, $sql:expr $(, $value:expr)* $(,)?) => {
        $crate::store::run_statement!($session, query_scalar($sql $(, $value)*), fetch_one)
    };
}
use one_value;

/// Returns the number of written rows.
macro_rules! execute {
    ($session:expr, $sql:expr $(, $value:expr)* $(,)?) => {
        $crate::store::run_statement!($session, query($sql $(, $value)*), execute, |done| {
            done.rows_affected()
        })
    };
}
use execute;

/// Resources that were found: the number of all of them, and some names to show.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FoundResources {
    /// The number of all resources.
    pub count: i64,
    /// The resource names of the first few, in order.
    pub first: Vec<String>,
}
