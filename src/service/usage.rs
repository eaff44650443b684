//! Use of credentials: counted in memory and written in batches, so that a token costs no
//! row. What was counted since the last batch is lost in a crash: seconds, not more.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use jiff::Timestamp;
use jiff::civil::Date;

use crate::clock::{Clock, later};
use crate::domain::usage::day;
use crate::domain::{Client, CredentialName, Life, MAX_CLOCK_LEAD, UsageDay, UseKind};
use crate::error::Result;
use crate::store::{CredentialUse, Store};

/// How many credentials are written in one transaction, which delays other writers of their
/// tenants.
const BATCH: usize = 500;

/// Counts uses of credentials.
#[derive(Debug)]
pub struct UsageCounter {
    store: Store,
    clock: Clock,
    /// What is not written yet.
    pending: Mutex<Pending>,
    /// Held while uses are written: the next holder knows that nothing older is under way.
    writer: tokio::sync::Mutex<()>,
}

type Pending = HashMap<Arc<CredentialName>, Used>;

#[derive(Clone, Debug)]
struct Used {
    life: Life,
    last: Timestamp,
    address: Option<IpAddr>,
    /// One as a rule, two around midnight.
    days: Vec<(Date, Counts)>,
}

#[derive(Clone, Copy, Debug, Default)]
struct Counts {
    exchanges: i64,
    checks: i64,
}

impl Used {
    fn on(&mut self, date: Date) -> &mut Counts {
        let known = self.days.iter().position(|(day, _)| *day == date);
        let place = known.unwrap_or_else(|| {
            self.days.push((date, Counts::default()));
            self.days.len() - 1
        });
        &mut self.days[place].1
    }
}

impl UsageCounter {
    pub(super) fn new(store: Store, clock: Clock) -> Self {
        Self { store, clock, pending: Mutex::default(), writer: tokio::sync::Mutex::default() }
    }

    fn pending(&self) -> MutexGuard<'_, Pending> {
        // Counts are whole, even where a holder of the lock panicked.
        self.pending.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Counts a use.
    pub(super) fn count(
        &self,
        client: &Client,
        kind: UseKind,
        at: Timestamp,
        address: Option<IpAddr>,
    ) {
        let mut pending = self.pending();
        let used = pending.entry(Arc::clone(&client.name)).or_insert_with(|| Used {
            life: client.life(),
            last: at,
            address,
            days: Vec::with_capacity(1),
        });
        // The later one, unless it is further ahead than clocks differ: then a clock was wrong.
        let is_ahead = used.last > later(at, Duration::from_secs(MAX_CLOCK_LEAD));
        used.last = if is_ahead { at } else { used.last.max(at) };
        used.address = address.or(used.address);
        let counts = used.on(day(at));
        match kind {
            UseKind::Exchange => counts.exchanges += 1,
            UseKind::Check => counts.checks += 1,
        }
    }

    /// The credentials that were used, sorted by tenant, so that a batch locks few tenants.
    fn counted(&self) -> Vec<Arc<CredentialName>> {
        let mut names: Vec<_> = self.pending().keys().cloned().collect();
        names.sort_by_cached_key(ToString::to_string);
        names
    }

    /// Takes what was counted of these.
    fn take(&self, names: &[Arc<CredentialName>]) -> Vec<(Arc<CredentialName>, Used)> {
        let mut pending = self.pending();
        names.iter().filter_map(|name| pending.remove_entry(name)).collect()
    }

    /// Puts back what could not be written.
    fn put_back(&self, unwritten: Vec<(Arc<CredentialName>, Used)>) {
        let mut pending = self.pending();
        for (credential, old) in unwritten {
            let Some(new) = pending.get_mut(&credential) else {
                pending.insert(credential, old);
                continue;
            };
            new.address = new.address.or(old.address);
            for (day, counts) in old.days {
                let sum = new.on(day);
                sum.exchanges += counts.exchanges;
                sum.checks += counts.checks;
            }
        }
    }

    /// Writes what was counted. What cannot be written is kept for the next time.
    pub async fn write(&self) -> Result<()> {
        let _writer = self.writer.lock().await;
        for names in self.counted().chunks(BATCH) {
            // The rest stays in place and counts on.
            let batch = self.take(names);
            if let Err(error) = self.write_batch(&batch).await {
                self.put_back(batch);
                return Err(error);
            }
        }
        Ok(())
    }

    async fn write_batch(&self, batch: &[(Arc<CredentialName>, Used)]) -> Result<()> {
        let tenants = batch.iter().map(|(credential, _)| &credential.application.tenant).collect();
        let uses = batch.iter().map(|(credential, used)| CredentialUse {
            credential,
            life: used.life,
            at: used.last,
            address: used.address,
        });
        let days = batch.iter().flat_map(|(credential, used)| {
            used.days.iter().map(|(date, counts)| {
                let usage = UsageDay {
                    date: *date,
                    credential: credential.credential,
                    exchanges: counts.exchanges,
                    checks: counts.checks,
                };
                (&credential.application, used.life, usage)
            })
        });
        let (uses, days): (Vec<_>, Vec<_>) = (uses.collect(), days.collect());
        let mut tx = self.store.begin().await?;
        tx.lock_tenants(&tenants).await?;
        tx.record_last_use(&uses, self.clock.now()).await?;
        tx.add_usage(&days).await?;
        tx.commit().await
    }
}
