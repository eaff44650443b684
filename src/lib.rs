//! Keyward manages API credentials for multi-tenant platforms and turns them into
//! short-lived signed JWTs.
#![allow(dead_code)]
pub mod clock;
pub mod domain;
pub mod error;
pub mod store;
pub mod secrets;
pub mod keys;
pub mod service;
pub mod proto;
pub mod grpc;
pub mod http;
