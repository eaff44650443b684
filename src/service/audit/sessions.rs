//! Database sessions for callers: with what the caller may do in a tenant, by the roles of the user
//! that it acts for.

use std::sync::Arc;

use super::attempt::Attempt;
use super::refusal_writer::RefusalWriter;
use super::refusals::RefusedAttempt;
use super::unit_of_work::UnitOfWork;
use crate::clock::Clock;
use crate::domain::{Application, ApplicationName, Authority, Call, Page, Tenant, TenantId};
use crate::error::{Error, Result};
use crate::revocation::Live;
use crate::service::auth::Caller;
use crate::service::clients::ClientCache;
use crate::store::{Session, Store};

/// Opens sessions for callers.
#[derive(Debug)]
pub(in crate::service) struct TenantSessions {
    pub(in crate::service) store: Store,
    pub(in crate::service) clock: Clock,
    pub(in crate::service) revocations: Arc<Live>,
    pub(in crate::service) clients: Arc<ClientCache>,
    pub(in crate::service) refusals: Arc<RefusalWriter>,
}

/// A transaction that has locked a tenant, and what the caller may do there.
#[derive(Debug)]
pub(in crate::service) struct OpenTenant {
    pub(in crate::service) work: UnitOfWork,
    pub(in crate::service) tenant: Tenant,
    pub(in crate::service) authority: Authority,
}

/// A connection to read a tenant with, and what the caller may do there.
#[derive(Debug)]
pub(in crate::service) struct ReadSession {
    pub(in crate::service) session: Session,
    pub(in crate::service) authority: Authority,
}

impl ReadSession {
    /// The tenant, which must exist.
    pub(in crate::service) async fn tenant(&mut self, id: &TenantId) -> Result<Tenant> {
        let found = self.session.find_tenant(id).await?;
        found.ok_or_else(|| Error::NotFound(id.name()))
    }

    /// Refuses an empty page where there is no tenant to have a list.
    pub(in crate::service) async fn check_tenant<T>(
        &mut self,
        id: &TenantId,
        page: &Page<T>,
    ) -> Result<()> {
        if page.items.is_empty() { self.tenant(id).await.map(drop) } else { Ok(()) }
    }
}

impl TenantSessions {
    /// Does the work; if it is refused, the refusal is written to the audit log or counted.
    pub(in crate::service) async fn audited<T>(
        &self,
        attempt: &Attempt<'_>,
        work: impl Future<Output = Result<T>>,
    ) -> Result<T> {
        let error = match work.await {
            Ok(done) => return Ok(done),
            Err(error) => error,
        };
        // To a user or an application, another tenant does not exist. The audit log of their own
        // tenant has the attempt.
        let tenant = match attempt.caller.noted_in() {
            Some(own) if *own != attempt.tenant => own,
            _ if error.is_refusal() => &attempt.tenant,
            _ => return Err(error),
        };
        let refusal = RefusedAttempt::new(tenant.clone(), attempt, &error, self.clock.now());
        if let Err(fault) = self.refusals.note(&refusal).await {
            fault.log_fault();
        }
        Err(error)
    }

    /// A transaction for an attempt, before anything is locked or permitted.
    pub(in crate::service) async fn begin(&self, attempt: &Attempt<'_>) -> Result<UnitOfWork> {
        let tx = self.store.begin().await?;
        let (live, clients) = (Arc::clone(&self.revocations), Arc::clone(&self.clients));
        Ok(UnitOfWork::new(tx, attempt, self.clock.now(), live, clients))
    }

    /// A transaction for an attempt in a tenant that exists and that the caller may know of. No
    /// other transaction changes the tenant meanwhile.
    pub(in crate::service) async fn open(&self, attempt: &Attempt<'_>) -> Result<OpenTenant> {
        // Before anything is locked, or shows whether the tenant exists.
        attempt.caller.require_manager()?;
        attempt.caller.require_tenant(&attempt.tenant)?;
        let mut work = self.begin(attempt).await?;
        let tenant = work.lock_tenant(&attempt.tenant).await?;
        let tenant = tenant.ok_or_else(|| Error::NotFound(attempt.tenant.name()))?;
        // Others may have written while this waited for the lock: events are in the order of
        // their times.
        work.set_time(self.clock.now());
        let authority = self.authority(&mut work, attempt.caller).await?;
        Ok(OpenTenant { work, tenant, authority })
    }

    /// A connection to read a tenant that the caller may know of, and what the caller may do
    /// there.
    pub(in crate::service) async fn read(
        &self,
        caller: &Caller,
        tenant: &TenantId,
    ) -> Result<ReadSession> {
        caller.require_tenant(tenant)?;
        let mut session = self.store.read_list().await?;
        let authority = self.authority(&mut session, caller).await?;
        Ok(ReadSession { session, authority })
    }

    /// What the user that the caller acts for may do; `None` if it acts for no user.
    pub(in crate::service) async fn acting_user(
        &self,
        caller: &Caller,
    ) -> Result<Option<Authority>> {
        if caller.user().is_none() {
            return Ok(None);
        }
        let mut session = self.store.read().await?;
        self.authority(&mut session, caller).await.map(Some)
    }

    /// What a caller may do, by the current roles of the user that it acts for.
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

/// The application, if the caller may make this call about it.
pub(in crate::service) async fn reached(
    session: &mut Session,
    authority: &Authority,
    call: Call,
    name: &ApplicationName,
) -> Result<Application> {
    let found = session.find_application(name).await?;
    authority.require_on(call, name, found.as_ref().map(|application| &application.owner))?;
    found.ok_or_else(|| Error::NotFound(name.to_string()))
}
