//! PostgreSQL fails in every way, with replicas under constant load. Data is used up to its maximum
//! age; then callers get UNAVAILABLE, unless another replica still reaches the database and
//! forwards its data through Redis.

use std::time::Duration;

use futures_util::future::join_all;
use keyward::internals::clock::Clock;
use keyward::internals::domain::{NewRevocation, Subject};
use keyward::internals::store::{Database, PoolOptions, Store};
use tonic::Code;

use super::scene::{STEPS, Scene, Word, ask, assert_no_gap, claims, now};
use crate::harness::{Keyward, PostgresServer, Proxy, RedisServer, fresh_database, until};

pub(super) const SETTINGS: [(&str, &str); 4] = [
    ("secrets.hash_wait", "1m"),
    ("revocations.poll_interval", "200ms"),
    ("revocations.max_staleness", "2s"),
    ("database.acquire_timeout", "1s"),
];
pub(super) const BOUND: Duration = Duration::from_secs(2);

#[expect(clippy::print_stdout, reason = "how long it takes is what is asked")]
fn tell(what: &str, took: Duration) {
    println!("{what}: {took:?}");
}

async fn private_server() -> PostgresServer {
    tokio::task::spawn_blocking(PostgresServer::start).await.unwrap()
}

/// A proxy to the server of a database, and the database URL through it.
pub(super) async fn wired(database: &str) -> (Proxy, String) {
    let (start, name) = database.rsplit_once('/').unwrap();
    let proxy = Proxy::to(start.rsplit_once('@').unwrap().1.parse().unwrap()).await;
    let url = format!("postgres://keyward@{}/{name}", proxy.address);
    (proxy, url)
}

/// Waits until a replica answers UNAVAILABLE. Returns how long it answered before.
pub(super) async fn unknown(scene: &mut Scene, at: usize) -> Duration {
    let began = now();
    let live = scene.live.clone();
    until("what it knew is too old", async || {
        ask(&mut scene.admins[at], &live).await == Word::Unknown
    })
    .await;
    began.elapsed()
}

/// Without the database, callers of both interfaces get the documented errors.
async fn assert_away(scene: &Scene) {
    let each = scene.replicas.iter().map(async |replica| {
        assert_eq!(replica.ops("/readyz").await, 503);
        assert_eq!(replica.ops("/livez").await, 200);
        let form = [("grant_type", "client_credentials"), ("token", scene.live.as_str())];
        let paths = ["/oauth2/token", "/oauth2/introspect", "/oauth2/revoke"];
        let posts = paths.map(async |path| {
            let answer = replica.post_as(&scene.crm, path, &form).await;
            assert_eq!(answer.status, 503, "{path}: {}", answer.body);
            assert_eq!(answer.error(), "temporarily_unavailable");
        });
        join_all(posts).await;
        // The list alone does not say that a token is valid either.
        let live = replica.server().service.revocations();
        live.revokes(&claims(&scene.live).revocation_keys()).await.unwrap_err();
        let staleness: f64 = replica.metric("keyward_revocations_staleness_seconds").await;
        assert!(staleness > BOUND.as_secs_f64(), "{staleness}");
    });
    join_all(each).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn database_crash_loses_no_revocation() {
    let mut postgres = private_server().await;
    let mut redis = RedisServer::start();
    let database = postgres.fresh_database().await;
    let replicas: [Keyward; 2] =
        Keyward::replicas_on(database.clone(), Some(&redis.url()), &SETTINGS).await;
    let mut scene = Scene::new(replicas, BOUND, 6).await;
    let traffic = scene.traffic();
    scene.revoke(0).await;
    postgres.stop();
    assert_eq!(scene.try_revoke(1).await.unwrap_err().code(), Code::Unavailable);
    tell("without a database, nothing is known after", unknown(&mut scene, 0).await);
    unknown(&mut scene, 1).await;
    assert_away(&scene).await;
    // Redis stops, too, and starts empty before the database.
    redis.stop();
    redis.start_again();
    postgres.start_again();
    tell("after a crash of both, all is well after", scene.recovered().await);
    scene.assert_nothing_forgotten().await;
    scene.revoke(1).await;
    let again = scene.replicas[0].join().await;
    scene.add(again).await;
    scene.revoke(2).await;
    scene.assert_nothing_forgotten().await;
    assert_no_gap(&database).await;
    let seen = traffic.end().await;
    assert!(seen.iter().all(|seen| seen.unknown > 0));
    tell("the slowest answer meanwhile", seen.iter().map(|seen| seen.slowest).max().unwrap());
}

#[tokio::test(flavor = "multi_thread")]
async fn hanging_database_makes_replicas_unavailable() {
    let postgres = private_server().await;
    let redis = RedisServer::start();
    let database = postgres.fresh_database().await;
    let replicas: [Keyward; 2] =
        Keyward::replicas_on(database.clone(), Some(&redis.url()), &SETTINGS).await;
    let mut scene = Scene::new(replicas, BOUND, 4).await;
    let traffic = scene.traffic();
    scene.revoke(0).await;
    postgres.pause();
    tell("of a database that hangs, nothing is known after", unknown(&mut scene, 0).await);
    unknown(&mut scene, 1).await;
    let began = now();
    scene.try_revoke(0).await.unwrap_err();
    tell("a revocation was refused after", began.elapsed());
    assert_away(&scene).await;
    postgres.resume();
    tell("when it answers again, all is well after", scene.recovered().await);
    scene.assert_nothing_forgotten().await;
    scene.revoke(1).await;
    assert_no_gap(&database).await;
    let seen = traffic.end().await;
    tell("the slowest answer meanwhile", seen.iter().map(|seen| seen.slowest).max().unwrap());
}

#[tokio::test(flavor = "multi_thread")]
async fn isolated_replica_gets_revocations_from_redis() {
    let mut redis = RedisServer::start();
    let database = fresh_database().await;
    let (mut proxy, cut_off) = wired(&database).await;
    let first: [Keyward; 1] =
        Keyward::replicas_on(database.clone(), Some(&redis.url()), &SETTINGS).await;
    let second = first[0].join_with(&[("database.url", &cut_off)]).await;
    let [first] = first;
    let mut scene = Scene::new([first, second], BOUND, 8).await;
    let traffic = scene.traffic();
    proxy.cut().await;
    for _ in 0..5 {
        let token = scene.try_revoke(0).await.unwrap();
        let live = scene.replicas[1].server().service.revocations();
        until("it receives the revocation through Redis", async || {
            live.revokes(&claims(&token).revocation_keys()).await.unwrap_or_default()
        })
        .await;
        // By now it has confirmed nothing itself for longer than the bound.
        scene.replicas[0].clock().advance(BOUND);
        until("it is kept fresh", async || live.staleness() <= BOUND).await;
    }
    assert_eq!(scene.replicas[1].ops("/readyz").await, 503, "it can issue nothing");

    // Without Redis it has no current data, and says so; the other replica does not need Redis.
    redis.stop();
    let live = scene.replicas[1].server().service.revocations();
    let token = scene.live.clone();
    until("what it knows is too old", async || {
        live.revokes(&claims(&token).revocation_keys()).await.is_err()
    })
    .await;
    scene.try_revoke(0).await.unwrap();
    // It is empty after the restart. A replica with a database connection writes the list again.
    redis.start_again();
    let live = scene.replicas[1].server().service.revocations();
    until("it receives revocations through Redis again", async || {
        live.revokes(&claims(&token).revocation_keys()).await.is_ok()
    })
    .await;
    assert_eq!(live.index().last(), assert_no_gap(&database).await);
    proxy.mend().await;
    tell("mended, all is well after", scene.recovered().await);
    scene.assert_nothing_forgotten().await;
    scene.revoke(1).await;
    let seen = traffic.end().await;
    assert_eq!(seen[0].unknown, 0, "the first one has its database: {seen:?}");
}

/// Data can be older here, so the isolated replica keeps answering.
#[tokio::test(flavor = "multi_thread")]
async fn isolated_replica_refuses_tokens_revoked_elsewhere() {
    let redis = RedisServer::start();
    let database = fresh_database().await;
    let (mut proxy, cut_off) = wired(&database).await;
    let settings = [
        ("secrets.hash_wait", "1m"),
        ("revocations.poll_interval", "200ms"),
        ("revocations.max_staleness", "1m"),
    ];
    let [first] = Keyward::replicas_on(database, Some(&redis.url()), &settings).await;
    let second = first.join_with(&[("database.url", &cut_off)]).await;
    let mut scene = Scene::new([first, second], Duration::from_secs(5), 3).await;
    let live = scene.live.clone();
    assert_eq!(ask(&mut scene.admins[1], &live).await, Word::Allowed);
    proxy.cut().await;
    for _ in 0..3 {
        tell("cut off, refused over the wire after", scene.revoke(0).await);
        assert_eq!(ask(&mut scene.admins[1], &live).await, Word::Allowed);
    }
    scene.assert_refused().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn unreachable_database_makes_all_replicas_unavailable() {
    let redis = RedisServer::start();
    let database = fresh_database().await;
    let (mut proxy, url) = wired(&database).await;
    let replicas: [Keyward; 2] = Keyward::replicas_on(url, Some(&redis.url()), &SETTINGS).await;
    let mut scene = Scene::new(replicas, BOUND, 3).await;
    let traffic = scene.traffic();
    scene.revoke(0).await;
    proxy.cut().await;
    // Data in Redis does not count if no replica confirms it.
    unknown(&mut scene, 0).await;
    unknown(&mut scene, 1).await;
    assert_away(&scene).await;
    proxy.mend().await;
    tell("mended for all, all is well after", scene.recovered().await);
    scene.revoke(1).await;
    scene.assert_nothing_forgotten().await;
    traffic.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn foreign_list_with_the_same_prefix_is_ignored() {
    let redis = RedisServer::start();
    let database = fresh_database().await;
    let (mut proxy, cut_off) = wired(&database).await;
    let [first] = Keyward::replicas_on(database.clone(), Some(&redis.url()), &SETTINGS).await;
    let second = first.join_with(&[("database.url", &cut_off)]).await;
    let mut ours = Scene::new([first, second], BOUND, 4).await;
    let foreign: [Keyward; 1] = Keyward::replicas(Some(&redis.url()), &SETTINGS).await;
    let mut theirs = Scene::new(foreign, BOUND, 4).await;
    let traffic = ours.traffic();
    // The other list is longer, and contains names that also exist here.
    for _ in 0..3 {
        theirs.revoke(0).await;
    }
    theirs.revoke_tenant().await;
    proxy.cut().await;
    ours.try_revoke(0).await.unwrap();
    let feed = ours.replicas[0].server().service.revocations().index().feed();
    for _ in 0..STEPS {
        let live = ours.replicas[1].server().service.revocations();
        assert_eq!(live.index().feed(), feed);
        // Valid, or unknown.
        assert!(!live.revokes(&claims(&ours.live).revocation_keys()).await.unwrap_or_default());
        ours.step();
    }
    proxy.mend().await;
    ours.recovered().await;
    ours.assert_nothing_forgotten().await;
    traffic.end().await;
    theirs.assert_nothing_forgotten().await;
}

/// A server that hangs within a transaction blocks revocations of others only as long as requests
/// wait for the database.
#[tokio::test(flavor = "multi_thread")]
async fn hanging_server_does_not_block_revocations_of_others() {
    let database = fresh_database().await;
    let replicas: [Keyward; 1] = Keyward::replicas_on(database.clone(), None, &SETTINGS).await;
    let mut scene = Scene::new(replicas, BOUND, 1).await;
    let pool = PoolOptions { max_connections: 1, acquire_timeout: Duration::from_secs(1) };
    let store = Store::open(&Database::parse(&database).unwrap(), pool).await.unwrap();
    let mut hanging = store.begin().await.unwrap();
    let time = Clock::system().now();
    let subject = Subject::Token("a token".to_owned());
    let revocation = NewRevocation { subject, epoch: 0, expires_at: time };
    hanging.insert_revocations(&[revocation], time).await.unwrap();
    let began = now();
    scene.try_revoke(0).await.unwrap();
    tell("behind a server that hangs, revoked after", began.elapsed());
    assert_eq!(assert_no_gap(&database).await, 1, "what was not committed took no number");
    let late = hanging.commit().await.unwrap_err();
    assert!(matches!(late, keyward::internals::error::Error::Unavailable(_)), "{late:?}");
}
