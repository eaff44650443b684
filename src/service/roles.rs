//! Use cases of roles.

use super::attempts::{Attempt, Ledger, Open};
use super::{Caller, List, ListRequest, Service, check_etag, vanished};
use crate::domain::{
    Action, Call, FieldChange, Record, Role, RoleName, RolePatch, RoleSettings, TenantId,
};
use crate::error::{Error, Result};
use crate::store::{Affected, Session, Tx};

impl Service {
    /// Creates a role.
    pub async fn create_role(
        &self,
        caller: &Caller,
        name: RoleName,
        patch: RolePatch,
    ) -> Result<Role> {
        let attempt = Attempt::new(caller, Action::CreateRole, &name.tenant, &name);
        self.audited(&attempt, async {
            let Open { mut ledger, authority, .. } =
                self.open_roles(&attempt, Call::CreateRole).await?;
            let settings = RoleSettings::default().with(patch);
            authority.require_roles([&settings])?;
            let role = self.add_role(&mut ledger, name.clone(), settings).await?;
            ledger.commit().await?;
            Ok(role)
        })
        .await
    }

    /// Reads a role: every user of the tenant may.
    pub async fn role(&self, caller: &Caller, name: &RoleName) -> Result<Role> {
        let mut reading = self.reading(caller, &name.tenant).await?;
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
        let mut reading = self.reading(caller, tenant).await?;
        reading.authority.require(Call::ListRoles)?;
        let call = format!("roles of {tenant}");
        let page = self.page_request(&call, request)?;
        let roles = reading.session.list_roles(tenant, &page).await?;
        reading.check_tenant(tenant, &roles).await?;
        Ok(self.list(&call, roles))
    }

    /// Changes a role.
    pub async fn update_role(
        &self,
        caller: &Caller,
        name: &RoleName,
        patch: RolePatch,
        etag: &str,
    ) -> Result<Role> {
        let attempt = Attempt::new(caller, Action::UpdateRole, &name.tenant, name);
        self.audited(&attempt, async {
            let Open { mut ledger, authority, .. } =
                self.open_roles(&attempt, Call::UpdateRole).await?;
            let before = found(&mut ledger, name).await?;
            let after = before.settings.with(patch);
            // Neither is a greater role to be changed, nor a role to be made greater.
            authority.require_roles([&before.settings, &after])?;
            check_etag(&before.record, etag, name)?;
            if after == before.settings {
                return Ok(before);
            }
            let role = self.write_role(&mut ledger, before, after).await?;
            ledger.commit().await?;
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
        self.audited(&attempt, async {
            let Open { mut ledger, authority, .. } =
                self.open_roles(&attempt, Call::DeleteRole).await?;
            let role = found(&mut ledger, name).await?;
            authority.require_roles([&role.settings])?;
            check_etag(&role.record, etag, name)?;
            let removed = self.remove_role(&mut ledger, &role, force).await;
            removed.map_err(|error| authority.redact(error))?;
            ledger.commit().await
        })
        .await
    }

    /// A transaction in which roles can be changed.
    async fn open_roles(&self, attempt: &Attempt<'_>, call: Call) -> Result<Open> {
        let open = self.open(attempt).await?;
        open.authority.require(call)?;
        open.tenant.require_own_rules()?;
        Ok(open)
    }

    pub(super) async fn add_role(
        &self,
        ledger: &mut Ledger,
        name: RoleName,
        settings: RoleSettings,
    ) -> Result<Role> {
        check_scopes(ledger, &name.tenant, &settings).await?;
        let role = Role { name, settings, record: Record::new(self.now()) };
        if !ledger.insert_role(&role).await? {
            return Err(Error::AlreadyExists(role.name.to_string()));
        }
        let changes = FieldChange::of_new(&role.settings);
        ledger.note(Action::CreateRole, &role.name, changes).await?;
        Ok(role)
    }

    /// Writes a changed role. One that lost a scope revokes tokens.
    pub(super) async fn write_role(
        &self,
        ledger: &mut Ledger,
        before: Role,
        after: RoleSettings,
    ) -> Result<Role> {
        check_scopes(ledger, &before.name.tenant, &after).await?;
        if before.settings.revokes(&after) {
            let why = format!("the role {} lost scopes", before.name.role);
            ledger.affect(Affected::ApplicationsWithRole(&before.name), &why).await?;
        }
        let changes = FieldChange::between(&before.settings, &after);
        let role =
            Role { name: before.name, settings: after, record: before.record.changed(self.now()) };
        if !ledger.update_role(&role).await? {
            return Err(vanished(role.name));
        }
        ledger.note(Action::UpdateRole, &role.name, changes).await?;
        Ok(role)
    }

    /// Removes a role and revokes tokens; without `force` nobody must hold it.
    pub(super) async fn remove_role(
        &self,
        ledger: &mut Ledger,
        role: &Role,
        force: bool,
    ) -> Result<()> {
        let holders = ledger.role_holders(&role.name).await?;
        if holders.count > 0 && !force {
            return Err(Error::in_use(&role.name, holders.first, holders.count));
        }
        let why = format!("the role {} was deleted", role.name.role);
        ledger.affect(Affected::ApplicationsWithRole(&role.name), &why).await?;
        ledger.affect(Affected::UsersWithRole(&role.name), &why).await?;
        ledger.delete_role(&role.name).await?;
        let changes = FieldChange::of_gone(&role.settings);
        ledger.note(Action::DeleteRole, &role.name, changes).await
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
