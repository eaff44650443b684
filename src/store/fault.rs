//! Errors of the drivers in our terms.

use crate::error::Error;

/// A driver's error in our terms: a database that cannot be reached, cannot be written, is
/// full, or asks to try again is unavailable; what else goes wrong is our own fault.
pub(super) fn fault(error: sqlx::Error) -> Error {
    let passing = match &error {
        sqlx::Error::Io(_)
        | sqlx::Error::Tls(_)
        // A load balancer without a server behind it takes a connection and closes it at once:
        // the driver calls that an unexpected answer to its first message.
        | sqlx::Error::Protocol(_)
        | sqlx::Error::PoolTimedOut
        | sqlx::Error::PoolClosed
        | sqlx::Error::WorkerCrashed
        | sqlx::Error::BeginFailed => true,
        sqlx::Error::Database(database) => database.code().is_some_and(|code| is_passing(&code)),
        _ => false,
    };
    match &error {
        sqlx::Error::Database(database) if names_are_lost(database.code().as_deref()) => {
            Error::internal(format!("{error}: {POOLER}"))
        }
        _ if passing => Error::Unavailable(Box::new(error)),
        _ => Error::Internal(Box::new(error)),
    }
}

/// What to do about a pooler that gives each transaction another connection.
pub(super) const POOLER: &str = "the address leads to a pooler in transaction mode: set \
    database.pooler = \"transaction\" (KEYWARD_DATABASE_POOLER)";

/// PostgreSQL knows a prepared statement that is new to us, or lost one that we prepared.
fn names_are_lost(code: Option<&str>) -> bool {
    matches!(code, Some("42P05" | "26000"))
}

/// Whether a fault is one of the database's condition, and not of the statement.
fn is_passing(code: &str) -> bool {
    if code.len() == 5 {
        return is_passing_sqlstate(code);
    }
    // SQLite keeps the primary code in the low byte of its extended codes.
    code.parse::<u32>().is_ok_and(|code| {
        const NOMEM: u32 = 7;
        const READONLY: u32 = 8;
        const INTERRUPT: u32 = 9;
        const IOERR: u32 = 10;
        const FULL: u32 = 13;
        // A file, or one of its companions, cannot be opened: no descriptor is left, for instance.
        const CANTOPEN: u32 = 14;
        const PROTOCOL: u32 = 15;
        let (busy, locked) = (5, 6);
        let code = code & 0xff;
        [busy, locked, NOMEM, READONLY, INTERRUPT, IOERR, FULL, CANTOPEN, PROTOCOL].contains(&code)
    })
}

/// By class (PostgreSQL, appendix A): connection (08), authorisation of a new connection (28),
/// rollback (40), resources (53), operator intervention (57), system (58). And single codes:
/// a read-only server (25006), a transaction that was ended because it was idle or took too
/// long (25P03, 25P04: this server had hung), a database that is not there (3D000: it is being
/// restored), and a lock that was not to be had in time (55P03).
fn is_passing_sqlstate(code: &str) -> bool {
    matches!(code, "25006" | "25P03" | "25P04" | "3D000" | "55P03")
        || ["08", "28", "40", "53", "57", "58"].iter().any(|class| code.starts_with(class))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn conditions_of_the_database_are_told_from_faults_of_statements() {
        // SQLite: a write beyond a limit of file sizes, a full disk, no descriptor, read-only.
        for code in ["778", "13", "14", "270", "8", "776", "1032", "5", "517"] {
            assert!(is_passing(code), "{code}");
        }
        // Constraint, corrupt, no such table.
        for code in ["19", "2067", "11", "1"] {
            assert!(!is_passing(code), "{code}");
        }
        for code in ["25006", "55P03", "57014", "57P03", "53300", "08006", "40001", "28P01"] {
            assert!(is_passing(code), "{code}");
        }
        for code in ["42P01", "23505", "42501", "22P02", "25P02"] {
            assert!(!is_passing(code), "{code}");
        }
    }
}
