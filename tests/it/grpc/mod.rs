//! The gRPC face.

mod bad_input;
mod callers;
mod credentials;
mod load;
mod management;
mod permissions;
mod profiles;
mod raw;
mod tokens;
mod wire;
