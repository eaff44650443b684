//! A token that is revoked on one replica is refused on another, with and without Redis. How long
//! that takes is measured by `cargo bench --bench load`.

use std::time::Duration;

use futures_util::future::join_all;
use keyward::proto::access::check_access_response::Outcome;
use keyward::proto::token::RevokeTokenRequest;

use super::scene::now;
use crate::harness::{Admin, Credential, Keyward, RedisServer, until};

/// How many tokens are revoked.
const ROUNDS: usize = 400;

/// All tests share the same cores for hashes.
const PATIENT: [(&str, &str); 2] = [("secrets.hash_wait", "5m"), ("limits.request_timeout", "5m")];

/// The database is not polled, so that changes only arrive through Redis.
const NO_POLLING: [(&str, &str); 4] = [
    PATIENT[0],
    PATIENT[1],
    ("revocations.poll_interval", "1h"),
    ("revocations.max_staleness", "2h"),
];
/// `revocations.max_staleness` of a server without settings: no token is accepted for longer.
const BOUND: Duration = Duration::from_secs(5);

/// Gets a token from A, revokes it at B, and asks C until it refuses the token. An answer may take
/// any time, but to a question that is asked after `bound` it must be no.
async fn round(a: &Keyward, b: &mut Admin, c: &mut Admin, crm: &Credential, bound: Duration) {
    let token = crm.token(&a.grpc()).await;
    assert!(c.check(&token, &["a"]).await.allowed);
    b.tokens.revoke_token(RevokeTokenRequest { token: token.clone() }).await.unwrap();
    let acknowledged = now();
    until("C refuses the token", async || {
        let late = acknowledged.elapsed() > bound;
        match c.check(&token, &["a"]).await.outcome() {
            Outcome::Revoked => true,
            Outcome::Allowed if !late => false,
            outcome => panic!("{outcome:?} after the bound: {late}"),
        }
    })
    .await;
}

/// Many rounds, some of them concurrent.
async fn rounds(
    redis: Option<&RedisServer>,
    settings: &[(&'static str, &str)],
    at_once: usize,
    bound: Duration,
) {
    let url = redis.map(RedisServer::url);
    let [a, b, c] = Keyward::replicas(url.as_deref(), settings).await;
    let (_, crm) = a.admin().await.acme().await;
    let each = (0..at_once).map(async |_| {
        let (mut at_b, mut at_c) = (b.admin().await, c.admin().await);
        for _ in 0..ROUNDS / at_once {
            round(&a, &mut at_b, &mut at_c, &crm, bound).await;
        }
    });
    join_all(each).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn revocation_reaches_other_replica_through_redis_alone() {
    let redis = RedisServer::start();
    Box::pin(rounds(Some(&redis), &NO_POLLING, 4, Duration::MAX)).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn revocation_is_refused_on_other_replica_after_bound_without_redis() {
    Box::pin(rounds(None, &PATIENT, 50, BOUND)).await;
}
