//! Use cases of tenants.

use super::attempts::{Attempt, Ledger, Open};
use super::policies::Violation;
use super::{Caller, List, ListRequest, Service, check_etag, vanished};
use crate::domain::{
    Action, Authority, Call, FieldChange, Record, Subject, Tenant, TenantId, TenantPatch,
    TenantSettings,
};
use crate::error::{Error, Result};

const LIST: &str = "tenants";

impl Service {
    /// Creates a tenant.
    pub async fn create_tenant(
        &self,
        caller: &Caller,
        id: TenantId,
        patch: TenantPatch,
    ) -> Result<Tenant> {
        let attempt = Attempt::new(caller, Action::CreateTenant, &id, &id.name());
        self.audited(&attempt, async {
            caller.require_platform()?;
            let mut ledger = self.begin(&attempt).await?;
            let settings = TenantSettings::new(&id).with(&id, patch);
            let tenant = self.add_tenant(&mut ledger, id.clone(), settings).await?;
            ledger.commit().await?;
            Ok(tenant)
        })
        .await
    }

    /// Reads a tenant: every user of it may.
    pub async fn tenant(&self, caller: &Caller, id: &TenantId) -> Result<Tenant> {
        let mut reading = self.reading(caller, id).await?;
        reading.authority.require(Call::GetTenant)?;
        reading.tenant(id).await
    }

    /// Lists tenants by id.
    pub async fn list_tenants(
        &self,
        caller: &Caller,
        request: &ListRequest,
    ) -> Result<List<Tenant>> {
        caller.require_platform()?;
        let page = self.page_request(LIST, request)?;
        let tenants = self.store.read_list().await?.list_tenants(&page).await?;
        Ok(self.list(LIST, tenants))
    }

    /// Changes a tenant, and tells what a changed policy would not allow any more.
    pub async fn update_tenant(
        &self,
        caller: &Caller,
        id: &TenantId,
        patch: TenantPatch,
        etag: &str,
    ) -> Result<(Tenant, Vec<Violation>)> {
        let attempt = Attempt::new(caller, Action::UpdateTenant, id, &id.name());
        self.audited(&attempt, async {
            let Open { mut ledger, tenant: before, authority } = self.open(&attempt).await?;
            authority.require(Call::UpdateTenant)?;
            if patch.is_more_than_policy() {
                authority.require_platform()?;
            }
            check_etag(&before.record, etag, &id.name())?;
            let mut after = before.settings.with(id, patch);
            after.policy.api_credentials_disabled_by_platform =
                api_credentials(&authority, id, &before.settings, &after)?;
            if after == before.settings {
                return Ok((before, Vec::new()));
            }
            before.settings.policy.require_limits_kept(&authority, &after.policy)?;
            if id.is_system() && breaks_system(&before.settings, &after) {
                return Err(Error::BuiltIn(id.name()));
            }
            let tenant = self.write_tenant(&mut ledger, before, after).await?;
            let mut violations = ledger.violations(id, &tenant.settings.policy).await?;
            if !authority.sees_applications() {
                violations.clear();
            }
            ledger.commit().await?;
            Ok((tenant, violations))
        })
        .await
    }

    /// Deletes a tenant; with `force` its applications too.
    pub async fn delete_tenant(
        &self,
        caller: &Caller,
        id: &TenantId,
        etag: &str,
        force: bool,
    ) -> Result<()> {
        let attempt = Attempt::new(caller, Action::DeleteTenant, id, &id.name());
        self.audited(&attempt, async {
            caller.require_platform()?;
            if id.is_system() {
                return Err(Error::BuiltIn(id.name()));
            }
            let Open { mut ledger, tenant, .. } = self.open(&attempt).await?;
            check_etag(&tenant.record, etag, &id.name())?;
            let applications = ledger.tenant_applications(id).await?;
            if applications.count > 0 && !force {
                return Err(Error::in_use(id.name(), applications.first, applications.count));
            }
            ledger.delete_tenant(id).await?;
            ledger.raise(Subject::Tenant(id.clone()), tenant.epoch, tenant.epoch + 1);
            let changes = FieldChange::of_gone(&tenant.settings);
            let detail = match applications.count {
                0 => String::new(),
                count => format!("and its {count} applications"),
            };
            ledger.note_with(Action::DeleteTenant, id.name(), changes, detail).await?;
            ledger.commit().await
        })
        .await
    }

    pub(super) async fn add_tenant(
        &self,
        ledger: &mut Ledger,
        id: TenantId,
        settings: TenantSettings,
    ) -> Result<Tenant> {
        let record = Record::new(self.now());
        let mut tenant = Tenant { id, settings, epoch: 0, life: 1, record };
        if !ledger.insert_tenant(&tenant).await? {
            return Err(Error::AlreadyExists(tenant.id.name()));
        }
        // Asked when its row is there: whoever deleted one of this name has committed by now.
        tenant.epoch = ledger.first_epoch(&Subject::Tenant(tenant.id.clone())).await?;
        tenant.life = ledger.begin_tenant_at(&tenant.id, tenant.epoch).await?;
        let changes = FieldChange::of_new(&tenant.settings);
        ledger.note(Action::CreateTenant, tenant.id.name(), changes).await?;
        Ok(tenant)
    }

    /// Writes a changed tenant. Where secrets are viewable no more, their copies go.
    pub(super) async fn write_tenant(
        &self,
        ledger: &mut Ledger,
        before: Tenant,
        after: TenantSettings,
    ) -> Result<Tenant> {
        let hidden = before.settings.policy.secrets_viewable && !after.policy.secrets_viewable;
        let detail = if hidden {
            let destroyed = ledger.destroy_sealed_secrets(&before.id).await?;
            format!("the sealed copies of {destroyed} secrets were destroyed")
        } else {
            String::new()
        };
        let changes = FieldChange::between(&before.settings, &after);
        let before_epoch = before.epoch;
        let tenant = Tenant {
            epoch: before.epoch + i64::from(before.settings.revokes(&after)),
            settings: after,
            life: before.life,
            record: before.record.changed(self.now()),
            id: before.id,
        };
        if !ledger.update_tenant(&tenant).await? {
            return Err(vanished(tenant.id));
        }
        ledger.raise(Subject::Tenant(tenant.id.clone()), before_epoch, tenant.epoch);
        ledger.note_with(Action::UpdateTenant, tenant.id.name(), changes, detail).await?;
        Ok(tenant)
    }
}

/// Whether it is the platform that has disabled the tenant's API credentials. A policy is read
/// and written as a whole: the platform makes its own only what it disables itself.
fn api_credentials(
    authority: &Authority,
    id: &TenantId,
    before: &TenantSettings,
    after: &TenantSettings,
) -> Result<bool> {
    let (before, disabled) = (&before.policy, after.policy.api_credentials_disabled);
    let wanted = (disabled != before.api_credentials_disabled).then_some(disabled);
    let name = format!("{} (policy.api_credentials_disabled)", id.name());
    authority.switch(&name, before.api_credentials_disabled_by_platform, wanted)
}

/// The built-in tenant must go on working as the callers' tenant.
fn breaks_system(before: &TenantSettings, after: &TenantSettings) -> bool {
    after.disabled
        || after.policy != before.policy
        || after.default_audience != before.default_audience
}
