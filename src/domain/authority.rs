//! What a caller may do: everything, or what the roles of the user he acts for allow.

use super::{Owner, Permission, Permissions, Reach, RoleSettings, ScopeSet, UserId, Verb};
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
        /// What he may do.
        permissions: Permissions,
        /// The scopes he may grant.
        ceiling: Ceiling,
    },
}

/// The scopes that somebody may grant.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Ceiling {
    /// All of the catalogue.
    Catalogue,
    /// These.
    Scopes(ScopeSet),
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
    /// What a user with these roles may do.
    pub fn of_user(id: UserId, roles: &[RoleSettings]) -> Self {
        Self::User {
            id,
            permissions: roles.iter().flat_map(|role| role.permissions.iter()).collect(),
            ceiling: Ceiling::of(roles),
        }
    }

    /// The user, unless it is the platform.
    pub fn user(&self) -> Option<&UserId> {
        match self {
            Self::Platform => None,
            Self::User { id, .. } => Some(id),
        }
    }

    /// Refuses a user: this is for the platform alone.
    pub fn require_platform(&self) -> Result<()> {
        match self {
            Self::Platform => Ok(()),
            Self::User { .. } => Err(Error::PermissionDenied(Need::Platform)),
        }
    }

    /// Refuses who lacks a permission.
    pub fn require(&self, permission: Permission) -> Result<()> {
        if self.allows(permission) {
            Ok(())
        } else {
            Err(Error::PermissionDenied(Need::Permission(permission.to_string())))
        }
    }

    /// Refuses who may not do this with an application of that owner.
    pub fn require_on(&self, verb: Verb, owner: &Owner) -> Result<()> {
        match self {
            Self::Platform => Ok(()),
            Self::User { id, .. } => {
                self.require(Permission::Applications(verb, Reach::to(owner, id)))
            }
        }
    }

    /// Refuses scopes that may not be granted.
    pub fn require_scopes(&self, scopes: &ScopeSet) -> Result<()> {
        match self {
            Self::Platform => Ok(()),
            Self::User { ceiling, .. } => ceiling.require(scopes),
        }
    }

    /// Refuses roles that allow what this does not: nobody gives what he has not.
    pub fn require_roles<'a>(
        &self,
        roles: impl IntoIterator<Item = &'a RoleSettings>,
    ) -> Result<()> {
        let Self::User { ceiling, .. } = self else {
            return Ok(());
        };
        for role in roles {
            role.permissions.iter().try_for_each(|permission| self.require(permission))?;
            if role.all_scopes && *ceiling != Ceiling::Catalogue {
                return Err(Error::PermissionDenied(Need::AllScopes));
            }
            ceiling.require(&role.scopes)?;
        }
        Ok(())
    }

    /// The applications that may be viewed; refuses who may view none at all.
    pub fn viewable(&self) -> Result<Owners> {
        let Self::User { id, .. } = self else {
            return Ok(Owners { account: true, users: true, user: None });
        };
        let may = |reach| self.allows(Permission::Applications(Verb::View, reach));
        let owners = Owners {
            account: may(Reach::Account),
            users: may(Reach::Users),
            user: Some(id.clone()).filter(|_| may(Reach::Own)),
        };
        if owners == Owners::default() {
            self.require(Permission::Applications(Verb::View, Reach::Own))?;
        }
        Ok(owners)
    }

    /// Whether the names of all users and applications may be told.
    pub fn sees_everyone(&self) -> bool {
        let view = |reach| self.allows(Permission::Applications(Verb::View, reach));
        self.allows(Permission::UsersView) && view(Reach::Users) && view(Reach::Account)
    }

    /// An error as this caller may hear it: how many stand in the way, and their names only
    /// if they may be told.
    pub fn told(&self, error: Error) -> Error {
        match error {
            Error::InUse { resource, total, remedy, .. } if !self.sees_everyone() => {
                Error::InUse { resource, by: Vec::new(), total, remedy }
            }
            error => error,
        }
    }

    fn allows(&self, permission: Permission) -> bool {
        match self {
            Self::Platform => true,
            Self::User { permissions, .. } => permissions.allow(permission),
        }
    }
}
