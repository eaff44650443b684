//! What services read that verify tokens themselves: the list of revocations, and streams of it and
//! of the key set; and streams of audit events.

mod audit;
mod base;
mod places;
mod revocations;
mod watch;
mod watchers;

pub use audit::{AuditNews, AuditWatch};
pub use base::Feeds;
pub use watch::{JwksWatch, News, RevocationWatch};
