//! Permissions, which roles give to their holders.

use std::collections::BTreeSet;
use std::fmt;

use strum::{Display, VariantArray};

use super::fields::Fault;
use super::{Owner, UserId};
use crate::error::Result;

/// An operation on an application or its credentials.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Display, VariantArray)]
#[strum(serialize_all = "snake_case")]
pub enum Verb {
    View,
    /// Create an application, or a credential of one.
    Create,
    /// Change an application or credential, or rotate a secret.
    Edit,
    Delete,
    /// Show a secret again.
    Reveal,
}

/// The applications that a permission covers, by owner.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Display, VariantArray)]
#[strum(serialize_all = "snake_case")]
pub enum Reach {
    /// Applications of the acting user.
    Own,
    /// Applications of the account.
    Account,
    /// Applications of all users, including the acting user.
    Users,
}

/// A permission of a role.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Permission {
    /// An operation on applications of some owners.
    Applications(Verb, Reach),
    /// Read the audit log.
    AuditView,
    /// Change the scope catalogue.
    CatalogueEdit,
    /// Read users.
    UsersView,
    /// Change users, within one's own roles.
    UsersEdit,
    /// Change roles, within one's own.
    RolesEdit,
    /// Change the policy.
    PolicyEdit,
    /// Set limits above the policy's default, up to its maximum.
    LimitsEdit,
}

impl Reach {
    /// The narrowest reach that includes an application of `owner`, from the view of `user`.
    pub fn to(owner: &Owner, user: &UserId) -> Self {
        match owner {
            Owner::Account => Self::Account,
            Owner::User(owner) if owner == user => Self::Own,
            Owner::User(_) => Self::Users,
        }
    }
}

impl Permission {
    pub fn all() -> impl Iterator<Item = Self> {
        let applications = Verb::VARIANTS
            .iter()
            .flat_map(|verb| Reach::VARIANTS.iter().map(|reach| Self::Applications(*verb, *reach)));
        applications.chain([
            Self::AuditView,
            Self::CatalogueEdit,
            Self::UsersView,
            Self::UsersEdit,
            Self::RolesEdit,
            Self::PolicyEdit,
            Self::LimitsEdit,
        ])
    }

    pub fn parse(value: &str) -> Result<Self, Fault> {
        Self::all().find(|permission| permission.to_string() == value).ok_or_else(|| {
            Fault::new(
                "must be applications.{view|create|edit|delete|reveal}.{own|account|users}, \
                 audit.view, catalogue.edit, users.view, users.edit, roles.edit, policy.edit or \
                 limits.edit",
            )
        })
    }
}

impl fmt::Display for Permission {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Applications(verb, reach) => {
                return write!(f, "applications.{verb}.{reach}");
            }
            Self::AuditView => "audit.view",
            Self::CatalogueEdit => "catalogue.edit",
            Self::UsersView => "users.view",
            Self::UsersEdit => "users.edit",
            Self::RolesEdit => "roles.edit",
            Self::PolicyEdit => "policy.edit",
            Self::LimitsEdit => "limits.edit",
        })
    }
}

/// A sorted set of permissions.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Permissions(BTreeSet<Permission>);

impl Permissions {
    /// Parses permissions separated by spaces.
    pub fn parse(value: &str) -> Result<Self, Fault> {
        value.split_whitespace().map(Permission::parse).collect()
    }

    /// Whether the permission is included. A reach of `users` includes `own`.
    pub fn allow(&self, permission: Permission) -> bool {
        let wider = match permission {
            Permission::Applications(verb, Reach::Own) => {
                Permission::Applications(verb, Reach::Users)
            }
            other => other,
        };
        self.0.contains(&permission) || self.0.contains(&wider)
    }

    pub fn iter(&self) -> impl Iterator<Item = Permission> {
        self.0.iter().copied()
    }

    pub fn to_strings(&self) -> Vec<String> {
        self.0.iter().map(ToString::to_string).collect()
    }
}

impl FromIterator<Permission> for Permissions {
    fn from_iter<I: IntoIterator<Item = Permission>>(permissions: I) -> Self {
        Self(permissions.into_iter().collect())
    }
}

impl fmt::Display for Permissions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.to_strings().join(" "))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn permissions_round_trip_through_text() {
        assert_eq!(Permission::all().count(), 22);
        for permission in Permission::all() {
            assert_eq!(Permission::parse(&permission.to_string()), Ok(permission));
        }
        for wrong in ["", "applications", "applications.view", "applications.view.all", "*"] {
            assert!(Permission::parse(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn users_reach_includes_own_and_nothing_else() {
        for &verb in Verb::VARIANTS {
            for &held in Reach::VARIANTS {
                let permissions: Permissions =
                    [Permission::Applications(verb, held)].into_iter().collect();
                for &wanted in Reach::VARIANTS {
                    let allowed = permissions.allow(Permission::Applications(verb, wanted));
                    let wider = (held, wanted) == (Reach::Users, Reach::Own);
                    assert_eq!(allowed, held == wanted || wider, "{held:?} {wanted:?}");
                }
            }
        }
    }
}
