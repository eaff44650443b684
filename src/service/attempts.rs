//! Attempts to change something. Each is made in a transaction that cannot be committed
//! without an event in the audit log; one that is refused is noted there too.

use std::ops::{Deref, DerefMut};
use std::sync::Arc;

use jiff::Timestamp;

use super::refusals::Refusal;
use super::snapshots::Snapshots;
use super::{Caller, Service};
use crate::domain::{
    Action, Actor, AuditEvent, Authority, FieldChange, NewRevocation, Outcome, Page, Subject,
    Tenant, TenantId,
};
use crate::error::{Error, Result};
use crate::revocation::Live;
use crate::store::{Affected, Session, Tx};

/// Something that a caller attempts.
#[derive(Clone, Debug)]
pub(super) struct Attempt<'a> {
    caller: &'a Caller,
    action: Action,
    tenant: TenantId,
    resource: String,
}

/// A transaction that changes one tenant and writes down what it does.
#[derive(Debug)]
pub(super) struct Ledger {
    tx: Tx,
    tenant: TenantId,
    actor: Actor,
    now: Timestamp,
    noted: bool,
    /// What will be revoked, unless it is written already.
    revocations: Vec<NewRevocation>,
    revokes: bool,
    live: Arc<Live>,
    snapshots: Arc<Snapshots>,
}

/// A transaction in which nobody else changes the tenant, and what the caller may do there.
#[derive(Debug)]
pub(super) struct Open {
    /// The transaction.
    pub(super) ledger: Ledger,
    /// The tenant as it is.
    pub(super) tenant: Tenant,
    /// What the caller may do.
    pub(super) authority: Authority,
}

/// A connection to read a tenant with, and what the caller may do there.
#[derive(Debug)]
pub(super) struct Reading {
    /// The connection.
    pub(super) session: Session,
    /// What the caller may do.
    pub(super) authority: Authority,
}

impl<'a> Attempt<'a> {
    pub(super) fn new(
        caller: &'a Caller,
        action: Action,
        tenant: &TenantId,
        resource: &(impl ToString + ?Sized),
    ) -> Self {
        Self { caller, action, tenant: tenant.clone(), resource: resource.to_string() }
    }

    fn refusal(&self, tenant: TenantId, error: &Error, now: Timestamp) -> Refusal {
        let what = (self.action.to_string(), self.resource.clone());
        Refusal::new(tenant, self.caller.actor(), what, error, now)
    }
}

impl Ledger {
    /// Writes down what was done.
    pub(super) async fn note(
        &mut self,
        action: Action,
        resource: impl ToString,
        changes: Vec<FieldChange>,
    ) -> Result<()> {
        self.note_with(action, resource, changes, String::new()).await
    }

    /// The same, with something more to say.
    pub(super) async fn note_with(
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
    pub(super) fn raise(&mut self, subject: Subject, before: i64, after: i64) {
        if after > before {
            self.revoke(NewRevocation::older_than(subject, after, self.now));
        }
    }

    /// The epoch that a new bearer of a name begins with: one that had it before may have
    /// been revoked, in the database or in a later state of it that was lost.
    pub(super) async fn first_epoch(&mut self, subject: &Subject) -> Result<i64> {
        let pending = self.revocations.iter().filter(|new| new.subject == *subject);
        let pending = pending.map(|new| new.epoch).max().unwrap_or_default();
        let known = self.live.index().epoch(subject);
        Ok(self.tx.revoked_epoch(subject).await?.max(pending).max(known))
    }

    /// Revokes something, with the commit.
    pub(super) fn revoke(&mut self, revocation: NewRevocation) {
        self.revokes = true;
        self.revocations.push(revocation);
    }

    /// Revokes the tokens of all of these, which are about to change; how many there are.
    pub(super) async fn revoke_affected(&mut self, affected: Affected<'_>) -> Result<u64> {
        let count = self.tx.revoke_affected(affected, self.now).await?;
        self.revokes |= count > 0;
        Ok(count)
    }

    /// Gives what something done elsewhere takes rights from a new version, revokes its
    /// tokens if it has any, and writes that down for each; how many lost their tokens.
    pub(super) async fn affect(&mut self, affected: Affected<'_>, why: &str) -> Result<u64> {
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
        self.tx.note_affected(affected, &event).await?;
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

    /// Makes everything durable: no audit, no change. When this answers, what was revoked
    /// is refused.
    pub(super) async fn commit(mut self) -> Result<()> {
        if !self.noted {
            return Err(Error::internal(format!("a change of {} without an event", self.tenant)));
        }
        let mut revoked = Vec::new();
        if !self.revocations.is_empty() {
            revoked = self.tx.insert_revocations(&self.revocations, self.now).await?;
        }
        let committed = self.tx.commit().await;
        // Even if it failed: the answer alone may have been lost.
        self.snapshots.changed(&self.tenant);
        committed?;
        if self.revokes {
            // Apart, so that what every change holds does not grow by it.
            Box::pin(self.live.committed(&revoked)).await;
        }
        Ok(())
    }
}

impl Deref for Ledger {
    type Target = Tx;

    fn deref(&self) -> &Tx {
        &self.tx
    }
}

impl DerefMut for Ledger {
    fn deref_mut(&mut self) -> &mut Tx {
        &mut self.tx
    }
}

impl Reading {
    /// The tenant, which must exist.
    pub(super) async fn tenant(&mut self, id: &TenantId) -> Result<Tenant> {
        let found = self.session.find_tenant(id).await?;
        found.ok_or_else(|| Error::NotFound(id.name()))
    }

    /// Refuses an empty page where there is no tenant to have a list.
    pub(super) async fn check_tenant<T>(&mut self, id: &TenantId, page: &Page<T>) -> Result<()> {
        if page.items.is_empty() { self.tenant(id).await.map(drop) } else { Ok(()) }
    }
}

impl Service {
    /// Does the work; if it is refused, that is noted or counted.
    pub(super) async fn audited<T>(
        &self,
        attempt: &Attempt<'_>,
        work: impl Future<Output = Result<T>>,
    ) -> Result<T> {
        let error = match work.await {
            Ok(done) => return Ok(done),
            Err(error) => error,
        };
        // A user or an application that reaches for another tenant learns that there is nothing;
        // the log of their own tenant says what was tried.
        let tenant = match attempt.caller.noted_in() {
            Some(own) if *own != attempt.tenant => own,
            _ if error.is_refusal() => &attempt.tenant,
            _ => return Err(error),
        };
        let refusal = attempt.refusal(tenant.clone(), &error, self.now());
        if let Err(fault) = self.note_refusal(&refusal).await {
            fault.log_fault();
        }
        Err(error)
    }

    /// A transaction for an attempt, before anything is locked or allowed.
    pub(super) async fn begin(&self, attempt: &Attempt<'_>) -> Result<Ledger> {
        Ok(Ledger {
            tx: self.store.begin().await?,
            tenant: attempt.tenant.clone(),
            actor: attempt.caller.actor(),
            now: self.now(),
            noted: false,
            revocations: Vec::new(),
            revokes: false,
            live: Arc::clone(&self.revocations),
            snapshots: Arc::clone(&self.snapshots),
        })
    }

    /// A transaction for an attempt in a tenant that exists and that the caller may know of.
    pub(super) async fn open(&self, attempt: &Attempt<'_>) -> Result<Open> {
        // Before anything is locked, or tells whether the tenant exists.
        attempt.caller.require_manager()?;
        attempt.caller.require_tenant(&attempt.tenant)?;
        let mut ledger = self.begin(attempt).await?;
        let tenant = ledger.lock_tenant(&attempt.tenant).await?;
        let tenant = tenant.ok_or_else(|| Error::NotFound(attempt.tenant.name()))?;
        // Others may have written while this waited: events are in the order of their times.
        ledger.now = self.now();
        let authority = self.authority(&mut ledger, attempt.caller).await?;
        Ok(Open { ledger, tenant, authority })
    }

    /// A connection to read a tenant that the caller may know of.
    pub(super) async fn reading(&self, caller: &Caller, tenant: &TenantId) -> Result<Reading> {
        caller.require_tenant(tenant)?;
        let mut session = self.store.read_list().await?;
        let authority = self.authority(&mut session, caller).await?;
        Ok(Reading { session, authority })
    }

    /// What the user may do whom a caller acts for, if it acts for one.
    pub(super) async fn acting_user(&self, caller: &Caller) -> Result<Option<Authority>> {
        if caller.user().is_none() {
            return Ok(None);
        }
        let mut session = self.store.read().await?;
        self.authority(&mut session, caller).await.map(Some)
    }

    /// What a caller may do, by the roles that the user it acts for has now.
    async fn authority(&self, session: &mut Session, caller: &Caller) -> Result<Authority> {
        caller.require_manager()?;
        let Some(name) = caller.user() else {
            return Ok(Authority::Platform);
        };
        let found = session.find_user(name).await?.filter(|user| !user.settings.disabled);
        let user = found.ok_or_else(|| caller.no_such_user())?;
        let roles = session.roles_of(&name.tenant, &name.user).await?;
        Ok(Authority::of_user(name.user.clone(), user.record.created_at, roles))
    }
}
