//! The minimum cost of a limit in Redis: one script per token, which only reads and writes a
//! counter. It uses the driver directly, without Keyward's link.

use redis::aio::MultiplexedConnection;
use redis::io::tcp::TcpSettings;
use redis::{Client, IntoConnectionInfo};

/// Reads Redis' clock and a counter, and writes the counter with an expiry: the minimum for any
/// kind of window.
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
        // As for Keyward's own connection.
        let tcp = TcpSettings::default().set_nodelay(true);
        let address = url.into_connection_info().unwrap().set_tcp_settings(tcp);
        let client = Client::open(address).unwrap();
        let mut connection = client.get_multiplexed_async_connection().await.unwrap();
        let mut load = redis::cmd("SCRIPT");
        let script = load.arg("LOAD").arg(SCRIPT).query_async(&mut connection).await.unwrap();
        Self { connection, script }
    }

    pub(super) async fn count(&self) {
        let mut count = redis::cmd("EVALSHA");
        count.arg(&self.script).arg(1).arg("counter").arg(LIMIT).arg(WINDOW);
        let counted: u32 = count.query_async(&mut self.connection.clone()).await.unwrap();
        assert!(counted > 0, "the counter is full");
    }
}
