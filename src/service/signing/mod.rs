//! The keys that sign tokens. `keys` has those of this server: which one signs, and what is
//! published. `rotation` changes them in the database. When that is due is decided by
//! [`crate::keys::schedule`].

mod keys;
mod rotation;
mod sealed;

pub use keys::Signing;
pub(in crate::service) use rotation::{KeyStep, StepKind};
pub(in crate::service) use sealed::{private_name, public_name};
