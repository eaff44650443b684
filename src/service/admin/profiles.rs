//! Profiles: a tenant is made what a file says.

use super::applications::insert;
use super::base::Admin;
use super::endpoints;
use super::grants::{AddedAccess, check_grants};
use super::policies::{PolicyViolation, violations};
use crate::domain::{
    Action, ApplicationName, ApplicationSettings, Authority, Change, DefaultApplication, Owner,
    Profile, RoleName, ScopeId, ScopeName, Tenant, TenantId, TenantSettings,
};
use crate::error::{Error, Result};
use crate::service::audit::{Attempt, UnitOfWork};
use crate::service::auth::Caller;

/// A difference, and how many resources lose something by it.
#[derive(Clone, Debug)]
pub struct AppliedChange {
    pub change: Change,
    /// The number of resources that lose a scope or a role by it, or that name it.
    pub affected: i64,
}

/// What applying a profile does, or would do.
#[derive(Clone, Debug)]
pub struct AppliedProfile {
    /// The differences, in the order they were applied.
    pub changes: Vec<AppliedChange>,
    /// What the policy does not allow.
    pub violations: Vec<PolicyViolation>,
}

impl Admin {
    /// Makes a tenant what the profile says, all or nothing, and returns the differences. With
    /// `validate_only` nothing is changed. With `force`, scopes and roles are removed even if
    /// they have holders.
    pub async fn apply_profile(
        &self,
        caller: &Caller,
        id: &TenantId,
        mut profile: Profile,
        validate_only: bool,
        force: bool,
    ) -> Result<AppliedProfile> {
        for scope in profile.scopes.values_mut() {
            scope.disabled_by_platform = scope.disabled;
        }
        let attempt = Attempt::new(caller, Action::ApplyProfile, id, &id.name());
        let run = async {
            caller.require_platform()?;
            if id.is_system() {
                return Err(Error::BuiltIn(id.name()));
            }
            let mut work = self.sessions.begin(&attempt).await?;
            let current = work.lock_tenant(id).await?;
            let mut settings = match &current {
                Some(tenant) => tenant.settings.with(id, profile.tenant.clone()),
                None => TenantSettings::new(id).with(id, profile.tenant.clone()),
            };
            of_platform(current.as_ref(), &mut settings);
            let policy = settings.policy.clone();
            let current = current.as_ref();
            let changes = of_tenant(current, settings);
            let mut applied = self.apply(&mut work, id, current, changes, force).await?;
            // Before the catalogue, so that a removed rule does not prevent the removal of its
            // scopes. All other rules name scopes that the profile has.
            let changes = of_endpoints(&mut work, id, &profile).await?;
            if !changes.is_empty() {
                work.touch_tenant(id, self.clock.now()).await?;
            }
            applied.extend(self.apply(&mut work, id, current, changes, force).await?);
            let changes = Change::of_catalogue(&work.catalogue(id).await?, &profile.scopes);
            applied.extend(self.apply(&mut work, id, current, changes, force).await?);
            // Roles are compared after the catalogue: a removed scope has left them.
            let changes = of_roles(&mut work, id, &profile).await?;
            applied.extend(self.apply(&mut work, id, current, changes, force).await?);
            let violations = violations(&mut work, id, &policy).await?;
            if !validate_only && !applied.is_empty() {
                work.commit().await?;
            }
            Ok(AppliedProfile { changes: applied, violations })
        };
        // A dry run attempts nothing, so that its failure is not written to the audit log.
        if validate_only { run.await } else { self.sessions.audited(&attempt, run).await }
    }

    async fn apply(
        &self,
        work: &mut UnitOfWork,
        id: &TenantId,
        current: Option<&Tenant>,
        changes: Vec<Change>,
        force: bool,
    ) -> Result<Vec<AppliedChange>> {
        let mut applied = Vec::with_capacity(changes.len());
        for change in changes {
            let affected = affected(work, id, &change).await?;
            self.apply_one(work, id, current, change.clone(), force).await?;
            applied.push(AppliedChange { change, affected });
        }
        Ok(applied)
    }

    async fn apply_one(
        &self,
        work: &mut UnitOfWork,
        id: &TenantId,
        current: Option<&Tenant>,
        change: Change,
        force: bool,
    ) -> Result<()> {
        let role = |role| RoleName { tenant: id.clone(), role };
        match change {
            Change::CreateTenant(settings) => {
                self.add_tenant(work, id.clone(), *settings).await.map(drop)
            }
            Change::UpdateTenant { after, .. } => {
                let before = current.cloned().ok_or_else(|| Error::NotFound(id.name()))?;
                self.write_tenant(work, before, *after).await.map(drop)
            }
            Change::CreateEndpoint(new) => endpoints::add(work, id, &new).await,
            Change::UpdateEndpoint { before, after } => {
                endpoints::write(work, id, &before, &after).await
            }
            Change::DeleteEndpoint(gone) => endpoints::remove(work, id, &gone).await,
            Change::CreateScope(name, settings) => {
                self.add_scope(work, scope_id(id, &name), settings).await.map(drop)
            }
            Change::UpdateScope { before, after } => {
                self.write_scope(work, before, after).await.map(drop)
            }
            Change::DeleteScope(scope) => self.remove_scope(work, &scope, force).await,
            Change::CreateRole(name, settings) => {
                self.add_role(work, role(name), settings).await.map(drop)
            }
            Change::UpdateRole { before, after } => {
                self.write_role(work, before, after).await.map(drop)
            }
            Change::DeleteRole(gone) => self.remove_role(work, &gone, force).await,
            Change::CreateApplication(application, settings) => {
                let name = ApplicationName { tenant: id.clone(), application };
                let grants = AddedAccess {
                    owner: &Owner::Account,
                    scopes: settings.scopes.clone(),
                    roles: settings.roles.clone(),
                };
                check_grants(work, &Authority::Platform, id, grants).await?;
                let fresh = self.fresh_application(name, Owner::Account, settings);
                insert(work, &Authority::Platform, fresh, None).await.map(drop)
            }
        }
    }
}

/// If a profile disables API credentials, the platform has disabled them.
fn of_platform(current: Option<&Tenant>, settings: &mut TenantSettings) {
    let policy = &mut settings.policy;
    let before = current.map(|tenant| &tenant.settings.policy);
    let disabled = before.is_some_and(|before| before.api_credentials_disabled);
    let by_platform = before.is_some_and(|before| before.api_credentials_disabled_by_platform);
    policy.api_credentials_disabled_by_platform =
        policy.api_credentials_disabled && (by_platform || !disabled);
}

/// The differences of the tenant itself.
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

/// The differences of the endpoint rules.
async fn of_endpoints(
    work: &mut UnitOfWork,
    id: &TenantId,
    profile: &Profile,
) -> Result<Vec<Change>> {
    match &profile.endpoints {
        None => Ok(Vec::new()),
        Some(wanted) => Ok(Change::of_endpoints(&work.endpoints(id).await?, wanted)),
    }
}

/// The differences of the roles, and of the default application.
async fn of_roles(work: &mut UnitOfWork, id: &TenantId, profile: &Profile) -> Result<Vec<Change>> {
    let mut changes = Vec::new();
    if let Some(roles) = &profile.roles {
        changes.extend(Change::of_roles(&work.roles(id).await?, roles));
    }
    if let Some(wanted) = &profile.default_application {
        changes.extend(missing_application(work, id, wanted).await?);
    }
    Ok(changes)
}

/// The default application, if it is missing.
async fn missing_application(
    work: &mut UnitOfWork,
    id: &TenantId,
    wanted: &DefaultApplication,
) -> Result<Option<Change>> {
    let name = ApplicationName { tenant: id.clone(), application: wanted.id.clone() };
    if work.find_application(&name).await?.is_some() {
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

/// How many resources lose something by a change.
async fn affected(work: &mut UnitOfWork, id: &TenantId, change: &Change) -> Result<i64> {
    if let Change::DeleteRole(role) = change {
        return Ok(work.role_holders(&role.name).await?.count);
    }
    let Some(scope) = change.lost_scope() else {
        return Ok(0);
    };
    let scope = scope_id(id, scope);
    let holders = work.scope_holders(&scope).await?.count;
    if matches!(change, Change::DeleteScope(_)) {
        return Ok(holders + work.endpoints_with_scope(&scope).await?.count);
    }
    Ok(holders)
}

fn scope_id(tenant: &TenantId, scope: &ScopeName) -> ScopeId {
    ScopeId { tenant: tenant.clone(), scope: scope.clone() }
}
