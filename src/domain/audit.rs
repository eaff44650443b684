//! The audit log: who did what to which resource, and what changed.

use std::fmt;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::policy::words;
use super::{
    ApplicationSettings, CredentialSettings, Endpoint, Fault, Limits, Moment, Policy, RoleSettings,
    ScopeSettings, TenantId, TenantSettings, UserName, UserSettings,
};
use crate::error::Result;

words!(
    /// What is attempted: the RPC of that name, or a part of what a profile does.
    Action {
        /// A tenant is made.
        CreateTenant = "CreateTenant",
        /// A tenant or its policy is changed.
        UpdateTenant = "UpdateTenant",
        /// A tenant is deleted.
        DeleteTenant = "DeleteTenant",
        /// A tenant is made what a profile says: told if it is refused; what it does is told
        /// change by change.
        ApplyProfile = "ApplyProfile",
        /// A rule for an endpoint is made, by a profile.
        CreateEndpoint = "CreateEndpoint",
        /// A rule for an endpoint is changed, by a profile.
        UpdateEndpoint = "UpdateEndpoint",
        /// A rule for an endpoint goes, by a profile.
        DeleteEndpoint = "DeleteEndpoint",
        /// A scope is added.
        CreateScope = "CreateScope",
        /// A scope is changed.
        UpdateScope = "UpdateScope",
        /// A scope is taken out.
        DeleteScope = "DeleteScope",
        /// A role is made.
        CreateRole = "CreateRole",
        /// A role is changed.
        UpdateRole = "UpdateRole",
        /// A role is deleted.
        DeleteRole = "DeleteRole",
        /// A user is made known.
        CreateUser = "CreateUser",
        /// A user is changed.
        UpdateUser = "UpdateUser",
        /// A user is deleted.
        DeleteUser = "DeleteUser",
        /// An application is made.
        CreateApplication = "CreateApplication",
        /// An application is changed, or gets another owner.
        UpdateApplication = "UpdateApplication",
        /// An application is deleted.
        DeleteApplication = "DeleteApplication",
        /// A credential is made.
        CreateCredential = "CreateCredential",
        /// A credential is changed.
        UpdateCredential = "UpdateCredential",
        /// A credential is deleted.
        DeleteCredential = "DeleteCredential",
        /// A credential gets a new secret.
        RotateCredential = "RotateCredential",
        /// A secret is told again.
        RevealCredential = "RevealCredential",
        /// A token is revoked.
        RevokeToken = "RevokeToken",
        /// All tokens of something are revoked, or one by its id.
        RevokeTokens = "RevokeTokens",
        /// A client is locked out: too many wrong secrets of it came from one source.
        LockOut = "LockOut",
        /// An operator declares the database as it is to be the truth.
        AcceptDatabase = "AcceptDatabase",
    }
);

/// Who does something.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Actor {
    /// The calling service: its application's resource name, or `keyward`.
    pub service: String,
    /// The user it acts for.
    pub user: Option<UserName>,
    /// Where the call came from.
    pub address: Option<String>,
}

/// How an attempt ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// It was done.
    Done,
    /// It was refused.
    Refused,
}

/// One event of the log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AuditEvent {
    /// In whose log it stands.
    pub tenant: TenantId,
    /// Its place in that log, from 1; given when it is written.
    pub number: i64,
    /// When it happened.
    pub at: Timestamp,
    /// Who did it.
    pub actor: Actor,
    /// What was attempted; a later version of Keyward may know more than [`Action`].
    pub action: String,
    /// The resource name of what it was about.
    pub resource: String,
    /// How it ended.
    pub outcome: Outcome,
    /// Why it was refused, or what else is to be said.
    pub detail: String,
    /// What changed.
    pub changes: Vec<FieldChange>,
}

/// Which events are wanted: those that meet every condition there is.
#[derive(Clone, Debug, Default)]
pub struct AuditFilter {
    /// About this resource, one below it or one above it.
    pub resource: Option<String>,
    /// Brought about by this user or application.
    pub actor: Option<String>,
    /// Attempts of this.
    pub action: Option<Action>,
    /// From then on.
    pub start: Option<Moment>,
    /// Before then.
    pub end: Option<Moment>,
    /// The oldest first.
    pub oldest_first: bool,
}

/// One field that changed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct FieldChange {
    /// Its name.
    pub field: String,
    /// What it was; `None`: there was nothing.
    pub before: Option<String>,
    /// What it is; `None`: there is nothing any more.
    pub after: Option<String>,
}

/// What can be told field by field, without secrets; always all fields in one order.
pub trait Described {
    /// The fields and their values.
    fn fields(&self) -> Vec<(&'static str, String)>;
}

impl FieldChange {
    /// A change of one field.
    pub fn new(field: &str, before: Option<String>, after: Option<String>) -> Self {
        Self { field: field.to_owned(), before, after }
    }

    /// What something new is: the fields that say something.
    pub fn of_new(after: &impl Described) -> Vec<Self> {
        let said = after.fields().into_iter().filter(says_something);
        said.map(|(field, value)| Self::new(field, None, Some(value))).collect()
    }

    /// What something that goes was.
    pub fn of_gone(before: &impl Described) -> Vec<Self> {
        let said = before.fields().into_iter().filter(says_something);
        said.map(|(field, value)| Self::new(field, Some(value), None)).collect()
    }

    /// What differs.
    pub fn between<T: Described>(before: &T, after: &T) -> Vec<Self> {
        let pairs = before.fields().into_iter().zip(after.fields());
        pairs
            .filter(|((_, old), (_, new))| old != new)
            .map(|((field, old), (_, new))| Self::new(field, Some(old), Some(new)))
            .collect()
    }
}

fn says_something((_, value): &(&'static str, String)) -> bool {
    !value.is_empty() && value != "false"
}

impl fmt::Display for FieldChange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { field, before, after } = self;
        match (before, after) {
            (Some(before), Some(after)) => write!(f, "{field}: {before:?} -> {after:?}"),
            (None, Some(value)) | (Some(value), None) => write!(f, "{field}: {value:?}"),
            (None, None) => f.write_str(field),
        }
    }
}

fn joined<T: ToString>(values: impl IntoIterator<Item = T>) -> String {
    let each: Vec<_> = values.into_iter().map(|value| value.to_string()).collect();
    each.join(" ")
}

/// Something that may be absent, which is empty.
fn or_empty<T: ToString>(value: Option<T>) -> String {
    value.map(|value| value.to_string()).unwrap_or_default()
}

/// Limits, which may be absent: that is empty.
fn in_words(limits: Option<Limits>) -> String {
    limits.map(|limits| limits.in_words()).unwrap_or_default()
}

impl Described for TenantSettings {
    fn fields(&self) -> Vec<(&'static str, String)> {
        let mut fields = vec![
            ("display_name", self.display_name.clone()),
            ("default_audience", self.default_audience.to_string()),
            ("additional_audiences", joined(&self.additional_audiences)),
            ("access_token_lifetime", format!("{}s", self.access_token_lifetime.seconds())),
            ("disabled", self.disabled.to_string()),
        ];
        fields.extend(self.policy.fields());
        fields
    }
}

impl Described for Policy {
    fn fields(&self) -> Vec<(&'static str, String)> {
        let lifetime = self.max_credential_lifetime.map(|most| format!("{}s", most.seconds()));
        vec![
            ("policy.api_credentials_disabled", self.api_credentials_disabled.to_string()),
            (
                "policy.api_credentials_disabled_by_platform",
                self.api_credentials_disabled_by_platform.to_string(),
            ),
            ("policy.max_credentials", or_empty(self.max_credentials)),
            ("policy.allowed_owners", joined(&self.allowed_owners)),
            ("policy.secrets_viewable", self.secrets_viewable.to_string()),
            ("policy.fixed_fields", joined(&self.fixed_fields)),
            ("policy.max_credential_lifetime", or_empty(lifetime)),
            ("policy.default_limits", in_words(self.default_limits)),
            ("policy.tenant_limits", in_words(self.tenant_limits)),
            ("policy.max_limits", in_words(self.max_limits)),
            ("policy.user_deletion", self.user_deletion.to_string()),
        ]
    }
}

impl Described for Endpoint {
    fn fields(&self) -> Vec<(&'static str, String)> {
        vec![
            ("all_of", self.needs.all_of.to_string()),
            ("any_of", self.needs.any_of.to_string()),
            ("limits", in_words(self.limits)),
            ("description", self.description.clone()),
        ]
    }
}

impl Described for ScopeSettings {
    fn fields(&self) -> Vec<(&'static str, String)> {
        vec![
            ("display_name", self.display_name.clone()),
            ("description", self.description.clone()),
            ("domain", self.domain.clone()),
            ("family", self.family.clone()),
            ("disabled", self.disabled.to_string()),
            ("disabled_by_platform", self.disabled_by_platform.to_string()),
        ]
    }
}

impl Described for RoleSettings {
    fn fields(&self) -> Vec<(&'static str, String)> {
        vec![
            ("display_name", self.display_name.clone()),
            ("description", self.description.clone()),
            ("permissions", self.permissions.to_string()),
            ("scopes", self.scopes.to_string()),
            ("all_scopes", self.all_scopes.to_string()),
        ]
    }
}

impl Described for UserSettings {
    fn fields(&self) -> Vec<(&'static str, String)> {
        vec![
            ("display_name", self.display_name.clone()),
            ("roles", joined(&self.roles)),
            ("disabled", self.disabled.to_string()),
            ("disabled_by_platform", self.disabled_by_platform.to_string()),
        ]
    }
}

impl Described for ApplicationSettings {
    fn fields(&self) -> Vec<(&'static str, String)> {
        vec![
            ("display_name", self.display_name.clone()),
            ("description", self.description.clone()),
            ("contact_email", self.contact_email.clone()),
            ("scopes", self.scopes.to_string()),
            ("roles", joined(&self.roles)),
            ("expire_time", or_empty(self.expires_at)),
            ("limits", in_words(self.limits)),
            ("limits_lifted", self.limits_lifted.to_string()),
            ("disabled", self.disabled.to_string()),
            ("disabled_by_platform", self.disabled_by_platform.to_string()),
            ("protected", self.protected.to_string()),
        ]
    }
}

impl Described for CredentialSettings {
    fn fields(&self) -> Vec<(&'static str, String)> {
        vec![
            ("display_name", self.display_name.clone()),
            ("expire_time", or_empty(self.expires_at)),
            ("limits", in_words(self.limits)),
            ("disabled", self.disabled.to_string()),
            ("disabled_by_platform", self.disabled_by_platform.to_string()),
        ]
    }
}
