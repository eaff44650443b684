//! The audit log: who did what to which resource, and what changed.

use std::fmt;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use strum::{Display, EnumString, IntoStaticStr};

use super::{
    ApplicationSettings, CredentialSettings, Endpoint, Limits, Moment, Policy, Registration,
    RoleSettings, ScopeSettings, TenantId, TenantSettings, TokenClaims, UserName, UserSettings,
};

/// What was attempted. Most actions are named after an RPC.
#[derive(
    Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Display, EnumString, IntoStaticStr,
)]
#[strum(const_into_str)]
pub enum Action {
    CreateTenant,
    UpdateTenant,
    DeleteTenant,
    /// `ApplyProfile`. Recorded only if it is refused; otherwise each change has its own event.
    ApplyProfile,
    /// By `ApplyProfile`.
    CreateEndpoint,
    /// By `ApplyProfile`.
    UpdateEndpoint,
    /// By `ApplyProfile`.
    DeleteEndpoint,
    CreateScope,
    UpdateScope,
    DeleteScope,
    CreateRole,
    UpdateRole,
    DeleteRole,
    CreateUser,
    UpdateUser,
    DeleteUser,
    CreateApplication,
    /// Includes a change of owner.
    UpdateApplication,
    DeleteApplication,
    CreateCredential,
    UpdateCredential,
    DeleteCredential,
    RotateCredential,
    /// Shows a secret again.
    RevealCredential,
    RevokeToken,
    /// Revokes all tokens of a resource, or one token by its id.
    RevokeTokens,
    /// A signing key was made, or signs earlier than planned. Mostly by Keyward itself.
    RotateSigningKey,
    RetireSigningKey,
    /// Every token that a signing key signed is refused.
    RevokeSigningKey,
    /// A private key was erased, or a public key is no longer published. By Keyward itself.
    RemoveSigningKey,
    /// Stored values are sealed again, after a change of the master key.
    RewrapValues,
    /// A client was locked out after too many wrong secrets from one source.
    LockOut,
    /// An operator declared the current database state to be authoritative.
    AcceptDatabase,
    /// Old events were deleted (`audit.retention`).
    PurgeAuditEvents,
}

/// Who acts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Actor {
    /// The resource name of the calling application, or `keyward` for the server itself.
    pub service: String,
    /// The user on whose behalf the service acts.
    pub user: Option<UserName>,
    /// The caller's address.
    pub address: Option<String>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    Done,
    Refused,
}

/// One event of the audit log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AuditEvent {
    /// The tenant whose log holds the event.
    pub tenant: TenantId,
    /// The position in that log, starting at 1. Assigned when the event is written.
    pub number: i64,
    pub at: Timestamp,
    pub actor: Actor,
    /// The name of an [`Action`]. It is a string because a newer version may write actions that
    /// this one does not know.
    pub action: String,
    pub resource: String,
    pub outcome: Outcome,
    /// Why the attempt was refused, or other details.
    pub detail: String,
    pub changes: Vec<FieldChange>,
}

/// Selects events. An event must match all conditions that are set.
#[derive(Clone, Debug, Default)]
pub struct AuditFilter {
    /// Events about this resource, its children or its parents.
    pub resource: Option<String>,
    /// Events caused by this user or application.
    pub actor: Option<String>,
    pub action: Option<Action>,
    /// Inclusive.
    pub start: Option<Moment>,
    /// Exclusive.
    pub end: Option<Moment>,
    pub oldest_first: bool,
}

impl AuditFilter {
    /// The maximum number of characters of a resource or an actor: more than any resource name has.
    pub const MAX_CHARACTERS: usize = 512;
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct FieldChange {
    pub field: String,
    /// `None`: the field was empty.
    pub before: Option<String>,
    /// `None`: the field is empty now.
    pub after: Option<String>,
}

/// A resource whose fields can be written to the audit log. Must not return secrets, and must
/// always return the same fields in the same order.
pub trait AuditFields {
    /// The name and value of each field.
    fn fields(&self) -> Vec<(&'static str, String)>;
}

impl FieldChange {
    pub fn new(field: &str, before: Option<String>, after: Option<String>) -> Self {
        Self { field: field.to_owned(), before, after }
    }

    /// The non-empty fields of a new resource.
    pub fn of_new(after: &impl AuditFields) -> Vec<Self> {
        let said = after.fields().into_iter().filter(is_set);
        said.map(|(field, value)| Self::new(field, None, Some(value))).collect()
    }

    /// The non-empty fields of a deleted resource.
    pub fn of_gone(before: &impl AuditFields) -> Vec<Self> {
        let said = before.fields().into_iter().filter(is_set);
        said.map(|(field, value)| Self::new(field, Some(value), None)).collect()
    }

    /// The fields that differ.
    pub fn between<T: AuditFields>(before: &T, after: &T) -> Vec<Self> {
        let pairs = before.fields().into_iter().zip(after.fields());
        pairs
            .filter(|((_, old), (_, new))| old != new)
            .map(|((field, old), (_, new))| Self::new(field, Some(old), Some(new)))
            .collect()
    }
}

fn is_set((_, value): &(&'static str, String)) -> bool {
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

/// `None` becomes an empty string.
fn or_empty<T: ToString>(value: Option<T>) -> String {
    value.map(|value| value.to_string()).unwrap_or_default()
}

/// `None` becomes an empty string.
fn in_words(limits: Option<Limits>) -> String {
    limits.map(|limits| limits.in_words()).unwrap_or_default()
}

/// No claims become an empty string.
fn claims_in_words(claims: &TokenClaims) -> String {
    if claims.is_empty() { String::new() } else { claims.json().to_owned() }
}

impl AuditFields for TenantSettings {
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

impl AuditFields for Policy {
    fn fields(&self) -> Vec<(&'static str, String)> {
        let lifetime = self.max_credential_lifetime.map(|max| format!("{}s", max.seconds()));
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
            ("policy.user_deletion", self.user_deletion.into_str().to_owned()),
            ("policy.allowed_credential_kinds", joined(&self.allowed_credential_kinds)),
            ("policy.require_bound_tokens", self.require_bound_tokens.to_string()),
            ("policy.token_claims", claims_in_words(&self.token_claims)),
        ]
    }
}

impl AuditFields for Endpoint {
    fn fields(&self) -> Vec<(&'static str, String)> {
        vec![
            ("all_of", self.needs.all_of.to_string()),
            ("any_of", self.needs.any_of.to_string()),
            ("limits", in_words(self.limits)),
            ("description", self.description.clone()),
        ]
    }
}

impl AuditFields for ScopeSettings {
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

impl AuditFields for RoleSettings {
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

impl AuditFields for UserSettings {
    fn fields(&self) -> Vec<(&'static str, String)> {
        vec![
            ("display_name", self.display_name.clone()),
            ("roles", joined(&self.roles)),
            ("disabled", self.disabled.to_string()),
            ("disabled_by_platform", self.disabled_by_platform.to_string()),
        ]
    }
}

impl AuditFields for ApplicationSettings {
    fn fields(&self) -> Vec<(&'static str, String)> {
        let lifetime = self.access_token_lifetime.map(|own| format!("{}s", own.seconds()));
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
            ("exchange_audiences", joined(&self.exchange_audiences)),
            ("access_token_lifetime", or_empty(lifetime)),
        ]
    }
}

impl AuditFields for CredentialSettings {
    fn fields(&self) -> Vec<(&'static str, String)> {
        vec![
            ("display_name", self.display_name.clone()),
            ("expire_time", or_empty(self.expires_at)),
            ("limits", in_words(self.limits)),
            ("disabled", self.disabled.to_string()),
            ("disabled_by_platform", self.disabled_by_platform.to_string()),
            ("certificate_bound_tokens", self.certificate_bound_tokens.to_string()),
            (
                "registration",
                self.registration.as_ref().map(Registration::digest).unwrap_or_default(),
            ),
        ]
    }
}
