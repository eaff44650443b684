//! Roles.

use super::base::Admin;
use super::checks::{check_etag, vanished};
use crate::domain::{
    Action, Call, FieldChange, Record, Role, RoleName, RolePatch, RoleSettings, TenantId,
};
use crate::error::{Error, Result};
use crate::service::audit::{Attempt, OpenTenant, UnitOfWork};
use crate::service::auth::Caller;
use crate::service::lists::{List, ListRequest};
use crate::store::{Affected, Session, Tx};

impl Admin {
    pub async fn create_role(
        &self,
        caller: &Caller,
        name: RoleName,
        patch: RolePatch,
    ) -> Result<Role> {
        let attempt = Attempt::new(caller, Action::CreateRole, &name.tenant, &name);
        self.sessions
            .audited(&attempt, async {
                let OpenTenant { mut work, authority, .. } =
                    self.open_roles(&attempt, Call::CreateRole).await?;
                let settings = RoleSettings::default().with(patch);
                authority.require_roles([&settings])?;
                let role = self.add_role(&mut work, name.clone(), settings).await?;
                work.commit().await?;
                Ok(role)
            })
            .await
    }

    /// Reads a role: every user of the tenant may.
    pub async fn role(&self, caller: &Caller, name: &RoleName) -> Result<Role> {
        let mut reading = self.sessions.read(caller, &name.tenant).await?;
        reading.authority.require(Call::GetRole)?;
        found(&mut reading.session, name).await
    }

    /// Lists a tenant's roles by id: every user of the tenant may.
    pub async fn list_roles(
        &self,
        caller: &Caller,
        tenant: &TenantId,
        request: &ListRequest,
    ) -> Result<List<Role>> {
        let mut reading = self.sessions.read(caller, tenant).await?;
        reading.authority.require(Call::ListRoles)?;
        let call = format!("roles of {tenant}");
        let page = self.pages.request(&call, request)?;
        let roles = reading.session.list_roles(tenant, &page).await?;
        reading.check_tenant(tenant, &roles).await?;
        Ok(self.pages.list(&call, roles))
    }
    pub async fn update_role(
        &self,
        caller: &Caller,
        name: &RoleName,
        patch: RolePatch,
        etag: &str,
    ) -> Result<Role> {
        let attempt = Attempt::new(caller, Action::UpdateRole, &name.tenant, name);
        self.sessions
            .audited(&attempt, async {
                let OpenTenant { mut work, authority, .. } =
                    self.open_roles(&attempt, Call::UpdateRole).await?;
                let before = found(&mut work, name).await?;
                let after = before.settings.with(patch);
                // A caller can neither change a role with more rights than its own, nor make one.
                authority.require_roles([&before.settings, &after])?;
                check_etag(&before.record, etag, name)?;
                if after == before.settings {
                    return Ok(before);
                }
                let role = self.write_role(&mut work, before, after).await?;
                work.commit().await?;
                Ok(role)
            })
            .await
    }

    /// Deletes a role; with `force` its holders lose it.
    pub async fn delete_role(
        &self,
        caller: &Caller,
        name: &RoleName,
        etag: &str,
        force: bool,
    ) -> Result<()> {
        let attempt = Attempt::new(caller, Action::DeleteRole, &name.tenant, name);
        self.sessions
            .audited(&attempt, async {
                let OpenTenant { mut work, authority, .. } =
                    self.open_roles(&attempt, Call::DeleteRole).await?;
                let role = found(&mut work, name).await?;
                authority.require_roles([&role.settings])?;
                check_etag(&role.record, etag, name)?;
                let removed = self.remove_role(&mut work, &role, force).await;
                removed.map_err(|error| authority.redact(error))?;
                work.commit().await
            })
            .await
    }

    /// A transaction that may change roles.
    async fn open_roles(&self, attempt: &Attempt<'_>, call: Call) -> Result<OpenTenant> {
        let open = self.sessions.open(attempt).await?;
        open.authority.require(call)?;
        open.tenant.require_own_rules()?;
        Ok(open)
    }

    pub(super) async fn add_role(
        &self,
        work: &mut UnitOfWork,
        name: RoleName,
        settings: RoleSettings,
    ) -> Result<Role> {
        check_scopes(work, &name.tenant, &settings).await?;
        let role = Role { name, settings, record: Record::new(self.clock.now()) };
        if !work.insert_role(&role).await? {
            return Err(Error::AlreadyExists(role.name.to_string()));
        }
        let changes = FieldChange::of_new(&role.settings);
        work.note(Action::CreateRole, &role.name, changes).await?;
        Ok(role)
    }

    /// Writes a changed role. One that lost a scope revokes tokens.
    pub(super) async fn write_role(
        &self,
        work: &mut UnitOfWork,
        before: Role,
        after: RoleSettings,
    ) -> Result<Role> {
        check_scopes(work, &before.name.tenant, &after).await?;
        if before.settings.revokes(&after) {
            let why = format!("the role {} lost scopes", before.name.role);
            work.affect(Affected::ApplicationsWithRole(&before.name), &why).await?;
        }
        let changes = FieldChange::between(&before.settings, &after);
        let role = Role {
            name: before.name,
            settings: after,
            record: before.record.changed(self.clock.now()),
        };
        if !work.update_role(&role).await? {
            return Err(vanished(role.name));
        }
        work.note(Action::UpdateRole, &role.name, changes).await?;
        Ok(role)
    }

    /// Removes a role and revokes tokens; without `force` it must have no holders.
    pub(super) async fn remove_role(
        &self,
        work: &mut UnitOfWork,
        role: &Role,
        force: bool,
    ) -> Result<()> {
        let holders = work.role_holders(&role.name).await?;
        if holders.count > 0 && !force {
            return Err(Error::in_use(&role.name, holders.first, holders.count));
        }
        let why = format!("the role {} was deleted", role.name.role);
        work.affect(Affected::ApplicationsWithRole(&role.name), &why).await?;
        work.affect(Affected::UsersWithRole(&role.name), &why).await?;
        work.delete_role(&role.name).await?;
        let changes = FieldChange::of_gone(&role.settings);
        work.note(Action::DeleteRole, &role.name, changes).await
    }
}

async fn found(session: &mut Session, name: &RoleName) -> Result<Role> {
    session.find_role(name).await?.ok_or_else(|| Error::NotFound(name.to_string()))
}

/// The scopes of a role are of the catalogue, enabled or not.
async fn check_scopes(tx: &mut Tx, tenant: &TenantId, settings: &RoleSettings) -> Result<()> {
    let catalogue = tx.catalogue(tenant).await?.into_iter().map(|scope| scope.id.scope).collect();
    settings.scopes.require_within(&catalogue)
}
