//! The parts of the test harness that are useful here: callers, PostgreSQL, Redis, and processes
//! that end with this one.

#![allow(
    dead_code,
    unused_imports,
    clippy::unnecessary_wraps,
    reason = "it is the tests', who need more of it"
)]

#[path = "../../tests/it/harness/actors.rs"]
mod actors;
#[path = "../../tests/it/harness/postgres.rs"]
mod postgres;
#[path = "../../tests/it/harness/process.rs"]
mod process;
#[path = "../../tests/it/harness/redis/mod.rs"]
mod redis;
#[path = "../../tests/it/harness/wait.rs"]
mod wait;

pub(crate) use self::actors::{Admin, Authorized, Credential, bearer, connect, question, reason};
pub(crate) use self::postgres::PostgresServer;
pub(crate) use self::process::{free_port, signal, spawn};
pub(crate) use self::redis::RedisServer;
pub(crate) use self::wait::{becomes_true, until_blocking};
use crate::keyward::Keyward;
