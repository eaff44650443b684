//! Profiles: what a tenant should be, and the difference from what it is.

use std::collections::BTreeMap;

use super::{
    ApplicationId, ApplicationSettings, Endpoint, Endpoints, FieldChange, Role, RoleId,
    RoleSettings, Scope, ScopeName, ScopeSet, ScopeSettings, TenantPatch, TenantSettings,
};

/// What a tenant should be.
#[derive(Clone, Debug)]
pub struct Profile {
    /// Changes of the tenant itself.
    pub tenant: TenantPatch,
    /// Its whole catalogue.
    pub scopes: BTreeMap<ScopeName, ScopeSettings>,
    /// All of its rules for endpoints, which name scopes of that catalogue; `None`: those it
    /// has.
    pub endpoints: Option<Endpoints>,
    /// All of its roles; `None`: those it has.
    pub roles: Option<BTreeMap<RoleId, RoleSettings>>,
    /// An application that comes with the tenant.
    pub default_application: Option<DefaultApplication>,
}

/// An application that comes with a tenant.
#[derive(Clone, Debug)]
pub struct DefaultApplication {
    /// Its id.
    pub id: ApplicationId,
    /// A name for people.
    pub display_name: String,
    /// Its scopes.
    pub scopes: ScopeSet,
}

/// One difference between a tenant and a profile.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Change {
    /// The tenant is new.
    CreateTenant(Box<TenantSettings>),
    /// The tenant changes.
    UpdateTenant {
        /// As it was.
        before: Box<TenantSettings>,
        /// As it will be.
        after: Box<TenantSettings>,
    },
    /// A rule for an endpoint is new.
    CreateEndpoint(Box<Endpoint>),
    /// A rule for an endpoint changes.
    UpdateEndpoint {
        /// As it was.
        before: Box<Endpoint>,
        /// As it will be.
        after: Box<Endpoint>,
    },
    /// A rule for an endpoint goes.
    DeleteEndpoint(Box<Endpoint>),
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
    /// A role is new.
    CreateRole(RoleId, RoleSettings),
    /// A role changes.
    UpdateRole {
        /// As it was.
        before: Role,
        /// As it will be.
        after: RoleSettings,
    },
    /// A role goes.
    DeleteRole(Role),
    /// The application that comes with the tenant is made.
    CreateApplication(ApplicationId, ApplicationSettings),
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

    /// The changes of the roles, in their order.
    pub fn of_roles(current: &[Role], wanted: &BTreeMap<RoleId, RoleSettings>) -> Vec<Self> {
        let known: BTreeMap<_, _> = current.iter().map(|r| (&r.name.role, r)).collect();
        let gone = current
            .iter()
            .filter(|role| !wanted.contains_key(&role.name.role))
            .map(|role| Self::DeleteRole(role.clone()));
        let rest = wanted.iter().filter_map(|(id, after)| match known.get(id) {
            None => Some(Self::CreateRole(id.clone(), after.clone())),
            Some(before) if before.settings != *after => {
                Some(Self::UpdateRole { before: (*before).clone(), after: after.clone() })
            }
            Some(_) => None,
        });
        gone.chain(rest).collect()
    }

    /// The changes of the rules for endpoints, by path and method.
    pub fn of_endpoints(current: &[Endpoint], wanted: &Endpoints) -> Vec<Self> {
        let key = |rule: &Endpoint| (rule.path.to_string(), rule.method.to_string());
        let known: BTreeMap<_, _> = current.iter().map(|rule| (key(rule), rule)).collect();
        let wanted: BTreeMap<_, _> = wanted.iter().map(|rule| (key(rule), rule)).collect();
        let gone = known
            .iter()
            .filter(|(key, _)| !wanted.contains_key(*key))
            .map(|(_, rule)| Self::DeleteEndpoint(Box::new((*rule).clone())));
        let rest = wanted.iter().filter_map(|(key, after)| {
            let after = Box::new((*after).clone());
            match known.get(key) {
                None => Some(Self::CreateEndpoint(after)),
                Some(before) if **before != *after => {
                    Some(Self::UpdateEndpoint { before: Box::new((*before).clone()), after })
                }
                Some(_) => None,
            }
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

    /// What changes, field by field; nothing for a deletion.
    pub fn fields(&self) -> Vec<FieldChange> {
        match self {
            Self::CreateTenant(after) => FieldChange::of_new(&**after),
            Self::UpdateTenant { before, after } => FieldChange::between(&**before, after),
            Self::CreateScope(_, after) => FieldChange::of_new(after),
            Self::UpdateScope { before, after } => FieldChange::between(&before.settings, after),
            Self::CreateRole(_, after) => FieldChange::of_new(after),
            Self::UpdateRole { before, after } => FieldChange::between(&before.settings, after),
            Self::CreateEndpoint(after) => FieldChange::of_new(&**after),
            Self::UpdateEndpoint { before, after } => FieldChange::between(&**before, after),
            Self::CreateApplication(_, after) => FieldChange::of_new(after),
            Self::DeleteScope(_) | Self::DeleteRole(_) | Self::DeleteEndpoint(_) => Vec::new(),
        }
    }
}
