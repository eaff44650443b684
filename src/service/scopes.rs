//! Use cases of catalogues.

use super::{List, ListRequest, Service, check_etag, vanished};
use crate::domain::{Record, Scope, ScopeId, ScopePatch, ScopeSettings, TenantId};
use crate::error::{Error, Result};
use crate::store::Tx;

impl Service {
    /// Adds a scope to a catalogue.
    pub async fn create_scope(&self, id: ScopeId, patch: ScopePatch) -> Result<Scope> {
        let mut tx = self.lock_catalogue(&id.tenant).await?;
        let scope = Scope {
            id,
            settings: ScopeSettings::default().with(patch),
            record: Record::new(self.now()),
        };
        if !tx.insert_scope(&scope).await? {
            return Err(Error::AlreadyExists(scope.id.to_string()));
        }
        tx.commit().await?;
        Ok(scope)
    }

    /// Reads a scope.
    pub async fn scope(&self, id: &ScopeId) -> Result<Scope> {
        let found = self.store.read().await?.find_scope(id).await?;
        found.ok_or_else(|| Error::NotFound(id.to_string()))
    }

    /// Lists a catalogue by name.
    pub async fn list_scopes(
        &self,
        tenant: &TenantId,
        request: &ListRequest,
    ) -> Result<List<Scope>> {
        let call = format!("scopes of {tenant}");
        let page = self.page_request(&call, request)?;
        let mut session = self.store.read().await?;
        let scopes = session.list_scopes(tenant, &page).await?;
        if scopes.items.is_empty() && session.find_tenant(tenant).await?.is_none() {
            return Err(Error::NotFound(tenant.name()));
        }
        Ok(self.list(&call, scopes))
    }

    /// Changes a scope.
    pub async fn update_scope(&self, id: &ScopeId, patch: ScopePatch, etag: &str) -> Result<Scope> {
        let mut tx = self.lock_catalogue(&id.tenant).await?;
        let before = found(&mut tx, id).await?;
        check_etag(&before.record, etag, id)?;
        let after = before.settings.with(patch);
        if after == before.settings {
            return Ok(before);
        }
        let scope = self.write_scope(&mut tx, before, after).await?;
        tx.commit().await?;
        Ok(scope)
    }

    /// Takes a scope out of a catalogue; with `force` from its holders too.
    pub async fn delete_scope(&self, id: &ScopeId, etag: &str, force: bool) -> Result<()> {
        let mut tx = self.lock_catalogue(&id.tenant).await?;
        let scope = found(&mut tx, id).await?;
        check_etag(&scope.record, etag, id)?;
        self.remove_scope(&mut tx, id, force).await?;
        tx.commit().await
    }

    /// Writes a changed scope. One that is newly disabled revokes its holders' tokens.
    pub(super) async fn write_scope(
        &self,
        tx: &mut Tx,
        before: Scope,
        after: ScopeSettings,
    ) -> Result<Scope> {
        if after.disabled && !before.settings.disabled {
            tx.raise_epoch_of_holders(&before.id, self.now()).await?;
        }
        let scope =
            Scope { id: before.id, settings: after, record: before.record.changed(self.now()) };
        if tx.update_scope(&scope).await? { Ok(scope) } else { Err(vanished(scope.id)) }
    }

    /// Removes a scope and revokes its holders' tokens; without `force` it must have none.
    pub(super) async fn remove_scope(&self, tx: &mut Tx, id: &ScopeId, force: bool) -> Result<()> {
        let (total, by) = tx.scope_holders(id).await?;
        if total > 0 && !force {
            return Err(Error::InUse { resource: id.to_string(), by, total });
        }
        tx.raise_epoch_of_holders(id, self.now()).await?;
        tx.delete_scope(id).await
    }

    /// A transaction in which this catalogue can be changed.
    async fn lock_catalogue(&self, tenant: &TenantId) -> Result<Tx> {
        if tenant.is_system() {
            return Err(Error::BuiltIn(tenant.name()));
        }
        let mut tx = self.store.begin().await?;
        match tx.lock_tenant(tenant).await? {
            Some(_) => Ok(tx),
            None => Err(Error::NotFound(tenant.name())),
        }
    }
}

async fn found(tx: &mut Tx, id: &ScopeId) -> Result<Scope> {
    tx.find_scope(id).await?.ok_or_else(|| Error::NotFound(id.to_string()))
}
