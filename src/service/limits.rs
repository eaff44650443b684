//! The limits of requests and tokens: all that apply to a client are asked at once.

use std::sync::Arc;
use std::time::Duration;

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use tokio::sync::Mutex;

use crate::clock::Clock;
use crate::domain::{AppliedLimits, Client, Counted, CountedWindow, LimitStatus, Tenant};
use crate::error::{Error, Result};
use crate::incidents::{Incident, IncidentKind, Incidents};
use crate::limiter::{Decision, Demand, Limiter, WindowRate};
use crate::store::Store;

/// How many counters are saved in one transaction, which delays other writers.
const BATCH: usize = 500;

/// What a request asks of the limits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Act {
    Count,
    /// Only answer.
    Peek,
}

/// The state of the limits after a request.
#[derive(Debug)]
pub(super) struct Limited {
    /// Whether all of them admit it.
    pub(super) admitted: bool,
    /// How long to wait, if one refuses it.
    pub(super) retry_after: Duration,
    /// Each of them.
    pub(super) limits: Vec<LimitStatus>,
}

/// What exceeded a limit.
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct ExceededLabels {
    counted: &'static str,
    level: &'static str,
    observed: &'static str,
}

/// The key of a limit's counter. Names can be reused: what was counted for an earlier tenant or
/// application of the same name does not count for this one. The first of a name has the key that
/// earlier versions use, which may run next to this one.
fn key(counted: Counted, tenant: &Tenant, applied: &AppliedLimits) -> String {
    let counted = counted.into_str();
    match (tenant.life, applied.life) {
        (..=1, 0) => format!("{counted} {}", applied.name),
        (tenant, application) => format!("{counted} {} {tenant}.{application}", applied.name),
    }
}

/// The limits of requests and tokens, and their counters.
#[derive(Debug)]
pub struct RateLimits {
    limiter: Limiter,
    store: Store,
    clock: Clock,
    incidents: Arc<Incidents>,
    exceeded: Family<ExceededLabels, Counter>,
    /// Whether counters are saved in the database: only where no Redis keeps them over a restart
    /// and no other server counts.
    is_saved: bool,
    /// Held while counters are saved: an older state must not replace a newer one.
    saving: Mutex<()>,
}

impl RateLimits {
    /// The limits, counted by `limiter`. Goes on with the counters that were saved last, where
    /// counters are saved.
    pub(super) async fn load(
        limiter: Limiter,
        store: Store,
        clock: Clock,
        incidents: Arc<Incidents>,
        has_redis: bool,
    ) -> Result<Self> {
        let is_saved = !has_redis && store.is_single_process();
        if is_saved {
            let mut session = store.read_list().await?;
            limiter.restore(session.counted_windows(limiter.now()).await?);
        }
        let (exceeded, saving) = (Family::default(), Mutex::default());
        Ok(Self { limiter, store, clock, incidents, exceeded, is_saved, saving })
    }

    /// What counts requests, tokens and wrong secrets.
    pub(super) fn limiter(&self) -> &Limiter {
        &self.limiter
    }

    /// Counts what exceeds limits.
    pub(super) fn exceeded(&self) -> &Family<ExceededLabels, Counter> {
        &self.exceeded
    }

    /// Asks all these limits for one more of what is counted.
    pub(super) async fn ask(
        &self,
        act: Act,
        tenant: &Tenant,
        limits: &[AppliedLimits],
        counted: &[Counted],
    ) -> Limited {
        let asked: Vec<_> = counted
            .iter()
            .flat_map(|counted| limits.iter().map(move |of| (*counted, of)))
            .filter_map(|(counted, of)| Some((counted, of, of.rate(counted)?)))
            .collect();
        let demands: Vec<_> = asked
            .iter()
            .map(|(counted, of, rate)| Demand {
                key: key(*counted, tenant, of),
                rate: WindowRate::new(
                    rate.max.unsigned_abs(),
                    Duration::from_secs(rate.window_seconds.unsigned_abs()),
                ),
                cost: 1,
                observe_only: of.limits.observe_only,
            })
            .collect();
        let decision = match act {
            Act::Count => self.limiter.take(tenant.id.as_str(), &demands).await,
            Act::Peek => self.limiter.peek(tenant.id.as_str(), &demands).await,
        };
        let Decision { admitted, wait, outcomes, .. } = decision;
        let limits = asked.iter().zip(outcomes).map(|((counted, of, _), standing)| LimitStatus {
            level: of.level,
            name: of.name.clone(),
            counted: *counted,
            limit: standing.limit,
            window: standing.window,
            remaining: standing.remaining,
            reset: standing.wait,
            exceeded: standing.exceeded,
            observe_only: of.limits.observe_only,
        });
        let limits: Vec<LimitStatus> = limits.collect();
        if act == Act::Count {
            limits.iter().filter(|limit| limit.exceeded).for_each(|limit| self.note(limit));
        }
        Limited { admitted, retry_after: wait, limits }
    }

    /// Saves the counters that changed since the last time, one row each. What cannot be saved is
    /// saved the next time.
    pub async fn save(&self) -> Result<()> {
        if !self.is_saved {
            return Ok(());
        }
        let _writer = self.saving.lock().await;
        // Wrong secrets are not saved: strangers decide how many rows they would be.
        let is_limit = |key: &str| {
            key.split(' ').next().is_some_and(|counted| counted.parse::<Counted>().is_ok())
        };
        for unsaved in self.limiter.unsaved(is_limit) {
            for (n, batch) in unsaved.chunks(BATCH).enumerate() {
                if let Err(error) = self.save_batch(batch).await {
                    self.limiter.not_saved(&unsaved[n * BATCH..]);
                    return Err(error);
                }
            }
        }
        Ok(())
    }

    async fn save_batch(&self, batch: &[CountedWindow]) -> Result<()> {
        let mut tx = self.store.begin().await?;
        tx.write_counted_windows(batch).await?;
        tx.delete_counted_windows(self.limiter.now()).await?;
        tx.commit().await
    }

    fn note(&self, exceeded: &LimitStatus) {
        let labels = ExceededLabels {
            counted: exceeded.counted.into_str(),
            level: exceeded.level.into_str(),
            observed: if exceeded.observe_only { "true" } else { "false" },
        };
        self.exceeded.get_or_create(&labels).inc();
        let LimitStatus { name, counted, limit, window, observe_only, .. } = exceeded;
        let observed = if *observe_only { ", only observed" } else { "" };
        let (counted, seconds) = (counted.into_str(), window.as_secs());
        let detail = format!("{limit} {counted} within {seconds} s{observed}");
        let kind = IncidentKind::LimitReached;
        let incident = Incident { kind, client: name, source: None, detail: &detail };
        self.incidents.note(incident, self.clock.now());
    }

    /// Counts a token that is about to be issued; refuses where a limit is reached.
    pub(super) async fn count_token(&self, client: &Client) -> Result<Vec<LimitStatus>> {
        self.ask_for_token(Act::Count, client).await
    }

    /// Refuses a token where a limit is reached, and counts none.
    pub(super) async fn require_room(&self, client: &Client) -> Result<()> {
        self.ask_for_token(Act::Peek, client).await.map(drop)
    }

    async fn ask_for_token(&self, act: Act, client: &Client) -> Result<Vec<LimitStatus>> {
        let counted = [Counted::Tokens];
        let limits = client.limits();
        let asked = self.ask(act, &client.tenant, &limits, &counted).await;
        let Limited { admitted, retry_after, limits } = asked;
        if admitted {
            return Ok(limits);
        }
        if act == Act::Peek {
            limits.iter().filter(|limit| limit.exceeded).for_each(|limit| self.note(limit));
        }
        let refusing = limits.into_iter().filter(|limit| limit.exceeded && !limit.observe_only);
        let Some(limit) = refusing.max_by_key(|limit| limit.reset) else {
            return Err(Error::internal("a limit refuses, and none is exceeded"));
        };
        Err(Error::RateLimited {
            policy: limit.level.into_str(),
            name: format!("{} of {}", limit.counted.into_str(), limit.name),
            limit: limit.limit,
            window: limit.window,
            retry_after,
        })
    }
}
