//! Users: the people of a tenant, as far as Keyward must know them.

use std::collections::BTreeSet;

use super::{Record, RoleId, UserName};

/// A person of a tenant.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct User {
    /// The name, with the tenant's.
    pub name: UserName,
    /// What can be changed.
    pub settings: UserSettings,
    /// Version and times.
    pub record: Record,
}

/// What can be changed of a user.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct UserSettings {
    /// A name for people.
    pub display_name: String,
    /// The roles he holds.
    pub roles: BTreeSet<RoleId>,
    /// Whether the user and the applications that the user owns are refused.
    pub disabled: bool,
    /// Whether the platform disabled the user: then no other user enables this one.
    pub disabled_by_platform: bool,
}

/// A change of a user: the fields that are set.
#[derive(Clone, Debug, Default)]
pub struct UserPatch {
    /// New name.
    pub display_name: Option<String>,
    /// New roles, in place of the old ones.
    pub roles: Option<BTreeSet<RoleId>>,
    /// New state.
    pub disabled: Option<bool>,
}

impl UserSettings {
    /// These settings with a change made to them.
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
