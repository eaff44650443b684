//! Use cases of the audit log: it can only be read.

use super::{Caller, List, ListRequest, Service};
use crate::domain::{AuditEvent, AuditFilter, Permission, TenantId};
use crate::error::{Error, Result};

impl Service {
    /// Lists a tenant's events. A tenant that is gone has left its log behind.
    pub async fn list_audit_events(
        &self,
        caller: &Caller,
        tenant: &TenantId,
        filter: &AuditFilter,
        request: &ListRequest,
    ) -> Result<List<AuditEvent>> {
        let mut reading = self.reading(caller, tenant).await?;
        reading.authority.require(Permission::AuditView)?;
        let call = format!("audit events of {tenant} {filter:?}");
        let page = self.page_request(&call, request)?;
        let events = reading.session.list_audit_events(tenant, filter, &page).await?;
        if events.items.is_empty() && reading.session.find_tenant(tenant).await?.is_none() {
            return Err(Error::NotFound(tenant.name()));
        }
        Ok(self.list(&call, events))
    }
}
