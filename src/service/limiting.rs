//! Limits: those that hold for a client, asked all at once, and told as they stand.

use std::time::Duration;

use prometheus_client::encoding::EncodeLabelSet;

use super::Service;
use crate::domain::{Client, Counted, CountedWindow, LimitStatus, LimitsOf, Tenant};
use crate::error::{Error, Result};
use crate::incidents::IncidentKind;
use crate::limiter::{Decision, Demand, WindowRate};

/// How many windows are saved in one transaction, which holds up other writers.
const BATCH: usize = 500;

/// What a request asks of the limits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Act {
    /// To be counted.
    Count,
    /// To be told.
    Peek,
}

/// How the limits stand.
#[derive(Debug)]
pub(super) struct Limited {
    /// Whether all admit it.
    pub(super) admitted: bool,
    /// How long to wait, if one does not.
    pub(super) retry_after: Duration,
    /// Each of them.
    pub(super) limits: Vec<LimitStatus>,
}

/// What went beyond a limit.
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct ExceededLabels {
    counted: &'static str,
    level: &'static str,
    observed: &'static str,
}

/// What a limit is counted under. Names are used again: what was counted for another tenant or
/// application of the same name is not counted for this one. The first of a name is counted as
/// earlier versions do, which may run next to this one.
fn key(counted: Counted, tenant: &Tenant, of: &LimitsOf) -> String {
    let counted = counted.as_str();
    match (tenant.life, of.life) {
        (..=1, 0) => format!("{counted} {}", of.name),
        (tenant, application) => format!("{counted} {} {tenant}.{application}", of.name),
    }
}

impl Service {
    /// Asks the rates of all these limits for one more of what is counted.
    pub(super) async fn ask_limits(
        &self,
        act: Act,
        tenant: &Tenant,
        limits: &[LimitsOf],
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
                    rate.most.unsigned_abs(),
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

    /// Whether what limits count is saved in the database: where no Redis keeps it over a restart,
    /// and no other server counts.
    fn saves_limits(&self) -> bool {
        self.redis.is_none() && self.store.is_alone()
    }

    /// Goes on with what limits had counted when it was last saved.
    pub(super) async fn restore_limits(&self) -> Result<()> {
        if self.saves_limits() {
            let mut session = self.store.read_list().await?;
            self.limiter.restore(session.counted_windows(self.limiter.now()).await?);
        }
        Ok(())
    }

    /// Saves what limits have counted since the last time, one row for each limit that was. What
    /// cannot be saved is saved the next time.
    pub async fn save_limits(&self) -> Result<()> {
        if !self.saves_limits() {
            return Ok(());
        }
        let _writer = self.saving_limits.lock().await;
        // Wrong secrets are not among them: of those, strangers decide how many there are.
        let is_limit = |key: &str| {
            key.split(' ').next().is_some_and(|counted| Counted::parse(counted).is_ok())
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
            counted: exceeded.counted.as_str(),
            level: exceeded.level.as_str(),
            observed: if exceeded.observe_only { "true" } else { "false" },
        };
        self.exceeded.get_or_create(&labels).inc();
        let LimitStatus { name, counted, limit, window, observe_only, .. } = exceeded;
        let observed = if *observe_only { ", only observed" } else { "" };
        let (counted, seconds) = (counted.as_str(), window.as_secs());
        let detail = format!("{limit} {counted} within {seconds} s{observed}");
        self.note_incident(IncidentKind::LimitReached, name, None, &detail);
    }

    /// Counts a token that is about to be issued; refuses where a limit is reached.
    pub(super) async fn count_token(&self, client: &Client) -> Result<Vec<LimitStatus>> {
        let counted = [Counted::Tokens];
        let limits = client.limits();
        let asked = self.ask_limits(Act::Count, &client.tenant, &limits, &counted).await;
        let Limited { admitted, retry_after, limits } = asked;
        if admitted {
            return Ok(limits);
        }
        let refusing = limits.into_iter().filter(|limit| limit.exceeded && !limit.observe_only);
        let Some(limit) = refusing.max_by_key(|limit| limit.reset) else {
            return Err(Error::internal("a limit refuses, and none is exceeded"));
        };
        Err(Error::RateLimited {
            policy: limit.level.as_str(),
            name: format!("{} of {}", limit.counted.as_str(), limit.name),
            limit: limit.limit,
            window: limit.window,
            retry_after,
        })
    }
}
