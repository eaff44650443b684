//! The gRPC face.

mod bad_input;
mod callers;
mod credentials;
mod load;
mod management;
mod profiles;
mod raw;
mod tokens;
mod wire;
