//! What a limit in Redis costs at least: one script for a token, which does nothing but read
//! a counter and write it.

use redis::aio::MultiplexedConnection;
use redis::{AsyncConnectionConfig, Client, Cmd};

/// Reads Redis' clock and a counter, and writes it with an end: whatever the kind of window, a
/// script can do no less.
const SCRIPT: &str = "\
    local now = redis.call('TIME') \
    local used = tonumber(redis.call('GET', KEYS[1]) or '0') + 1 \
    if used > tonumber(ARGV[1]) then return 0 end \
    redis.call('SET', KEYS[1], used, 'PX', ARGV[2]) \
    return used";
const LIMIT: u32 = 1_000_000_000;
const WINDOW: u32 = 60_000;

/// Counts in Redis, over one connection.
#[derive(Clone)]
pub(super) struct Counter {
    connection: MultiplexedConnection,
    script: String,
}

impl Counter {
    pub(super) async fn connect(url: &str) -> Self {
        let client = Client::open(url).unwrap();
        let settings = AsyncConnectionConfig::new();
        let mut connection =
            client.get_multiplexed_async_connection_with_config(&settings).await.unwrap();
        let load = Cmd::new().arg("SCRIPT").arg("LOAD").arg(SCRIPT).to_owned();
        let script = load.query_async(&mut connection).await.unwrap();
        Self { connection, script }
    }

    pub(super) async fn count(&self) {
        let mut count = redis::cmd("EVALSHA");
        count.arg(&self.script).arg(1).arg("counter").arg(LIMIT).arg(WINDOW);
        let counted: u32 = count.query_async(&mut self.connection.clone()).await.unwrap();
        assert!(counted > 0, "the counter is full");
    }
}
