//! The gRPC face.

mod access;
mod audit;
mod bad_input;
mod callers;
mod ceiling;
mod credentials;
mod endpoints;
mod everyone;
mod future_tokens;
mod generated_input;
mod guarded;
mod limited;
mod limits;
mod load;
mod management;
mod permissions;
mod policies;
mod profiles;
pub(crate) mod raw;
mod refusals;
mod revocations;
mod texts;
mod tokens;
mod usage;
pub(crate) mod warm;
mod watching;
mod wire;
