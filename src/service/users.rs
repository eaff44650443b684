//! Use cases of users.

use super::applications::{found as application_found, owner_change, remove, role_settings};
use super::attempts::{Attempt, Ledger, Open};
use super::{Caller, List, ListRequest, Service, check_etag, vanished};
use crate::domain::authority::Ceiling;
use crate::domain::{
    Action, Authority, FieldChange, Owner, Permission, Record, RoleSettings, TenantId, User,
    UserDeletion, UserName, UserPatch, UserSettings,
};
use crate::error::{Error, Result};
use crate::store::{Owned, Session};

/// What deleting a user does, or would do.
#[derive(Clone, Debug)]
pub struct DeletedUser {
    /// What happens to the applications he owns.
    pub deletion: UserDeletion,
    /// What he owns.
    pub owned: Owned,
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
            let Open { mut ledger, authority, .. } = self.open_users(&attempt, &name).await?;
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
        if users.items.is_empty() && reading.session.find_tenant(tenant).await?.is_none() {
            return Err(Error::NotFound(tenant.name()));
        }
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
            let Open { mut ledger, authority, .. } = self.open_users(&attempt, name).await?;
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
            if (after.disabled && !before.settings.disabled) || loses_scopes(&old, &new) {
                ledger.raise_epoch_of_owned(&name.tenant, &name.user, self.now()).await?;
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
            let Open { mut ledger, tenant, authority } = self.open_users(&attempt, name).await?;
            let user = found(&mut ledger, name).await?;
            let roles = role_settings(&mut ledger, &name.tenant, &user.settings.roles).await?;
            authority.require_roles(&roles)?;
            check_etag(&user.record, etag, name)?;
            let deletion = tenant.settings.policy.user_deletion;
            let owned = ledger.owned_by(&name.tenant, &name.user).await?;
            let heir = check_heir(&mut ledger, deletion, name, hand_over_to, &owned).await?;
            if validate_only {
                return Ok(DeletedUser { deletion, owned });
            }
            if owned.application_count > 0 {
                match deletion {
                    UserDeletion::Refuse => return Err(stands_in_the_way(name, owned)),
                    UserDeletion::HandOver => {
                        if let Some(heir) = heir {
                            self.hand_over(&mut ledger, name, heir).await?;
                        }
                    }
                    UserDeletion::Delete => delete_owned(&mut ledger, name).await?,
                }
            }
            ledger.delete_user(name).await?;
            let changes = FieldChange::of_gone(&user.settings);
            ledger.note(Action::DeleteUser, name, changes).await?;
            ledger.commit().await?;
            Ok(DeletedUser { deletion, owned })
        })
        .await
    }

    /// A transaction in which users can be changed. The built-in tenant has none: its
    /// applications act by their scopes.
    async fn open_users(&self, attempt: &Attempt<'_>, name: &UserName) -> Result<Open> {
        if name.tenant.is_system() {
            return Err(Error::BuiltIn(name.tenant.name()));
        }
        let open = self.open(attempt).await?;
        open.authority.require(Permission::UsersEdit)?;
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

/// The user who gets the applications, if the policy and what there is need one.
async fn check_heir<'a>(
    session: &mut Session,
    deletion: UserDeletion,
    from: &UserName,
    heir: Option<&'a UserName>,
    owned: &Owned,
) -> Result<Option<&'a UserName>> {
    const FIELD: &str = "hand_over_to";
    match (deletion, heir) {
        (UserDeletion::HandOver, None) if owned.application_count > 0 => {
            Err(Error::invalid(FIELD, "must name the user who gets the applications"))
        }
        (UserDeletion::HandOver, Some(heir)) if heir.tenant != from.tenant || heir == from => {
            Err(Error::invalid(FIELD, "must be another user of the same tenant"))
        }
        (UserDeletion::HandOver, heir) => {
            if let Some(heir) = heir {
                found(session, heir).await?;
            }
            Ok(heir)
        }
        (_, Some(_)) => Err(Error::invalid(FIELD, "must be empty: the policy hands nothing over")),
        (_, None) => Ok(None),
    }
}

fn stands_in_the_way(name: &UserName, owned: Owned) -> Error {
    // One without a credential stands in the way too.
    if owned.credential_count > 0 {
        Error::in_use(name, owned.credentials, owned.credential_count)
    } else {
        Error::in_use(name, owned.applications, owned.application_count)
    }
}

async fn delete_owned(ledger: &mut Ledger, owner: &UserName) -> Result<()> {
    for name in ledger.applications_of(&owner.tenant, &owner.user).await? {
        let application = application_found(ledger, &name).await?;
        remove(ledger, &application).await?;
    }
    Ok(())
}
