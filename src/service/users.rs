//! Use cases of users.

use super::applications::{found as application_found, owner_change, remove};
use super::attempts::{Attempt, Ledger, Open};
use super::grants::role_settings;
use super::{Caller, List, ListRequest, Service, check_etag, vanished};
use crate::domain::authority::Ceiling;
use crate::domain::{
    Action, Authority, FieldChange, Owner, Permission, Record, RoleSettings, TenantId, User,
    UserDeletion, UserName, UserPatch, UserSettings, Verb,
};
use crate::error::{Error, Result};
use crate::store::{Affected, Owned, Session};

/// What deleting a user does, or would do.
#[derive(Clone, Debug)]
pub struct DeletedUser {
    /// What happens to the applications he owns.
    pub deletion: UserDeletion,
    /// What he owns.
    pub owned: Owned,
}

impl DeletedUser {
    /// What happens, with the names of applications only for who may view them.
    fn told(deletion: UserDeletion, owned: &Owned, visible: bool) -> Self {
        let mut owned = owned.clone();
        if !visible {
            owned.applications.clear();
            owned.credentials.clear();
        }
        Self { deletion, owned }
    }
}

impl Service {
    /// Makes a user known.
    pub async fn create_user(
        &self,
        caller: &Caller,
        name: UserName,
        patch: UserPatch,
    ) -> Result<User> {
        let attempt = Attempt::new(caller, Action::CreateUser, &name.tenant, &name);
        self.audited(&attempt, async {
            let Open { mut ledger, authority, .. } = self.open_users(&attempt).await?;
            let user = self.add_user(&mut ledger, &authority, name.clone(), patch).await?;
            ledger.commit().await?;
            Ok(user)
        })
        .await
    }

    /// Reads a user: himself, or with a permission.
    pub async fn user(&self, caller: &Caller, name: &UserName) -> Result<User> {
        let mut reading = self.reading(caller, &name.tenant).await?;
        if reading.authority.user() != Some(&name.user) {
            reading.authority.require(Permission::UsersView)?;
        }
        found(&mut reading.session, name).await
    }

    /// Lists a tenant's users by id.
    pub async fn list_users(
        &self,
        caller: &Caller,
        tenant: &TenantId,
        request: &ListRequest,
    ) -> Result<List<User>> {
        let mut reading = self.reading(caller, tenant).await?;
        reading.authority.require(Permission::UsersView)?;
        let call = format!("users of {tenant}");
        let page = self.page_request(&call, request)?;
        let users = reading.session.list_users(tenant, &page).await?;
        reading.check_tenant(tenant, &users).await?;
        Ok(self.list(&call, users))
    }

    /// Changes a user; makes him known if he is not and `allow_missing` says so.
    pub async fn update_user(
        &self,
        caller: &Caller,
        name: &UserName,
        patch: UserPatch,
        etag: &str,
        allow_missing: bool,
    ) -> Result<User> {
        let attempt = Attempt::new(caller, Action::UpdateUser, &name.tenant, name);
        self.audited(&attempt, async {
            let Open { mut ledger, authority, .. } = self.open_users(&attempt).await?;
            let before = match ledger.find_user(name).await? {
                Some(before) => before,
                None if allow_missing => {
                    let user = self.add_user(&mut ledger, &authority, name.clone(), patch).await?;
                    ledger.commit().await?;
                    return Ok(user);
                }
                None => return Err(Error::NotFound(name.to_string())),
            };
            let after = before.settings.with(patch);
            let old = role_settings(&mut ledger, &name.tenant, &before.settings.roles).await?;
            let new = role_settings(&mut ledger, &name.tenant, &after.roles).await?;
            // Neither is a greater user to be changed, nor a user to be made greater.
            authority.require_roles(old.iter().chain(&new))?;
            check_etag(&before.record, etag, name)?;
            if after == before.settings {
                return Ok(before);
            }
            let why = if after.disabled && !before.settings.disabled {
                Some("its owner was disabled")
            } else {
                loses_scopes(&old, &new).then_some("its owner lost scopes with his roles")
            };
            if let Some(why) = why {
                ledger.affect(Affected::ApplicationsOf(name), why).await?;
            }
            let changes = FieldChange::between(&before.settings, &after);
            let record = before.record.changed(self.now());
            let user = User { name: before.name, settings: after, record };
            if !ledger.update_user(&user).await? {
                return Err(vanished(name));
            }
            ledger.note(Action::UpdateUser, name, changes).await?;
            ledger.commit().await?;
            Ok(user)
        })
        .await
    }

    /// Deletes a user, and does with his applications what the policy says. With
    /// `validate_only` that is told and not done.
    pub async fn delete_user(
        &self,
        caller: &Caller,
        name: &UserName,
        etag: &str,
        hand_over_to: Option<&UserName>,
        validate_only: bool,
    ) -> Result<DeletedUser> {
        let attempt = Attempt::new(caller, Action::DeleteUser, &name.tenant, name);
        self.audited(&attempt, async {
            let Open { mut ledger, tenant, authority } = self.open_users(&attempt).await?;
            let user = found(&mut ledger, name).await?;
            let roles = role_settings(&mut ledger, &name.tenant, &user.settings.roles).await?;
            authority.require_roles(&roles)?;
            check_etag(&user.record, etag, name)?;
            let deletion = tenant.settings.policy.user_deletion;
            let owned = ledger.owned_by(&name.tenant, &name.user).await?;
            let his = Owner::User(name.user.clone());
            let visible = authority.require_on(Verb::View, &his).is_ok();
            let told = DeletedUser::told(deletion, &owned, visible);
            let heir =
                check_heir(&mut ledger, &authority, deletion, name, hand_over_to, &owned).await?;
            if owned.application_count > 0 {
                check_disposal(&authority, deletion, &his, heir)?;
            }
            if validate_only {
                return Ok(told);
            }
            match (deletion, heir) {
                _ if owned.application_count == 0 => {}
                (UserDeletion::Refuse, _) => return Err(stands_in_the_way(name, told.owned)),
                (UserDeletion::Delete, _) => delete_owned(&mut ledger, name).await?,
                (UserDeletion::HandOver, Some(heir)) => {
                    self.hand_over(&mut ledger, name, heir).await?;
                }
                (UserDeletion::HandOver, None) => {
                    return Err(Error::internal("nobody to hand over to"));
                }
            }
            ledger.delete_user(name).await?;
            let changes = FieldChange::of_gone(&user.settings);
            ledger.note(Action::DeleteUser, name, changes).await?;
            ledger.commit().await?;
            Ok(told)
        })
        .await
    }

    /// A transaction in which users can be changed.
    async fn open_users(&self, attempt: &Attempt<'_>) -> Result<Open> {
        let open = self.open(attempt).await?;
        open.authority.require(Permission::UsersEdit)?;
        open.tenant.require_own_rules()?;
        Ok(open)
    }

    async fn add_user(
        &self,
        ledger: &mut Ledger,
        authority: &Authority,
        name: UserName,
        patch: UserPatch,
    ) -> Result<User> {
        let settings = UserSettings::default().with(patch);
        let roles = role_settings(ledger, &name.tenant, &settings.roles).await?;
        authority.require_roles(&roles)?;
        let user = User { name, settings, record: Record::new(self.now()) };
        if !ledger.insert_user(&user).await? {
            return Err(Error::AlreadyExists(user.name.to_string()));
        }
        let changes = FieldChange::of_new(&user.settings);
        ledger.note(Action::CreateUser, &user.name, changes).await?;
        Ok(user)
    }

    /// Gives a user's applications to another one.
    async fn hand_over(&self, ledger: &mut Ledger, from: &UserName, heir: &UserName) -> Result<()> {
        let (old, new) = (Owner::User(from.user.clone()), Owner::User(heir.user.clone()));
        for application in ledger.applications_of(&from.tenant, &from.user).await? {
            let changes = vec![owner_change(&new, Some(&old))];
            ledger.note(Action::UpdateApplication, &application, changes).await?;
        }
        ledger.revoke_affected(Affected::ApplicationsOf(from)).await?;
        ledger.hand_over(&from.tenant, &from.user, &heir.user, self.now()).await
    }
}

async fn found(session: &mut Session, name: &UserName) -> Result<User> {
    session.find_user(name).await?.ok_or_else(|| Error::NotFound(name.to_string()))
}

/// Whether holders of the old roles may grant what those of the new ones may not.
fn loses_scopes(old: &[RoleSettings], new: &[RoleSettings]) -> bool {
    !Ceiling::of(old).is_within(&Ceiling::of(new))
}

/// The user who gets the applications, if the policy and what there is need one: he can
/// act, and is not greater than the one who gives them to him.
async fn check_heir<'a>(
    session: &mut Session,
    authority: &Authority,
    deletion: UserDeletion,
    from: &UserName,
    heir: Option<&'a UserName>,
    owned: &Owned,
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
    let user = found(session, heir).await?;
    if user.settings.disabled {
        return Err(Error::invalid(FIELD, "must be a user who is not disabled"));
    }
    authority.require_roles(&role_settings(session, &from.tenant, &user.settings.roles).await?)?;
    Ok(Some(heir))
}

/// Refuses who may not do with the applications what the policy does: one who hands them
/// over could as well change them, and make them for the heir.
fn check_disposal(
    authority: &Authority,
    deletion: UserDeletion,
    owner: &Owner,
    heir: Option<&UserName>,
) -> Result<()> {
    match deletion {
        UserDeletion::Refuse => Ok(()),
        UserDeletion::Delete => authority.require_on(Verb::Delete, owner),
        UserDeletion::HandOver => {
            authority.require_on(Verb::Edit, owner)?;
            heir.map_or(Ok(()), |heir| {
                authority.require_on(Verb::Create, &Owner::User(heir.user.clone()))
            })
        }
    }
}

fn stands_in_the_way(name: &UserName, owned: Owned) -> Error {
    const REMEDY: &str = "delete them first, or change `user_deletion` of the tenant's policy";
    // One without a credential stands in the way too.
    if owned.credential_count > 0 {
        Error::in_use_unless(name, owned.credentials, owned.credential_count, REMEDY)
    } else {
        Error::in_use_unless(name, owned.applications, owned.application_count, REMEDY)
    }
}

async fn delete_owned(ledger: &mut Ledger, owner: &UserName) -> Result<()> {
    for name in ledger.applications_of(&owner.tenant, &owner.user).await? {
        let application = application_found(ledger, &name).await?;
        remove(ledger, &application).await?;
    }
    Ok(())
}
