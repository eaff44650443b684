//! Conversion of driver errors to [`Error`]. No other module sees driver errors.

use redis::{ErrorKind, RedisError, ServerErrorKind};
use tokio::time::error::Elapsed;

use crate::error::{Cause, Error};

/// Why Redis cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum LinkError {
    /// Redis does not answer. It may recover without intervention.
    #[error("{0}")]
    Away(#[source] Cause),
    /// Redis answers, but cannot be used until an operator changes something.
    #[error("{0}")]
    Unfit(String),
}

impl From<RedisError> for LinkError {
    fn from(error: RedisError) -> Self {
        if needs_operator(&error) {
            Self::Unfit(error.to_string())
        } else {
            Self::Away(Box::new(error))
        }
    }
}

impl From<Elapsed> for LinkError {
    fn from(elapsed: Elapsed) -> Self {
        Self::Away(elapsed.into())
    }
}

/// Markers of errors that Redis wraps in a script error: Redis 6 wraps all of these, Redis up to
/// 7.0 and Valkey wrap missing permissions.
const WRAPPED: [&str; 7] = [
    "OOM ",
    "READONLY ",
    "LOADING ",
    "MISCONF ",
    "NOREPLICAS ",
    "ACL failure",
    "user executing the script",
];

/// The error of a failed call: [`Error::Internal`] if the fault is in this crate,
/// [`Error::Unavailable`] if it is in Redis.
pub(super) fn fault(error: RedisError) -> Error {
    let ours = match error.kind() {
        ErrorKind::UnexpectedReturnType
        | ErrorKind::Client
        | ErrorKind::InvalidClientConfig
        | ErrorKind::Server(
            ServerErrorKind::NoScript | ServerErrorKind::CrossSlot | ServerErrorKind::ExecAbort,
        ) => true,
        ErrorKind::Server(ServerErrorKind::ResponseError) => {
            let detail = error.detail().unwrap_or_default();
            !WRAPPED.iter().any(|code| detail.contains(code))
        }
        _ => error.code() == Some("WRONGTYPE"),
    };
    if ours { Error::Internal(Box::new(error)) } else { Error::Unavailable(Box::new(error)) }
}

/// Whether the connection is unusable after this error: it is closed, it does not answer, or the
/// server is no longer the right one.
pub(super) fn ends_connection(error: &RedisError) -> bool {
    match error.kind() {
        ErrorKind::Io
        | ErrorKind::Parse
        | ErrorKind::AuthenticationFailed
        | ErrorKind::ClusterConnectionNotFound
        | ErrorKind::Server(
            ServerErrorKind::BusyLoading
            | ServerErrorKind::MasterDown
            | ServerErrorKind::ReadOnly
            | ServerErrorKind::ClusterDown,
        ) => true,
        _ => error.code() == Some("NOAUTH"),
    }
}

/// Whether Redis answered, and will give the same answer until an operator changes a configuration.
fn needs_operator(error: &RedisError) -> bool {
    matches!(
        error.kind(),
        ErrorKind::AuthenticationFailed
            | ErrorKind::InvalidClientConfig
            | ErrorKind::Server(ServerErrorKind::NoPerm)
    ) || matches!(error.code(), Some("NOAUTH" | "WRONGPASS"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn error(reply: &str) -> RedisError {
        let value = redis::parse_redis_value(format!("-{reply}\r\n").as_bytes()).unwrap();
        value.extract_error().unwrap_err()
    }

    #[test]
    fn only_a_failing_script_is_an_internal_error() {
        for ours in [
            "ERR user_script:1: attempt to index a nil value",
            "WRONGTYPE Operation against a key holding the wrong kind of value",
            "CROSSSLOT Keys in request don't hash to the same slot",
        ] {
            assert!(matches!(fault(error(ours)), Error::Internal(_)), "{ours}");
        }
        for theirs in [
            "OOM command not allowed when used memory > 'maxmemory'.",
            "ERR Error running script (call to f_1): @user_script:1: @user_script: 1: -OOM command \
             not allowed when used memory > 'maxmemory'.",
            "ERR ACL failure in script: User kim has no permissions to run the 'zadd' command",
            "ERR Error running script (call to f_1): @user_script:1: @user_script: 1: The user \
             executing the script can't run this command or subcommand",
            "LOADING Redis is loading the dataset in memory",
            "READONLY You can't write against a read only replica.",
            "NOAUTH Authentication required.",
            "NOPERM this user has no permissions to run the 'evalsha' command",
            "CLUSTERDOWN The cluster is down",
            "TRYAGAIN Multiple keys request during rehashing of slot",
            "MISCONF Redis is configured to save RDB snapshots",
            "BUSY Redis is busy running a script.",
        ] {
            assert!(matches!(fault(error(theirs)), Error::Unavailable(_)), "{theirs}");
        }
    }

    #[test]
    fn refused_command_keeps_the_connection() {
        for fine in ["OOM full", "TRYAGAIN later", "ERR wrong", "NOPERM no", "BUSY script"] {
            assert!(!ends_connection(&error(fine)), "{fine}");
        }
        for lost in ["LOADING 1", "READONLY replica", "NOAUTH who", "CLUSTERDOWN no"] {
            assert!(ends_connection(&error(lost)), "{lost}");
        }
    }
}
