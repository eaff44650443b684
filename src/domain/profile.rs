//! Profiles: the desired state of a tenant, and the changes that lead there.

use std::collections::BTreeMap;

use super::{
    ApplicationId, ApplicationSettings, Endpoint, Endpoints, FieldChange, Role, RoleId,
    RoleSettings, Scope, ScopeName, ScopeSet, ScopeSettings, TenantPatch, TenantSettings,
};

/// The desired state of a tenant.
#[derive(Clone, Debug)]
pub struct Profile {
    /// Changes to the tenant and its policy.
    pub tenant: TenantPatch,
    /// The complete catalogue.
    pub scopes: BTreeMap<ScopeName, ScopeSettings>,
    /// All endpoint rules. Their scopes must be in `scopes`. `None`: unchanged.
    pub endpoints: Option<Endpoints>,
    /// All roles. `None`: unchanged.
    pub roles: Option<BTreeMap<RoleId, RoleSettings>>,
    /// An application that is created together with the tenant.
    pub default_application: Option<DefaultApplication>,
}

/// An application that is created together with its tenant.
#[derive(Clone, Debug)]
pub struct DefaultApplication {
    pub id: ApplicationId,
    pub display_name: String,
    pub scopes: ScopeSet,
}

/// One difference between a tenant and its profile.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Change {
    CreateTenant(Box<TenantSettings>),
    UpdateTenant { before: Box<TenantSettings>, after: Box<TenantSettings> },
    CreateEndpoint(Box<Endpoint>),
    UpdateEndpoint { before: Box<Endpoint>, after: Box<Endpoint> },
    DeleteEndpoint(Box<Endpoint>),
    CreateScope(ScopeName, ScopeSettings),
    UpdateScope { before: Scope, after: ScopeSettings },
    DeleteScope(Scope),
    CreateRole(RoleId, RoleSettings),
    UpdateRole { before: Role, after: RoleSettings },
    DeleteRole(Role),
    CreateApplication(ApplicationId, ApplicationSettings),
}

impl Change {
    /// The catalogue changes, sorted by scope.
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

    /// The role changes, sorted by id.
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

    /// The endpoint rule changes, sorted by path and method.
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

    /// The scope that applications lose because of this change.
    pub fn lost_scope(&self) -> Option<&ScopeName> {
        match self {
            Self::DeleteScope(scope) => Some(&scope.id.scope),
            Self::UpdateScope { before, after } if after.disabled && !before.settings.disabled => {
                Some(&before.id.scope)
            }
            _ => None,
        }
    }

    /// The changed fields. Empty for a deletion.
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
