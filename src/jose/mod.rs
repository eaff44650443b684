//! JWTs that others signed (RFC 7515, 7517, 7519): client assertions, federated tokens and DPoP
//! proofs. This module reads and verifies them, without I/O and without a clock of its own. What a
//! claim must say is decided by its users.
//!
//! The steps of a user:
//!
//! 1. [`SignedJwt::parse`] checks the form, the header and the types of the claims. Until the
//!    signature is verified, claims are only read to find the keys
//!    ([`SignedJwt::unverified_claims`]).
//! 2. [`SignedJwt::verify_with`] verifies the signature with the keys of the signer, or
//!    [`SignedJwt::verify_with_jwk`] with the key in the header, which is right for DPoP proofs
//!    alone.
//! 3. [`TimeRule::check`] checks the times, and the user the claims.
//! 4. If a token may be used once, it is spent last, until [`TimeRule::passes_until`].
//!
//! The crate jsonwebtoken verifies the signatures. Headers and claims are read here: jsonwebtoken
//! knows no `Ed25519` (RFC 9864), does not see repeated members, and checks only the claims that it
//! is asked to check.

mod algorithm;
mod claims;
mod dpop;
mod key_set;
mod members;
#[cfg(feature = "server")]
mod pem;
mod public_key;
mod refusal;
mod request_url;
mod times;
mod token;

pub use algorithm::JwsAlgorithm;
pub use claims::JwtClaims;
pub use dpop::{DpopProof, ProofFault, ProvenRequest};
#[cfg(feature = "internals")]
pub use dpop::{MAX_PROOF_AGE, MAX_PROOF_LENGTH};
pub use key_set::{KeySet, KeySetFaults};
#[cfg(feature = "internals")]
pub use key_set::{LenientKeySet, MAX_KEY_SET_BYTES, MAX_KEYS};
#[cfg(feature = "internals")]
pub use public_key::JwkFault;
pub use public_key::PublicKey;
pub use refusal::JwtRefusal;
#[cfg(feature = "internals")]
pub use request_url::RequestUrl;
pub use times::{MAX_AHEAD, TimeRule};
pub use token::SignedJwt;
#[cfg(feature = "internals")]
pub use token::{JwtHeader, MAX_JWT_LENGTH, VerifiedJwt};
