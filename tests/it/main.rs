//! All integration tests, in one binary: the real server on real sockets.

#![expect(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a test fails by panicking"
)]
#![expect(
    clippy::too_many_lines,
    clippy::unnecessary_wraps,
    reason = "cases stand together, and helpers make what requests take"
)]

mod architecture;
mod assertions;
mod audit;
mod database;
mod deployment;
mod documents;
mod dpop;
mod edge;
mod federated;
mod gateways;
mod grpc;
mod harness;
mod jose;
mod keys;
mod limiter;
mod master_keys;
mod metrics_table;
mod oauth2;
mod outbound;
mod platforms;
mod process;
mod properties;
mod redis;
mod replicas;
mod rights;
mod settings;
mod store;
mod strangers;
mod tls;
mod upgrade;
mod verifier;
