//! Use cases of the rules for endpoints. They come with a profile, as a whole.

use super::attempts::Ledger;
use super::{Caller, List, ListRequest, Service};
use crate::domain::{Action, Call, Endpoint, FieldChange, TenantId};
use crate::error::Result;

impl Service {
    /// Lists a tenant's rules by path, then method: every user of the tenant may.
    pub async fn list_endpoints(
        &self,
        caller: &Caller,
        tenant: &TenantId,
        request: &ListRequest,
    ) -> Result<List<Endpoint>> {
        let mut reading = self.reading(caller, tenant).await?;
        reading.authority.require(Call::ListEndpoints)?;
        let call = format!("endpoints of {tenant}");
        let page = self.page_request(&call, request)?;
        let endpoints = reading.session.list_endpoints(tenant, &page).await?;
        reading.check_tenant(tenant, &endpoints).await?;
        Ok(self.list(&call, endpoints))
    }
}

/// Adds a rule.
pub(super) async fn add(ledger: &mut Ledger, tenant: &TenantId, rule: &Endpoint) -> Result<()> {
    ledger.write_endpoint(tenant, rule).await?;
    ledger.note(Action::CreateEndpoint, rule.name(tenant), FieldChange::of_new(rule)).await
}

/// Changes a rule.
pub(super) async fn write(
    ledger: &mut Ledger,
    tenant: &TenantId,
    before: &Endpoint,
    after: &Endpoint,
) -> Result<()> {
    ledger.write_endpoint(tenant, after).await?;
    let changes = FieldChange::between(before, after);
    ledger.note(Action::UpdateEndpoint, after.name(tenant), changes).await
}

/// Takes a rule away.
pub(super) async fn remove(ledger: &mut Ledger, tenant: &TenantId, rule: &Endpoint) -> Result<()> {
    ledger.delete_endpoint(tenant, rule).await?;
    ledger.note(Action::DeleteEndpoint, rule.name(tenant), FieldChange::of_gone(rule)).await
}
