//! Signing keys and the tokens made with them: which key signs, which are published,
//! and what a JWT must be to be believed. Where keys are kept is not known here.

pub mod algorithm;
pub mod jwk;
pub mod jwt;
pub mod ring;
pub mod signing;

pub use algorithm::SigningAlgorithm;
pub use jwk::{Jwks, PublicJwk, VerifyingKey};
pub use jwt::{Claims, Rejection};
pub use ring::KeyRing;
pub use signing::SigningKey;
