//! Windows in Redis, which all replicas share: one script a decision, by Redis' own clock.

use super::{Act, Answer, Count, Demand};
use crate::clock::Clock;
use crate::error::{Error, Result};
use crate::redis::{Redis, Script};

/// What `count.lua` is to do.
const TAKE: i64 = 0;
const PEEK: i64 = 1;
const GIVE_BACK: i64 = 2;
/// How long a key stays at least if time is simulated, in milliseconds: Redis forgets by the
/// real time, which has nothing to do with it.
const SIMULATED_STAY: i64 = 60 * 60 * 1000;
/// What comes before the demands in an answer, and what there is of each.
const HEAD: usize = 2;
const EACH: usize = 3;

#[derive(Debug)]
pub(super) struct Shared {
    redis: Redis,
    clock: Clock,
    script: Script,
}

impl Shared {
    pub(super) fn new(redis: Redis, clock: Clock) -> Self {
        Self { redis, clock, script: Script::new(include_str!("count.lua")) }
    }

    /// Decides over all demands at once.
    pub(super) async fn decide(
        &self,
        act: Act,
        tenant: &str,
        demands: &[Demand],
    ) -> Result<Answer> {
        let act = match act {
            Act::Take => TAKE,
            Act::Peek => PEEK,
        };
        let answer = self.call(act, 0, tenant, demands).await?;
        let (&[admitted, at], rest) = answer
            .split_first_chunk::<HEAD>()
            .filter(|(_, rest)| rest.len() == demands.len() * EACH)
            .ok_or_else(|| Error::internal("count.lua answered something else"))?;
        let (each, _) = rest.as_chunks::<EACH>();
        let counts = each.iter().map(|&[used, exceeded, wait]| Count {
            used,
            exceeded: exceeded == 1,
            wait: (wait >= 0).then_some(wait),
        });
        Ok(Answer { admitted: admitted == 1, at, counts: counts.collect() })
    }

    /// Takes back what was counted at a time.
    pub(super) async fn give_back(
        &self,
        tenant: &str,
        demands: &[Demand],
        counted_at: i64,
    ) -> Result<()> {
        self.call(GIVE_BACK, counted_at, tenant, demands).await.map(drop)
    }

    async fn call(
        &self,
        act: i64,
        counted_at: i64,
        tenant: &str,
        demands: &[Demand],
    ) -> Result<Vec<i64>> {
        let keys: Vec<_> =
            demands.iter().map(|d| self.redis.key("limits", &d.name(tenant))).collect();
        let (now, stay) = match self.clock.simulated() {
            Some(now) => (now.as_microsecond().max(1), SIMULATED_STAY),
            None => (0, 0),
        };
        let mut args = Vec::with_capacity(4 + demands.len() * 5);
        args.extend([act, now, stay, counted_at]);
        for demand in demands {
            args.extend([
                demand.rate.most_counted(),
                demand.rate.window_micros(),
                demand.rate.bucket(),
                demand.cost(),
                demand.observe_only.into(),
            ]);
        }
        self.redis.run(&self.script, &keys, &args).await
    }
}
