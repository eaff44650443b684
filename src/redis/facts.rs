//! What a Redis says about itself, for `keyward doctor`.

use jiff::Timestamp;
use redis::from_redis_value;

use super::checks::field;
use super::{LinkError, Redis};
use crate::clock::from_microsecond;

/// The state of one server: Redis itself, or a primary of a cluster.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RedisFacts {
    /// Its name and version.
    pub version: String,
    /// What happens when its memory is full.
    pub policy: String,
    /// The bytes that it uses.
    pub used: u64,
    /// The bytes that it may use; 0: no limit.
    pub max: u64,
    pub replicas: Vec<RedisReplica>,
}

/// A replica of a Redis server.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RedisReplica {
    pub address: String,
    /// `online` if it follows.
    pub state: String,
    /// Seconds since it last acknowledged something.
    pub lag: u64,
}

impl Redis {
    /// Connects, checks that the server is suitable, and asks for its state and its time.
    pub async fn facts(&self) -> Result<(Vec<RedisFacts>, Timestamp), LinkError> {
        let mut connection = self.0.connector.open().await?;
        let infos = connection.ask(&redis::cmd("INFO")).await?;
        let time = connection.send(&redis::cmd("TIME")).await?;
        let (seconds, micros): (i64, i64) =
            from_redis_value(time).map_err(|error| LinkError::Away(Box::new(error)))?;
        let time = from_microsecond(seconds.saturating_mul(1_000_000).saturating_add(micros));
        Ok((infos.iter().map(|info| RedisFacts::parse(info)).collect(), time))
    }
}

impl RedisFacts {
    /// Parses the answer to INFO.
    pub fn parse(info: &str) -> Self {
        let text = |name: &str| field(info, name).unwrap_or("unknown").to_owned();
        let number = |name: &str| field(info, name).and_then(|n| n.parse().ok()).unwrap_or(0);
        let version = match field(info, "valkey_version") {
            Some(version) => format!("Valkey {version}"),
            None => format!("Redis {}", text("redis_version")),
        };
        let replicas = (0..number("connected_slaves"))
            .filter_map(|at| field(info, &format!("slave{at}")))
            .map(replica)
            .collect();
        Self {
            version,
            policy: text("maxmemory_policy"),
            used: number("used_memory"),
            max: number("maxmemory"),
            replicas,
        }
    }
}

/// Parses `ip=10.0.0.2,port=6379,state=online,offset=14,lag=0`.
fn replica(line: &str) -> RedisReplica {
    let part = |name: &str| {
        let mut parts = line.split(',').filter_map(|part| part.split_once('='));
        parts.find(|(found, _)| *found == name).map_or("", |(_, value)| value)
    };
    RedisReplica {
        address: format!("{}:{}", part("ip"), part("port")),
        state: part("state").to_owned(),
        lag: part("lag").parse().unwrap_or(0),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn replicas_and_memory_are_read_from_info() {
        let info = "redis_version:7.2.4\r\nused_memory:1000\r\nmaxmemory:5000\r\n\
            maxmemory_policy:noeviction\r\nconnected_slaves:1\r\n\
            slave0:ip=10.0.0.2,port=6379,state=wait_bgsave,offset=14,lag=12\r\n";
        let replica = RedisReplica {
            address: "10.0.0.2:6379".to_owned(),
            state: "wait_bgsave".to_owned(),
            lag: 12,
        };
        let facts = RedisFacts::parse(info);
        assert_eq!((facts.version.as_str(), facts.used, facts.max), ("Redis 7.2.4", 1000, 5000));
        assert_eq!(facts.replicas, [replica]);
    }
}
