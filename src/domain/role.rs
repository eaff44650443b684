//! Roles: named sets of permissions, and of scopes that their holders may grant.

use super::{Permissions, Record, RoleName, ScopeSet};

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Role {
    pub name: RoleName,
    pub settings: RoleSettings,
    pub record: Record,
}

/// The fields of a role that can be changed.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RoleSettings {
    pub display_name: String,
    pub description: String,
    /// What holders of the role may do.
    pub permissions: Permissions,
    /// Scopes that holders of the role may grant.
    pub scopes: ScopeSet,
    /// If true, holders of the role may grant all scopes.
    pub all_scopes: bool,
}

/// Changes to a role. `None` leaves a field as it is.
#[derive(Clone, Debug, Default)]
pub struct RolePatch {
    pub display_name: Option<String>,
    pub description: Option<String>,
    /// Replaces all permissions.
    pub permissions: Option<Permissions>,
    /// Replaces all scopes.
    pub scopes: Option<ScopeSet>,
    pub all_scopes: Option<bool>,
}

impl Role {
    /// The maximum number of roles of one holder: a user or an application.
    pub const MAX_OF_HOLDER: usize = 50;
    /// The maximum number of scopes that its holders may grant.
    pub const MAX_SCOPES: usize = 200;
}

impl RoleSettings {
    /// Applies a patch.
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

    /// Whether the change from `self` to `after` takes a scope from the role's holders, so that
    /// existing tokens must be revoked.
    pub fn revokes(&self, after: &Self) -> bool {
        !after.all_scopes && (self.all_scopes || !self.scopes.without(&after.scopes).is_empty())
    }
}
