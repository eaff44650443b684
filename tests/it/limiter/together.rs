//! Decisions that are asked of Redis together: they come at once here, since nothing else runs
//! on the thread that asks until it waits.

use futures_util::FutureExt;
use futures_util::future::join_all;
use keyward::internals::limiter::Limiter;

use super::{MINUTE, noon, one, remaining};
use crate::harness::RedisServer;

#[tokio::test]
async fn those_who_come_at_once_go_together_and_each_is_told_its_own() {
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
    let told = join_all(asked).await;
    assert_eq!(redis.commands().get() - before, 1);
    assert!(!told[0].admitted && told[1..].iter().all(|decision| decision.admitted));
    // One of acme's was counted before, and the first one of all was refused.
    assert_eq!(remaining(&told[58]), [1000 - 1 - 29, 57]);
    assert_eq!(remaining(&told[59]), [1000 - 30, 58]);
    assert_eq!(limiter.fallbacks().get(), 0);
}

#[tokio::test]
async fn for_one_who_gave_up_before_it_went_nothing_is_counted() {
    let server = RedisServer::start();
    let limiter = Limiter::over(server.link().await, noon());
    let demand = [one("app", 9, MINUTE)];
    assert!(limiter.take("acme", &demand).now_or_never().is_none());
    assert_eq!(remaining(&limiter.take("acme", &demand).await), [8]);
}

#[tokio::test]
async fn what_fails_fails_for_all_who_went_together() {
    let server = RedisServer::start();
    let redis = server.link().await;
    let limiter = Limiter::over(redis.clone(), noon());
    server.cli(&["config", "set", "maxmemory", "1"]);
    let demand = [one("app", 20, MINUTE)];
    let told = join_all((0..60).map(|_| limiter.take("acme", &demand))).await;
    assert_eq!(told.iter().filter(|decision| decision.admitted).count(), 20);
    assert_eq!(limiter.fallbacks().get(), 60);
    assert!(redis.commands().get() <= 2, "nobody asks again for himself");
}
