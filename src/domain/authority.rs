//! What a caller is allowed in a tenant: everything (the platform), or what a user's roles allow.
//! The rules themselves are in `rights`.

use std::collections::BTreeSet;

use jiff::Timestamp;

use super::{
    Owner, Permission, Permissions, Reach, Role, RoleId, RoleSettings, ScopeSet, UserId, Verb,
};
use crate::error::{Error, Need, Result};

/// The authority of a caller in a tenant.
#[derive(Clone, Debug)]
pub enum Authority {
    /// The platform itself, which may do everything.
    Platform,
    /// A user, limited by their roles.
    User {
        id: UserId,
        /// When the user was created. It distinguishes users who reuse a deleted user's id.
        since: Timestamp,
        roles: BTreeSet<RoleId>,
        permissions: Permissions,
        /// The scopes that the user may grant.
        ceiling: Ceiling,
    },
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Ceiling {
    /// All scopes of the catalogue.
    Catalogue,
    /// Only these scopes.
    Scopes(ScopeSet),
}

/// Everything that applications were given, whether or not it works today.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct GivenAccess {
    /// The scopes that were given directly.
    pub scopes: ScopeSet,
    /// The roles, with their permissions and scopes.
    pub roles: Vec<(RoleId, RoleSettings)>,
    /// Whether one of them may exchange tokens of others. Only the platform gives that.
    pub exchanges: bool,
}

/// Selects applications by owner. The conditions are alternatives.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Owners {
    /// Applications of the account.
    pub account: bool,
    /// Applications of all users.
    pub users: bool,
    /// Applications of this user.
    pub user: Option<UserId>,
}

impl Ceiling {
    /// The union of what the given roles may grant.
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

    /// Returns an error that lists the scopes of `wanted` outside the ceiling.
    pub fn require(&self, wanted: &ScopeSet) -> Result<()> {
        match self {
            Self::Catalogue => Ok(()),
            Self::Scopes(scopes) => wanted.require_within(scopes),
        }
    }

    /// Whether `other` includes everything in `self`.
    pub fn is_within(&self, other: &Self) -> bool {
        match (self, other) {
            (_, Self::Catalogue) => true,
            (Self::Catalogue, Self::Scopes(_)) => false,
            (Self::Scopes(scopes), Self::Scopes(others)) => scopes.is_within(others),
        }
    }
}

impl Authority {
    /// The authority of a user with these roles, created at `since`.
    pub fn of_user(id: UserId, since: Timestamp, roles: Vec<Role>) -> Self {
        Self::User {
            id,
            since,
            permissions: roles.iter().flat_map(|role| role.settings.permissions.iter()).collect(),
            ceiling: Ceiling::of(roles.iter().map(|role| &role.settings)),
            roles: roles.into_iter().map(|role| role.name.role).collect(),
        }
    }

    /// The user's id, or `None` for the platform.
    pub fn user(&self) -> Option<&UserId> {
        match self {
            Self::Platform => None,
            Self::User { id, .. } => Some(id),
        }
    }

    /// The idempotency key (AIP-155) under which a request is stored. It includes the user, so that
    /// two users with the same request id do not collide.
    pub fn request_key(&self, request_id: &str) -> String {
        match self {
            Self::Platform => request_id.to_owned(),
            // A request id cannot contain a space, so the parts cannot run together.
            Self::User { id, since, .. } => {
                format!("{id} {} {request_id}", since.as_microsecond())
            }
        }
    }

    /// Returns an error for every user: only the platform may do this.
    pub fn require_platform(&self) -> Result<()> {
        match self {
            Self::Platform => Ok(()),
            Self::User { .. } => Err(Error::PermissionDenied(Need::Platform)),
        }
    }

    /// Returns an error if the permission is missing.
    pub(super) fn require_permission(&self, permission: Permission) -> Result<()> {
        if self.has(permission) {
            Ok(())
        } else {
            Err(Error::PermissionDenied(Need::Permission(permission.to_string())))
        }
    }

    /// Returns an error if the caller may not grant one of the scopes.
    pub fn require_scopes(&self, scopes: &ScopeSet) -> Result<()> {
        match self {
            Self::Platform => Ok(()),
            Self::User { ceiling, .. } => ceiling.require(scopes),
        }
    }

    /// Returns an error if a role allows more than the caller's own roles do.
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

    /// Like [`require_roles`](Self::require_roles), for the roles of another user. Callers who may
    /// not view users get the same answer whether or not the user exists.
    pub fn require_user<'a>(
        &self,
        name: &super::UserName,
        roles: impl IntoIterator<Item = &'a RoleSettings>,
    ) -> Result<()> {
        let required = self.require_roles(roles);
        if self.may_view_user(&name.user) {
            required
        } else {
            required.map_err(|_| unseen_user(name))
        }
    }

    /// The error for a user that does not exist.
    pub fn no_user(&self, name: &super::UserName) -> Error {
        if self.may_view_user(&name.user) {
            Error::NotFound(name.to_string())
        } else {
            unseen_user(name)
        }
    }

    /// Returns an error if the caller may not give these roles to an application: roles that allow
    /// more than the caller may, and roles that the caller does not hold, because roles appear in
    /// tokens. Callers who may edit users are exempt from the second rule: they could give
    /// themselves the role.
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

    /// Returns an error unless the caller could give everything in `given`. The error lists what is
    /// missing only if `may_view` is true.
    pub fn require_given(&self, given: &GivenAccess, may_view: bool) -> Result<()> {
        let scopes = self.require_scopes(&given.scopes);
        let required = scopes
            .and_then(|()| self.require_giving(&given.roles))
            .and_then(|()| self.require_exchange(given.exchanges));
        if may_view {
            required
        } else {
            required.map_err(|_| Error::PermissionDenied(Need::AllThatWasGiven))
        }
    }

    fn require_exchange(&self, given: bool) -> Result<()> {
        match self {
            Self::User { .. } if given => Err(Error::PermissionDenied(Need::ExchangeRight)),
            _ => Ok(()),
        }
    }

    /// The applications that the caller may view, or an error if there are none.
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

    pub fn may_view(&self, owner: &Owner) -> bool {
        self.user().is_none_or(|user| self.has_on(Verb::View, Reach::to(owner, user)))
    }

    pub fn may_view_user(&self, user: &UserId) -> bool {
        self.has(Permission::UsersView) || self.user() == Some(user)
    }

    /// Whether the caller may view all applications.
    pub fn may_view_applications(&self) -> bool {
        self.has_on(Verb::View, Reach::Users) && self.has_on(Verb::View, Reach::Account)
    }

    /// Removes the names and the number of other resources from an error, if the caller may not
    /// view them.
    pub fn redact(&self, error: Error) -> Error {
        let may_view_everyone = self.may_view_applications() && self.has(Permission::UsersView);
        match error {
            Error::InUse { resource, remedy, .. } if !may_view_everyone => {
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
