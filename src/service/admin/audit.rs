//! The audit log: it can only be read.

use super::base::Admin;
use crate::domain::{AuditEvent, AuditFilter, Call, TenantId};
use crate::error::Result;
use crate::service::auth::Caller;
use crate::service::lists::{List, ListRequest};

impl Admin {
    /// Lists a tenant's events. The log of a deleted tenant is kept, and continued by a later tenant
    /// of the same name. Users of that see it from their own tenant on; the platform sees all of it.
    pub async fn list_audit_events(
        &self,
        caller: &Caller,
        tenant: &TenantId,
        filter: &AuditFilter,
        request: &ListRequest,
    ) -> Result<List<AuditEvent>> {
        let mut reading = self.sessions.read(caller, tenant).await?;
        reading.authority.require(Call::ListAuditEvents)?;
        let call = format!("audit events of {tenant} {filter:?}");
        let page = self.pages.request(&call, request)?;
        let since = match reading.authority.user() {
            None => 0,
            Some(_) => reading.tenant(tenant).await?.life,
        };
        let events = reading.session.list_audit_events(tenant, since, filter, &page).await?;
        reading.check_tenant(tenant, &events).await?;
        Ok(self.pages.list(&call, events))
    }
}
