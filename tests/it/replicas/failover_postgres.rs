//! PostgreSQL fails over to its synchronous standby under load, repeatedly and in every way in
//! which a primary can be lost. Also: the standby is used as the primary by mistake, lags behind,
//! or is down.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use sqlx::{Connection, Executor, PgConnection};
use tempfile::TempDir;

use super::faults_postgres::unknown;
use super::load::Load;
use super::scene::{STEPS, Scene, Word, ask, assert_no_gap, claims, now};
use crate::harness::{Keyward, Pair, RedisServer, until};

const SETTINGS: [(&str, &str); 4] = [
    ("secrets.hash_wait", "1m"),
    ("revocations.poll_interval", "200ms"),
    ("revocations.max_staleness", "2s"),
    ("database.acquire_timeout", "1s"),
];
const BOUND: Duration = Duration::from_secs(2);

/// How a primary is lost.
#[derive(Clone, Copy, Debug)]
enum Loss {
    /// It crashes. The address moves after the standby is promoted.
    Crash,
    /// It crashes. The address moves before the standby is promoted.
    AddressFirst,
    /// It hangs, and is ended after the standby is promoted.
    Hang,
    /// An operator shuts it down.
    ShutDown,
}

const LOSSES: [Loss; 10] = [
    Loss::Crash,
    Loss::AddressFirst,
    Loss::Hang,
    Loss::ShutDown,
    Loss::AddressFirst,
    Loss::Crash,
    Loss::Hang,
    Loss::Crash,
    Loss::AddressFirst,
    Loss::Crash,
];

#[expect(clippy::print_stdout, reason = "how long it takes is what is asked")]
fn tell(what: &str, took: Duration) {
    println!("{what}: {took:?}");
}

/// Waits until every replica reports that it can write, or cannot.
async fn readiness(replicas: &[Keyward], status: u16) {
    for replica in replicas {
        until(format!("readiness is {status}"), async || replica.ops("/readyz").await == status)
            .await;
    }
}

/// How many of these tokens are in a database's revocation list.
async fn listed(database: &str, tokens: &[String]) -> usize {
    const SQL: &str = "select count(distinct subject) from revocations \
        where kind = 'token' and subject = any($1)";
    let ids: Vec<_> = tokens.iter().map(|token| claims(token).jti).collect();
    let mut connection = PgConnection::connect(database).await.unwrap();
    let count: i64 = sqlx::query_scalar(SQL).bind(ids).fetch_one(&mut connection).await.unwrap();
    usize::try_from(count).unwrap()
}

/// Loses the primary and promotes the standby. Returns when the database could be written again.
async fn fail_over(pair: &mut Pair, replicas: &[Keyward], loss: Loss) -> Instant {
    match loss {
        Loss::Crash => pair.crash(),
        Loss::AddressFirst => {
            pair.crash();
            pair.lead_to_standby().await;
            readiness(replicas, 503).await;
        }
        Loss::Hang => pair.hang(),
        Loss::ShutDown => pair.shut_down(),
    }
    pair.promote().await;
    now()
}

#[tokio::test(flavor = "multi_thread")]
async fn failover_loses_no_acknowledged_revocation() {
    let mut pair = Pair::start().await;
    let redis = RedisServer::start();
    let replicas: [Keyward; 2] =
        Keyward::replicas_on(pair.url(), Some(&redis.url()), &SETTINGS).await;
    let mut scene = Scene::new(replicas, BOUND, 40).await;
    let load = scene.load().await;
    let (mut without_writes, mut of_them_ours) = (Duration::ZERO, Duration::ZERO);
    for loss in LOSSES {
        // Some of them are in flight when the primary is lost.
        let burst = load.burst(6);
        let lost = now();
        let (promoted, written) =
            tokio::join!(fail_over(&mut pair, &scene.replicas, loss), load.writes_again(lost));
        without_writes = without_writes.max(written);
        of_them_ours = of_them_ours.max(written.saturating_sub(promoted - lost));
        tell(&format!("{loss:?}: writes work again after"), written);
        burst.join_all().await;
        pair.rejoin().await;
    }
    tell("the longest time until a write works again", without_writes);
    tell("the longest of it after the database could be written", of_them_ours);
    scene.recovered().await;
    let (_, acknowledged) = load.end().await;
    let distinct: BTreeSet<_> = acknowledged.iter().collect();
    assert!(distinct.len() >= LOSSES.len() * scene.replicas.len(), "they were revoked under way");
    assert_eq!(listed(&pair.url_on_primary(), &acknowledged).await, distinct.len());
    assert_no_gap(&pair.url_on_primary()).await;
    let late = scene.replicas[0].join().await;
    scene.add(late).await;
    scene.assert_nothing_forgotten().await;
}

/// The error of a server that does not start on a database.
async fn refused(database: &str) -> String {
    let folder = TempDir::new().unwrap();
    let mut settings = SETTINGS.to_vec();
    settings.push(("database.url", database));
    Keyward::refused(folder.path(), &settings).await.to_string()
}

/// No replica allows or writes anything, and all errors say that the service is unavailable.
async fn assert_nothing_is_done(scene: &mut Scene) {
    for at in 0..scene.replicas.len() {
        unknown(scene, at).await;
        let token = scene.stock.last().unwrap().clone();
        scene.try_revoke(at).await.unwrap_err();
        scene.stock.push(token);
        let form = [("grant_type", "client_credentials")];
        let crm = scene.crm.clone();
        let answer = scene.replicas[at].post_as(&crm, "/oauth2/revoke", &form).await;
        assert!(!answer.status.is_success(), "{answer:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn server_is_not_ready_while_its_database_is_a_standby() {
    let mut pair = Pair::start().await;
    let redis = RedisServer::start();
    let replicas: [Keyward; 2] =
        Keyward::replicas_on(pair.url(), Some(&redis.url()), &SETTINGS).await;
    let mut scene = Scene::new(replicas, BOUND, 6).await;
    scene.revoke(0).await;
    let load = scene.traffic();
    for _ in 0..2 {
        pair.lead_to_standby().await;
        readiness(&scene.replicas, 503).await;
        assert_nothing_is_done(&mut scene).await;
        let why = refused(&pair.url()).await;
        assert!(why.contains("recovery") || why.contains("standby"), "{why}");
        pair.lead_to_primary().await;
        tell("led back, all is well after", scene.recovered().await);
        scene.revoke(1).await;
        scene.assert_nothing_forgotten().await;
    }
    let seen = load.end().await;
    assert!(seen.iter().all(|seen| seen.unknown > 0), "{seen:?}");
}

/// The standby has received the revocations, but has not applied them.
#[tokio::test(flavor = "multi_thread")]
async fn lagging_standby_does_not_revive_tokens() {
    let mut pair = Pair::start().await;
    let redis = RedisServer::start();
    let replicas: [Keyward; 2] =
        Keyward::replicas_on(pair.url(), Some(&redis.url()), &SETTINGS).await;
    let mut scene = Scene::new(replicas, BOUND, 4).await;
    let traffic = scene.traffic();
    scene.revoke(0).await;
    pair.pause_replay().await;
    scene.revoke(0).await;
    scene.revoke(1).await;
    pair.lead_to_standby().await;
    readiness(&scene.replicas, 503).await;
    let revoked: Vec<_> = scene.revoked.lock().unwrap().clone();
    for _ in 0..STEPS {
        for (token, _) in &revoked {
            for admin in &mut scene.admins {
                assert_ne!(ask(admin, token).await, Word::Allowed);
            }
        }
        scene.step();
    }
    pair.resume_replay().await;
    pair.lead_to_primary().await;
    tell("led back from a standby that was behind, all is well after", scene.recovered().await);
    scene.assert_nothing_forgotten().await;
    traffic.end().await;
}

/// Replicas with a short timeout, with a prepared scene.
async fn impatient(pair: &Pair, redis: &RedisServer, stock: usize) -> Scene {
    let replicas: [Keyward; 1] =
        Keyward::replicas_on(pair.url(), Some(&redis.url()), &SETTINGS).await;
    let mut scene = Scene::new(replicas, BOUND, stock).await;
    for _ in 0..2 {
        let replica = scene.replicas[0].join_with(&[("limits.request_timeout", "4s")]).await;
        scene.add(replica).await;
    }
    scene.admins.remove(0);
    scene.replicas.remove(0).stop().await;
    scene
}

/// Stops the standby, so that every commit waits for it. Everything without a commit keeps working.
async fn lose_standby(pair: &mut Pair, scene: &mut Scene, load: &Load) {
    load.writes_again(now()).await;
    pair.stop_standby();
    let began = now();
    // More than there are connections for writing.
    for _ in 0..2 {
        load.burst(16).join_all().await;
    }
    tell("without the standby, 32 revocations were given up after", began.elapsed());
    scene.reads_go_on().await;
}

/// The primary is lost, too, and the standby takes over with everything that was acknowledged.
async fn take_over(pair: &mut Pair, scene: &mut Scene, load: Load) {
    pair.crash();
    pair.start_standby();
    pair.promote().await;
    load.writes_again(now()).await;
    let (_, acknowledged) = load.end().await;
    let distinct: BTreeSet<_> = acknowledged.iter().collect();
    assert_eq!(listed(&pair.url_on_primary(), &acknowledged).await, distinct.len());
    scene.recovered().await;
    scene.assert_nothing_forgotten().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn revocation_missing_on_the_standby_is_not_acknowledged() {
    let mut pair = Pair::start().await;
    let redis = RedisServer::start();
    let mut scene = impatient(&pair, &redis, 40).await;
    let load = scene.load().await;
    lose_standby(&mut pair, &mut scene, &load).await;
    let began = now();
    pair.start_standby();
    tell("with its standby again, writes work after", load.writes_again(began).await);
    pair.synchronize().await;
    lose_standby(&mut pair, &mut scene, &load).await;
    take_over(&mut pair, &mut scene, load).await;
}

/// Even if the database does not wait for the disk or the standby by default.
#[tokio::test(flavor = "multi_thread")]
async fn asynchronous_commit_default_loses_no_revocation() {
    for default in ["off", "local"] {
        let mut pair = Pair::start().await;
        let url = pair.url();
        let (_, database) = url.rsplit_once('/').unwrap();
        let set = format!("alter database {database} set synchronous_commit = {default}");
        pair.admin().await.execute(sqlx::AssertSqlSafe(set)).await.unwrap();
        let redis = RedisServer::start();
        let mut scene = impatient(&pair, &redis, 40).await;
        let load = scene.load().await;
        lose_standby(&mut pair, &mut scene, &load).await;
        take_over(&mut pair, &mut scene, load).await;
    }
}

/// The address does not move: the URL names both servers.
#[tokio::test(flavor = "multi_thread")]
async fn url_with_both_servers_follows_the_primary() {
    let mut pair = Pair::start().await;
    let replicas: [Keyward; 1] = Keyward::replicas_on(pair.url_on_both(), None, &SETTINGS).await;
    let mut scene = Scene::new(replicas, BOUND, 3).await;
    scene.revoke(0).await;
    pair.crash();
    readiness(&scene.replicas, 503).await;
    pair.promote().await;
    readiness(&scene.replicas, 200).await;
    scene.recovered().await;
    scene.assert_nothing_forgotten().await;
    scene.revoke(0).await;
}
