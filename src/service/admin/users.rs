//! Use cases of users.

use super::applications::{found as application_found, owner_change, remove};
use super::base::Admin;
use super::checks::{check_etag, vanished};
use super::grants::{given_to_all_of, role_settings};
use super::updates::Shown;
use crate::domain::authority::Ceiling;
use crate::domain::{
    Action, Authority, Call, FieldChange, Owner, Record, RoleSettings, TenantId, User,
    UserDeletion, UserName, UserPatch, UserSettings,
};
use crate::error::{Error, Need, Result};
use crate::service::audit::{Attempt, OpenTenant, UnitOfWork};
use crate::service::auth::Caller;
use crate::service::lists::{List, ListRequest};
use crate::store::{Affected, OwnedResources, Session};

/// What deleting a user does, or would do.
#[derive(Clone, Debug)]
pub struct DeletedUser {
    /// What happens to the applications that the user owns.
    pub deletion: UserDeletion,
    /// What the user owns, as far as the caller may view it.
    pub owned: OwnedResources,
}

impl DeletedUser {
    /// The deletion, without the applications if the caller may not view them.
    fn shown(deletion: UserDeletion, owned: &OwnedResources, visible: bool) -> Self {
        Self { deletion, owned: if visible { owned.clone() } else { OwnedResources::default() } }
    }
}

impl Admin {
    pub async fn create_user(
        &self,
        caller: &Caller,
        name: UserName,
        patch: UserPatch,
    ) -> Result<User> {
        let attempt = Attempt::new(caller, Action::CreateUser, &name.tenant, &name);
        self.sessions
            .audited(&attempt, async {
                let OpenTenant { mut work, authority, .. } =
                    self.open_users(&attempt, Call::CreateUser).await?;
                let user = self.add_user(&mut work, &authority, name.clone(), patch).await?;
                work.commit().await?;
                Ok(user)
            })
            .await
    }

    /// Reads a user: the acting one, or another one with a permission.
    pub async fn user(&self, caller: &Caller, name: &UserName) -> Result<User> {
        let mut reading = self.sessions.read(caller, &name.tenant).await?;
        reading.authority.require_about(Call::GetUser, &name.user)?;
        found(&mut reading.session, &reading.authority, name).await
    }

    /// Lists a tenant's users by id.
    pub async fn list_users(
        &self,
        caller: &Caller,
        tenant: &TenantId,
        request: &ListRequest,
    ) -> Result<List<User>> {
        let mut reading = self.sessions.read(caller, tenant).await?;
        reading.authority.require(Call::ListUsers)?;
        let call = format!("users of {tenant}");
        let page = self.pages.request(&call, request)?;
        let users = reading.session.list_users(tenant, &page).await?;
        reading.check_tenant(tenant, &users).await?;
        Ok(self.pages.list(&call, users))
    }

    /// Changes a user, or creates one if `allow_missing` says so. The user is shown to callers that
    /// may view users.
    pub async fn update_user(
        &self,
        caller: &Caller,
        name: &UserName,
        patch: UserPatch,
        etag: &str,
        allow_missing: bool,
    ) -> Result<Shown<User>> {
        let attempt = Attempt::new(caller, Action::UpdateUser, &name.tenant, name);
        self.sessions
            .audited(&attempt, async {
                let call = Call::UpdateUser;
                let OpenTenant { mut work, authority, .. } =
                    self.open_users(&attempt, call).await?;
                let may_view = authority.may_view_user(&name.user);
                let before = match work.find_user(name).await? {
                    Some(before) => before,
                    None if allow_missing => {
                        let user =
                            self.add_user(&mut work, &authority, name.clone(), patch).await?;
                        work.commit().await?;
                        return Ok(Shown::new(user, name, may_view));
                    }
                    None => return Err(authority.no_user(name)),
                };
                let wanted = patch.disabled;
                let mut after = before.settings.with(patch);
                let old = role_settings(&mut work, &name.tenant, &before.settings.roles).await?;
                let new = role_settings(&mut work, &name.tenant, &after.roles).await?;
                // Users who may do more are not changed, and no user is made one of them.
                authority.require_user(name, &old)?;
                authority.require_roles(&new)?;
                let by_platform = before.settings.disabled_by_platform;
                after.disabled_by_platform = authority.switch(name, by_platform, wanted)?;
                check_etag(&before.record, etag, name)?;
                if after == before.settings {
                    return Ok(Shown::new(before, name, may_view));
                }
                if before.settings.disabled && !after.disabled {
                    // The applications of the user work again.
                    let owner = Owner::User(name.user.clone());
                    let given = given_to_all_of(&mut work, &authority, name).await?;
                    authority.require_given(&given, authority.may_view(&owner))?;
                }
                let why = if after.disabled && !before.settings.disabled {
                    Some("its owner was disabled")
                } else {
                    loses_scopes(&old, &new).then_some("its owner lost scopes with their roles")
                };
                if let Some(why) = why {
                    work.affect(Affected::ApplicationsOf(name), why).await?;
                }
                let changes = FieldChange::between(&before.settings, &after);
                let record = before.record.changed(self.clock.now());
                let user = User { name: before.name, settings: after, record };
                if !work.update_user(&user).await? {
                    return Err(vanished(name));
                }
                work.note(Action::UpdateUser, name, changes).await?;
                work.commit().await?;
                Ok(Shown::new(user, name, may_view))
            })
            .await
    }

    /// Deletes a user, and deletes or hands over the user's applications as the policy says. With
    /// `validate_only` it returns what would be done.
    pub async fn delete_user(
        &self,
        caller: &Caller,
        name: &UserName,
        etag: &str,
        hand_over_to: Option<&UserName>,
        validate_only: bool,
    ) -> Result<DeletedUser> {
        let attempt = Attempt::new(caller, Action::DeleteUser, &name.tenant, name);
        self.sessions
            .audited(&attempt, async {
                let call = Call::DeleteUser;
                let OpenTenant { mut work, tenant, authority } =
                    self.open_users(&attempt, call).await?;
                let user = found(&mut work, &authority, name).await?;
                let roles = role_settings(&mut work, &name.tenant, &user.settings.roles).await?;
                authority.require_user(name, &roles)?;
                // A new user of the same id would be enabled.
                authority.require_undo(name, user.settings.disabled_by_platform)?;
                check_etag(&user.record, etag, name)?;
                let deletion = tenant.settings.policy.user_deletion;
                let owned = work.owned_by(&name.tenant, &name.user).await?;
                let whose = Owner::User(name.user.clone());
                let shown = DeletedUser::shown(deletion, &owned, authority.may_view(&whose));
                let heir =
                    check_heir(&mut work, &authority, deletion, name, hand_over_to, &owned).await?;
                if owned.application_count > 0 {
                    let given = given_to_all_of(&mut work, &authority, name).await?;
                    let heir = heir.map(|heir| &heir.user);
                    authority.require_disposal(deletion, &whose, heir, &given)?;
                }
                if validate_only {
                    return Ok(shown);
                }
                match (deletion, heir) {
                    _ if owned.application_count == 0 => {}
                    (UserDeletion::Refuse, _) => return Err(still_owns(name, shown.owned)),
                    (UserDeletion::Delete, _) => delete_owned(&mut work, name).await?,
                    (UserDeletion::HandOver, Some(heir)) => {
                        self.hand_over(&mut work, name, heir).await?;
                    }
                    (UserDeletion::HandOver, None) => {
                        return Err(Error::internal("no user to hand over to"));
                    }
                }
                work.delete_user(name).await?;
                let changes = FieldChange::of_gone(&user.settings);
                work.note(Action::DeleteUser, name, changes).await?;
                work.commit().await?;
                Ok(shown)
            })
            .await
    }

    /// A transaction in which users can be changed.
    async fn open_users(&self, attempt: &Attempt<'_>, call: Call) -> Result<OpenTenant> {
        let open = self.sessions.open(attempt).await?;
        open.authority.require(call)?;
        open.tenant.require_own_rules()?;
        Ok(open)
    }

    async fn add_user(
        &self,
        work: &mut UnitOfWork,
        authority: &Authority,
        name: UserName,
        patch: UserPatch,
    ) -> Result<User> {
        let mut settings = UserSettings::default().with(patch);
        let disabled = Some(settings.disabled);
        settings.disabled_by_platform = authority.switch(&name, false, disabled)?;
        let roles = role_settings(work, &name.tenant, &settings.roles).await?;
        authority.require_roles(&roles)?;
        let user = User { name, settings, record: Record::new(self.clock.now()) };
        if !work.insert_user(&user).await? {
            let name = user.name.to_string();
            return Err(if authority.may_view_user(&user.name.user) {
                Error::AlreadyExists(name)
            } else {
                Error::PermissionDenied(Need::OtherId(name))
            });
        }
        let changes = FieldChange::of_new(&user.settings);
        work.note(Action::CreateUser, &user.name, changes).await?;
        Ok(user)
    }

    /// Hands the applications of a user over to another one.
    async fn hand_over(
        &self,
        work: &mut UnitOfWork,
        from: &UserName,
        heir: &UserName,
    ) -> Result<()> {
        let (old, new) = (Owner::User(from.user.clone()), Owner::User(heir.user.clone()));
        for application in work.applications_of(&from.tenant, &from.user).await? {
            let changes = vec![owner_change(&new, Some(&old))];
            work.note(Action::UpdateApplication, &application, changes).await?;
        }
        work.revoke_affected(Affected::ApplicationsOf(from)).await?;
        work.transfer_applications(&from.tenant, &from.user, &heir.user, self.clock.now()).await
    }
}

/// The user; callers that may not view users do not learn that there is none.
async fn found(session: &mut Session, authority: &Authority, name: &UserName) -> Result<User> {
    session.find_user(name).await?.ok_or_else(|| authority.no_user(name))
}

/// Whether holders of the old roles may grant what those of the new ones may not.
fn loses_scopes(old: &[RoleSettings], new: &[RoleSettings]) -> bool {
    !Ceiling::of(old).is_within(&Ceiling::of(new))
}

/// The user who gets the applications, if the policy and the applications need one. This user must
/// be enabled, and may do no more than the acting user.
async fn check_heir<'a>(
    session: &mut Session,
    authority: &Authority,
    deletion: UserDeletion,
    from: &UserName,
    heir: Option<&'a UserName>,
    owned: &OwnedResources,
) -> Result<Option<&'a UserName>> {
    const FIELD: &str = "hand_over_to";
    let Some(heir) = heir else {
        return if deletion == UserDeletion::HandOver && owned.application_count > 0 {
            Err(Error::invalid(FIELD, "must name the user who gets the applications"))
        } else {
            Ok(None)
        };
    };
    if deletion != UserDeletion::HandOver {
        return Err(Error::invalid(FIELD, "must be empty: the policy hands nothing over"));
    }
    if heir.tenant != from.tenant || heir == from {
        return Err(Error::invalid(FIELD, "must be another user of the same tenant"));
    }
    let user = found(session, authority, heir).await?;
    let roles = role_settings(session, &from.tenant, &user.settings.roles).await?;
    authority.require_user(heir, &roles)?;
    if user.settings.disabled {
        return Err(Error::invalid(FIELD, "must be a user who is not disabled"));
    }
    Ok(Some(heir))
}

fn still_owns(name: &UserName, owned: OwnedResources) -> Error {
    const REMEDY: &str = "delete them first, or change `user_deletion` of the tenant's policy";
    // An application without a credential prevents the deletion too.
    if owned.credential_count > 0 {
        Error::in_use_unless(name, owned.credentials, owned.credential_count, REMEDY)
    } else {
        Error::in_use_unless(name, owned.applications, owned.application_count, REMEDY)
    }
}

async fn delete_owned(work: &mut UnitOfWork, owner: &UserName) -> Result<()> {
    for name in work.applications_of(&owner.tenant, &owner.user).await? {
        let application = application_found(work, &name).await?;
        remove(work, &application).await?;
    }
    Ok(())
}
