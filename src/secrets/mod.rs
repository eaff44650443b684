//! Secrets: format, generation, hashing and sealing.
//!
//! [`Secret`] is the only type that holds a secret in plain text. It does not print itself, and it
//! wipes its memory. A secret leaves the server in one response field only.

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
pub use hashing::{HashQueue, Hasher};
pub use lanes::Lane;
pub use master_key::MasterKey;
pub use page_token::PageTokens;
pub use sealing::Sealer;
pub use verified::{PresentedSecret, Tagger, VerifiedSecrets};
pub use workers::{Slot, Turn};
