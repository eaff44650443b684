//! Decisions that share a call of Redis: here they are concurrent, because nothing else runs on the
//! thread before it waits.

use futures_util::FutureExt;
use futures_util::future::join_all;
use keyward::internals::limiter::Limiter;

use super::{MINUTE, noon, one, remaining};
use crate::harness::RedisServer;

#[tokio::test]
async fn concurrent_decisions_share_a_call_with_own_answers() {
    let server = RedisServer::start();
    let redis = server.link().await;
    let limiter = Limiter::over(redis.clone(), noon());
    let every = [one("every", 1000, MINUTE)];
    limiter.take("acme", &every).await;
    let before = redis.commands().get();
    let asked = (0..60).map(|n| {
        let limiter = &limiter;
        async move {
            let demands = [one("every", 1000, MINUTE), one(&format!("app{n}"), n, MINUTE)];
            limiter.take(if n % 2 == 0 { "acme" } else { "other" }, &demands).await
        }
    });
    let decisions = join_all(asked).await;
    assert_eq!(redis.commands().get() - before, 1);
    assert!(!decisions[0].admitted && decisions[1..].iter().all(|decision| decision.admitted));
    // One of acme's decisions was counted before, and the first one was refused.
    assert_eq!(remaining(&decisions[58]), [1000 - 1 - 29, 57]);
    assert_eq!(remaining(&decisions[59]), [1000 - 30, 58]);
    assert_eq!(limiter.fallbacks().get(), 0);
}

#[tokio::test]
async fn decision_cancelled_before_the_call_is_not_counted() {
    let server = RedisServer::start();
    let limiter = Limiter::over(server.link().await, noon());
    let demand = [one("app", 9, MINUTE)];
    assert!(limiter.take("acme", &demand).now_or_never().is_none());
    assert_eq!(remaining(&limiter.take("acme", &demand).await), [8]);
}

#[tokio::test]
async fn failed_call_fails_all_its_decisions() {
    let server = RedisServer::start();
    let redis = server.link().await;
    let limiter = Limiter::over(redis.clone(), noon());
    server.cli(&["config", "set", "maxmemory", "1"]);
    let demand = [one("app", 20, MINUTE)];
    let decisions = join_all((0..60).map(|_| limiter.take("acme", &demand))).await;
    assert_eq!(decisions.iter().filter(|decision| decision.admitted).count(), 20);
    assert_eq!(limiter.fallbacks().get(), 60);
    assert!(redis.commands().get() <= 2, "decisions are not repeated one by one");
}
