//! Secrets: their form, their making, their hashes, and sealing what must be kept.
//!
//! A [`Secret`] is the only type that holds one in the clear: it does not print
//! itself, and it wipes its memory. It leaves in one response field and nowhere else.

pub mod authenticator;
pub mod format;
pub mod hashing;
pub mod lanes;
pub mod master_key;
pub mod page_token;
pub mod random;
pub mod sealing;
pub mod verified;
pub mod workers;

pub use authenticator::Authenticator;
pub use format::{Prefixes, Secret};
pub use hashing::{Hasher, Queue};
pub use lanes::Lane;
pub use master_key::MasterKey;
pub use page_token::PageTokens;
pub use sealing::Sealer;
pub use verified::{Presented, Tagger, Verified};
pub use workers::{Slot, Turn};
