//! The limiter compared with an exact log of admitted requests: no window exceeds the limit, and at
//! most 2 % fewer are admitted.

use std::collections::VecDeque;
use std::time::Duration;

use futures_util::future::join_all;
use keyward::internals::clock::Clock;
use keyward::internals::limiter::{Decision, Demand, Limiter};

use super::{MINUTE, Place, demand, noon, observed, one};
use crate::harness::{Dice, RedisServer};

/// Every admitted request, to check against the limit.
#[derive(Default)]
struct Log {
    admitted: VecDeque<(i64, u64)>,
    held: u64,
    most_held: u64,
    total: u64,
}

impl Log {
    /// The admitted requests in the window that ends now.
    fn held(&mut self, now: i64, window: Duration) -> u64 {
        let window = i64::try_from(window.as_micros()).unwrap();
        while let Some(&(at, cost)) = self.admitted.front()
            && at <= now - window
        {
            self.held -= cost;
            self.admitted.pop_front();
        }
        self.held
    }

    fn admit(&mut self, now: i64, window: Duration, cost: u64) {
        self.held(now, window);
        self.admitted.push_back((now, cost));
        self.held += cost;
        self.total += cost;
        self.most_held = self.most_held.max(self.held);
    }

    /// The decision of an exact limiter.
    fn take(&mut self, now: i64, window: Duration, cost: u64, max: u64) {
        if self.held(now, window) + cost <= max {
            self.admit(now, window, cost);
        }
    }
}

fn micros(clock: &Clock) -> i64 {
    clock.now().as_microsecond()
}

/// The time until the next request: bursts, a steady stream, or silence.
fn gap(dice: &mut Dice, window: Duration, max: u64) -> Duration {
    let window = u64::try_from(window.as_micros()).unwrap();
    match dice.roll(100) {
        0..50 => Duration::ZERO,
        50..90 => dice.micros(window / max.max(1) + 1),
        90..98 => dice.micros(window / 10 + 1),
        _ => dice.micros(window * 2),
    }
}

#[tokio::test]
async fn no_window_exceeds_the_limit() {
    let rates = [
        (1, Duration::from_secs(1)),
        (3, Duration::from_micros(977)),
        (10, Duration::from_secs(7)),
        (40, MINUTE),
        (100, Duration::from_micros(65)),
        (250, Duration::from_millis(333)),
        (1000, MINUTE * 60),
    ];
    for (seed, (max, window)) in (1..).zip(rates.into_iter().cycle().take(28)) {
        let mut dice = Dice::of(seed);
        let clock = noon();
        let limiter = Limiter::in_memory(clock.clone());
        let mut log = Log::default();
        for _ in 0..5000 {
            clock.advance(gap(&mut dice, window, max));
            let cost = if dice.roll(4) == 0 { dice.roll(max + 2) } else { 1 };
            if limiter.take("acme", &[demand("app", max, window, cost)]).await.admitted {
                log.admit(micros(&clock), window, cost);
            }
        }
        assert!(log.most_held <= max, "seed {seed}: {} of {max} in {window:?}", log.most_held);
        // The limit is also reached, so the limiter does not refuse everything.
        assert!(log.most_held == max, "seed {seed}: only {} of {max}", log.most_held);
    }
}

#[tokio::test]
async fn saturated_limit_admits_at_least_98_percent() {
    println!("limit, window: admitted by an exact log, by buckets, of it");
    for (max, window, every) in [
        (1, Duration::from_secs(1), 1_000),
        (5, Duration::from_secs(1), 10_007),
        (40, MINUTE, 99_991),
        (40, MINUTE, 1_499_999),
        (100, MINUTE, 50_000),
        (600, MINUTE, 20_011),
        (1000, MINUTE * 10, 100_003),
    ] {
        let mut dice = Dice::of(max + every);
        let clock = noon();
        let limiter = Limiter::in_memory(clock.clone());
        let (mut exact, mut ours) = (Log::default(), Log::default());
        let end = micros(&clock) + 3_600_000_000;
        while micros(&clock) < end {
            clock.advance(Duration::from_micros(every / 2) + dice.micros(every));
            let now = micros(&clock);
            exact.take(now, window, 1, max);
            if limiter.take("acme", &[one("app", max, window)]).await.admitted {
                ours.admit(now, window, 1);
            }
        }
        let share = 100 * ours.total / exact.total;
        println!("{max}, {window:?}: {}, {}, {share} %", exact.total, ours.total);
        assert!(ours.most_held <= max);
        assert!(ours.total * 100 >= exact.total * 98, "{} of {}", ours.total, exact.total);
    }
}

/// Three replicas with one Redis and one clock.
#[tokio::test(flavor = "multi_thread")]
async fn limit_is_shared_by_all_replicas() {
    let server = RedisServer::start();
    let clock = noon();
    let mut replicas = Vec::new();
    for _ in 0..3 {
        replicas.push(Limiter::over(server.link().await, clock.clone()));
    }
    let mut dice = Dice::of(40);
    let (mut exact, mut ours) = (Log::default(), Log::default());
    let end = micros(&clock) + 3_600_000_000;
    let mut requests = 0;
    while micros(&clock) < end {
        clock.advance(dice.micros(600_000));
        let now = micros(&clock);
        // All replicas are called concurrently.
        let asked = replicas.iter().map(|replica| {
            let replica = replica.clone();
            tokio::spawn(async move { replica.take("acme", &[one("app", 40, MINUTE)]).await })
        });
        for answer in asked.collect::<Vec<_>>() {
            requests += 1;
            exact.take(now, MINUTE, 1, 40);
            if answer.await.unwrap().admitted {
                ours.admit(now, MINUTE, 1);
            }
        }
    }
    println!(
        "40 a minute for an hour over 3 replicas: of {requests} requests an exact log admits {}, \
         ours {} ({:.2} % fewer); the most in any minute is {}",
        exact.total,
        ours.total,
        100.0
            - 100.0 * f64::from(u32::try_from(ours.total).unwrap())
                / f64::from(u32::try_from(exact.total).unwrap()),
        ours.most_held,
    );
    let stats = server.cli(&["info", "commandstats"]);
    println!("{}", stats.lines().find(|line| line.starts_with("cmdstat_evalsha")).unwrap());
    assert!(replicas.iter().all(|replica| replica.fallbacks().get() == 0));
    assert_eq!(ours.most_held, 40);
    assert!(ours.total * 100 >= exact.total * 98);
}

/// The call.
enum Asked {
    Peek(Vec<Demand>),
    Take(Vec<Demand>),
}

impl Asked {
    async fn of(&self, limiter: &Limiter, tenant: &str) -> Decision {
        match self {
            Self::Peek(demands) => limiter.peek(tenant, demands).await,
            Self::Take(demands) => limiter.take(tenant, demands).await,
        }
    }
}

/// Some decisions are sent to Redis concurrently, and may share a call.
#[tokio::test(flavor = "multi_thread")]
async fn memory_and_redis_decide_identically() {
    let world = Place::Redis.world().await;
    let memory = Limiter::in_memory(world.clock.clone());
    let windows = [Duration::from_secs(1), MINUTE, Duration::from_micros(7_777_777)];
    for seed in 1..=12 {
        let mut dice = Dice::of(seed);
        let tenant = format!("tenant{seed}");
        for step in 0..250 {
            // Usually in the same bucket, sometimes further on.
            let max = if dice.roll(2) == 0 { 100_000 } else { 3_000_000 };
            world.clock.advance(dice.micros(max));
            if dice.roll(20) == 0 {
                world.clock.set_back(dice.micros(100_000_000));
            }
            let mut asked = Vec::new();
            for _ in 0..=dice.roll(4) {
                let demands: Vec<_> = (0..=dice.roll(4))
                    .map(|_| {
                        let window = windows[usize::try_from(dice.roll(3)).unwrap()];
                        let key = format!("key{}", dice.roll(2));
                        let demand = demand(&key, dice.roll(12), window, dice.roll(5));
                        if dice.roll(5) == 0 { observed(demand) } else { demand }
                    })
                    .collect();
                asked.push(match dice.roll(5) {
                    0 => Asked::Peek(demands),
                    _ => Asked::Take(demands),
                });
            }
            let mut from_memory = Vec::new();
            for asked in &asked {
                from_memory.push(asked.of(&memory, &tenant).await);
            }
            let from_redis =
                join_all(asked.iter().map(|asked| asked.of(&world.limiter, &tenant))).await;
            for (here, there) in from_memory.into_iter().zip(from_redis) {
                assert_eq!(here.outcomes, there.outcomes, "seed {seed}, step {step}");
                assert_eq!((here.admitted, here.wait), (there.admitted, there.wait));
            }
        }
    }
    world.check();
}
