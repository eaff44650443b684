//! Profiles: what a tenant should be, and the difference from what it is.

use std::collections::BTreeMap;

use super::{Scope, ScopeName, ScopeSettings, TenantPatch, TenantSettings};

/// What a tenant should be.
#[derive(Clone, Debug)]
pub struct Profile {
    /// Changes of the tenant itself.
    pub tenant: TenantPatch,
    /// Its whole catalogue.
    pub scopes: BTreeMap<ScopeName, ScopeSettings>,
}

/// One difference between a tenant and a profile.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Change {
    /// The tenant is new.
    CreateTenant(TenantSettings),
    /// The tenant changes.
    UpdateTenant {
        /// As it was.
        before: TenantSettings,
        /// As it will be.
        after: TenantSettings,
    },
    /// A scope is new.
    CreateScope(ScopeName, ScopeSettings),
    /// A scope changes.
    UpdateScope {
        /// As it was.
        before: Scope,
        /// As it will be.
        after: ScopeSettings,
    },
    /// A scope goes.
    DeleteScope(Scope),
}

impl Change {
    /// The changes of a catalogue, in the order of the scopes.
    pub fn of_catalogue(
        current: &[Scope],
        wanted: &BTreeMap<ScopeName, ScopeSettings>,
    ) -> Vec<Self> {
        let known: BTreeMap<_, _> = current.iter().map(|s| (&s.id.scope, s)).collect();
        let gone = current
            .iter()
            .filter(|scope| !wanted.contains_key(&scope.id.scope))
            .map(|scope| Self::DeleteScope(scope.clone()));
        let rest = wanted.iter().filter_map(|(name, after)| match known.get(name) {
            None => Some(Self::CreateScope(name.clone(), after.clone())),
            Some(before) if before.settings != *after => {
                Some(Self::UpdateScope { before: (*before).clone(), after: after.clone() })
            }
            Some(_) => None,
        });
        gone.chain(rest).collect()
    }

    /// The scope that applications lose with this change, if it takes one away.
    pub fn lost_scope(&self) -> Option<&ScopeName> {
        match self {
            Self::DeleteScope(scope) => Some(&scope.id.scope),
            Self::UpdateScope { before, after } if after.disabled && !before.settings.disabled => {
                Some(&before.id.scope)
            }
            _ => None,
        }
    }

    /// The changed fields, as `field: before -> after`.
    pub fn details(&self) -> Vec<String> {
        match self {
            Self::CreateTenant(after) => differences(&[], &tenant_fields(after)),
            Self::UpdateTenant { before, after } => {
                differences(&tenant_fields(before), &tenant_fields(after))
            }
            Self::CreateScope(_, after) => differences(&[], &scope_fields(after)),
            Self::UpdateScope { before, after } => {
                differences(&scope_fields(&before.settings), &scope_fields(after))
            }
            Self::DeleteScope(_) => Vec::new(),
        }
    }
}

fn tenant_fields(settings: &TenantSettings) -> Vec<(&'static str, String)> {
    let seconds = settings.access_token_lifetime.seconds();
    vec![
        ("display_name", settings.display_name.clone()),
        ("default_audience", settings.default_audience.to_string()),
        ("access_token_lifetime", format!("{seconds}s")),
    ]
}

fn scope_fields(settings: &ScopeSettings) -> Vec<(&'static str, String)> {
    vec![
        ("description", settings.description.clone()),
        ("domain", settings.domain.clone()),
        ("family", settings.family.clone()),
        ("disabled", settings.disabled.to_string()),
    ]
}

/// Fields that differ; against nothing, those that say something.
fn differences(before: &[(&str, String)], after: &[(&str, String)]) -> Vec<String> {
    after
        .iter()
        .enumerate()
        .filter_map(|(n, (field, new))| match before.get(n) {
            Some((_, old)) if old == new => None,
            Some((_, old)) => Some(format!("{field}: {old:?} -> {new:?}")),
            None if new.is_empty() || new == "false" => None,
            None => Some(format!("{field}: {new:?}")),
        })
        .collect()
}
