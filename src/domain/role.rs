//! Roles: named sets of permissions, and of scopes that their holders may grant.

use super::{Permissions, Record, RoleName, ScopeSet};

/// A role of a tenant.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Role {
    /// Its name, with the tenant's.
    pub name: RoleName,
    /// What can be changed of it.
    pub settings: RoleSettings,
    /// Version and times.
    pub record: Record,
}

/// What can be changed of a role.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RoleSettings {
    /// A name for people.
    pub display_name: String,
    /// What it is for.
    pub description: String,
    /// What its holders may do.
    pub permissions: Permissions,
    /// The scopes that its holders may grant.
    pub scopes: ScopeSet,
    /// Whether its holders may grant every scope.
    pub all_scopes: bool,
}

/// A change of a role: the fields that are set.
#[derive(Clone, Debug, Default)]
pub struct RolePatch {
    /// New name.
    pub display_name: Option<String>,
    /// New description.
    pub description: Option<String>,
    /// New permissions, in place of the old ones.
    pub permissions: Option<Permissions>,
    /// New scopes, in place of the old ones.
    pub scopes: Option<ScopeSet>,
    /// Whether every scope may be granted.
    pub all_scopes: Option<bool>,
}

impl RoleSettings {
    /// These settings with a change made to them.
    #[must_use]
    pub fn with(&self, patch: RolePatch) -> Self {
        Self {
            display_name: patch.display_name.unwrap_or_else(|| self.display_name.clone()),
            description: patch.description.unwrap_or_else(|| self.description.clone()),
            permissions: patch.permissions.unwrap_or_else(|| self.permissions.clone()),
            scopes: patch.scopes.unwrap_or_else(|| self.scopes.clone()),
            all_scopes: patch.all_scopes.unwrap_or(self.all_scopes),
        }
    }

    /// Whether going from these settings to `after` takes a scope from the holders, so that
    /// the tokens there are must be revoked.
    pub fn revokes(&self, after: &Self) -> bool {
        !after.all_scopes && (self.all_scopes || !self.scopes.without(&after.scopes).is_empty())
    }
}
