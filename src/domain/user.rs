//! Users of a tenant. Keyward knows only what its rules need.

use std::collections::BTreeSet;

use super::{Record, RoleId, UserName};

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct User {
    pub name: UserName,
    pub settings: UserSettings,
    pub record: Record,
}

/// The fields of a user that can be changed.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct UserSettings {
    pub display_name: String,
    pub roles: BTreeSet<RoleId>,
    /// If true, the user and the applications that they own are refused.
    pub disabled: bool,
    /// Whether the platform disabled the user. If so, other users cannot enable them.
    pub disabled_by_platform: bool,
}

/// Changes to a user. `None` leaves a field as it is.
#[derive(Clone, Debug, Default)]
pub struct UserPatch {
    pub display_name: Option<String>,
    /// Replaces all roles.
    pub roles: Option<BTreeSet<RoleId>>,
    pub disabled: Option<bool>,
}

impl UserSettings {
    /// Applies a patch.
    #[must_use]
    pub fn with(&self, patch: UserPatch) -> Self {
        Self {
            display_name: patch.display_name.unwrap_or_else(|| self.display_name.clone()),
            roles: patch.roles.unwrap_or_else(|| self.roles.clone()),
            disabled: patch.disabled.unwrap_or(self.disabled),
            disabled_by_platform: self.disabled_by_platform,
        }
    }
}
