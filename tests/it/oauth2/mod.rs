//! The HTTP interface, as client libraries and the RFCs require it.

mod discovery;
mod errors;
mod exchange;
mod introspect;
mod openapi;
mod operations;
mod token;
mod transport;
