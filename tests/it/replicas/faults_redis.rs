//! Redis fails in every way, with replicas under constant load. The database is the authority:
//! without Redis, revocations take effect within the bound, and each replica counts its share of
//! limits; everything recovers automatically.

use std::time::Duration;

use super::scene::{LIMIT, Scene, assert_no_gap, now};
use crate::harness::{Keyward, RedisServer, fresh_database, until};

/// All tests share the same cores for hashes.
const PATIENT: (&str, &str) = ("secrets.hash_wait", "1m");
/// Shorter than the defaults, to save time.
const QUICK: [(&str, &str); 4] = [
    PATIENT,
    ("revocations.poll_interval", "200ms"),
    ("revocations.max_staleness", "2s"),
    ("redis.response_timeout", "200ms"),
];
const QUICK_BOUND: Duration = Duration::from_secs(2);
/// The default bound.
const BOUND: Duration = Duration::from_secs(5);

/// Three replicas, and the URL of their database.
async fn three(redis: &RedisServer, stock: usize) -> (Scene, String) {
    let database = fresh_database().await;
    let replicas: [Keyward; 3] =
        Keyward::replicas_on(database.clone(), Some(&redis.url()), &QUICK).await;
    let mut scene = Scene::new(replicas, QUICK_BOUND, stock).await;
    scene.acquainted().await;
    assert_eq!(scene.admitted(LIMIT).await, LIMIT, "they count together");
    scene.next_minute();
    (scene, database)
}

/// Without Redis each of three replicas admits its share, and none is refused because of Redis.
async fn assert_shares(scene: &mut Scene) {
    let before = scene.fallbacks().await;
    let admitted = scene.admitted(LIMIT).await;
    let counted = scene.fallbacks().await - before;
    let all = LIMIT * scene.replicas.len();
    assert_eq!((admitted, counted), (LIMIT, all));
    scene.next_minute();
}

/// They count together again, automatically.
async fn assert_together(scene: &mut Scene) {
    scene.next_minute();
    let before = scene.fallbacks().await;
    assert_eq!(scene.admitted(LIMIT).await, LIMIT);
    assert_eq!(scene.fallbacks().await, before);
    scene.next_minute();
}

/// Waits until the projection is as long as the list.
async fn projected(redis: &RedisServer, last: i64) {
    until("the list is in Redis", async || {
        let there = redis.try_cli(&["hget", MARKER, "last"]);
        there.is_some_and(|there| there == last.to_string())
    })
    .await;
    let rows: i64 = redis.cli(&["zcard", ROWS]).parse().unwrap();
    assert_eq!(rows, last);
}

const MARKER: &str = "keyward:revocations:{list}:coded:marker";
const ROWS: &str = "keyward:revocations:{list}:coded:rows";

#[expect(clippy::print_stdout, reason = "how long it takes is what is asked")]
fn tell(what: &str, took: Duration) {
    println!("{what}: {took:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn flushed_redis_loses_no_revocation() {
    let redis = RedisServer::start();
    let (mut scene, database) = Box::pin(three(&redis, 6)).await;
    let traffic = scene.traffic();
    scene.revoke(0).await;
    scene.revoke(1).await;
    redis.cli(&["flushall"]);
    scene.assert_nothing_forgotten().await;
    tell("revoked after FLUSHALL, refused everywhere", scene.revoke(2).await);
    redis.cli(&["script", "flush"]);
    tell("revoked after SCRIPT FLUSH, refused everywhere", scene.revoke(0).await);
    let last = assert_no_gap(&database).await;
    projected(&redis, last).await;
    assert_together(&mut scene).await;
    // A new server must load the list from the database before its first answer.
    let late = scene.replicas[0].join().await;
    scene.add(late).await;
    scene.assert_nothing_forgotten().await;
    traffic.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn restarted_empty_redis_is_used_again() {
    let mut redis = RedisServer::start();
    let (mut scene, database) = Box::pin(three(&redis, 4)).await;
    let traffic = scene.traffic();
    scene.revoke(0).await;
    redis.stop();
    tell("revoked without Redis, refused everywhere", scene.revoke(1).await);
    scene.redis_is(false).await;
    assert_shares(&mut scene).await;
    for replica in &scene.replicas {
        assert_eq!(replica.ops("/readyz").await, 200, "answers do not need Redis");
        until("the list is confirmed without Redis", async || {
            replica.metric::<f64>("keyward_revocations_staleness_seconds").await < 2.0
        })
        .await;
    }
    scene.assert_nothing_forgotten().await;

    let back = now();
    redis.start_again();
    scene.redis_is(true).await;
    tell("the links are up again", back.elapsed());
    assert_together(&mut scene).await;
    tell("revoked after the restart, refused everywhere", scene.revoke(2).await);
    let last = assert_no_gap(&database).await;
    projected(&redis, last).await;
    scene.recovered().await;
    scene.assert_nothing_forgotten().await;
    let seen = traffic.end().await;
    assert!(seen.iter().all(|seen| seen.unknown == 0), "the database was there: {seen:?}");
}

/// With default settings, and for so long that replicas count as stopped.
#[tokio::test(flavor = "multi_thread")]
async fn hanging_redis_does_not_block_requests() {
    let redis = RedisServer::start();
    let database = fresh_database().await;
    let replicas: [Keyward; 2] =
        Keyward::replicas_on(database.clone(), Some(&redis.url()), &[PATIENT]).await;
    let mut scene = Scene::new(replicas, BOUND, 6).await;
    scene.acquainted().await;
    assert_eq!(scene.admitted(LIMIT).await, LIMIT);
    scene.next_minute();
    scene.revoke(0).await;
    let traffic = scene.traffic();
    redis.pause();
    tell("revoked while Redis hangs, refused everywhere", scene.revoke(0).await);
    scene.redis_is(false).await;
    assert_shares(&mut scene).await;
    scene.revoke(1).await;
    redis.resume();
    // What the servers announced has ended, as it does after ten seconds of Redis' own clock.
    redis.cli(&["del", "keyward:replicas:present"]);
    scene.redis_is(true).await;
    assert_together(&mut scene).await;
    scene.revoke(1).await;
    let last = assert_no_gap(&database).await;
    projected(&redis, last).await;
    scene.recovered().await;
    scene.assert_nothing_forgotten().await;
    for seen in traffic.end().await {
        assert_eq!(seen.unknown, 0, "the database was there: {seen:?}");
        tell("the slowest answer while Redis hung", seen.slowest);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn full_redis_is_not_needed() {
    let redis = RedisServer::start();
    let (mut scene, database) = Box::pin(three(&redis, 4)).await;
    let traffic = scene.traffic();
    scene.revoke(0).await;
    redis.cli(&["config", "set", "maxmemory", "1"]);
    tell("revoked while Redis is full, refused everywhere", scene.revoke(1).await);
    assert_shares(&mut scene).await;
    scene.redis_is(true).await;
    // Flushed, too, so that the list must be written again, which fails.
    redis.cli(&["flushall"]);
    scene.revoke(2).await;
    redis.cli(&["config", "set", "maxmemory", "0"]);
    let last = assert_no_gap(&database).await;
    projected(&redis, last).await;
    assert_together(&mut scene).await;
    scene.assert_nothing_forgotten().await;
    let seen = traffic.end().await;
    assert!(seen.iter().all(|seen| seen.unknown == 0), "{seen:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn evicting_redis_is_not_used() {
    let redis = RedisServer::start();
    let (mut scene, _) = Box::pin(three(&redis, 2)).await;
    let traffic = scene.traffic();
    redis.cli(&["config", "set", "maxmemory", "100mb"]);
    redis.cli(&["config", "set", "maxmemory-policy", "allkeys-lru"]);
    scene.redis_is(false).await;
    assert_shares(&mut scene).await;
    scene.revoke(0).await;
    redis.cli(&["config", "set", "maxmemory-policy", "noeviction"]);
    scene.redis_is(true).await;
    assert_together(&mut scene).await;
    scene.revoke(1).await;
    traffic.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn redis_started_after_the_servers_is_used() {
    let mut redis = RedisServer::start();
    redis.stop();
    let database = fresh_database().await;
    let began = now();
    let replicas: [Keyward; 2] =
        Keyward::replicas_on(database.clone(), Some(&redis.url()), &QUICK).await;
    tell("two servers started without their Redis", began.elapsed());
    let mut scene = Scene::new(replicas, QUICK_BOUND, 2).await;
    let traffic = scene.traffic();
    scene.redis_is(false).await;
    scene.revoke(0).await;
    assert!(scene.admitted(LIMIT).await > 0, "a limit is no outage");
    redis.start_again();
    scene.redis_is(true).await;
    scene.acquainted().await;
    assert_together(&mut scene).await;
    scene.revoke(1).await;
    let last = assert_no_gap(&database).await;
    projected(&redis, last).await;
    traffic.end().await;
}
