//! A Redis user with exactly the documented rights.

use std::time::Duration;

use futures_util::future::join_all;
use keyward::internals::clock::Clock;
use keyward::internals::limiter::{Demand, Limiter, WindowRate};
use keyward::proto::access::check_access_response::Outcome;
use keyward::proto::admin as pb;
use keyward::proto::admin::credential::Kind;
use keyward::proto::token::RevokeTokenRequest;
use tempfile::TempDir;

use crate::harness::redis::{RedisCluster, link_to};
use crate::harness::{Admin, Keyward, RedisServer, mask, until};

const MARKER: &str = "keyward:revocations:{list}:coded:marker";
const ROWS: &str = "keyward:revocations:{list}:coded:rows";

/// The documented line for Redis' ACL file, after the user's name.
fn documented() -> Vec<&'static str> {
    let settings = include_str!("../../../deploy/keyward.toml");
    let (_, line) = settings.split_once("\n# user keyward ").expect("the line is there");
    let line = line.lines().next().unwrap();
    let readme = include_str!("../../../deploy/README.md");
    assert!(readme.contains(&format!("user keyward {line}\n")), "deploy/README.md says the same");
    line.split(' ').map(|rule| if rule == ">PASSWORD" { ">secret" } else { rule }).collect()
}

fn set_user(redis: &RedisServer, rules: &[&str]) {
    redis.cli(&[&["acl", "setuser", "keyward"], rules].concat());
}

/// A server with the user, and its URL.
fn with_user(rules: &[&str]) -> (RedisServer, String) {
    let redis = RedisServer::start();
    set_user(&redis, rules);
    let url = format!("redis://keyward:secret@127.0.0.1:{}", redis.port);
    (redis, url)
}

async fn limit(admin: &mut Admin, requests: i64) {
    let application = pb::Application {
        name: "tenants/acme/applications/crm".to_owned(),
        limits: Some(pb::Limits { requests, ..Default::default() }),
        ..Default::default()
    };
    let request = pb::UpdateApplicationRequest {
        application: Some(application),
        update_mask: mask(&["limits"]),
    };
    admin.applications.update_application(request).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn documented_redis_rights_are_enough() {
    let (redis, url) = with_user(&documented());
    // The database is not polled, so changes only arrive through Redis.
    let quiet = [("revocations.poll_interval", "1h"), ("revocations.max_staleness", "2h")];
    let [mut a, b] = Keyward::replicas(Some(&url), &quiet).await;
    let (mut at_a, mut at_b) = (a.admin().await, b.admin().await);
    let (_, crm) = at_a.acme().await;
    limit(&mut at_a, 40).await;
    for server in [&a, &b] {
        let limiter = server.server().service.limiter().clone();
        until("they know of each other", async || limiter.replicas() == 2).await;
    }

    // In the second round the list is written again, and is not empty.
    for round in 1..=2 {
        let token = crm.token(&a.grpc()).await;
        assert!(at_b.check(&token, &["a"]).await.allowed);
        at_a.tokens.revoke_token(RevokeTokenRequest { token: token.clone() }).await.unwrap();
        until("the revocation arrives through Redis", async || {
            at_b.check(&token, &["a"]).await.outcome() == Outcome::Revoked
        })
        .await;
        let rows = || redis.cli(&["zcard", ROWS]);
        until("the list is in Redis", async || rows() == round.to_string()).await;
        assert_eq!(redis.cli(&["hget", MARKER, "last"]), round.to_string());
        redis.cli(&["flushall"]);
    }

    let token = crm.token(&a.grpc()).await;
    let asked = [at_a, at_b].map(async |mut admin: Admin| {
        let mut allowed = 0;
        for _ in 0..40 {
            allowed += usize::from(admin.check(&token, &["a"]).await.allowed);
        }
        allowed
    });
    assert_eq!(join_all(asked).await.into_iter().sum::<usize>(), 40, "they count together");

    // Servers that start later get verified secrets from Redis.
    redis.cli(&["flushall"]);
    let hashes = |server: &Keyward| server.server().service.hashes().get();
    let (_, other) =
        a.admin().await.credential("tenants/acme/applications/crm", Kind::ClientSecret).await;
    other.token(&b.grpc()).await;
    a.restart().await;
    let before = hashes(&a);
    other.token(&a.grpc()).await;
    assert_eq!(hashes(&a), before, "a restart costs no hash");

    for server in [&a, &b] {
        assert_eq!(server.server().service.limiter().fallbacks().get(), 0);
    }
    assert_eq!(redis.cli(&["acl", "log"]), "", "nothing was refused");
}

#[tokio::test(flavor = "multi_thread")]
async fn missing_redis_right_is_named_at_the_start() {
    let all = documented();
    let (redis, url) = with_user(&all);
    let folder = TempDir::new().unwrap();
    for right in all.iter().filter_map(|rule| rule.strip_prefix('+')) {
        set_user(&redis, &[&format!("-{right}")]);
        redis.cli(&["script", "flush"]);
        let reported = Keyward::refused(folder.path(), &[("redis.url", &url)]).await.to_string();
        assert!(reported.starts_with("the Redis of redis.url cannot be used"), "{reported}");
        assert!(reported.to_lowercase().contains(right), "{right}: {reported}");
        set_user(&redis, &[&format!("+{right}")]);
    }
    for (rule, lacking) in [("resetkeys", "access"), ("resetchannels", "publish")] {
        set_user(&redis, &all);
        set_user(&redis, &[rule]);
        let reported = Keyward::refused(folder.path(), &[("redis.url", &url)]).await.to_string();
        assert!(reported.contains(lacking), "{rule}: {reported}");
    }
    let others = redis.cli(&["--scan", "--pattern", "keyward:rights:*"]);
    assert_eq!(others, "", "what was tried leaves nothing behind");
}

#[tokio::test(flavor = "multi_thread")]
async fn documented_redis_rights_are_enough_in_a_cluster() {
    let cluster = RedisCluster::start();
    let rules = [documented(), vec!["+cluster|info", "+cluster|slots"]].concat();
    for node in &cluster.nodes {
        set_user(node, &rules);
    }
    let url = cluster.url().replacen("//", "//keyward:secret@", 1);
    let [kw] = Keyward::replicas(Some(&url), &[]).await;
    let mut admin = kw.admin().await;
    let (_, crm) = admin.acme().await;
    let token = crm.token(&kw.grpc()).await;
    admin.tokens.revoke_token(RevokeTokenRequest { token }).await.unwrap();
    let rows =
        || cluster.nodes.iter().any(|node| node.try_cli(&["zcard", ROWS]) == Some("1".to_owned()));
    until("the list is in Redis", async || rows()).await;
    let redis = link_to(&url);
    redis.check_once().await.unwrap();
    let limiter = Limiter::over(redis, Clock::system());
    let demand = Demand {
        key: "requests".to_owned(),
        rate: WindowRate::new(1, Duration::from_mins(1)),
        cost: 1,
        observe_only: false,
    };
    for n in 0..20 {
        let demands = std::slice::from_ref(&demand);
        assert!(limiter.take(&format!("tenant{n}"), demands).await.admitted);
        assert!(!limiter.take(&format!("tenant{n}"), demands).await.admitted);
    }
    assert_eq!(limiter.fallbacks().get(), 0);
    for node in &cluster.nodes {
        let log = node.cli(&["acl", "log"]);
        let objects = log.lines().zip(log.lines().skip(1)).filter(|(name, _)| *name == "object");
        let refused: Vec<_> = objects.map(|(_, object)| object).collect();
        assert!(refused.iter().all(|refused| *refused == "client|setinfo"), "{refused:?}");
    }
}
