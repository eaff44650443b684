//! Making a tenant what a profile says.

use super::applications::insert;
use super::attempts::{Attempt, Ledger};
use super::grants::{Grants, check_grants};
use super::policies::Violation;
use super::{Caller, Service, endpoints};
use crate::domain::{
    Action, ApplicationName, ApplicationSettings, Authority, Change, DefaultApplication, Owner,
    Profile, RoleName, ScopeId, ScopeName, Tenant, TenantId, TenantSettings,
};
use crate::error::{Error, Result};

/// A difference, and how many others it takes something from.
#[derive(Clone, Debug)]
pub struct AppliedChange {
    /// The difference.
    pub change: Change,
    /// Those that lose a scope or a role by it, or name it.
    pub affected: i64,
}

/// What applying a profile does, or would do.
#[derive(Clone, Debug)]
pub struct Applied {
    /// The differences, in the order they were applied.
    pub changes: Vec<AppliedChange>,
    /// What the policy would not allow any more.
    pub violations: Vec<Violation>,
}

impl Service {
    /// Makes a tenant what the profile says, all or nothing, and tells the difference.
    /// With `validate_only` the difference is answered and not made, or the error of the run; with `force`
    /// scopes and roles go even from those that hold them.
    pub async fn apply_profile(
        &self,
        caller: &Caller,
        id: &TenantId,
        mut profile: Profile,
        validate_only: bool,
        force: bool,
    ) -> Result<Applied> {
        for scope in profile.scopes.values_mut() {
            scope.disabled_by_platform = scope.disabled;
        }
        let attempt = Attempt::new(caller, Action::ApplyProfile, id, &id.name());
        let work = async {
            caller.require_platform()?;
            if id.is_system() {
                return Err(Error::BuiltIn(id.name()));
            }
            let mut ledger = self.begin(&attempt).await?;
            let current = ledger.lock_tenant(id).await?;
            let mut settings = match &current {
                Some(tenant) => tenant.settings.with(id, profile.tenant.clone()),
                None => TenantSettings::new(id).with(id, profile.tenant.clone()),
            };
            of_platform(current.as_ref(), &mut settings);
            let policy = settings.policy.clone();
            let current = current.as_ref();
            let changes = of_tenant(current, settings);
            let mut applied = self.apply(&mut ledger, id, current, changes, force).await?;
            // Before the catalogue: a rule that goes keeps no scope from going with it. Those
            // that stay or come name scopes that stay or come.
            let changes = of_endpoints(&mut ledger, id, &profile).await?;
            if !changes.is_empty() {
                ledger.touch_tenant(id, self.now()).await?;
            }
            applied.extend(self.apply(&mut ledger, id, current, changes, force).await?);
            let changes = Change::of_catalogue(&ledger.catalogue(id).await?, &profile.scopes);
            applied.extend(self.apply(&mut ledger, id, current, changes, force).await?);
            // Roles are compared when the catalogue is done: a scope that goes leaves them.
            let changes = of_roles(&mut ledger, id, &profile).await?;
            applied.extend(self.apply(&mut ledger, id, current, changes, force).await?);
            let violations = ledger.violations(id, &policy).await?;
            if !validate_only && !applied.is_empty() {
                ledger.commit().await?;
            }
            Ok(Applied { changes: applied, violations })
        };
        // A dry run attempts nothing, so its failure is no event of the audit log.
        if validate_only { work.await } else { self.audited(&attempt, work).await }
    }

    async fn apply(
        &self,
        ledger: &mut Ledger,
        id: &TenantId,
        current: Option<&Tenant>,
        changes: Vec<Change>,
        force: bool,
    ) -> Result<Vec<AppliedChange>> {
        let mut applied = Vec::with_capacity(changes.len());
        for change in changes {
            let affected = affected(ledger, id, &change).await?;
            self.apply_one(ledger, id, current, change.clone(), force).await?;
            applied.push(AppliedChange { change, affected });
        }
        Ok(applied)
    }

    async fn apply_one(
        &self,
        ledger: &mut Ledger,
        id: &TenantId,
        current: Option<&Tenant>,
        change: Change,
        force: bool,
    ) -> Result<()> {
        let role = |role| RoleName { tenant: id.clone(), role };
        match change {
            Change::CreateTenant(settings) => {
                self.add_tenant(ledger, id.clone(), *settings).await.map(drop)
            }
            Change::UpdateTenant { after, .. } => {
                let before = current.cloned().ok_or_else(|| Error::NotFound(id.name()))?;
                self.write_tenant(ledger, before, *after).await.map(drop)
            }
            Change::CreateEndpoint(new) => endpoints::add(ledger, id, &new).await,
            Change::UpdateEndpoint { before, after } => {
                endpoints::write(ledger, id, &before, &after).await
            }
            Change::DeleteEndpoint(gone) => endpoints::remove(ledger, id, &gone).await,
            Change::CreateScope(name, settings) => {
                self.add_scope(ledger, scope_id(id, &name), settings).await.map(drop)
            }
            Change::UpdateScope { before, after } => {
                self.write_scope(ledger, before, after).await.map(drop)
            }
            Change::DeleteScope(scope) => self.remove_scope(ledger, &scope, force).await,
            Change::CreateRole(name, settings) => {
                self.add_role(ledger, role(name), settings).await.map(drop)
            }
            Change::UpdateRole { before, after } => {
                self.write_role(ledger, before, after).await.map(drop)
            }
            Change::DeleteRole(gone) => self.remove_role(ledger, &gone, force).await,
            Change::CreateApplication(application, settings) => {
                let name = ApplicationName { tenant: id.clone(), application };
                let grants = Grants {
                    owner: &Owner::Account,
                    scopes: settings.scopes.clone(),
                    roles: settings.roles.clone(),
                };
                check_grants(ledger, &Authority::Platform, id, grants).await?;
                let fresh = self.fresh_application(name, Owner::Account, settings);
                insert(ledger, &Authority::Platform, fresh, None).await.map(drop)
            }
        }
    }
}

/// API credentials that a profile disables, the platform disables.
fn of_platform(current: Option<&Tenant>, settings: &mut TenantSettings) {
    let policy = &mut settings.policy;
    let before = current.map(|tenant| &tenant.settings.policy);
    let disabled = before.is_some_and(|before| before.api_credentials_disabled);
    let by_platform = before.is_some_and(|before| before.api_credentials_disabled_by_platform);
    policy.api_credentials_disabled_by_platform =
        policy.api_credentials_disabled && (by_platform || !disabled);
}

/// What must be done to the tenant itself.
fn of_tenant(current: Option<&Tenant>, settings: TenantSettings) -> Vec<Change> {
    match current {
        None => vec![Change::CreateTenant(Box::new(settings))],
        Some(tenant) if tenant.settings != settings => {
            let before = Box::new(tenant.settings.clone());
            vec![Change::UpdateTenant { before, after: Box::new(settings) }]
        }
        Some(_) => Vec::new(),
    }
}

/// What must be done to the rules for endpoints.
async fn of_endpoints(
    ledger: &mut Ledger,
    id: &TenantId,
    profile: &Profile,
) -> Result<Vec<Change>> {
    match &profile.endpoints {
        None => Ok(Vec::new()),
        Some(wanted) => Ok(Change::of_endpoints(&ledger.endpoints(id).await?, wanted)),
    }
}

/// What must be done to the roles and the application that comes with the tenant.
async fn of_roles(ledger: &mut Ledger, id: &TenantId, profile: &Profile) -> Result<Vec<Change>> {
    let mut changes = Vec::new();
    if let Some(roles) = &profile.roles {
        changes.extend(Change::of_roles(&ledger.roles(id).await?, roles));
    }
    if let Some(wanted) = &profile.default_application {
        changes.extend(missing_application(ledger, id, wanted).await?);
    }
    Ok(changes)
}

/// The application that comes with the tenant, unless it is there.
async fn missing_application(
    ledger: &mut Ledger,
    id: &TenantId,
    wanted: &DefaultApplication,
) -> Result<Option<Change>> {
    let name = ApplicationName { tenant: id.clone(), application: wanted.id.clone() };
    if ledger.find_application(&name).await?.is_some() {
        return Ok(None);
    }
    let settings = ApplicationSettings {
        display_name: wanted.display_name.clone(),
        scopes: wanted.scopes.clone(),
        protected: true,
        ..ApplicationSettings::default()
    };
    Ok(Some(Change::CreateApplication(wanted.id.clone(), settings)))
}

/// How many lose something by a change.
async fn affected(ledger: &mut Ledger, id: &TenantId, change: &Change) -> Result<i64> {
    if let Change::DeleteRole(role) = change {
        return Ok(ledger.role_holders(&role.name).await?.count);
    }
    let Some(scope) = change.lost_scope() else {
        return Ok(0);
    };
    let scope = scope_id(id, scope);
    let holders = ledger.scope_holders(&scope).await?.count;
    if matches!(change, Change::DeleteScope(_)) {
        return Ok(holders + ledger.endpoints_naming(&scope).await?.count);
    }
    Ok(holders)
}

fn scope_id(tenant: &TenantId, scope: &ScopeName) -> ScopeId {
    ScopeId { tenant: tenant.clone(), scope: scope.clone() }
}
