//! Use cases of the audit log: it can only be read.

use super::{Caller, List, ListRequest, Service};
use crate::domain::{AuditEvent, AuditFilter, Call, TenantId};
use crate::error::Result;

impl Service {
    /// Lists a tenant's events. A tenant that is gone has left its log behind, which another one
    /// of the same name goes on with: its users see it from their own tenant on, the platform
    /// sees all of it.
    pub async fn list_audit_events(
        &self,
        caller: &Caller,
        tenant: &TenantId,
        filter: &AuditFilter,
        request: &ListRequest,
    ) -> Result<List<AuditEvent>> {
        let mut reading = self.reading(caller, tenant).await?;
        reading.authority.require(Call::ListAuditEvents)?;
        let call = format!("audit events of {tenant} {filter:?}");
        let page = self.page_request(&call, request)?;
        let since = match reading.authority.user() {
            None => 0,
            Some(_) => reading.tenant(tenant).await?.life,
        };
        let events = reading.session.list_audit_events(tenant, since, filter, &page).await?;
        reading.check_tenant(tenant, &events).await?;
        Ok(self.list(&call, events))
    }
}
