//! The test harness: the real server on real sockets, real databases, a clock that stands still
//! until a test moves it, and named callers.

mod actors;
mod bouncer;
mod dice;
mod exchange;
pub(crate) mod gateway;
mod http;
mod pair;
mod postgres;
mod process;
mod proxy;
pub(crate) mod redis;
mod server;
pub(crate) mod signer;
mod wait;

pub(crate) use self::process::free_port;
pub(crate) use actors::{Admin, Authorized, Credential, bearer, connect, mask, question, reason};
pub(crate) use bouncer::{PgBouncer, connections_to};
pub(crate) use dice::Dice;
pub(crate) use exchange::{ACCESS_TOKEN, API_KEY, JWT, exchange_of};
pub(crate) use http::Answer;
pub(crate) use pair::Pair;
pub(crate) use postgres::{PostgresServer, fresh_database};
pub(crate) use proxy::Proxy;
pub(crate) use redis::RedisServer;
pub(crate) use server::{Backend, Keyward, secret_free};
pub(crate) use wait::{PATIENCE, becomes_true, in_time, pause, until, until_blocking, until_some};

/// Defines two tests for each function, one for each database.
macro_rules! on_both_databases {
    ($($test:ident),+ $(,)?) => {
        mod sqlite {
            $(#[tokio::test(flavor = "multi_thread")]
            async fn $test() {
                Box::pin(super::$test($crate::harness::Backend::Sqlite)).await;
            })+
        }
        mod postgres {
            $(#[tokio::test(flavor = "multi_thread")]
            async fn $test() {
                Box::pin(super::$test($crate::harness::Backend::Postgres)).await;
            })+
        }
    };
}
pub(crate) use on_both_databases;
