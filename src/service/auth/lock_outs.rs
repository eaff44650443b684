//! Clients that were locked out, until their tenants' audit logs say so.

use std::net::IpAddr;
use std::sync::{Mutex, PoisonError};

use crate::domain::CredentialId;

/// How many wait to be written; the log of the server has the rest.
const MAX_WAITING: usize = 1024;

/// Too many wrong secrets of a client came from one source.
#[derive(Clone, Debug)]
pub(in crate::service) struct LockOut {
    pub(in crate::service) client: CredentialId,
    pub(in crate::service) source: Option<IpAddr>,
    pub(in crate::service) detail: String,
}

/// Lock-outs that wait to be written. They are written beside the requests: the answer must not
/// take longer if there is such a client.
#[derive(Debug, Default)]
pub(in crate::service) struct LockOuts(Mutex<Vec<LockOut>>);

impl LockOuts {
    pub(super) fn add(&self, lock_out: LockOut) {
        let mut waiting = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if waiting.len() < MAX_WAITING {
            waiting.push(lock_out);
        }
    }

    /// Takes a lock-out that waits.
    pub(in crate::service) fn take(&self) -> Option<LockOut> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).pop()
    }
}
