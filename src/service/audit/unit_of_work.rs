//! The unit of work: a transaction, its events in the audit log, and what it revokes.

use std::ops::{Deref, DerefMut};
use std::sync::Arc;

use jiff::Timestamp;

use super::attempt::Attempt;
use crate::domain::{
    Action, Actor, AuditEvent, FieldChange, NewRevocation, Outcome, Subject, TenantId,
};
use crate::error::{Error, Result};
use crate::revocation::Live;
use crate::service::clients::ClientCache;
use crate::store::{Affected, Tx};

/// A transaction that changes one tenant and writes its events.
#[derive(Debug)]
pub(in crate::service) struct UnitOfWork {
    tx: Tx,
    tenant: TenantId,
    actor: Actor,
    now: Timestamp,
    noted: bool,
    /// What will be revoked, unless it is written already.
    revocations: Vec<NewRevocation>,
    revokes: bool,
    live: Arc<Live>,
    clients: Arc<ClientCache>,
}

impl UnitOfWork {
    pub(super) fn new(
        tx: Tx,
        attempt: &Attempt<'_>,
        now: Timestamp,
        live: Arc<Live>,
        clients: Arc<ClientCache>,
    ) -> Self {
        Self {
            tx,
            tenant: attempt.tenant.clone(),
            actor: attempt.actor(),
            now,
            noted: false,
            revocations: Vec::new(),
            revokes: false,
            live,
            clients,
        }
    }

    /// Sets the time of events and revocations that follow.
    pub(super) fn set_time(&mut self, now: Timestamp) {
        self.now = now;
    }

    /// Writes an event to the audit log.
    pub(in crate::service) async fn note(
        &mut self,
        action: Action,
        resource: impl ToString,
        changes: Vec<FieldChange>,
    ) -> Result<()> {
        self.note_with(action, resource, changes, String::new()).await
    }

    /// Like [`note`](Self::note), with a detail.
    pub(in crate::service) async fn note_with(
        &mut self,
        action: Action,
        resource: impl ToString,
        changes: Vec<FieldChange>,
        detail: String,
    ) -> Result<()> {
        self.noted = true;
        let event = self.event(action, resource.to_string(), changes, detail);
        self.tx.insert_audit_event(&event).await
    }

    /// Revokes the subject's tokens that are older than `after`, if that is later than the
    /// epoch that it had.
    pub(in crate::service) fn raise(&mut self, subject: Subject, before: i64, after: i64) {
        if after > before {
            self.revoke(NewRevocation::older_than(subject, after, self.now));
        }
    }

    /// The epoch that a new resource begins with. An earlier one of the same name may have been
    /// revoked, in the database or in a later state of it that was lost.
    pub(in crate::service) async fn first_epoch(&mut self, subject: &Subject) -> Result<i64> {
        let pending = self.revocations.iter().filter(|new| new.subject == *subject);
        let pending = pending.map(|new| new.epoch).max().unwrap_or_default();
        let known = self.live.index().epoch(subject);
        Ok(self.tx.revoked_epoch(subject).await?.max(pending).max(known))
    }

    /// Revokes something when this is committed.
    pub(in crate::service) fn revoke(&mut self, revocation: NewRevocation) {
        self.revokes = true;
        self.revocations.push(revocation);
    }

    /// Revokes the tokens of all of these, which are about to change. Returns how many there are.
    pub(in crate::service) async fn revoke_affected(
        &mut self,
        affected: Affected<'_>,
    ) -> Result<u64> {
        let count = self.tx.revoke_affected(affected, self.now).await?;
        self.revokes |= count > 0;
        Ok(count)
    }

    /// For resources that lose rights by a change of another resource: raises their versions,
    /// revokes their tokens, and writes an event for each. Returns how many lost their tokens.
    pub(in crate::service) async fn affect(
        &mut self,
        affected: Affected<'_>,
        why: &str,
    ) -> Result<u64> {
        let (action, detail) = match affected {
            Affected::ApplicationsWithScope(_)
            | Affected::ApplicationsWithRole(_)
            | Affected::ApplicationsOf(_) => {
                (Action::UpdateApplication, format!("its tokens were revoked: {why}"))
            }
            Affected::RolesWithScope(_) => (Action::UpdateRole, why.to_owned()),
            Affected::UsersWithRole(_) => (Action::UpdateUser, why.to_owned()),
        };
        let event = self.event(action, String::new(), Vec::new(), detail);
        self.tx.audit_affected(affected, &event).await?;
        let count = self.revoke_affected(affected).await?;
        self.tx.change_affected(affected, self.now).await?;
        Ok(count)
    }

    fn event(
        &self,
        action: Action,
        resource: String,
        changes: Vec<FieldChange>,
        detail: String,
    ) -> AuditEvent {
        AuditEvent {
            tenant: self.tenant.clone(),
            number: 0,
            at: self.now,
            actor: self.actor.clone(),
            action: action.to_string(),
            resource,
            outcome: Outcome::Done,
            detail,
            changes,
        }
    }

    /// Makes everything durable; refuses a change without an event. When this returns, what was
    /// revoked is refused.
    pub(in crate::service) async fn commit(mut self) -> Result<()> {
        if !self.noted {
            return Err(Error::internal(format!("a change of {} without an event", self.tenant)));
        }
        let mut revoked = Vec::new();
        if !self.revocations.is_empty() {
            revoked = self.tx.insert_revocations(&self.revocations, self.now).await?;
        }
        let committed = self.tx.commit().await;
        // Even if it failed: the commit may have succeeded and only its answer been lost.
        self.clients.mark_changed(&self.tenant);
        committed?;
        if self.revokes {
            // Boxed, so that the future of every change does not grow by it.
            Box::pin(self.live.committed(&revoked)).await;
        }
        Ok(())
    }
}

impl Deref for UnitOfWork {
    type Target = Tx;

    fn deref(&self) -> &Tx {
        &self.tx
    }
}

impl DerefMut for UnitOfWork {
    fn deref_mut(&mut self) -> &mut Tx {
        &mut self.tx
    }
}
