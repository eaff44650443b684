//! What an application is given, and was given: scopes, directly and by roles.

use std::collections::BTreeSet;

use crate::domain::authority::Ceiling;
use crate::domain::{
    Application, Authority, GivenAccess, Owner, RoleId, RoleName, RoleSettings, ScopeSet, TenantId,
    UserId, UserName,
};
use crate::error::{Error, Result};
use crate::store::{Session, Tx};

/// What a new application gets, or what an update adds to one. All that an application has is its
/// [`GivenAccess`].
pub(super) struct AddedAccess<'a> {
    pub(super) owner: &'a Owner,
    pub(super) scopes: ScopeSet,
    pub(super) roles: BTreeSet<RoleId>,
}

/// Refuses to give an application what is not in the enabled catalogue, or what the caller or the
/// owner may not grant.
pub(super) async fn check_grants(
    tx: &mut Tx,
    authority: &Authority,
    tenant: &TenantId,
    grants: AddedAccess<'_>,
) -> Result<()> {
    let ceiling = match grants.owner {
        Owner::Account => Ceiling::Catalogue,
        Owner::User(user) => ceiling_of(tx, tenant, user).await?,
    };
    let enabled: ScopeSet = tx
        .catalogue(tenant)
        .await?
        .into_iter()
        .filter(|scope| !scope.settings.disabled)
        .map(|scope| scope.id.scope)
        .collect();
    grants.scopes.require_within(&enabled)?;
    authority.require_scopes(&grants.scopes)?;
    ceiling.require(&grants.scopes)?;
    let roles = roles_by_id(tx, tenant, &grants.roles).await?;
    authority.require_giving(&roles)?;
    // An application with all scopes would gain rights whenever its owner does.
    roles
        .iter()
        .map(|(_, role)| role)
        .try_for_each(|role| ceiling.require(if role.all_scopes { &enabled } else { &role.scopes }))
}

/// Everything that an application was given, which decides over rights to its secrets. Nothing is
/// read for the platform, which has these rights anyway.
pub(super) async fn given_to(
    session: &mut Session,
    authority: &Authority,
    application: &Application,
) -> Result<GivenAccess> {
    if authority.user().is_none() {
        return Ok(GivenAccess::default());
    }
    let (tenant, settings) = (&application.name.tenant, &application.settings);
    let exchanges = !settings.exchange_audiences.is_empty();
    given(session, tenant, settings.scopes.clone(), &settings.roles, exchanges).await
}

/// Everything that any application of a user was given; see [`given_to`].
pub(super) async fn given_to_all_of(
    session: &mut Session,
    authority: &Authority,
    owner: &UserName,
) -> Result<GivenAccess> {
    if authority.user().is_none() {
        return Ok(GivenAccess::default());
    }
    let (scopes, roles) = session.grants_to_applications_of(&owner.tenant, &owner.user).await?;
    let exchanges = session.has_exchanging_application(&owner.tenant, &owner.user).await?;
    given(session, &owner.tenant, scopes, &roles, exchanges).await
}

async fn given(
    session: &mut Session,
    tenant: &TenantId,
    scopes: ScopeSet,
    roles: &BTreeSet<RoleId>,
    exchanges: bool,
) -> Result<GivenAccess> {
    Ok(GivenAccess { scopes, roles: roles_by_id(session, tenant, roles).await?, exchanges })
}

/// The scopes that a user may grant.
async fn ceiling_of(tx: &mut Tx, tenant: &TenantId, user: &UserId) -> Result<Ceiling> {
    let name = UserName { tenant: tenant.clone(), user: user.clone() };
    if tx.find_user(&name).await?.is_none() {
        return Err(Error::NotFound(name.to_string()));
    }
    let roles = tx.roles_of(tenant, user).await?;
    Ok(Ceiling::of(roles.iter().map(|role| &role.settings)))
}

/// What these roles allow; each must exist.
pub(super) async fn role_settings(
    session: &mut Session,
    tenant: &TenantId,
    roles: &BTreeSet<RoleId>,
) -> Result<Vec<RoleSettings>> {
    let roles = roles_by_id(session, tenant, roles).await?;
    Ok(roles.into_iter().map(|(_, settings)| settings).collect())
}

async fn roles_by_id(
    session: &mut Session,
    tenant: &TenantId,
    roles: &BTreeSet<RoleId>,
) -> Result<Vec<(RoleId, RoleSettings)>> {
    let mut settings = Vec::with_capacity(roles.len());
    for role in roles {
        let name = RoleName { tenant: tenant.clone(), role: role.clone() };
        let found = session.find_role(&name).await?;
        let found = found.ok_or_else(|| Error::NotFound(name.to_string()))?;
        settings.push((name.role, found.settings));
    }
    Ok(settings)
}
