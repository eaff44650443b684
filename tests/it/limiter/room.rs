//! The resources of windows: how long they live, how many there can be, how large they are.

use std::time::Duration;

use keyward::internals::clock::Clock;
use keyward::internals::limiter::Limiter;

use super::{MINUTE, Place, noon, one};
use crate::harness::{RedisServer, until};

#[tokio::test]
async fn empty_windows_in_memory_are_dropped() {
    let world = Place::Memory.world().await;
    for n in 0..100 {
        assert!(world.limiter.take("acme", &[one(&format!("app{n}"), 5, MINUTE)]).await.admitted);
    }
    world.limiter.sweep();
    assert_eq!(world.limiter.windows(), 100);
    world.advance(MINUTE * 65 / 64);
    world.limiter.sweep();
    assert_eq!(world.limiter.windows(), 0);
}

/// In real time, because Redis expires keys by it.
#[tokio::test(flavor = "multi_thread")]
async fn empty_windows_in_redis_expire() {
    let server = RedisServer::start();
    let limiter = Limiter::over(server.link().await, Clock::system());
    let window = Duration::from_millis(300);
    let taken = limiter.take("acme", &[one("app", 5, window), one("tenant", 5, window)]).await;
    assert!(taken.admitted && server.keys() == 2);
    until("the windows expire", async || server.keys() == 0).await;
    assert_eq!(limiter.fallbacks().get(), 0);
}

#[tokio::test]
async fn number_of_windows_in_memory_is_bounded() {
    let clock = noon();
    let limiter = Limiter::with_room(clock.clone(), 1600);
    for n in 0..20_000 {
        clock.advance(Duration::from_micros(10));
        let tenant = format!("tenant{}", n % 100);
        let demand = [one(&format!("app{n}"), 1, MINUTE)];
        assert!(limiter.take(&tenant, &demand).await.admitted);
        // The newest window is never evicted.
        assert!(!limiter.take(&tenant, &demand).await.admitted);
    }
    assert!((1000..=1600).contains(&limiter.windows()), "{}", limiter.windows());
}

#[tokio::test]
async fn windows_with_equal_times_can_be_evicted() {
    let limiter = Limiter::with_room(noon(), 160);
    for n in 0..1000 {
        assert!(limiter.take("acme", &[one(&format!("app{n}"), 1, MINUTE)]).await.admitted);
    }
    assert!(limiter.windows() <= 10, "{}", limiter.windows());
}

#[tokio::test(flavor = "multi_thread")]
async fn full_window_in_redis_is_small() {
    let world = Place::Redis.world().await;
    let demand = [one("app", 1_000_000, MINUTE)];
    for _ in 0..100 {
        world.advance(Duration::from_secs(1));
        assert!(world.take(&demand).await.admitted);
    }
    let (_, server) = world.redis.as_ref().unwrap();
    let key = server.cli(&["keys", "*"]);
    assert_eq!(key, "keyward:windows:{acme}:app:60000000");
    let bytes: usize = server.cli(&["memory", "usage", &key]).parse().unwrap();
    println!("a window with all of its buckets takes {bytes} bytes in Redis");
    assert!(bytes <= 1500, "{bytes}");
}
