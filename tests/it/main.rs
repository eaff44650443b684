//! All integration tests, in one binary: the real server on real sockets.

mod architecture;
mod grpc;
mod harness;
mod oauth2;
mod process;
mod store;
