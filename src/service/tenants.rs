//! Use cases of tenants.

use super::{List, ListRequest, Service, check_etag, vanished};
use crate::domain::{Record, Tenant, TenantId, TenantPatch, TenantSettings};
use crate::error::{Error, Result};

const LIST: &str = "tenants";

impl Service {
    /// Creates a tenant.
    pub async fn create_tenant(&self, id: TenantId, patch: TenantPatch) -> Result<Tenant> {
        let tenant = Tenant {
            settings: TenantSettings::new(&id).with(&id, patch),
            id,
            epoch: 0,
            record: Record::new(self.now()),
        };
        let mut tx = self.store.begin().await?;
        if !tx.insert_tenant(&tenant).await? {
            return Err(Error::AlreadyExists(tenant.id.name()));
        }
        tx.commit().await?;
        Ok(tenant)
    }

    /// Reads a tenant.
    pub async fn tenant(&self, id: &TenantId) -> Result<Tenant> {
        let found = self.store.read().await?.find_tenant(id).await?;
        found.ok_or_else(|| Error::NotFound(id.name()))
    }

    /// Lists tenants by id.
    pub async fn list_tenants(&self, request: &ListRequest) -> Result<List<Tenant>> {
        let page = self.page_request(LIST, request)?;
        let tenants = self.store.read().await?.list_tenants(&page).await?;
        Ok(self.list(LIST, tenants))
    }

    /// Changes a tenant.
    pub async fn update_tenant(
        &self,
        id: &TenantId,
        patch: TenantPatch,
        etag: &str,
    ) -> Result<Tenant> {
        let mut tx = self.store.begin().await?;
        let before = tx.lock_tenant(id).await?.ok_or_else(|| Error::NotFound(id.name()))?;
        check_etag(&before.record, etag, &id.name())?;
        let after = before.settings.with(id, patch);
        if after == before.settings {
            return Ok(before);
        }
        if id.is_system() && breaks_system(&before.settings, &after) {
            return Err(Error::BuiltIn(id.name()));
        }
        let tenant = Tenant {
            id: before.id,
            epoch: before.epoch + i64::from(before.settings.revokes(&after)),
            settings: after,
            record: before.record.changed(self.now()),
        };
        if !tx.update_tenant(&tenant).await? {
            return Err(vanished(id));
        }
        tx.commit().await?;
        Ok(tenant)
    }

    /// Deletes a tenant; with `force` its applications too.
    pub async fn delete_tenant(&self, id: &TenantId, etag: &str, force: bool) -> Result<()> {
        if id.is_system() {
            return Err(Error::BuiltIn(id.name()));
        }
        let mut tx = self.store.begin().await?;
        let tenant = tx.lock_tenant(id).await?.ok_or_else(|| Error::NotFound(id.name()))?;
        check_etag(&tenant.record, etag, &id.name())?;
        let (total, by) = tx.tenant_applications(id).await?;
        if total > 0 && !force {
            return Err(Error::InUse { resource: id.name(), by, total });
        }
        tx.delete_tenant(id).await?;
        tx.commit().await
    }
}

/// The built-in tenant must go on working as the callers' tenant.
fn breaks_system(before: &TenantSettings, after: &TenantSettings) -> bool {
    after.disabled || after.default_audience != before.default_audience
}
