//! Writes refused attempts and lock-outs to the audit log, as far as [`RefusalTable`] says.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use jiff::Timestamp;

use super::refusals::{First, RefusalKey, RefusalTable, RefusedAttempt};
use crate::clock::Clock;
use crate::domain::{Action, AuditEvent, TenantId};
use crate::error::Result;
use crate::service::auth::{Caller, LockOut, LockOuts};
use crate::service::clients::ClientCache;
use crate::store::Store;

/// The refused attempts of this server, on their way to the audit log.
#[derive(Debug)]
pub struct RefusalWriter {
    store: Store,
    clock: Clock,
    clients: Arc<ClientCache>,
    table: Mutex<RefusalTable>,
    lock_outs: Arc<LockOuts>,
    /// Held while counts are written: the next holder knows that nothing older is under way.
    writer: tokio::sync::Mutex<()>,
}

impl RefusalWriter {
    pub(in crate::service) fn new(
        store: Store,
        clock: Clock,
        clients: Arc<ClientCache>,
        lock_outs: Arc<LockOuts>,
    ) -> Self {
        let (table, writer) = (Mutex::default(), tokio::sync::Mutex::default());
        Self { store, clock, clients, table, lock_outs, writer }
    }

    fn table(&self) -> MutexGuard<'_, RefusalTable> {
        // Counts are whole, even where a holder of the lock panicked.
        self.table.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Writes a refused attempt, or counts it.
    pub(super) async fn note(&self, refusal: &RefusedAttempt) -> Result<()> {
        let first = self.table().note(refusal);
        let Some(First { mut event, counted }) = first else {
            return Ok(());
        };
        let mut tx = self.store.begin().await?;
        if tx.lock_tenant(&event.tenant).await?.is_some() {
            // Others may have written while this waited for the lock: events are in the order of
            // their times.
            event.at = self.clock.now();
            tx.insert_audit_event(&event).await?;
            tx.commit().await?;
        }
        self.table().written(&counted);
        Ok(())
    }

    /// Writes lock-outs, and the counts whose time is over. What cannot be written is kept for the
    /// next time.
    pub async fn write(&self) -> Result<()> {
        self.write_lock_outs().await?;
        self.write_counts(Some(self.clock.now())).await
    }

    /// Writes lock-outs and all counts, when the server stops.
    pub async fn write_all(&self) -> Result<()> {
        self.write_lock_outs().await?;
        self.write_counts(None).await
    }

    async fn write_lock_outs(&self) -> Result<()> {
        while let Some(LockOut { client, source, detail }) = self.lock_outs.take() {
            let Some(client) = self.clients.client(&client).await? else {
                continue;
            };
            let kind = RefusalKey {
                tenant: client.tenant.id.clone(),
                service: Caller::keyward().service(),
                user: None,
                action: Action::LockOut.to_string(),
                resource: client.name.to_string(),
                reason: format!("locked out: {detail}"),
            };
            let address = source.map(|address| address.to_string());
            let refusal =
                RefusedAttempt { kind, address, unknown_user: false, at: self.clock.now() };
            self.note(&refusal).await?;
        }
        Ok(())
    }

    async fn write_counts(&self, now: Option<Timestamp>) -> Result<()> {
        let _writer = self.writer.lock().await;
        let mut events = self.table().take(now);
        events.sort_by(|a, b| a.tenant.cmp(&b.tenant));
        let mut rest = events.as_slice();
        while let Some(first) = rest.first() {
            let tenant = first.tenant.clone();
            let end = rest.partition_point(|event| event.tenant <= tenant);
            if let Err(error) = self.write_counts_of(&tenant, &rest[..end]).await {
                let unwritten = rest.to_vec();
                self.table().wait(unwritten);
                return Err(error);
            }
            rest = &rest[end..];
        }
        Ok(())
    }

    async fn write_counts_of(&self, tenant: &TenantId, events: &[AuditEvent]) -> Result<()> {
        let mut tx = self.store.begin().await?;
        let Some(tenant) = tx.lock_tenant(tenant).await? else {
            return Ok(());
        };
        for event in events {
            // A count that ended before the tenant was created is about an earlier one of the
            // same name.
            if event.at >= tenant.record.created_at {
                let event = AuditEvent { at: self.clock.now(), ..event.clone() };
                tx.insert_audit_event(&event).await?;
            }
        }
        tx.commit().await
    }
}
