//! PostgreSQL fails in every way there is, under replicas that are asked all the time. What was
//! read a moment ago is good for no longer than the bound; then callers hear that it is not
//! known, unless another replica still reaches the database and tells by Redis.

use std::time::Duration;

use futures_util::future::join_all;
use keyward::internals::clock::Clock;
use keyward::internals::domain::{NewRevocation, Subject};
use keyward::internals::store::{Database, PoolOptions, Store};
use tokio::time::{sleep, timeout};
use tonic::Code;

use super::scene::{Scene, Word, ask, assert_no_gap, claims, now};
use crate::harness::{Keyward, PostgresServer, Proxy, RedisServer, fresh_database};

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

/// A wire to the server of a database, and the URL of the database over it.
pub(super) async fn wired(database: &str) -> (Proxy, String) {
    let (start, name) = database.rsplit_once('/').unwrap();
    let proxy = Proxy::to(start.rsplit_once('@').unwrap().1.parse().unwrap()).await;
    let url = format!("postgres://keyward@{}/{name}", proxy.address);
    (proxy, url)
}

/// Waits until a replica says that it cannot know; how long it answered meanwhile.
pub(super) async fn unknown(scene: &mut Scene, at: usize) -> Duration {
    let began = now();
    let live = scene.live.clone();
    let given_up = async {
        while ask(&mut scene.admins[at], &live).await != Word::Unknown {
            sleep(Duration::from_millis(10)).await;
        }
    };
    timeout(Duration::from_secs(30), given_up).await.expect("it is not known for ever");
    began.elapsed()
}

/// Nothing can be had without the database, and callers hear so in words, on both faces.
async fn assert_away(scene: &Scene) {
    let each = scene.replicas.iter().map(async |replica| {
        let began = now();
        assert_eq!(replica.ops("/readyz").await, 503);
        assert_eq!(replica.ops("/livez").await, 200);
        let took = began.elapsed();
        assert!(took < Duration::from_secs(8), "a probe does not wait for long: {took:?}");
        let form = [("grant_type", "client_credentials"), ("token", scene.live.as_str())];
        let paths = ["/oauth2/token", "/oauth2/introspect", "/oauth2/revoke"];
        let posts = paths.map(async |path| {
            let answer = replica.post_as(&scene.crm, path, &form).await;
            assert_eq!(answer.status, 503, "{path}: {}", answer.body);
            assert_eq!(answer.error(), "temporarily_unavailable");
        });
        join_all(posts).await;
        // Nor does the list alone say that something is good.
        let live = replica.server().service.revocations();
        live.revokes(&claims(&scene.live).minted()).await.unwrap_err();
        let staleness: f64 = replica.metric("keyward_revocations_staleness_seconds").await;
        assert!(staleness > BOUND.as_secs_f64(), "{staleness}");
    });
    join_all(each).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_database_that_crashes_loses_nothing_that_was_revoked() {
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
    // And Redis too, which comes back empty and before the database.
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
async fn a_database_that_hangs_is_not_waited_for() {
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
    tell("an attempt to revoke hears so after", began.elapsed());
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
async fn a_replica_that_is_cut_off_hears_by_redis_what_others_revoke() {
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
    let began = now();
    while began.elapsed() < BOUND * 2 {
        let token = scene.try_revoke(0).await.unwrap();
        let acknowledged = now();
        let live = scene.replicas[1].server().service.revocations();
        let heard = async {
            while !live.revokes(&claims(&token).minted()).await.unwrap() {
                sleep(Duration::from_millis(2)).await;
            }
        };
        timeout(BOUND, heard).await.expect("it hears of it within the bound");
        tell("cut off, heard by Redis after", acknowledged.elapsed());
        assert!(live.staleness() <= BOUND, "it is kept fresh: {:?}", live.staleness());
        sleep(Duration::from_millis(700)).await;
    }
    assert_eq!(scene.replicas[1].ops("/readyz").await, 503, "it can issue nothing");

    // Without Redis it knows nothing more, and says so; the other one does not need it.
    redis.stop();
    let live = scene.replicas[1].server().service.revocations();
    let token = scene.live.clone();
    let blind = async { while live.revokes(&claims(&token).minted()).await.is_ok() {} };
    timeout(BOUND * 3, blind).await.expect("what it knows is good for the bound alone");
    scene.try_revoke(0).await.unwrap();
    // It comes back empty: who reaches the database writes the list anew.
    redis.start_again();
    let live = scene.replicas[1].server().service.revocations();
    let told = async {
        while live.revokes(&claims(&token).minted()).await.is_err() {
            sleep(Duration::from_millis(20)).await;
        }
    };
    timeout(Duration::from_secs(20), told).await.expect("it hears by Redis again");
    assert_eq!(live.index().last(), assert_no_gap(&database).await);
    proxy.mend().await;
    tell("mended, all is well after", scene.recovered().await);
    scene.assert_nothing_forgotten().await;
    scene.revoke(1).await;
    let seen = traffic.end().await;
    assert_eq!(seen[0].unknown, 0, "the first one has its database: {seen:?}");
}

/// Where what was read may be older, the one that is cut off goes on answering.
#[tokio::test(flavor = "multi_thread")]
async fn a_replica_that_is_cut_off_refuses_over_the_wire_what_others_revoke() {
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
async fn a_database_that_nobody_reaches_makes_all_of_them_say_so() {
    let redis = RedisServer::start();
    let database = fresh_database().await;
    let (mut proxy, url) = wired(&database).await;
    let replicas: [Keyward; 2] = Keyward::replicas_on(url, Some(&redis.url()), &SETTINGS).await;
    let mut scene = Scene::new(replicas, BOUND, 3).await;
    let traffic = scene.traffic();
    scene.revoke(0).await;
    proxy.cut().await;
    // What stands in Redis says nothing when nobody vouches for it.
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
async fn foreign_list_behind_the_same_prefix_is_not_used() {
    let redis = RedisServer::start();
    let database = fresh_database().await;
    let (mut proxy, cut_off) = wired(&database).await;
    let [first] = Keyward::replicas_on(database.clone(), Some(&redis.url()), &SETTINGS).await;
    let second = first.join_with(&[("database.url", &cut_off)]).await;
    let mut ours = Scene::new([first, second], BOUND, 4).await;
    let foreign: [Keyward; 1] = Keyward::replicas(Some(&redis.url()), &SETTINGS).await;
    let mut theirs = Scene::new(foreign, BOUND, 4).await;
    let traffic = ours.traffic();
    // Theirs is longer, and of names that are ours too.
    for _ in 0..3 {
        theirs.revoke(0).await;
    }
    theirs.revoke_tenant().await;
    proxy.cut().await;
    ours.try_revoke(0).await.unwrap();
    let feed = ours.replicas[0].server().service.revocations().index().feed();
    let began = now();
    while began.elapsed() < BOUND * 2 {
        let live = ours.replicas[1].server().service.revocations();
        assert_eq!(live.index().feed(), feed);
        // Known to be good, or not known.
        assert!(!live.revokes(&claims(&ours.live).minted()).await.unwrap_or_default());
        sleep(Duration::from_millis(20)).await;
    }
    proxy.mend().await;
    ours.recovered().await;
    ours.assert_nothing_forgotten().await;
    traffic.end().await;
    theirs.assert_nothing_forgotten().await;
}

/// A server that hangs in the midst of a transaction keeps the others from revoking for as
/// long as a request waits for the database, and no longer.
#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_hangs_does_not_keep_the_others_from_revoking() {
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
