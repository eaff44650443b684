//! What a caller is and has: the platform, which may do everything, or a user with roles.
//! `rights` decides what that allows.

use std::collections::BTreeSet;

use jiff::Timestamp;

use super::{
    Owner, Permission, Permissions, Reach, Role, RoleId, RoleSettings, ScopeSet, UserId, Verb,
};
use crate::error::{Error, Need, Result};

/// What a caller may do in a tenant.
#[derive(Clone, Debug)]
pub enum Authority {
    /// Everything: the platform itself.
    Platform,
    /// What a user's roles allow.
    User {
        /// Who it is.
        id: UserId,
        /// When the user was made known: a later user of the same id is another one.
        since: Timestamp,
        /// The roles that the user holds.
        roles: BTreeSet<RoleId>,
        /// What the user may do.
        permissions: Permissions,
        /// The scopes that the user may grant.
        ceiling: Ceiling,
    },
}

/// The scopes that a user may grant.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Ceiling {
    /// All of the catalogue.
    Catalogue,
    /// These.
    Scopes(ScopeSet),
}

/// All that applications were given, whether or not it works today.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Given {
    /// The scopes, by themselves.
    pub scopes: ScopeSet,
    /// The roles, with what they allow.
    pub roles: Vec<(RoleId, RoleSettings)>,
}

/// The applications that a list shows, by whose they are.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Owners {
    /// Those of the account.
    pub account: bool,
    /// Those of every user.
    pub users: bool,
    /// Those of this user.
    pub user: Option<UserId>,
}

impl Ceiling {
    /// What holders of all of these roles may grant.
    pub fn of<'a>(roles: impl IntoIterator<Item = &'a RoleSettings>) -> Self {
        let mut scopes = ScopeSet::default();
        for role in roles {
            if role.all_scopes {
                return Self::Catalogue;
            }
            scopes = scopes.union(&role.scopes);
        }
        Self::Scopes(scopes)
    }

    /// Refuses, by name, the scopes of `wanted` that are beyond it.
    pub fn require(&self, wanted: &ScopeSet) -> Result<()> {
        match self {
            Self::Catalogue => Ok(()),
            Self::Scopes(scopes) => wanted.require_within(scopes),
        }
    }

    /// Whether `other` allows all that this does.
    pub fn is_within(&self, other: &Self) -> bool {
        match (self, other) {
            (_, Self::Catalogue) => true,
            (Self::Catalogue, Self::Scopes(_)) => false,
            (Self::Scopes(scopes), Self::Scopes(others)) => scopes.is_within(others),
        }
    }
}

impl Authority {
    /// What a user with these roles may do, who was made known at that time.
    pub fn of_user(id: UserId, since: Timestamp, roles: Vec<Role>) -> Self {
        Self::User {
            id,
            since,
            permissions: roles.iter().flat_map(|role| role.settings.permissions.iter()).collect(),
            ceiling: Ceiling::of(roles.iter().map(|role| &role.settings)),
            roles: roles.into_iter().map(|role| role.name.role).collect(),
        }
    }

    /// The user, unless it is the platform.
    pub fn user(&self) -> Option<&UserId> {
        match self {
            Self::Platform => None,
            Self::User { id, .. } => Some(id),
        }
    }

    /// The name of a request (AIP-155) as it is kept: of a user, no other user's is the same.
    pub fn request_key(&self, request_id: &str) -> String {
        match self {
            Self::Platform => request_id.to_owned(),
            // A space is in no request id.
            Self::User { id, since, .. } => {
                format!("{id} {} {request_id}", since.as_microsecond())
            }
        }
    }

    /// Refuses a user: this is for the platform alone.
    pub fn require_platform(&self) -> Result<()> {
        match self {
            Self::Platform => Ok(()),
            Self::User { .. } => Err(Error::PermissionDenied(Need::Platform)),
        }
    }

    /// Refuses those who lack a permission.
    pub(super) fn require_permission(&self, permission: Permission) -> Result<()> {
        if self.has(permission) {
            Ok(())
        } else {
            Err(Error::PermissionDenied(Need::Permission(permission.to_string())))
        }
    }

    /// Refuses scopes that may not be granted.
    pub fn require_scopes(&self, scopes: &ScopeSet) -> Result<()> {
        match self {
            Self::Platform => Ok(()),
            Self::User { ceiling, .. } => ceiling.require(scopes),
        }
    }

    /// Refuses roles that allow what these do not: users give only what they have.
    pub fn require_roles<'a>(
        &self,
        roles: impl IntoIterator<Item = &'a RoleSettings>,
    ) -> Result<()> {
        let Self::User { ceiling, .. } = self else {
            return Ok(());
        };
        for role in roles {
            let mut permissions = role.permissions.iter();
            permissions.try_for_each(|permission| self.require_permission(permission))?;
            if role.all_scopes && *ceiling != Ceiling::Catalogue {
                return Err(Error::PermissionDenied(Need::AllScopes));
            }
            ceiling.require(&role.scopes)?;
        }
        Ok(())
    }

    /// The same of the roles of another user, whose name it is. Those who may not view users
    /// do not learn what it is that the other one may do, nor whether there is one.
    pub fn require_user<'a>(
        &self,
        name: &super::UserName,
        roles: impl IntoIterator<Item = &'a RoleSettings>,
    ) -> Result<()> {
        let required = self.require_roles(roles);
        if self.sees_user(&name.user) { required } else { required.map_err(|_| unseen_user(name)) }
    }

    /// The answer for a user who does not exist.
    pub fn no_user(&self, name: &super::UserName) -> Error {
        if self.sees_user(&name.user) {
            Error::NotFound(name.to_string())
        } else {
            unseen_user(name)
        }
    }

    /// Refuses roles that an application is given and the user may not give: those that allow
    /// more than the user may, and those that the user does not hold, since they stand in the
    /// tokens. Those who may give roles to users could give it to themselves.
    pub fn require_giving(&self, given: &[(RoleId, RoleSettings)]) -> Result<()> {
        let Self::User { roles, .. } = self else {
            return Ok(());
        };
        for (id, settings) in given {
            self.require_roles([settings]).map_err(|error| match error {
                Error::PermissionDenied(Need::AllScopes) => {
                    Error::PermissionDenied(Need::AllScopesFor(id.to_string()))
                }
                error => error,
            })?;
            if !roles.contains(id) && !self.has(Permission::UsersEdit) {
                return Err(Error::PermissionDenied(Need::Role(id.to_string())));
            }
        }
        Ok(())
    }

    /// Refuses those who could not give all that was given; what it is only if they see it.
    pub fn require_given(&self, given: &Given, sees: bool) -> Result<()> {
        let scopes = self.require_scopes(&given.scopes);
        let required = scopes.and_then(|()| self.require_giving(&given.roles));
        if sees {
            required
        } else {
            required.map_err(|_| Error::PermissionDenied(Need::AllThatWasGiven))
        }
    }

    /// The applications that may be viewed; refuses those who may view none at all.
    pub fn viewable(&self) -> Result<Owners> {
        let Self::User { id, .. } = self else {
            return Ok(Owners { account: true, users: true, user: None });
        };
        let owners = Owners {
            account: self.has_on(Verb::View, Reach::Account),
            users: self.has_on(Verb::View, Reach::Users),
            user: Some(id.clone()).filter(|_| self.has_on(Verb::View, Reach::Own)),
        };
        if owners == Owners::default() {
            self.require_permission(Permission::Applications(Verb::View, Reach::Own))?;
        }
        Ok(owners)
    }

    /// Whether applications of this owner may be viewed.
    pub fn sees(&self, owner: &Owner) -> bool {
        self.user().is_none_or(|user| self.has_on(Verb::View, Reach::to(owner, user)))
    }

    /// Whether this user may be viewed.
    pub fn sees_user(&self, user: &UserId) -> bool {
        self.has(Permission::UsersView) || self.user() == Some(user)
    }

    /// Whether all applications may be viewed.
    pub fn sees_applications(&self) -> bool {
        self.has_on(Verb::View, Reach::Users) && self.has_on(Verb::View, Reach::Account)
    }

    /// An error without what the caller may not view: which others are in the way, and how many.
    pub fn redact(&self, error: Error) -> Error {
        let sees_everyone = self.sees_applications() && self.has(Permission::UsersView);
        match error {
            Error::InUse { resource, remedy, .. } if !sees_everyone => {
                Error::InUse { resource, by: Vec::new(), total: 0, remedy }
            }
            error => error,
        }
    }

    pub(super) fn has_on(&self, verb: Verb, reach: Reach) -> bool {
        self.has(Permission::Applications(verb, reach))
    }

    fn has(&self, permission: Permission) -> bool {
        match self {
            Self::Platform => true,
            Self::User { permissions, .. } => permissions.allow(permission),
        }
    }
}

fn unseen_user(name: &super::UserName) -> Error {
    Error::PermissionDenied(Need::RolesOf(name.to_string()))
}
