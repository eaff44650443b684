//! Converts errors of the database drivers.

use sqlx::postgres::PgDatabaseError;

use crate::error::Error;

/// Converts a driver's error. It is `Unavailable` if the database cannot be reached, is read-only,
/// is full, or asks for a retry. Every other error is internal.
pub(super) fn driver_error(error: sqlx::Error) -> Error {
    let unavailable = match &error {
        sqlx::Error::Io(_)
        | sqlx::Error::Tls(_)
        // A load balancer without a server accepts a connection and closes it at once. The driver
        // reports an unexpected answer to its first message.
        | sqlx::Error::Protocol(_)
        | sqlx::Error::PoolTimedOut
        | sqlx::Error::PoolClosed
        | sqlx::Error::WorkerCrashed
        | sqlx::Error::BeginFailed => true,
        sqlx::Error::Database(database) => {
            database.code().is_some_and(|code| is_transient(&code)) || is_outdated_statement(&error)
        }
        _ => false,
    };
    match &error {
        sqlx::Error::Database(database) if is_lost_statement(database.code().as_deref()) => {
            Error::internal(format!("{error}: {POOLER_ADVICE}"))
        }
        _ if unavailable => Error::Unavailable(Box::new(error)),
        _ => Error::Internal(Box::new(error)),
    }
}

/// The advice for a pooler that gives each transaction another connection.
pub(super) const POOLER_ADVICE: &str = "the address leads to a pooler in transaction mode: set \
    database.pooler = \"transaction\" (KEYWARD_DATABASE_POOLER)";

/// Whether the prepared statements of the connection are not those that the driver prepared.
fn is_lost_statement(code: Option<&str>) -> bool {
    matches!(code, Some("42P05" | "26000"))
}

/// Whether a statement was prepared before a migration changed the type of a column that it
/// returns. It has the code of all features that are not supported (0A000), and the text depends on
/// the language of the server, so the function of PostgreSQL that reports it decides.
pub(super) fn is_outdated_statement(error: &sqlx::Error) -> bool {
    let error = error.as_database_error().and_then(|e| e.try_downcast_ref::<PgDatabaseError>());
    error.is_some_and(|error| {
        error.code() == "0A000" && error.routine() == Some("RevalidateCachedQuery")
    })
}

/// Whether the cause is the state of the database, and not the statement.
fn is_transient(code: &str) -> bool {
    if code.len() == 5 {
        return is_transient_sqlstate(code);
    }
    // SQLite keeps the primary code in the low byte of its extended codes.
    code.parse::<u32>().is_ok_and(|code| {
        const NOMEM: u32 = 7;
        const READONLY: u32 = 8;
        const INTERRUPT: u32 = 9;
        const IOERR: u32 = 10;
        const FULL: u32 = 13;
        // The database file or its journal cannot be opened, for example without a free descriptor.
        const CANTOPEN: u32 = 14;
        const PROTOCOL: u32 = 15;
        let (busy, locked) = (5, 6);
        let code = code & 0xff;
        [busy, locked, NOMEM, READONLY, INTERRUPT, IOERR, FULL, CANTOPEN, PROTOCOL].contains(&code)
    })
}

/// Classes (PostgreSQL, appendix A): connection (08), authorization of a new connection (28),
/// rollback (40), resources (53), operator intervention (57), system (58). Single codes: the server
/// is read-only (25006), the transaction was ended because it was idle or took too long (25P03,
/// 25P04: this server had hung), the database does not exist (3D000: it is being restored), and the
/// lock timeout expired (55P03).
fn is_transient_sqlstate(code: &str) -> bool {
    matches!(code, "25006" | "25P03" | "25P04" | "3D000" | "55P03")
        || ["08", "28", "40", "53", "57", "58"].iter().any(|class| code.starts_with(class))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_states_of_the_database_are_transient() {
        // SQLite: file size limit, full disk, no descriptor, read-only, busy.
        for code in ["778", "13", "14", "270", "8", "776", "1032", "5", "517"] {
            assert!(is_transient(code), "{code}");
        }
        // SQLite: constraint, corrupt file, no such table.
        for code in ["19", "2067", "11", "1"] {
            assert!(!is_transient(code), "{code}");
        }
        for code in ["25006", "55P03", "57014", "57P03", "53300", "08006", "40001", "28P01"] {
            assert!(is_transient(code), "{code}");
        }
        for code in ["42P01", "23505", "42501", "22P02", "25P02"] {
            assert!(!is_transient(code), "{code}");
        }
    }
}
