//! Making a tenant what a profile says.

use super::{Service, vanished};
use crate::domain::{
    Change, Profile, Record, Scope, ScopeId, ScopeName, ScopeSettings, Tenant, TenantId,
    TenantSettings,
};
use crate::error::{Error, Result};
use crate::store::Tx;

/// A difference, and how many applications it takes a scope from.
#[derive(Clone, Debug)]
pub struct AppliedChange {
    /// The difference.
    pub change: Change,
    /// The applications that lose a scope by it.
    pub affected_applications: i64,
}

impl Service {
    /// Makes a tenant what the profile says, all or nothing, and tells the difference.
    /// With `validate_only` it is told and not made; with `force` scopes go even from
    /// applications that hold them.
    pub async fn apply_profile(
        &self,
        id: &TenantId,
        profile: Profile,
        validate_only: bool,
        force: bool,
    ) -> Result<Vec<AppliedChange>> {
        if id.is_system() {
            return Err(Error::BuiltIn(id.name()));
        }
        let mut tx = self.store.begin().await?;
        let current = tx.lock_tenant(id).await?;
        let catalogue = tx.catalogue(id).await?;
        let mut changes = Vec::new();
        changes.extend(self.apply_to_tenant(&mut tx, id, current, &profile).await?);
        changes.extend(Change::of_catalogue(&catalogue, &profile.scopes));

        let mut applied = Vec::with_capacity(changes.len());
        for change in changes {
            let affected_applications = match change.lost_scope() {
                Some(scope) => tx.scope_holders(&scope_id(id, scope)).await?.0,
                None => 0,
            };
            // A dry run of a change that needs force tells what force would do.
            self.apply_to_catalogue(&mut tx, id, &change, force || validate_only).await?;
            applied.push(AppliedChange { change, affected_applications });
        }
        if !validate_only {
            tx.commit().await?;
        }
        Ok(applied)
    }

    async fn apply_to_tenant(
        &self,
        tx: &mut Tx,
        id: &TenantId,
        current: Option<Tenant>,
        profile: &Profile,
    ) -> Result<Option<Change>> {
        let Some(before) = current else {
            let tenant = Tenant {
                id: id.clone(),
                settings: TenantSettings::new(id).with(id, profile.tenant.clone()),
                epoch: 0,
                record: Record::new(self.now()),
            };
            if !tx.insert_tenant(&tenant).await? {
                return Err(Error::AlreadyExists(id.name()));
            }
            return Ok(Some(Change::CreateTenant(tenant.settings)));
        };
        let after = before.settings.with(id, profile.tenant.clone());
        if after == before.settings {
            return Ok(None);
        }
        let tenant = Tenant {
            settings: after.clone(),
            record: before.record.changed(self.now()),
            ..before.clone()
        };
        if !tx.update_tenant(&tenant).await? {
            return Err(vanished(id));
        }
        Ok(Some(Change::UpdateTenant { before: before.settings, after }))
    }

    async fn apply_to_catalogue(
        &self,
        tx: &mut Tx,
        tenant: &TenantId,
        change: &Change,
        force: bool,
    ) -> Result<()> {
        match change {
            Change::CreateTenant(_) | Change::UpdateTenant { .. } => Ok(()),
            Change::CreateScope(name, settings) => {
                self.add_scope(tx, scope_id(tenant, name), settings.clone()).await
            }
            Change::UpdateScope { before, after } => {
                self.write_scope(tx, before.clone(), after.clone()).await.map(drop)
            }
            Change::DeleteScope(scope) => self.remove_scope(tx, &scope.id, force).await,
        }
    }

    pub(super) async fn add_scope(
        &self,
        tx: &mut Tx,
        id: ScopeId,
        settings: ScopeSettings,
    ) -> Result<()> {
        let scope = Scope { id, settings, record: Record::new(self.now()) };
        if tx.insert_scope(&scope).await? {
            Ok(())
        } else {
            Err(Error::AlreadyExists(scope.id.to_string()))
        }
    }
}

fn scope_id(tenant: &TenantId, scope: &ScopeName) -> ScopeId {
    ScopeId { tenant: tenant.clone(), scope: scope.clone() }
}
