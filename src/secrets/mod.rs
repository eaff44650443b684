//! Secrets: format, generation, hashing and sealing.
//!
//! [`Secret`] is the only type that holds a secret in plain text. It does not print itself, and it
//! wipes its memory. A secret leaves the server in one response field only.

#[cfg(all(feature = "server", target_os = "linux"))]
mod access_list;
#[cfg(feature = "server")]
pub mod authenticator;
pub mod format;
#[cfg(feature = "server")]
pub mod hashing;
#[cfg(feature = "server")]
pub mod lanes;
#[cfg(feature = "server")]
pub mod master_key;
#[cfg(feature = "server")]
pub mod master_keys;
#[cfg(feature = "server")]
pub mod page_token;
#[cfg(feature = "server")]
pub mod queue_metrics;
pub mod random;
#[cfg(feature = "server")]
pub mod sealing;
#[cfg(feature = "server")]
pub mod verified;
#[cfg(feature = "server")]
pub mod workers;

#[cfg(feature = "server")]
pub use authenticator::Authenticator;
pub use format::{Prefixes, Secret};
#[cfg(feature = "server")]
pub use hashing::{HashQueue, Hasher};
#[cfg(feature = "server")]
pub use lanes::Lane;
#[cfg(feature = "server")]
pub use master_key::MasterKey;
#[cfg(feature = "server")]
pub use master_keys::MasterKeys;
#[cfg(feature = "server")]
pub use page_token::PageTokens;
#[cfg(feature = "server")]
pub use sealing::Sealer;
#[cfg(feature = "server")]
pub use verified::{PresentedSecret, Tagger, VerifiedSecrets};
#[cfg(feature = "server")]
pub use workers::Turn;
