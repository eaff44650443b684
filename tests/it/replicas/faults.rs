//! Redis and PostgreSQL that go away, forget or freeze: no revoked token is good, no
//! acknowledged revocation is lost, callers hear what the documents say, and nobody has to
//! do anything for it to end.

use std::time::{Duration, Instant};

use keyward::keys::Claims;
use keyward::proto::access::check_access_response::Outcome;
use keyward::proto::admin as pb;
use keyward::proto::token::RevokeTokenRequest;
use tokio::time::sleep;
use tonic::{Code, Status};

use crate::harness::{
    Admin, Credential, Keyward, PostgresServer, Proxy, RedisServer, mask, question, reason,
};

/// The bound after which nothing revoked may be good.
const BOUND: Duration = Duration::from_secs(5);
/// The longest that anybody may wait for an answer, whatever is broken.
const LONGEST_ANSWER: Duration = Duration::from_secs(12);
/// Machines that run many tests are slow.
const PATIENCE: Duration = Duration::from_mins(1);

#[expect(clippy::disallowed_methods, reason = "how long things take is what is tested")]
fn now() -> Instant {
    Instant::now()
}

/// Two replicas, and a client with tokens.
struct Scene {
    a: Keyward,
    c: Keyward,
    at_a: Admin,
    at_c: Admin,
    crm: Credential,
    /// Tokens that are good, made while all was well.
    good: Vec<String>,
    /// Tokens whose revocation was acknowledged, and when.
    revoked: Vec<(String, Instant)>,
}

impl Scene {
    async fn new(a: Keyward, c: Keyward) -> Self {
        let (mut at_a, at_c) = (a.admin().await, c.admin().await);
        let (_, crm) = at_a.acme().await;
        let mut good = Vec::new();
        for _ in 0..20 {
            good.push(crm.token(&a.grpc()).await);
        }
        Self { a, c, at_a, at_c, crm, good, revoked: Vec::new() }
    }

    /// Revokes one more token at A, if that is acknowledged.
    async fn revoke(&mut self) -> Result<(), Status> {
        let token = self.good.last().unwrap().clone();
        let request = RevokeTokenRequest { token: token.clone() };
        self.at_a.tokens.revoke_token(request).await?;
        self.good.pop();
        self.revoked.push((token, now()));
        Ok(())
    }

    /// Asks both replicas about every token: a revoked one may be good at C for a moment
    /// after it was acknowledged at A, and never at A.
    async fn check_all(&mut self) {
        for (token, since) in self.revoked.clone() {
            for (name, admin) in [("A", &mut self.at_a), ("C", &mut self.at_c)] {
                let asked = now();
                let answer = ask(admin, &token).await;
                let late = name == "A" || asked.duration_since(since) > BOUND;
                if let Ok(outcome) = answer {
                    assert!(outcome == Outcome::Revoked || !late, "{name}: {outcome:?}");
                }
            }
        }
        let token = self.good[0].clone();
        for admin in [&mut self.at_a, &mut self.at_c] {
            if let Ok(outcome) = ask(admin, &token).await {
                assert_eq!(outcome, Outcome::Allowed, "a good token is good, or nothing is known");
            }
        }
    }

    /// Until both replicas answer about every token, rightly.
    async fn recover(&mut self) -> Duration {
        let began = now();
        loop {
            let mut well = true;
            for (token, _) in &self.revoked {
                for admin in [&mut self.at_a, &mut self.at_c] {
                    well &= ask(admin, token).await.is_ok_and(|o| o == Outcome::Revoked);
                }
            }
            for admin in [&mut self.at_a, &mut self.at_c] {
                well &= ask(admin, &self.good[0]).await.is_ok_and(|o| o == Outcome::Allowed);
            }
            if well {
                break;
            }
            assert!(began.elapsed() < PATIENCE, "it does not recover");
            sleep(Duration::from_millis(50)).await;
        }
        self.revoke().await.unwrap();
        let since = now();
        let (token, _) = self.revoked.last().unwrap().clone();
        while ask(&mut self.at_c, &token).await.unwrap() != Outcome::Revoked {
            assert!(since.elapsed() < BOUND);
            sleep(Duration::from_millis(5)).await;
        }
        began.elapsed()
    }

    /// Goes on with everything for a while.
    async fn during(&mut self, span: Duration) {
        let until = now() + span;
        while now() < until {
            if self.good.len() > 5 {
                self.revoke().await.unwrap();
            }
            self.check_all().await;
            sleep(Duration::from_millis(200)).await;
        }
    }
}

/// What is answered about a token; a failure must be one that is documented.
async fn ask(admin: &mut Admin, token: &str) -> Result<Outcome, Status> {
    let began = now();
    let answer = admin.access.check_access(question(token, &["a"])).await;
    assert!(began.elapsed() < LONGEST_ANSWER, "{:?}", began.elapsed());
    match answer {
        Ok(answer) => Ok(answer.into_inner().outcome()),
        Err(status) => {
            assert_eq!(status.code(), Code::Unavailable, "{status:?}");
            assert_eq!(reason(&status), "UNAVAILABLE");
            Err(status)
        }
    }
}

async fn limit(admin: &mut Admin, requests: i64) {
    let limits = Some(pb::Limits { requests, ..Default::default() });
    let name = "tenants/acme/applications/crm".to_owned();
    let application = Some(pb::Application { name, limits, ..Default::default() });
    let request = pb::UpdateApplicationRequest { application, update_mask: mask(&["limits"]) };
    admin.applications.update_application(request).await.unwrap();
}

async fn with_redis() -> (Scene, RedisServer) {
    let redis = RedisServer::start();
    let [a, c] = Keyward::replicas(Some(&redis.url()), &[]).await;
    (Box::pin(Scene::new(a, c)).await, redis)
}

async fn until_up(kw: &Keyward, up: bool) {
    let began = now();
    while kw.server().redis().unwrap().is_up() != up {
        assert!(began.elapsed() < PATIENCE);
        sleep(Duration::from_millis(20)).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn redis_that_forgets_everything_is_told_again() {
    let (mut scene, mut redis) = with_redis().await;
    scene.revoke().await.unwrap();
    scene.recover().await;
    redis.cli(&["flushall"]);
    scene.during(Duration::from_secs(2)).await;
    assert!(redis.keys() > 0, "the list is there again");
    redis.cli(&["script", "flush"]);
    scene.recover().await;

    redis.stop();
    scene.during(Duration::from_secs(2)).await;
    redis.start_again();
    until_up(&scene.a, true).await;
    until_up(&scene.c, true).await;
    scene.recover().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn redis_that_freezes_for_ten_seconds_holds_nobody_up() {
    let (mut scene, redis) = with_redis().await;
    limit(&mut scene.at_a, 1_000_000).await;
    scene.recover().await;
    redis.pause();
    scene.during(Duration::from_secs(10)).await;
    assert!(!scene.a.server().redis().unwrap().is_up());
    assert!(scene.a.server().service.limiter().fallbacks().get() > 0, "limits are counted alone");
    redis.resume();
    until_up(&scene.a, true).await;
    until_up(&scene.c, true).await;
    scene.recover().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn redis_that_is_full_is_no_outage() {
    let (mut scene, redis) = with_redis().await;
    limit(&mut scene.at_a, 1_000_000).await;
    redis.cli(&["config", "set", "maxmemory", "1"]);
    scene.during(Duration::from_secs(2)).await;
    redis.cli(&["config", "set", "maxmemory", "0"]);
    until_up(&scene.a, true).await;
    scene.recover().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn redis_that_comes_up_after_the_servers_is_found() {
    let mut redis = RedisServer::start();
    let url = redis.url();
    redis.stop();
    let [a, c] = Keyward::replicas(Some(&url), &[]).await;
    let mut scene = Box::pin(Scene::new(a, c)).await;
    scene.during(Duration::from_secs(1)).await;
    redis.start_again();
    until_up(&scene.a, true).await;
    until_up(&scene.c, true).await;
    scene.recover().await;
}

async fn with_postgres() -> (Scene, PostgresServer, RedisServer) {
    let postgres = PostgresServer::start().await;
    let redis = RedisServer::start();
    let settings = [("redis.url", redis.url()), ("database.acquire_timeout", "1s".to_owned())];
    let settings: Vec<_> = settings.iter().map(|(key, value)| (*key, value.as_str())).collect();
    let a = Keyward::start(Some(postgres.database().await), &settings).await;
    let c = a.join().await;
    (Box::pin(Scene::new(a, c)).await, postgres, redis)
}

/// A revocation that cannot be written is not acknowledged; the token stays as it is.
async fn refused(scene: &mut Scene) {
    let request = RevokeTokenRequest { token: scene.good[1].clone() };
    let status = scene.at_a.tokens.revoke_token(request).await.unwrap_err();
    assert!(matches!(status.code(), Code::Unavailable | Code::DeadlineExceeded), "{status:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn postgresql_that_restarts_makes_nothing_good_again() {
    let (mut scene, mut postgres, _redis) = with_postgres().await;
    scene.revoke().await.unwrap();
    scene.recover().await;
    postgres.stop();
    let began = now();
    while began.elapsed() < BOUND + Duration::from_secs(2) {
        scene.check_all().await;
        sleep(Duration::from_millis(200)).await;
    }
    // By now nobody knows what was revoked, and nobody says that anything is good.
    for admin in [&mut scene.at_a, &mut scene.at_c] {
        ask(admin, &scene.good[0]).await.unwrap_err();
    }
    refused(&mut scene).await;
    assert_eq!(
        scene.crm.exchange(&scene.a.grpc(), &[], &[]).await.unwrap_err().code(),
        Code::Unavailable
    );
    let ready = format!("http://{}/readyz", scene.a.server().ops);
    assert_eq!(reqwest::get(&ready).await.unwrap().status(), 503);
    postgres.start_again();
    scene.recover().await;
    assert_eq!(reqwest::get(&ready).await.unwrap().status(), 200);
}

#[tokio::test(flavor = "multi_thread")]
async fn postgresql_that_freezes_makes_nothing_good_again() {
    let (mut scene, postgres, _redis) = with_postgres().await;
    scene.revoke().await.unwrap();
    scene.recover().await;
    postgres.pause();
    let began = now();
    while began.elapsed() < Duration::from_secs(10) {
        scene.check_all().await;
        sleep(Duration::from_millis(200)).await;
    }
    for admin in [&mut scene.at_a, &mut scene.at_c] {
        ask(admin, &scene.good[0]).await.unwrap_err();
    }
    postgres.resume();
    scene.recover().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_replica_that_is_cut_off_from_postgresql_hears_of_revocations_through_redis() {
    let postgres = PostgresServer::start().await;
    let redis = RedisServer::start();
    let mut proxy = Proxy::to(postgres.address()).await;
    let settings = [("redis.url", redis.url()), ("database.acquire_timeout", "1s".to_owned())];
    let settings: Vec<_> = settings.iter().map(|(key, value)| (*key, value.as_str())).collect();
    let url = postgres.database().await;
    let a = Keyward::start(Some(url.clone()), &settings).await;
    let cut_off = url.replace(&postgres.address().to_string(), &proxy.address.to_string());
    let c = a.join_on(Some(cut_off)).await;
    let mut scene = Box::pin(Scene::new(a, c)).await;
    scene.recover().await;
    proxy.cut().await;
    let began = now();
    while began.elapsed() < BOUND * 2 {
        if scene.good.len() > 5 {
            scene.revoke().await.unwrap();
        }
        scene.check_all().await;
        sleep(Duration::from_millis(300)).await;
    }
    // It is told of them all, though it reads nothing itself: those who watch there still
    // hear. Who it is that asks, it does not know any more.
    let live = scene.c.server().service.revocations();
    for (token, _) in &scene.revoked {
        let claims: Claims = jsonwebtoken::dangerous::insecure_decode(token).unwrap().claims;
        assert!(live.revokes(&claims.minted()).await.unwrap());
    }
    assert!(live.staleness() < BOUND);
    ask(&mut scene.at_c, &scene.good[0]).await.unwrap_err();
    proxy.mend().await;
    scene.recover().await;
}
