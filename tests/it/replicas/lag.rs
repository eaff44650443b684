//! How long it takes until a revoked token is refused on every replica.

use std::time::{Duration, Instant};

use futures_util::future::join_all;
use keyward::proto::access::check_access_response::Outcome;
use keyward::proto::token::RevokeTokenRequest;
use tokio::time::{sleep, timeout};

use crate::harness::{Admin, Credential, Keyward, RedisServer};

/// The bound that is never exceeded.
const BOUND: Duration = Duration::from_secs(5);
const ROUNDS: usize = 1000;

/// All tests share the same cores for hashes.
const PATIENT: [(&str, &str); 2] = [("secrets.hash_wait", "5m"), ("limits.request_timeout", "5m")];

/// The database is not polled, so that changes only arrive through Redis.
const NO_POLLING: [(&str, &str); 4] = [
    PATIENT[0],
    PATIENT[1],
    ("revocations.poll_interval", "1h"),
    ("revocations.max_staleness", "2h"),
];

#[expect(clippy::disallowed_methods, reason = "how long it takes is what is asked")]
fn now() -> Instant {
    Instant::now()
}

/// Gets a token from A and revokes it at B. Returns how long it takes until C refuses it, measured
/// by a service that asks again after each pause.
async fn round(
    a: &Keyward,
    b: &mut Admin,
    c: &mut Admin,
    crm: &Credential,
    pause: Duration,
) -> Duration {
    let token = crm.token(&a.grpc()).await;
    assert!(c.check(&token, &["a"]).await.allowed);
    b.tokens.revoke_token(RevokeTokenRequest { token: token.clone() }).await.unwrap();
    let acknowledged = now();
    let refused = async {
        loop {
            match c.check(&token, &["a"]).await.outcome() {
                Outcome::Revoked => return,
                Outcome::Allowed => sleep(pause).await,
                outcome => panic!("{outcome:?}"),
            }
        }
    };
    timeout(BOUND, refused).await.expect("the bound is never passed");
    acknowledged.elapsed()
}

/// Many rounds, some of them concurrent. Returns their durations, sorted.
async fn rounds(
    redis: Option<&RedisServer>,
    settings: &[(&'static str, &str)],
    at_once: usize,
    pause: Duration,
) -> Vec<Duration> {
    let url = redis.map(RedisServer::url);
    let [a, b, c] = Keyward::replicas(url.as_deref(), settings).await;
    let (_, crm) = a.admin().await.acme().await;
    let each = (0..at_once).map(async |_| {
        let (mut at_b, mut at_c) = (b.admin().await, c.admin().await);
        let mut lags = Vec::new();
        for _ in 0..ROUNDS / at_once {
            lags.push(round(&a, &mut at_b, &mut at_c, &crm, pause).await);
        }
        lags
    });
    let mut lags = join_all(each).await.concat();
    assert_eq!(lags.len(), ROUNDS);
    lags.sort();
    lags
}

#[expect(clippy::print_stdout, reason = "the distribution is what is asked")]
fn tell(what: &str, lags: &[Duration]) {
    let at = |percent: usize| lags[(lags.len() * percent / 100).min(lags.len() - 1)];
    println!(
        "{what}: p50 {:?}, p90 {:?}, p99 {:?}, longest {:?}, of {}",
        at(50),
        at(90),
        at(99),
        at(100),
        lags.len()
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn revocation_reaches_replicas_immediately_with_redis() {
    let redis = RedisServer::start();
    let lags = Box::pin(rounds(Some(&redis), &NO_POLLING, 4, Duration::from_micros(500))).await;
    tell("with Redis", &lags);
}

#[tokio::test(flavor = "multi_thread")]
async fn revocation_reaches_replicas_in_time_without_redis() {
    let lags = Box::pin(rounds(None, &PATIENT, 50, Duration::from_millis(20))).await;
    tell("without Redis", &lags);
}
