//! Use of credentials: counted in memory and written in batches, so that a token costs no
//! row. What was counted since the last batch is lost in a crash: seconds, not more.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use jiff::Timestamp;
use jiff::civil::Date;

use super::{Caller, Service};
use crate::clock::later;
use crate::domain::usage::day;
use crate::domain::{
    ApplicationName, Call, Client, CredentialName, Life, MAX_CLOCK_LEAD, UsageDay, UseKind,
};
use crate::error::{Error, Result};
use crate::store::LastUseOf;

/// How many credentials are written in one transaction, which holds up their tenants'
/// other writers.
const BATCH: usize = 500;

/// What was counted and not written yet.
#[derive(Debug, Default)]
pub(super) struct Usage {
    pending: Mutex<Pending>,
    /// Held by whoever writes: when one has written, nothing older is under way.
    writer: tokio::sync::Mutex<()>,
}

type Pending = HashMap<Arc<CredentialName>, Used>;

#[derive(Clone, Debug)]
struct Used {
    life: Life,
    last: Timestamp,
    address: Option<IpAddr>,
    /// One as a rule, and at midnight two.
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

impl Usage {
    fn pending(&self) -> MutexGuard<'_, Pending> {
        // Counts are whole whoever broke the lock.
        self.pending.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn count(&self, client: &Client, kind: UseKind, at: Timestamp, address: Option<IpAddr>) {
        let mut pending = self.pending();
        let used = pending.entry(Arc::clone(&client.name)).or_insert_with(|| Used {
            life: client.life(),
            last: at,
            address,
            days: Vec::with_capacity(1),
        });
        // The later one, unless a wrong clock was ahead by more than clocks differ.
        let is_ahead = used.last > later(at, Duration::from_secs(MAX_CLOCK_LEAD));
        used.last = if is_ahead { at } else { used.last.max(at) };
        used.address = address.or(used.address);
        let counts = used.on(day(at));
        match kind {
            UseKind::Exchange => counts.exchanges += 1,
            UseKind::Check => counts.checks += 1,
        }
    }

    /// What was counted, tenant by tenant: a batch locks few.
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
}

/// From which day to which; `None` is the default.
#[derive(Clone, Copy, Debug, Default)]
pub struct Days {
    /// The first; by default 29 days before the last.
    pub first: Option<Date>,
    /// The last; by default today.
    pub last: Option<Date>,
}

impl Service {
    /// Counts a use.
    pub(super) fn used(&self, client: &Client, kind: UseKind, address: Option<IpAddr>) {
        self.usage.count(client, kind, self.now(), address);
    }

    /// Writes what was counted. What cannot be written is kept for the next time.
    pub async fn write_usage(&self) -> Result<()> {
        let _writer = self.usage.writer.lock().await;
        for names in self.usage.counted().chunks(BATCH) {
            // What is not being written stays where it is, and is counted on.
            let batch = self.usage.take(names);
            if let Err(error) = self.write_batch(&batch).await {
                self.usage.put_back(batch);
                return Err(error);
            }
        }
        Ok(())
    }

    async fn write_batch(&self, batch: &[(Arc<CredentialName>, Used)]) -> Result<()> {
        let tenants = batch.iter().map(|(credential, _)| &credential.application.tenant).collect();
        let uses = batch.iter().map(|(credential, used)| LastUseOf {
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
        tx.record_last_use(&uses, self.now()).await?;
        tx.add_usage(&days).await?;
        tx.commit().await
    }

    /// How often an application was used, by day.
    pub async fn application_usage(
        &self,
        caller: &Caller,
        name: &ApplicationName,
        days: Days,
    ) -> Result<Vec<UsageDay>> {
        let mut reading = self.reading(caller, &name.tenant).await?;
        let (session, call) = (&mut reading.session, Call::ListApplicationUsage);
        super::applications::reached(session, &reading.authority, call, name).await?;
        let last = days.last.unwrap_or_else(|| day(self.now()));
        let month = jiff::Span::new().days(29);
        let first = days.first.unwrap_or_else(|| last.saturating_sub(month));
        let span = first.duration_until(last);
        if span.is_negative() || span > jiff::SignedDuration::from_hours(24 * 366) {
            return Err(Error::invalid("end_date", "must be 0 to 366 days after start_date"));
        }
        reading.session.list_usage(name, first, last).await
    }
}
