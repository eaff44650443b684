//! The guarantees of the limiter, for each place of the windows.

#![expect(clippy::print_stdout, reason = "figures are there to be read, with --nocapture")]

mod exact;
mod fallback;
mod room;
mod together;

use std::time::Duration;

use keyward::internals::clock::Clock;
use keyward::internals::limiter::{Decision, Demand, Limiter, WindowRate};
use keyward::internals::redis::Redis;

use crate::harness::RedisServer;

/// Where the windows are stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Place {
    Memory,
    Redis,
}

/// A limiter with a clock that the test moves.
struct World {
    limiter: Limiter,
    clock: Clock,
    redis: Option<(Redis, RedisServer)>,
}

impl Place {
    async fn world(self) -> World {
        let clock = noon();
        match self {
            Self::Memory => {
                World { limiter: Limiter::in_memory(clock.clone()), clock, redis: None }
            }
            Self::Redis => {
                let server = RedisServer::start();
                let redis = server.link().await;
                let limiter = Limiter::over(redis.clone(), clock.clone());
                World { limiter, clock, redis: Some((redis, server)) }
            }
        }
    }
}

impl World {
    async fn take(&self, demands: &[Demand]) -> Decision {
        let decision = self.limiter.take("acme", demands).await;
        self.check();
        decision
    }

    async fn peek(&self, demands: &[Demand]) -> Decision {
        let decision = self.limiter.peek("acme", demands).await;
        self.check();
        decision
    }

    /// How many of the attempts are admitted now.
    async fn admitted(&self, demand: &Demand, attempts: usize) -> usize {
        let mut admitted = 0;
        for _ in 0..attempts {
            admitted += usize::from(self.take(std::slice::from_ref(demand)).await.admitted);
        }
        admitted
    }

    fn advance(&self, by: Duration) {
        self.clock.advance(by);
    }

    /// A test of Redis must not pass because of the fallback.
    fn check(&self) {
        assert_eq!(self.limiter.fallbacks().get(), 0, "Redis did not answer");
    }
}

fn noon() -> Clock {
    Clock::manual("2026-06-01T12:00:00Z".parse().unwrap())
}

/// A demand of one.
fn one(key: &str, max: u64, window: Duration) -> Demand {
    demand(key, max, window, 1)
}

fn demand(key: &str, max: u64, window: Duration, cost: u64) -> Demand {
    Demand { key: key.to_owned(), rate: WindowRate::new(max, window), cost, observe_only: false }
}

fn observed(demand: Demand) -> Demand {
    Demand { observe_only: true, ..demand }
}

fn remaining(decision: &Decision) -> Vec<u64> {
    decision.outcomes.iter().map(|standing| standing.remaining).collect()
}

const MINUTE: Duration = Duration::from_mins(1);
const TICK: Duration = Duration::from_micros(1);

async fn limit_admits_its_maximum_once_per_window(place: Place) {
    let world = place.world().await;
    let demand = one("app", 40, MINUTE);
    assert_eq!(world.admitted(&demand, 100).await, 40);
    world.advance(MINUTE.saturating_sub(TICK));
    assert_eq!(world.admitted(&demand, 100).await, 0);
    // A minute and a bucket later, all counts have left the window.
    world.advance(MINUTE / 64 + TICK);
    assert_eq!(world.admitted(&demand, 100).await, 40);
}

async fn request_is_admitted_exactly_after_the_wait(place: Place) {
    let world = place.world().await;
    for cost in [1, 7, 40] {
        let demand = demand("app", 40, MINUTE, cost);
        for _ in 0..20 {
            world.advance(Duration::from_micros(1_234_567));
            let decision = world.take(std::slice::from_ref(&demand)).await;
            if decision.admitted {
                continue;
            }
            assert!(decision.wait > Duration::ZERO && decision.wait <= MINUTE * 65 / 64);
            assert_eq!(decision.wait, decision.outcomes[0].wait);
            world.advance(decision.wait.saturating_sub(TICK));
            assert!(!world.peek(std::slice::from_ref(&demand)).await.admitted);
            world.advance(TICK);
            assert!(world.take(std::slice::from_ref(&demand)).await.admitted);
        }
    }
}

async fn decision_reports_remaining_and_wait(place: Place) {
    let world = place.world().await;
    let demand = one("app", 3, MINUTE);
    let first = world.take(std::slice::from_ref(&demand)).await;
    assert_eq!((remaining(&first), first.wait), (vec![2], Duration::ZERO));
    let restored = first.outcomes[0].wait;
    assert!(restored >= MINUTE && restored <= MINUTE * 65 / 64);
    let later = Duration::from_secs(10);
    world.advance(later);
    let second = world.take(std::slice::from_ref(&demand)).await;
    assert_eq!(remaining(&second), [1]);
    assert_eq!(second.outcomes[0].wait + later, restored);
    assert_eq!((second.outcomes[0].limit, second.outcomes[0].window), (3, MINUTE));
    world.advance(second.outcomes[0].wait);
    assert_eq!(remaining(&world.peek(std::slice::from_ref(&demand)).await), [2]);
}

async fn decision_is_all_or_nothing(place: Place) {
    let world = place.world().await;
    let both = [one("app", 10, MINUTE), one("tenant", 3, MINUTE)];
    for _ in 0..3 {
        assert!(world.take(&both).await.admitted);
    }
    let refused = world.take(&both).await;
    assert!(!refused.admitted);
    let exceeded: Vec<_> = refused.outcomes.iter().map(|standing| standing.exceeded).collect();
    assert_eq!(exceeded, [false, true]);
    assert_eq!(refused.wait, refused.outcomes[1].wait);
    // The limit with room was not counted.
    assert_eq!(remaining(&refused), [7, 0]);
    assert_eq!(world.admitted(&both[0], 10).await, 7);
}

async fn decision_has_the_longest_wait(place: Place) {
    let world = place.world().await;
    let both = [one("second", 1, Duration::from_secs(1)), one("minute", 1, MINUTE)];
    assert!(world.take(&both).await.admitted);
    let refused = world.take(&both).await;
    assert!(refused.outcomes[0].wait < refused.outcomes[1].wait);
    assert_eq!(refused.wait, refused.outcomes[1].wait);
    world.advance(refused.wait);
    assert!(world.take(&both).await.admitted);
}

async fn observed_limit_refuses_nothing_and_always_counts(place: Place) {
    let world = place.world().await;
    let watched = observed(one("watched", 1, MINUTE));
    let demands = [one("app", 2, MINUTE), watched.clone()];
    let exceeded = |decision: &Decision| decision.outcomes[1].exceeded;
    let first = world.take(&demands).await;
    assert!(first.admitted && !exceeded(&first));
    let second = world.take(&demands).await;
    assert!(second.admitted && exceeded(&second) && second.wait.is_zero());
    // Refused by the other limit, and counted as an attempt.
    let third = world.take(&demands).await;
    assert!(!third.admitted && exceeded(&third));
    let all = Demand { rate: WindowRate::new(10, MINUTE), ..watched };
    assert_eq!(remaining(&world.peek(&[all]).await), [7]);
}

async fn peek_decides_the_same_and_counts_nothing(place: Place) {
    let world = place.world().await;
    let demands = [one("app", 2, MINUTE), observed(one("watched", 2, MINUTE))];
    for _ in 0..5 {
        let peeked = world.peek(&demands).await;
        assert!(peeked.admitted);
        assert_eq!(remaining(&peeked), [2, 2]);
    }
    assert_eq!(world.limiter.windows(), 0);
    assert_eq!(world.admitted(&demands[0], 5).await, 2);
    let peeked = world.peek(&demands).await;
    let taken = world.take(&demands[..1]).await;
    assert!(!peeked.admitted);
    assert_eq!(peeked.wait, taken.wait);
}

async fn changed_limit_keeps_its_counts(place: Place) {
    let world = place.world().await;
    assert_eq!(world.admitted(&one("app", 10, MINUTE), 20).await, 10);
    assert_eq!(world.admitted(&one("app", 15, MINUTE), 20).await, 5);
    let lowered = world.take(&[one("app", 12, MINUTE)]).await;
    assert!(!lowered.admitted && remaining(&lowered) == [0]);
    world.advance(lowered.wait);
    // All fifteen were counted at once, so they leave the window at once.
    assert_eq!(world.admitted(&one("app", 12, MINUTE), 20).await, 12);
    // Another window length is another limit.
    assert_eq!(world.admitted(&one("app", 12, MINUTE * 2), 20).await, 12);
}

async fn concurrent_requests_are_admitted_exactly(place: Place) {
    let world = place.world().await;
    let demands = [one("app", 50, MINUTE), one("tenant", 1000, MINUTE)];
    let tasks: Vec<_> = (0..200)
        .map(|_| {
            let (limiter, demands) = (world.limiter.clone(), demands.clone());
            tokio::spawn(async move { limiter.take("acme", &demands).await.admitted })
        })
        .collect();
    let mut admitted = 0;
    for task in tasks {
        admitted += usize::from(task.await.unwrap());
    }
    world.check();
    assert_eq!(admitted, 50);
    assert_eq!(remaining(&world.peek(&demands).await), [0, 950]);
}

async fn earlier_time_is_treated_as_the_newest(place: Place) {
    let world = place.world().await;
    let demand = one("app", 4, MINUTE);
    assert_eq!(world.admitted(&demand, 2).await, 2);
    world.advance(Duration::from_secs(40));
    assert_eq!(world.admitted(&demand, 1).await, 1);
    world.clock.set_back(Duration::from_secs(30));
    assert_eq!(world.admitted(&demand, 5).await, 1);
    let refused = world.take(std::slice::from_ref(&demand)).await;
    world.advance(refused.wait.saturating_sub(TICK));
    assert!(!world.peek(std::slice::from_ref(&demand)).await.admitted);
    world.advance(TICK);
    assert_eq!(world.admitted(&demand, 5).await, 2);
}

async fn clock_set_far_back_extends_counts_by_one_window(place: Place) {
    let world = place.world().await;
    let demand = one("app", 4, MINUTE);
    assert_eq!(world.admitted(&demand, 5).await, 4);
    world.clock.set_back(MINUTE * 60);
    assert_eq!(world.admitted(&demand, 5).await, 0);
    world.advance(MINUTE * 65 / 64);
    assert_eq!(world.admitted(&demand, 5).await, 4);
}

async fn tenants_have_separate_limits(place: Place) {
    let world = place.world().await;
    let demand = [one("app", 1, MINUTE)];
    assert!(world.limiter.take("acme", &demand).await.admitted);
    assert!(!world.limiter.take("acme", &demand).await.admitted);
    assert!(world.limiter.take("globex", &demand).await.admitted);
}

async fn repeated_limit_in_a_decision_counts_twice(place: Place) {
    let world = place.world().await;
    let twice = [one("app", 3, MINUTE), one("app", 3, MINUTE)];
    assert!(world.take(&twice).await.admitted);
    assert!(!world.take(&twice).await.admitted);
    assert_eq!(world.admitted(&twice[0], 5).await, 1);
}

async fn costs_and_limits_of_any_size_are_handled(place: Place) {
    let world = place.world().await;
    let nothing = world.take(&[demand("none", 0, MINUTE, 0)]).await;
    assert!(nothing.admitted && nothing.outcomes[0].wait.is_zero());
    let never = world.take(&[one("none", 0, MINUTE)]).await;
    assert!(!never.admitted && never.wait == Duration::MAX);
    let too_large = world.take(&[demand("small", 5, MINUTE, 6)]).await;
    assert!(!too_large.admitted && too_large.wait == Duration::MAX);
    assert_eq!(remaining(&too_large), [5]);

    let max = (1 << 53) - 1;
    let huge = demand("huge", u64::MAX, Duration::MAX, u64::MAX);
    assert_eq!(remaining(&world.peek(std::slice::from_ref(&huge)).await), [max]);
    assert!(world.take(std::slice::from_ref(&huge)).await.admitted);
    assert!(!world.take(&[one("huge", u64::MAX, Duration::MAX)]).await.admitted);
    let over = observed(huge);
    assert!(world.take(std::slice::from_ref(&over)).await.outcomes[0].exceeded);
    assert_eq!(remaining(&world.peek(&[over]).await), [0]);
    let large = demand("large", max, MINUTE, max - 1);
    assert_eq!(remaining(&world.take(&[large]).await), [1]);
    assert_eq!(world.admitted(&one("large", max, MINUTE), 5).await, 1);
}

async fn decision_without_demands_uses_no_storage(place: Place) {
    let world = place.world().await;
    let decision = world.take(&[]).await;
    assert!(decision.admitted && decision.outcomes.is_empty() && decision.wait.is_zero());
    assert!(world.peek(&[]).await.admitted);
    if let Some((redis, _)) = &world.redis {
        assert_eq!(redis.commands().get(), 0);
    }
}

/// Defines two tests for each function, one for each place.
macro_rules! in_both_places {
    ($($test:ident),+ $(,)?) => {
        mod in_memory {
            $(#[tokio::test(flavor = "multi_thread")]
            async fn $test() {
                Box::pin(super::$test(super::Place::Memory)).await;
            })+
        }
        mod in_redis {
            $(#[tokio::test(flavor = "multi_thread")]
            async fn $test() {
                Box::pin(super::$test(super::Place::Redis)).await;
            })+
        }
    };
}

in_both_places!(
    limit_admits_its_maximum_once_per_window,
    request_is_admitted_exactly_after_the_wait,
    decision_reports_remaining_and_wait,
    decision_is_all_or_nothing,
    decision_has_the_longest_wait,
    observed_limit_refuses_nothing_and_always_counts,
    peek_decides_the_same_and_counts_nothing,
    changed_limit_keeps_its_counts,
    concurrent_requests_are_admitted_exactly,
    earlier_time_is_treated_as_the_newest,
    clock_set_far_back_extends_counts_by_one_window,
    tenants_have_separate_limits,
    repeated_limit_in_a_decision_counts_twice,
    costs_and_limits_of_any_size_are_handled,
    decision_without_demands_uses_no_storage,
);
