//! Redis and its replicas.

use super::{Finding, compare_clocks};
use crate::clock::Clock;
use crate::config::Config;
use crate::redis::{LinkError, Redis, RedisFacts};
use crate::store::Database;

/// A replica that acknowledged nothing for so long is lost, or too slow.
const MAX_LAG_SECONDS: u64 = 10;

pub(super) async fn findings(config: &Config) -> Vec<Finding> {
    const CHECK: &str = "redis";
    let Some(url) = &config.redis.url else {
        let found = match config.database.url {
            Database::Sqlite(_) => "not configured: this server is alone",
            Database::Postgres(_) => {
                "not configured: each server counts limits for itself, and learns of revocations \
                 within revocations.poll_interval"
            }
        };
        return vec![Finding::ok(CHECK, found)];
    };
    let redis = Redis::new(url.clone(), &config.redis.key_prefix, config.redis.timeouts);
    let before = Clock::system().now();
    match redis.facts().await {
        Ok((facts, time)) => {
            let mut all = vec![compare_clocks("redis_clock", "Redis", before, time)];
            all.extend(facts.iter().flat_map(describe));
            all
        }
        Err(LinkError::Unfit(why)) => vec![Finding::error(
            CHECK,
            format!("{url} cannot be used: {why}"),
            "correct it: no server starts with it",
        )],
        Err(LinkError::Away(why)) => vec![Finding::warning(
            CHECK,
            format!("{url} does not answer: {why}"),
            "start it, or correct redis.url; servers count limits by share meanwhile",
        )],
    }
}

fn describe(facts: &RedisFacts) -> Vec<Finding> {
    let RedisFacts { version, policy, used, max, replicas } = facts;
    let mut all = vec![Finding::ok("redis", format!("{version}, maxmemory-policy {policy}"))];
    if policy != "noeviction" {
        all.push(Finding::warning(
            "redis_memory",
            format!("maxmemory-policy is {policy}; it has no effect without maxmemory"),
            "set it to noeviction: with a maxmemory, no server would start",
        ));
    }
    if *max > 0 && used.saturating_mul(10) > max.saturating_mul(8) {
        all.push(Finding::warning(
            "redis_memory",
            format!("{} of {} MiB are used", used >> 20, max >> 20),
            "raise maxmemory: a full Redis counts no limits",
        ));
    }
    for replica in replicas {
        if replica.state != "online" || replica.lag > MAX_LAG_SECONDS {
            all.push(Finding::warning(
                "redis_replication",
                format!(
                    "the replica {} is {}, and acknowledged nothing for {} s",
                    replica.address, replica.state, replica.lag
                ),
                "find out what slows it down: a failover to it forgets counted limits",
            ));
        }
    }
    all
}

#[cfg(test)]
mod tests {
    use super::*;

    use crate::server::doctor::Level;

    #[test]
    fn full_memory_and_slow_replicas_are_warnings() {
        let good = RedisFacts::parse(
            "redis_version:7.2.4\r\nmaxmemory_policy:noeviction\r\nused_memory:70\r\n\
             maxmemory:100\r\nconnected_slaves:1\r\n\
             slave0:ip=b,port=6379,state=online,offset=1,lag=1\r\n",
        );
        let worst = |facts: &RedisFacts| describe(facts).iter().map(|f| f.level).max().unwrap();
        assert_eq!(worst(&good), Level::Ok);
        assert_eq!(worst(&RedisFacts { used: 90, ..good.clone() }), Level::Warning);
        let lru = RedisFacts { policy: "allkeys-lru".to_owned(), max: 0, ..good.clone() };
        assert_eq!(worst(&lru), Level::Warning);
        let mut slow = good.clone();
        slow.replicas[0].lag = 60;
        assert_eq!(worst(&slow), Level::Warning);
    }
}
