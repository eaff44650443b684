//! The cache of clients, so that a request reads no rows.

mod cache;
mod change_history;
mod read_time;

pub(in crate::service) use cache::ClientCache;
pub use cache::FeedReads;
