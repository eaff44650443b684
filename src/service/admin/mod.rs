//! Management: one file for each resource.

mod applications;
mod audit;
mod base;
mod bootstrap;
mod checks;
mod credentials;
mod declaration;
mod endpoints;
mod folding;
mod grants;
mod last_uses;
mod master_keys;
mod policies;
mod profiles;
mod revocations;
mod roles;
mod scopes;
mod secrets;
mod signing_keys;
mod tenants;
mod updates;
mod usage;
mod users;

pub use applications::{NewApplication, Ownership};
pub use base::Admin;
pub use bootstrap::FirstCredential;
pub use credentials::NewCredential;
pub use declaration::Declared;
pub use master_keys::{MasterKeyStatus, MasterKeyUse, held_master_keys, master_key_uses};
pub use policies::PolicyViolation;
pub use profiles::AppliedChange;
pub use revocations::Revoked;
pub use signing_keys::{RevokedKey, SigningKeyInfo};
pub use updates::Shown;
pub use usage::Days;
pub use users::DeletedUser;
