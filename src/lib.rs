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

pub mod admission;
pub mod cli;
pub mod clock;
pub mod config;
pub mod domain;
pub mod error;
pub mod grpc;
pub mod http;
pub mod incidents;
pub mod keys;
pub mod limiter;
pub mod proto;
pub mod redis;
pub mod revocation;
pub mod secrets;
pub mod server;
pub mod service;
pub mod store;
pub mod telemetry;
mod transport;
pub mod verifier;
