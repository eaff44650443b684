//! Keyward manages API credentials for multi-tenant platforms and turns them into
//! short-lived signed JWTs.
//!
//! The rooms, and the one direction of imports between them:
//!
//! ```text
//! domain, error, clock <- store, secrets, keys, redis, admission, incidents <- limiter <- service
//!     <- grpc | http <- server <- cli
//! ```
//!
//! [`domain`] is pure rules; [`store`], [`secrets`] and [`keys`] do one kind of work
//! each and know nothing of each other; [`redis`] is a link and no more, on which
//! [`limiter`] counts for all replicas; [`admission`] bounds what one source may hold here; [`incidents`]
//! tells the log what was refused; [`service`] holds every use case and is the only
//! place for business logic; [`grpc`] and [`http`] are thin and never import each other;
//! [`server`] puts it together; [`cli`] runs it, or talks to it like any client.
//!
//! [`verifier`] stands beside all that: a client for services that check tokens themselves. It
//! shares rules, keys and the index of revocations with the server, and nothing of the server
//! imports it. It and the command line connect through `transport`, which knows no other room.

#![cfg_attr(not(feature = "server"), allow(dead_code, reason = "the verifier uses a part of each room"))]

#[cfg(feature = "server")]
mod admission;
#[cfg(feature = "server")]
mod cli;
mod clock;
#[cfg(feature = "server")]
mod config;
mod domain;
mod error;
#[cfg(feature = "server")]
mod grpc;
#[cfg(feature = "server")]
mod http;
#[cfg(feature = "server")]
mod incidents;
#[cfg(feature = "internals")]
pub mod internals;
mod keys;
#[cfg(feature = "server")]
mod limiter;
pub mod proto;
#[cfg(feature = "server")]
mod redis;
mod revocation;
mod secrets;
#[cfg(feature = "server")]
mod server;
#[cfg(feature = "server")]
mod service;
#[cfg(feature = "server")]
mod store;
#[cfg(feature = "server")]
mod telemetry;
mod transport;
pub mod verifier;

#[cfg(feature = "server")]
pub use cli::run;
