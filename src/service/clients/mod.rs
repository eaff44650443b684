//! The cache of clients with all that decides over them, so that a request reads no row.

mod history;
mod reading;
mod snapshots;

pub(in crate::service) use snapshots::ClientCache;
