//! Checks that updates of all resources make.

use jiff::Timestamp;

use crate::domain::{Moment, Record};
use crate::error::{Error, Result};

/// Refuses a change of a resource that has changed since the caller read it. With an empty etag,
/// the caller does not ask for this check.
pub(super) fn check_etag(record: &Record, etag: &str, name: &impl ToString) -> Result<()> {
    if etag.is_empty() || etag == record.etag() {
        Ok(())
    } else {
        Err(Error::EtagMismatch(name.to_string()))
    }
}

/// Refuses an expiry in the past.
pub(super) fn check_expiry(expires_at: Option<Moment>, now: Timestamp, field: &str) -> Result<()> {
    if expires_at.is_some_and(|end| end <= now) {
        Err(Error::invalid(field, "must be in the future"))
    } else {
        Ok(())
    }
}

/// The error for a row that this transaction has locked and read, and could not write.
pub(super) fn vanished(name: impl std::fmt::Display) -> Error {
    Error::internal(format!("{name} vanished under a lock"))
}
