//! The link to several servers that stand for one Redis: Sentinel and Cluster.

use std::time::Duration;

use keyward::internals::clock::Clock;
use keyward::internals::limiter::{Demand, Limiter, Rate};
use keyward::internals::redis::{Heard, Trouble};
use tokio::time::timeout;

use super::{down, hears, hears_at_last, unfit, up, works};
use crate::harness::redis::{RedisCluster, Watched, keep, link_to};

fn demands() -> [Demand; 2] {
    ["app", "tenant"].map(|key| Demand {
        key: key.to_owned(),
        rate: Rate::new(5, Duration::from_mins(10)),
        cost: 1,
        observe_only: false,
    })
}

async fn count_admitted(limiter: &Limiter, tenant: &str) -> usize {
    let mut admitted = 0;
    for _ in 0..9 {
        admitted += usize::from(limiter.take(tenant, &demands()).await.admitted);
    }
    admitted
}

#[tokio::test(flavor = "multi_thread")]
async fn sentinels_say_which_server_is_the_primary() {
    let group = Watched::start();
    let redis = link_to(&group.url());
    redis.check_once().await.unwrap();
    works(&redis, "key").await.unwrap();
    assert_eq!(group.primary.keys(), 1);
    let missing = link_to(&group.url().replace("/main", "/other"));
    assert!(unfit(&missing).await.contains("other"));
    let not_asked = link_to(&group.sentinel.url());
    assert!(unfit(&not_asked).await.contains("redis-sentinel://"));
    // One of the sentinels may be away.
    let first_away = group.url().replacen("127.0.0.1:", "127.0.0.1:1,127.0.0.1:", 1);
    link_to(&first_away).check_once().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn after_a_failover_the_new_primary_is_used() {
    let mut group = Watched::start();
    let redis = link_to(&group.url());
    let _kept = keep(&redis);
    up(&redis).await;
    let limiter = Limiter::over(redis.clone(), Clock::system());
    assert_eq!(count_admitted(&limiter, "acme").await, 5);
    let mut subscription = redis.subscribe("channel");
    hears(&mut subscription, &Heard::Subscribed).await;
    group.replicate();
    group.primary.stop();
    down(&redis).await;
    up(&redis).await;
    assert!(group.replica.cli(&["info", "replication"]).contains("role:master"));
    // What was counted before is known to the new primary.
    let before = limiter.fallbacks().get();
    assert_eq!(count_admitted(&limiter, "acme").await, 0);
    assert_eq!(limiter.fallbacks().get(), before);
    hears(&mut subscription, &Heard::Subscribed).await;
    redis.publish("channel", b"hint").await.unwrap();
    hears_at_last(&mut subscription, &Heard::Message(b"hint".to_vec())).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_primary_that_the_sentinels_have_left_is_left() {
    let group = Watched::start();
    let redis = link_to(&group.url());
    let _kept = keep(&redis);
    up(&redis).await;
    // The old one goes on to answer and takes itself for the primary.
    group.replica.cli(&["replicaof", "no", "one"]);
    let port = group.replica.port.to_string();
    group.sentinel.cli(&["sentinel", "remove", "main"]);
    group.sentinel.cli(&["sentinel", "monitor", "main", "127.0.0.1", &port, "1"]);
    let used = async {
        while group.replica.keys() == 0 {
            works(&redis, "key").await.ok();
        }
    };
    timeout(Duration::from_secs(20), used).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn in_a_cluster_every_tenant_is_counted_whichever_node_has_it() {
    let cluster = RedisCluster::start();
    let redis = link_to(&cluster.url());
    redis.check_once().await.unwrap();
    let limiter = Limiter::over(redis.clone(), Clock::system());
    for n in 0..20 {
        assert_eq!(count_admitted(&limiter, &format!("tenant{n}")).await, 5);
    }
    for node in &cluster.nodes {
        assert!(node.keys() > 0);
        node.cli(&["script", "flush"]);
    }
    assert_eq!(count_admitted(&limiter, "tenant0").await, 0);
    assert_eq!(count_admitted(&limiter, "another").await, 5);
    assert_eq!(limiter.fallbacks().get(), 0);
    // A second replica counts the same windows.
    let other = link_to(&cluster.url());
    other.check_once().await.unwrap();
    let other = Limiter::over(other, Clock::system());
    assert_eq!(count_admitted(&other, "tenant7").await, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn in_a_cluster_what_is_published_on_one_node_is_heard_on_another() {
    let mut cluster = RedisCluster::start();
    let redis = link_to(&cluster.url());
    let _kept = keep(&redis);
    up(&redis).await;
    let mut subscription = redis.subscribe("channel");
    hears(&mut subscription, &Heard::Subscribed).await;
    for n in 0..20 {
        let message = format!("hint {n}");
        redis.publish("channel", message.as_bytes()).await.unwrap();
        hears(&mut subscription, &Heard::Message(message.into_bytes())).await;
    }
    // The node that it hears from goes; the cluster is not whole then, but another tells.
    cluster.nodes[0].stop();
    hears(&mut subscription, &Heard::Subscribed).await;
    down(&redis).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cluster_without_a_node_is_away_until_the_node_is_back() {
    let mut cluster = RedisCluster::start();
    let redis = link_to(&cluster.url());
    let _kept = keep(&redis);
    up(&redis).await;
    cluster.nodes[2].stop();
    down(&redis).await;
    let trouble = link_to(&cluster.url()).check_once().await.unwrap_err();
    assert!(matches!(trouble, Trouble::Away(_)), "{trouble:?}");
    // It finds its way back by the file in which it keeps the cluster.
    cluster.nodes[2].start_again();
    up(&redis).await;
    // The nodes do not all see it at the same time.
    while works(&redis, "key").await.is_err() {
        up(&redis).await;
    }
}
