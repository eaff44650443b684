//! The audit log: it can only be read.

use super::base::Admin;
use crate::domain::{AuditEvent, AuditFilter, AuditLog, Call, TenantId};
use crate::error::{Error, Result};
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

    /// The state of a tenant's log.
    pub async fn get_audit_log(&self, caller: &Caller, tenant: &TenantId) -> Result<AuditLog> {
        let mut reading = self.sessions.read(caller, tenant).await?;
        reading.authority.require(Call::GetAuditLog)?;
        let log = reading.session.audit_log(tenant).await?;
        if !log.tenant_exists && log.last_number == 0 && log.head.is_none() {
            return Err(Error::NotFound(tenant.name()));
        }
        Ok(log)
    }

    /// Lists the logs of all tenants, including deleted ones.
    pub async fn list_audit_logs(
        &self,
        caller: &Caller,
        request: &ListRequest,
    ) -> Result<List<AuditLog>> {
        const CALL: &str = "audit logs";
        caller.require_platform()?;
        let page = self.pages.request(CALL, request)?;
        let logs = self.store.read_list().await?.list_audit_logs(&page).await?;
        Ok(self.pages.list(CALL, logs))
    }
}
