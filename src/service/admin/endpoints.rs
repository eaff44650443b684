//! Endpoint rules. A profile sets them as a whole.

use super::base::Admin;
use crate::domain::{Action, Call, Endpoint, FieldChange, TenantId};
use crate::error::Result;
use crate::service::audit::UnitOfWork;
use crate::service::auth::Caller;
use crate::service::lists::{List, ListRequest};

impl Admin {
    /// Lists a tenant's rules by path, then method: every user of the tenant may.
    pub async fn list_endpoints(
        &self,
        caller: &Caller,
        tenant: &TenantId,
        request: &ListRequest,
    ) -> Result<List<Endpoint>> {
        let mut reading = self.sessions.read(caller, tenant).await?;
        reading.authority.require(Call::ListEndpoints)?;
        let call = format!("endpoints of {tenant}");
        let page = self.pages.request(&call, request)?;
        let endpoints = reading.session.list_endpoints(tenant, &page).await?;
        reading.check_tenant(tenant, &endpoints).await?;
        Ok(self.pages.list(&call, endpoints))
    }
}

pub(super) async fn add(work: &mut UnitOfWork, tenant: &TenantId, rule: &Endpoint) -> Result<()> {
    work.write_endpoint(tenant, rule).await?;
    work.note(Action::CreateEndpoint, rule.name(tenant), FieldChange::of_new(rule)).await
}
pub(super) async fn write(
    work: &mut UnitOfWork,
    tenant: &TenantId,
    before: &Endpoint,
    after: &Endpoint,
) -> Result<()> {
    work.write_endpoint(tenant, after).await?;
    let changes = FieldChange::between(before, after);
    work.note(Action::UpdateEndpoint, after.name(tenant), changes).await
}
pub(super) async fn remove(
    work: &mut UnitOfWork,
    tenant: &TenantId,
    rule: &Endpoint,
) -> Result<()> {
    work.delete_endpoint(tenant, rule).await?;
    work.note(Action::DeleteEndpoint, rule.name(tenant), FieldChange::of_gone(rule)).await
}
