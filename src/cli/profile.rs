//! Profile files: TOML, see `deploy/profiles/`.

use std::path::Path;

use serde::Deserialize;

use super::claims;
use super::resource::limits::LimitsEntry;
use super::resource::policy::{DeletionWord, OwnerWord};
use super::{Failure, names};
use crate::proto::admin as pb;
use crate::proto::admin::policy::{Owner, UserDeletion};

/// A profile file. Unknown fields are errors, so that a misspelled field is not ignored.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct ProfileFile {
    tenant: Option<String>,
    #[serde(default)]
    display_name: String,
    #[serde(default)]
    default_audience: String,
    access_token_lifetime: Option<String>,
    policy: Option<PolicyEntry>,
    default_application: Option<DefaultApplicationEntry>,
    /// Required, so that a profile without this field does not delete the whole catalogue.
    scopes: Vec<ScopeEntry>,
    roles: Option<Vec<RoleEntry>>,
    endpoints: Option<Vec<EndpointEntry>>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct ScopeEntry {
    name: String,
    #[serde(default)]
    display_name: String,
    #[serde(default)]
    description: String,
    #[serde(default)]
    domain: String,
    #[serde(default)]
    family: String,
    #[serde(default)]
    disabled: bool,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct RoleEntry {
    id: String,
    #[serde(default)]
    display_name: String,
    #[serde(default)]
    description: String,
    #[serde(default)]
    permissions: Vec<String>,
    #[serde(default)]
    scopes: Vec<String>,
    #[serde(default)]
    all_scopes: bool,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct EndpointEntry {
    method: String,
    path: String,
    #[serde(default)]
    all_of: Vec<String>,
    #[serde(default)]
    any_of: Vec<String>,
    #[serde(default)]
    description: String,
    limits: Option<LimitsEntry>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct DefaultApplicationEntry {
    id: String,
    display_name: String,
    #[serde(default)]
    scopes: Vec<String>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct PolicyEntry {
    api_credentials_disabled: bool,
    max_credentials: i64,
    allowed_owners: Vec<OwnerWord>,
    secrets_viewable: bool,
    fixed_fields: Vec<String>,
    max_credential_lifetime: Option<String>,
    default_limits: Option<LimitsEntry>,
    tenant_limits: Option<LimitsEntry>,
    max_limits: Option<LimitsEntry>,
    user_deletion: DeletionWord,
    allowed_credential_kinds: Vec<String>,
    require_bound_tokens: bool,
    token_claims: serde_json::Map<String, serde_json::Value>,
}

impl ProfileFile {
    /// Reads a profile from a file, or from standard input for `-`.
    pub(super) fn read(path: &Path) -> Result<Self, Failure> {
        let fault = |what: String| Failure::usage(format!("{}: {what}", path.display()));
        let text = if path.as_os_str() == "-" {
            std::io::read_to_string(std::io::stdin())
        } else {
            std::fs::read_to_string(path)
        };
        let text = text.map_err(|error| fault(error.to_string()))?;
        Self::parse(&text).map_err(fault)
    }

    pub(super) fn parse(text: &str) -> Result<Self, String> {
        toml::from_str(text).map_err(|error| error.to_string())
    }

    /// Converts the profile to a request. `tenant` overrides the tenant in the profile.
    pub(super) fn request(self, tenant: Option<&str>) -> Result<pb::ApplyProfileRequest, Failure> {
        let tenant = tenant
            .map(ToOwned::to_owned)
            .or(self.tenant)
            .ok_or_else(|| Failure::usage("the profile has no tenant: set one with --tenant"))?;
        let lifetime = self.access_token_lifetime;
        let endpoint_set = self.endpoints.map(endpoint_set).transpose()?;
        let profile = pb::Profile {
            display_name: self.display_name,
            default_audience: self.default_audience,
            access_token_lifetime: names::keyed_span("access_token_lifetime", lifetime.as_deref())?,
            scopes: self.scopes.into_iter().map(pb::Scope::from).collect(),
            policy: self.policy.map(PolicyEntry::message).transpose()?,
            endpoint_set,
            role_set: self.roles.map(|roles| pb::RoleSet {
                roles: roles.into_iter().map(pb::Role::from).collect(),
            }),
            default_application: self.default_application.map(|application| {
                pb::DefaultApplication {
                    application_id: application.id,
                    display_name: application.display_name,
                    scopes: application.scopes,
                }
            }),
        };
        Ok(pb::ApplyProfileRequest {
            name: names::tenant(&tenant),
            profile: Some(profile),
            ..pb::ApplyProfileRequest::default()
        })
    }
}

fn endpoint_set(entries: Vec<EndpointEntry>) -> Result<pb::EndpointSet, Failure> {
    let mut endpoints = Vec::with_capacity(entries.len());
    for (n, entry) in entries.into_iter().enumerate() {
        let limits = entry.limits.map(|limits| limits.message(&format!("endpoints[{n}].limits")));
        endpoints.push(pb::Endpoint {
            method: entry.method,
            path: entry.path,
            all_of: entry.all_of,
            any_of: entry.any_of,
            limits: limits.transpose()?,
            description: entry.description,
        });
    }
    Ok(pb::EndpointSet { endpoints })
}

impl PolicyEntry {
    fn message(self) -> Result<pb::Policy, Failure> {
        let owner = |word| Owner::from(word).into();
        let limits = |key: &str, entry: Option<LimitsEntry>| {
            entry.map(|entry| entry.message(key)).transpose()
        };
        let lifetime = self.max_credential_lifetime.as_deref();
        Ok(pb::Policy {
            api_credentials_disabled: self.api_credentials_disabled,
            max_credentials: self.max_credentials,
            allowed_owners: self.allowed_owners.into_iter().map(owner).collect(),
            secrets_viewable: self.secrets_viewable,
            fixed_fields: self.fixed_fields,
            max_credential_lifetime: names::keyed_span("policy.max_credential_lifetime", lifetime)?,
            default_limits: limits("policy.default_limits", self.default_limits)?,
            tenant_limits: limits("policy.tenant_limits", self.tenant_limits)?,
            max_limits: limits("policy.max_limits", self.max_limits)?,
            user_deletion: UserDeletion::from(self.user_deletion).into(),
            allowed_credential_kinds: self.allowed_credential_kinds,
            require_bound_tokens: self.require_bound_tokens,
            token_claims: Some(claims::message(self.token_claims)),
            // Output only.
            api_credentials_disabled_by_platform: false,
        })
    }
}

impl From<ScopeEntry> for pb::Scope {
    fn from(entry: ScopeEntry) -> Self {
        Self {
            name: entry.name,
            display_name: entry.display_name,
            description: entry.description,
            domain: entry.domain,
            family: entry.family,
            disabled: entry.disabled,
            ..Self::default()
        }
    }
}

impl From<RoleEntry> for pb::Role {
    fn from(entry: RoleEntry) -> Self {
        Self {
            name: entry.id,
            display_name: entry.display_name,
            description: entry.description,
            permissions: entry.permissions,
            scopes: entry.scopes,
            all_scopes: entry.all_scopes,
            ..Self::default()
        }
    }
}
