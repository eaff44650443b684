//! How many credentials expire soon. Users of an expired credential get no tokens, so an operator
//! should know before.

use std::time::Duration;

use jiff::Timestamp;
use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;

use crate::clock::{Clock, later};
use crate::error::Result;
use crate::store::Store;

/// More are not counted, so that the query is cheap.
const MAX_COUNTED: i64 = 10_000;
const DAY: Duration = Duration::from_hours(24);
/// The periods, with their labels.
const PERIODS: [(&str, u32); 3] = [("1d", 1), ("7d", 7), ("30d", 30)];

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct CredentialExpiryLabels {
    within: &'static str,
}

/// Counts the enabled credentials of all tenants that expire soon, or have expired. Servers that
/// share a database have the same counts.
#[derive(Debug)]
pub struct CredentialExpiry {
    store: Store,
    clock: Clock,
    expiring: Family<CredentialExpiryLabels, Gauge>,
    expired: Gauge,
}

impl CredentialExpiry {
    pub(super) fn new(store: Store, clock: Clock) -> Self {
        Self { store, clock, expiring: Family::default(), expired: Gauge::default() }
    }

    /// Credentials that expire within a period, which includes the shorter periods.
    pub fn expiring(&self) -> &Family<CredentialExpiryLabels, Gauge> {
        &self.expiring
    }

    /// Credentials that have expired and are not disabled.
    pub fn expired(&self) -> &Gauge {
        &self.expired
    }

    /// Counts again.
    pub async fn refresh(&self) -> Result<()> {
        let now = self.clock.now();
        let mut session = self.store.read_list().await?;
        for (within, days) in PERIODS {
            let count = session.count_expiring(now, later(now, DAY * days), MAX_COUNTED).await?;
            self.expiring.get_or_create(&CredentialExpiryLabels { within }).set(count);
        }
        let expired = session.count_expiring(Timestamp::UNIX_EPOCH, now, MAX_COUNTED).await?;
        self.expired.set(expired);
        Ok(())
    }
}
