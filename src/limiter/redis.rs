//! Windows in Redis, shared by all replicas and based on the clock of Redis. Decisions that arrive
//! during a call are sent together in the next call of one script, because a call costs more than
//! the decision itself.

use std::sync::Arc;

use tokio::sync::{mpsc, oneshot};

use super::{Demand, DemandCount, Mode, WindowsAnswer};
use crate::clock::Clock;
use crate::error::{Error, Result};
use crate::redis::{Redis, Script};

/// The modes of `count.lua`.
const TAKE: i64 = 0;
const PEEK: i64 = 1;
/// The minimum expiry of keys with a simulated clock, in milliseconds: Redis expires keys in real
/// time.
const SIMULATED_EXPIRY: i64 = 60 * 60 * 1000;
/// The maximum number of decisions in one call. Redis is blocked during a call, for some
/// microseconds per decision.
const MAX_BATCH: usize = 256;
/// The maximum number of waiting decisions. More callers wait until there is room.
const QUEUE: usize = 1024;

#[derive(Debug)]
pub(super) struct RedisWindows {
    windows: Windows,
    asked: mpsc::Sender<(ScriptArgs, Reply)>,
}

/// Receives the answer. All decisions of a call get the same error.
type Reply = oneshot::Sender<Result<WindowsAnswer, Arc<Error>>>;

/// The arguments of one decision: the keys of its windows, and the numbers for `count.lua`.
#[derive(Debug)]
struct ScriptArgs {
    keys: Vec<String>,
    numbers: Vec<i64>,
}

impl RedisWindows {
    /// Must be called within a Tokio runtime, which runs the task that calls Redis.
    pub(super) fn new(redis: Redis, clock: Clock) -> Self {
        let windows = Windows { redis, clock, script: Script::new(include_str!("count.lua")) };
        let (asked, waiting) = mpsc::channel(QUEUE);
        tokio::spawn(windows.clone().send_batches(waiting));
        Self { windows, asked }
    }

    /// Decides about all demands together.
    pub(super) async fn decide(
        &self,
        mode: Mode,
        tenant: &str,
        demands: &[Demand],
    ) -> Result<WindowsAnswer, Arc<Error>> {
        let mode = match mode {
            Mode::Take => TAKE,
            Mode::Peek => PEEK,
        };
        self.ask(self.windows.args(mode, tenant, demands)).await
    }

    async fn ask(&self, args: ScriptArgs) -> Result<WindowsAnswer, Arc<Error>> {
        // In a cluster, tenants are on several nodes, which one call cannot reach.
        if self.windows.redis.is_clustered() {
            return self.windows.send_one(args).await.map_err(Arc::new);
        }
        let stopped = || Arc::new(Error::internal("the task that calls Redis has ended"));
        let (reply, answer) = oneshot::channel();
        self.asked.send((args, reply)).await.map_err(|_| stopped())?;
        answer.await.unwrap_or_else(|_| Err(stopped()))
    }
}

/// The keys of windows, and the script that updates them.
#[derive(Clone, Debug)]
struct Windows {
    redis: Redis,
    clock: Clock,
    script: Script,
}

impl Windows {
    fn args(&self, mode: i64, tenant: &str, demands: &[Demand]) -> ScriptArgs {
        let keys = demands.iter().map(|demand| self.redis.key("windows", &demand.name(tenant)));
        let count = i64::try_from(demands.len()).unwrap_or(i64::MAX);
        let mut numbers = Vec::with_capacity(2 + 5 * demands.len());
        numbers.extend([mode, count]);
        for demand in demands {
            numbers.extend([
                demand.rate.max_count(),
                demand.rate.window_micros(),
                demand.rate.bucket(),
                demand.cost(),
                demand.observe_only.into(),
            ]);
        }
        ScriptArgs { keys: keys.collect(), numbers }
    }

    /// Sends waiting decisions together, until all senders are gone.
    async fn send_batches(self, mut waiting: mpsc::Receiver<(ScriptArgs, Reply)>) {
        let mut received = Vec::new();
        while waiting.recv_many(&mut received, MAX_BATCH).await > 0 {
            // Decisions of cancelled callers must not be counted.
            let replies = received.drain(..).filter(|(_, reply)| !reply.is_closed());
            let (batch, replies): (Vec<_>, Vec<_>) = replies.unzip();
            // A caller may be cancelled before the answer arrives.
            match self.ask(&batch).await {
                Ok(answers) => {
                    for (reply, answer) in replies.into_iter().zip(answers) {
                        reply.send(Ok(answer)).ok();
                    }
                }
                Err(error) => {
                    let error = Arc::new(error);
                    for reply in replies {
                        reply.send(Err(Arc::clone(&error))).ok();
                    }
                }
            }
        }
    }

    async fn send_one(&self, args: ScriptArgs) -> Result<WindowsAnswer> {
        self.ask(&[args]).await?.pop().ok_or_else(unexpected_answer)
    }

    /// Sends several decisions in one call.
    async fn ask(&self, batch: &[ScriptArgs]) -> Result<Vec<WindowsAnswer>> {
        if batch.is_empty() {
            return Ok(Vec::new());
        }
        let (now, stay) = match self.clock.simulated() {
            Some(now) => (now.as_microsecond().max(1), SIMULATED_EXPIRY),
            None => (0, 0),
        };
        let numbers = batch.iter().flat_map(|args| &args.numbers);
        let numbers = [now, stay].into_iter().chain(numbers.copied());
        let asked: Vec<u8> = numbers.flat_map(i64::to_le_bytes).collect();
        let keys: Vec<_> = batch.iter().flat_map(|args| &args.keys).collect();
        let answer: Vec<u8> = self.redis.run(&self.script, &keys, &[asked]).await?;
        answers(&answer, batch).ok_or_else(unexpected_answer)
    }
}

/// Parses the answers of `count.lua`.
fn answers(answer: &[u8], batch: &[ScriptArgs]) -> Option<Vec<WindowsAnswer>> {
    let (numbers, []) = answer.as_chunks() else { return None };
    let mut numbers = numbers.iter().copied().map(i64::from_le_bytes);
    let answers = batch.iter().map(|args| {
        let admitted = numbers.next()? == 1;
        let counts = args.keys.iter().map(|_| {
            let (used, exceeded, wait) = (numbers.next()?, numbers.next()?, numbers.next()?);
            Some(DemandCount { used, exceeded: exceeded == 1, wait: (wait >= 0).then_some(wait) })
        });
        Some(WindowsAnswer { admitted, counts: counts.collect::<Option<_>>()? })
    });
    let answers = answers.collect::<Option<_>>()?;
    numbers.next().is_none().then_some(answers)
}

fn unexpected_answer() -> Error {
    Error::internal("count.lua returned an unexpected answer")
}
