//! The link to a Redis that consists of several servers: Sentinel and Cluster.

use std::time::Duration;

use keyward::internals::clock::Clock;
use keyward::internals::limiter::{Demand, Limiter, WindowRate};
use keyward::internals::redis::{LinkError, SubscriptionEvent};

use super::{down, receives, receives_eventually, unfit, up, works};
use crate::harness::in_time;
use crate::harness::redis::{RedisCluster, Watched, keep, link_to};

fn demands() -> [Demand; 2] {
    ["app", "tenant"].map(|key| Demand {
        key: key.to_owned(),
        rate: WindowRate::new(5, Duration::from_mins(10)),
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
async fn sentinels_determine_the_primary() {
    let group = Watched::start();
    let redis = link_to(&group.url());
    redis.check_once().await.unwrap();
    works(&redis, "key").await.unwrap();
    assert_eq!(group.primary.keys(), 1);
    let missing = link_to(&group.url().replace("/main", "/other"));
    assert!(unfit(&missing).await.contains("other"));
    let not_asked = link_to(&group.sentinel.url());
    assert!(unfit(&not_asked).await.contains("redis-sentinel://"));
    // One of the sentinels may be down.
    let first_away = group.url().replacen("127.0.0.1:", "127.0.0.1:1,127.0.0.1:", 1);
    link_to(&first_away).check_once().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn new_primary_is_used_after_failover() {
    let mut group = Watched::start();
    let redis = link_to(&group.url());
    let _kept = keep(&redis);
    up(&redis).await;
    let limiter = Limiter::over(redis.clone(), Clock::system());
    assert_eq!(count_admitted(&limiter, "acme").await, 5);
    let mut subscription = redis.subscribe("channel");
    receives(&mut subscription, &SubscriptionEvent::Subscribed).await;
    group.replicate();
    group.primary.stop();
    down(&redis).await;
    up(&redis).await;
    assert!(group.replica.cli(&["info", "replication"]).contains("role:master"));
    // The new primary has the counts from before.
    let before = limiter.fallbacks().get();
    assert_eq!(count_admitted(&limiter, "acme").await, 0);
    assert_eq!(limiter.fallbacks().get(), before);
    receives(&mut subscription, &SubscriptionEvent::Subscribed).await;
    redis.publish("channel", b"hint").await.unwrap();
    receives_eventually(&mut subscription, &SubscriptionEvent::Message(b"hint".to_vec())).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn former_primary_is_abandoned() {
    let group = Watched::start();
    let redis = link_to(&group.url());
    let _kept = keep(&redis);
    up(&redis).await;
    // The old one keeps running and still calls itself primary.
    group.replica.cli(&["replicaof", "no", "one"]);
    let port = group.replica.port.to_string();
    group.sentinel.cli(&["sentinel", "remove", "main"]);
    group.sentinel.cli(&["sentinel", "monitor", "main", "127.0.0.1", &port, "1"]);
    let used = async {
        while group.replica.keys() == 0 {
            works(&redis, "key").await.ok();
        }
    };
    in_time("the new primary is used", used).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn cluster_counts_tenants_on_every_node() {
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
    // A second replica uses the same windows.
    let other = link_to(&cluster.url());
    other.check_once().await.unwrap();
    let other = Limiter::over(other, Clock::system());
    assert_eq!(count_admitted(&other, "tenant7").await, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn cluster_forwards_messages_between_nodes() {
    let mut cluster = RedisCluster::start();
    let redis = link_to(&cluster.url());
    let _kept = keep(&redis);
    up(&redis).await;
    let mut subscription = redis.subscribe("channel");
    receives(&mut subscription, &SubscriptionEvent::Subscribed).await;
    for n in 0..20 {
        let message = format!("hint {n}");
        redis.publish("channel", message.as_bytes()).await.unwrap();
        receives(&mut subscription, &SubscriptionEvent::Message(message.into_bytes())).await;
    }
    // The subscribed node stops. The cluster is incomplete then, but another node forwards
    // messages.
    cluster.nodes[0].stop();
    receives(&mut subscription, &SubscriptionEvent::Subscribed).await;
    down(&redis).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn cluster_without_a_node_is_unavailable_until_it_returns() {
    let mut cluster = RedisCluster::start();
    let redis = link_to(&cluster.url());
    let _kept = keep(&redis);
    up(&redis).await;
    cluster.nodes[2].stop();
    down(&redis).await;
    let trouble = link_to(&cluster.url()).check_once().await.unwrap_err();
    assert!(matches!(trouble, LinkError::Away(_)), "{trouble:?}");
    // It rejoins with the cluster state in its file.
    cluster.nodes[2].start_again();
    up(&redis).await;
    // The nodes do not notice at the same time.
    while works(&redis, "key").await.is_err() {
        up(&redis).await;
    }
}
