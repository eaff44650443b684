//! Deletes old events of the audit log, if the setting `audit.retention` says so. The place up to
//! which events were deleted is signed, so that the rest of the chain can still be verified, and
//! events that were deleted by hand are still noticed.

use std::time::Duration;

use jiff::Timestamp;

use super::chain::AuditChain;
use crate::domain::{
    Action, Actor, AuditEvent, ChainCheck, ChainHash, ChainedRecord, Outcome, PlaceKind, TenantId,
};
use crate::error::{Error, Result};
use crate::store::{ChainedEvent, Tx};

/// How many events one transaction deletes.
const BATCH: i64 = 1000;
/// How many tenants are read at a time.
const TENANTS: i64 = 100;

impl AuditChain {
    /// Deletes events that are older than `retention`, in batches. Each log
    /// keeps an event, whose number the next one continues. Returns how many events were deleted.
    pub async fn purge(&self, retention: Duration) -> Result<u64> {
        let end = self.clock.now().saturating_sub(retention).unwrap_or(Timestamp::MIN);
        let (mut after, mut deleted) = (String::new(), 0);
        loop {
            let mut session = self.store.read_list().await?;
            let tenants =
                session.tenants_with_old_events(&after, end.as_microsecond(), TENANTS).await?;
            drop(session);
            let Some(last) = tenants.last() else { break };
            after = last.to_string();
            for tenant in &tenants {
                match self.purge_tenant(tenant, end).await {
                    Ok(count) => deleted += count,
                    // The logs of other tenants must not wait for this one.
                    Err(error) if !matches!(error, Error::Unavailable(_)) => error.log_fault(),
                    Err(error) => return Err(error),
                }
            }
        }
        if deleted > 0 {
            tracing::info!(deleted, before = %end, "old audit events were deleted");
        }
        Ok(deleted)
    }

    async fn purge_tenant(&self, tenant: &TenantId, end: Timestamp) -> Result<u64> {
        let mut deleted = 0;
        loop {
            let mut tx = self.store.begin().await?;
            let batch = self.purge_batch(&mut tx, tenant, end, deleted == 0).await?;
            tx.commit().await?;
            deleted += batch;
            if batch == 0 {
                return Ok(deleted);
            }
        }
    }

    /// Deletes a batch of events, and signs the checkpoint. The first batch also writes the event.
    async fn purge_batch(
        &self,
        tx: &mut Tx,
        tenant: &TenantId,
        end: Timestamp,
        is_first: bool,
    ) -> Result<u64> {
        let log_of = tx.lock_tenant(tenant).await?.map(|found| found.id);
        if !tx.lock_chain(tenant).await? {
            return Ok(0);
        }
        let head = tx.signed_place(PlaceKind::Head, tenant).await?;
        let (newest, _) = self.own(head)?;
        let (number, hash) = self.own(tx.signed_place(PlaceKind::Checkpoint, tenant).await?)?;
        // Each log keeps its newest event, whose number the next event continues. If the tenant
        // exists, that is the event about this.
        let through = if log_of.is_some() { newest } else { newest - 1 };
        let events = tx.chained_events(tenant, number, through, BATCH).await?;
        let end_micros = end.as_microsecond();
        let old = events.into_iter().take_while(|chained| chained.event.at < end_micros);
        let check = verified(tenant, number, hash, old)?;
        if check.last() == number {
            return Ok(0);
        }
        let now = self.clock.now();
        let place = self.key.sign(PlaceKind::Checkpoint, tenant, check.last(), check.hash(), now);
        tx.set_signed_place(&place).await?;
        let deleted = tx.delete_audit_events(tenant, place.number).await?;
        if is_first {
            // The log of a deleted tenant gets no new events.
            let log_of = if let Some(own) = log_of {
                own
            } else {
                let system = TenantId::system();
                tx.lock_tenant(&system).await?;
                system
            };
            tx.insert_audit_event(&AuditEvent {
                tenant: log_of,
                number: 0,
                at: now,
                actor: Actor { service: "keyward".to_owned(), user: None, address: None },
                action: Action::PurgeAuditEvents.to_string(),
                resource: tenant.name(),
                outcome: Outcome::Done,
                detail: format!(
                    "events before {end:.6} are deleted (audit.retention), beginning after \
                     event {number}"
                ),
                changes: Vec::new(),
            })
            .await?;
        }
        Ok(deleted)
    }
}

/// Follows the chain through events that are about to be deleted. What was changed or deleted by
/// hand must not disappear with them.
fn verified(
    tenant: &TenantId,
    number: i64,
    hash: ChainHash,
    events: impl Iterator<Item = ChainedEvent>,
) -> Result<ChainCheck> {
    let mut check = ChainCheck::after(number, hash);
    let fault = |fault| {
        Error::internal(format!(
            "old audit events of {tenant} are not deleted, because they do not verify: {fault}"
        ))
    };
    for ChainedEvent { event, hash } in events {
        let record = ChainedRecord { number: event.number, record: event.record()?, hash };
        check.add(record).map_err(fault)?;
    }
    check.end(None).map_err(fault)?;
    Ok(check)
}
