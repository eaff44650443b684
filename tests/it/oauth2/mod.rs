//! The HTTP face, as CLIENTS and the RFCs want it.

mod discovery;
mod errors;
mod introspect;
mod operations;
mod token;
mod transport;
