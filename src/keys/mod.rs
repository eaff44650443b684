//! Signing keys and access tokens: which key signs, which keys are published, and how a JWT is
//! validated. Storing keys is the task of other modules.

pub mod algorithm;
#[cfg(feature = "server")]
pub mod audit;
#[cfg(feature = "server")]
pub mod introspection;
pub mod jwk;
pub mod jwt;
pub mod ring;
pub mod schedule;
pub mod signing;

pub use algorithm::SigningAlgorithm;
#[cfg(feature = "server")]
pub use audit::AuditKey;
pub use jwk::{Jwks, VerifyingKey};
pub use jwt::{Claims, Rejection};
pub use ring::KeyRing;
pub use schedule::{KeyRecord, KeyState, Schedule};
pub use signing::SigningKey;
