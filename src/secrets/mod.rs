//! Secrets: their form, their making, their hashes, and sealing what must be kept.
//!
//! A [`Secret`] is the only type that holds one in the clear: it does not print
//! itself, and it wipes its memory. It leaves in one response field and nowhere else.

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
pub mod page_token;
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
pub use hashing::{Hasher, Queue};
#[cfg(feature = "server")]
pub use lanes::Lane;
#[cfg(feature = "server")]
pub use master_key::MasterKey;
#[cfg(feature = "server")]
pub use page_token::PageTokens;
#[cfg(feature = "server")]
pub use sealing::Sealer;
#[cfg(feature = "server")]
pub use verified::{Presented, Tagger, Verified};
#[cfg(feature = "server")]
pub use workers::{Slot, Turn};
