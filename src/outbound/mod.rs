//! Documents of other hosts: the key sets of those who sign tokens for us.
//!
//! An administrator names the addresses. Administrators of tenants are not operators, so an address
//! must not reach what only this machine can reach, and a host that is slow, huge or hostile must
//! cost a bounded amount of time and memory. hyper speaks HTTP here without a client library on
//! top: such a library resolves names itself, follows redirects and obeys proxy variables, and each
//! of these can lead to an address that was not checked.

mod addresses;
mod fetch;
mod jwks;
mod location;
mod log_budget;
mod metrics;
mod options;
mod tls;

pub use addresses::is_public;
#[cfg(feature = "internals")]
pub use fetch::MAX_DOCUMENT;
pub use fetch::{FetchError, FetchedDocument, Fetcher};
pub use jwks::JwksSource;
#[cfg(feature = "internals")]
pub use jwks::MAX_SOURCES;
pub use location::KeyLocation;
pub use metrics::OutboundMetrics;
pub use options::{OutboundOptions, PlaintextHosts};
