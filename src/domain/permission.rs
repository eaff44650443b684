//! Permissions: what a role lets its holders do.

use std::collections::BTreeSet;
use std::fmt;

use super::fields::Fault;
use super::{Owner, UserId};
use crate::error::Result;

/// What is done with an application or its credentials.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Verb {
    /// Look at it.
    View,
    /// Make it, or a credential of it.
    Create,
    /// Change it, or rotate a credential's secret.
    Edit,
    /// Delete it.
    Delete,
    /// See a secret again.
    Reveal,
}

/// Whose applications.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Reach {
    /// Those of the acting user.
    Own,
    /// Those of the account.
    Account,
    /// Those of any user, the acting one included.
    Users,
}

/// One thing that a role allows.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Permission {
    /// To do something with some applications.
    Applications(Verb, Reach),
    /// To read the audit log.
    AuditView,
    /// To change the catalogue of scopes.
    CatalogueEdit,
    /// To read users.
    UsersView,
    /// To change users, within one's own roles.
    UsersEdit,
    /// To change roles, within one's own.
    RolesEdit,
    /// To change the policy.
    PolicyEdit,
    /// To lift limits above the policy's, within the policy's maximum.
    LimitsEdit,
}

impl Verb {
    /// All of them.
    pub const ALL: [Self; 5] = [Self::View, Self::Create, Self::Edit, Self::Delete, Self::Reveal];

    /// The word for it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::View => "view",
            Self::Create => "create",
            Self::Edit => "edit",
            Self::Delete => "delete",
            Self::Reveal => "reveal",
        }
    }
}

impl Reach {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::Own, Self::Account, Self::Users];

    fn as_str(self) -> &'static str {
        match self {
            Self::Own => "own",
            Self::Account => "account",
            Self::Users => "users",
        }
    }

    /// The narrowest reach that an application of this owner is in, for that user.
    pub fn to(owner: &Owner, user: &UserId) -> Self {
        match owner {
            Owner::Account => Self::Account,
            Owner::User(owner) if owner == user => Self::Own,
            Owner::User(_) => Self::Users,
        }
    }
}

impl Permission {
    /// All there are.
    pub fn all() -> impl Iterator<Item = Self> {
        let applications = Verb::ALL
            .into_iter()
            .flat_map(|verb| Reach::ALL.into_iter().map(move |to| Self::Applications(verb, to)));
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

    /// Reads a permission as it is written.
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
                return write!(f, "applications.{}.{}", verb.as_str(), reach.as_str());
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

/// A set of permissions, in order.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Permissions(BTreeSet<Permission>);

impl Permissions {
    /// Reads permissions with a space between.
    pub fn parse(value: &str) -> Result<Self, Fault> {
        value.split_whitespace().map(Permission::parse).collect()
    }

    /// Whether this is one of them. What reaches every user's reaches one's own.
    pub fn allow(&self, permission: Permission) -> bool {
        let wider = match permission {
            Permission::Applications(verb, Reach::Own) => {
                Permission::Applications(verb, Reach::Users)
            }
            other => other,
        };
        self.0.contains(&permission) || self.0.contains(&wider)
    }

    /// The permissions, in order.
    pub fn iter(&self) -> impl Iterator<Item = Permission> {
        self.0.iter().copied()
    }

    /// The permissions, in order, as strings.
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
    fn every_permission_is_read_as_it_is_written() {
        assert_eq!(Permission::all().count(), 22);
        for permission in Permission::all() {
            assert_eq!(Permission::parse(&permission.to_string()), Ok(permission));
        }
        for wrong in ["", "applications", "applications.view", "applications.view.all", "*"] {
            assert!(Permission::parse(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn what_reaches_every_users_reaches_ones_own_and_nothing_else_does() {
        for verb in Verb::ALL {
            for held in Reach::ALL {
                let permissions: Permissions =
                    [Permission::Applications(verb, held)].into_iter().collect();
                for wanted in Reach::ALL {
                    let allowed = permissions.allow(Permission::Applications(verb, wanted));
                    let wider = (held, wanted) == (Reach::Users, Reach::Own);
                    assert_eq!(allowed, held == wanted || wider, "{held:?} {wanted:?}");
                }
            }
        }
    }
}
