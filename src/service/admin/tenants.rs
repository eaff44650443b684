//! Tenants.

use super::base::Admin;
use super::checks::{check_etag, vanished};
use super::policies::{PolicyViolation, violations};
use crate::domain::{
    Action, Authority, Call, FieldChange, Record, Subject, Tenant, TenantId, TenantPatch,
    TenantSettings,
};
use crate::error::{Error, Result};
use crate::service::audit::{Attempt, OpenTenant, UnitOfWork};
use crate::service::auth::Caller;
use crate::service::lists::{List, ListRequest};

const LIST: &str = "tenants";

impl Admin {
    pub async fn create_tenant(
        &self,
        caller: &Caller,
        id: TenantId,
        patch: TenantPatch,
    ) -> Result<Tenant> {
        let attempt = Attempt::new(caller, Action::CreateTenant, &id, &id.name());
        self.sessions
            .audited(&attempt, async {
                caller.require_platform()?;
                let mut work = self.sessions.begin(&attempt).await?;
                let settings = TenantSettings::new(&id).with(&id, patch);
                let tenant = self.add_tenant(&mut work, id.clone(), settings).await?;
                work.commit().await?;
                Ok(tenant)
            })
            .await
    }

    /// Reads a tenant: every user of it may.
    pub async fn tenant(&self, caller: &Caller, id: &TenantId) -> Result<Tenant> {
        let mut reading = self.sessions.read(caller, id).await?;
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
        let page = self.pages.request(LIST, request)?;
        let tenants = self.store.read_list().await?.list_tenants(&page).await?;
        Ok(self.pages.list(LIST, tenants))
    }

    /// Changes a tenant, and returns what a changed policy does not allow.
    pub async fn update_tenant(
        &self,
        caller: &Caller,
        id: &TenantId,
        patch: TenantPatch,
        etag: &str,
    ) -> Result<(Tenant, Vec<PolicyViolation>)> {
        let attempt = Attempt::new(caller, Action::UpdateTenant, id, &id.name());
        self.sessions
            .audited(&attempt, async {
                let OpenTenant { mut work, tenant: before, authority } =
                    self.sessions.open(&attempt).await?;
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
                let tenant = self.write_tenant(&mut work, before, after).await?;
                let mut violations = violations(&mut work, id, &tenant.settings.policy).await?;
                if !authority.may_view_applications() {
                    violations.clear();
                }
                work.commit().await?;
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
        self.sessions
            .audited(&attempt, async {
                caller.require_platform()?;
                if id.is_system() {
                    return Err(Error::BuiltIn(id.name()));
                }
                let OpenTenant { mut work, tenant, .. } = self.sessions.open(&attempt).await?;
                check_etag(&tenant.record, etag, &id.name())?;
                let applications = work.tenant_applications(id).await?;
                if applications.count > 0 && !force {
                    return Err(Error::in_use(id.name(), applications.first, applications.count));
                }
                work.delete_tenant(id).await?;
                work.raise(Subject::Tenant(id.clone()), tenant.epoch, tenant.epoch + 1);
                let changes = FieldChange::of_gone(&tenant.settings);
                let detail = match applications.count {
                    0 => String::new(),
                    count => format!("and its {count} applications"),
                };
                work.note_with(Action::DeleteTenant, id.name(), changes, detail).await?;
                work.commit().await
            })
            .await
    }

    pub(super) async fn add_tenant(
        &self,
        work: &mut UnitOfWork,
        id: TenantId,
        settings: TenantSettings,
    ) -> Result<Tenant> {
        let record = Record::new(self.clock.now());
        let mut tenant = Tenant { id, settings, epoch: 0, life: 1, record };
        if !work.insert_tenant(&tenant).await? {
            return Err(Error::AlreadyExists(tenant.id.name()));
        }
        // After the insert: a deletion of a tenant of this name has committed by now.
        tenant.epoch = work.first_epoch(&Subject::Tenant(tenant.id.clone())).await?;
        tenant.life = work.set_first_epoch(&tenant.id, tenant.epoch).await?;
        let changes = FieldChange::of_new(&tenant.settings);
        work.note(Action::CreateTenant, tenant.id.name(), changes).await?;
        Ok(tenant)
    }

    /// Writes a changed tenant. If secrets are no longer viewable, their copies are destroyed.
    pub(super) async fn write_tenant(
        &self,
        work: &mut UnitOfWork,
        before: Tenant,
        after: TenantSettings,
    ) -> Result<Tenant> {
        let hidden = before.settings.policy.secrets_viewable && !after.policy.secrets_viewable;
        let detail = if hidden {
            let destroyed = work.destroy_sealed_secrets(&before.id).await?;
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
            record: before.record.changed(self.clock.now()),
            id: before.id,
        };
        if !work.update_tenant(&tenant).await? {
            return Err(vanished(tenant.id));
        }
        work.raise(Subject::Tenant(tenant.id.clone()), before_epoch, tenant.epoch);
        work.note_with(Action::UpdateTenant, tenant.id.name(), changes, detail).await?;
        Ok(tenant)
    }
}

/// Whether the platform has disabled the tenant's API credentials. A policy is written as a whole,
/// so that only a change of this field counts.
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

/// Whether a change would stop the built-in tenant from working as the tenant of callers.
fn breaks_system(before: &TenantSettings, after: &TenantSettings) -> bool {
    after.disabled
        || after.policy != before.policy
        || after.default_audience != before.default_audience
}
