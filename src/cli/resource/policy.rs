//! Policies: the flags and the output.

use clap::{Args, ValueEnum};
use serde::{Deserialize, Serialize};

use super::limits::{LimitsView, limit_flags};
use crate::cli::claims;
use crate::cli::names::{self, LifetimeArg};
use crate::proto::admin as pb;
use crate::proto::admin::policy::{Owner, UserDeletion};

/// Who may own an application.
#[derive(Clone, Copy, Debug, Deserialize, Serialize, ValueEnum)]
#[serde(rename_all = "snake_case")]
pub(in crate::cli) enum OwnerWord {
    User,
    Account,
}

/// What deleting a user does to the user's applications.
#[derive(Clone, Copy, Debug, Default, Deserialize, Serialize, ValueEnum)]
#[serde(rename_all = "snake_case")]
#[value(rename_all = "snake_case")]
pub(in crate::cli) enum DeletionWord {
    /// The user cannot be deleted
    #[default]
    Refuse,
    /// Another user gets them
    HandOver,
    /// They are deleted too
    Delete,
}

/// Flags for the fields of a policy.
#[derive(Debug, Args)]
#[command(next_help_heading = "Policy")]
pub(in crate::cli) struct PolicyFlags {
    /// Disable the API credentials of the tenant (true), which revokes its tokens, or enable them
    /// (false)
    #[arg(long, value_name = "BOOL")]
    api_credentials_disabled: Option<bool>,
    /// The maximum of credentials in the tenant; 0: no limit
    #[arg(long, value_name = "N")]
    max_credentials: Option<i64>,
    /// Who may own new applications: user or account; repeat it for both ('': both)
    #[arg(long, value_name = "OWNER", value_parser = allowed_owner)]
    allowed_owner: Vec<AllowedOwner>,
    /// Whether users with the permission can see secrets again; false destroys the stored copies
    #[arg(long, value_name = "BOOL")]
    secrets_viewable: Option<bool>,
    /// A field that cannot be changed after creation; repeat it for more. It replaces the present
    /// ones ('': none)
    #[arg(long, value_name = "FIELD")]
    fixed_field: Vec<String>,
    /// The longest lifetime of a credential: a span like 90d, or never for no maximum
    #[arg(long, value_name = "SPAN", value_parser = names::lifetime)]
    max_credential_lifetime: Option<LifetimeArg>,
    /// What deleting a user does to the user's applications
    #[arg(long, value_enum)]
    user_deletion: Option<DeletionWord>,
    /// A kind of credential that can be created: `client_secret`, `api_key`, `public_key`,
    /// `certificate` or `federated`; repeat it for more. It replaces the present ones ('': all kinds)
    #[arg(long, value_name = "KIND")]
    allowed_credential_kind: Vec<String>,
    /// Whether each token must be bound to a key or a certificate of the client; true revokes the
    /// tenant's tokens
    #[arg(long, value_name = "BOOL")]
    require_bound_tokens: Option<bool>,
    /// A claim that each token carries: region=nz, or with a value in JSON: tier=3, or a list of
    /// strings; repeat it for more. It replaces the present ones ('': none)
    #[arg(long, value_name = "NAME=VALUE", value_parser = claims::token_claim)]
    token_claim: Vec<claims::ClaimArg>,
    #[command(flatten)]
    default_limits: DefaultLimitFlags,
    #[command(flatten)]
    tenant_limits: TenantLimitFlags,
    #[command(flatten)]
    max_limits: MaxLimitFlags,
}

limit_flags!(
    DefaultLimitFlags, "default-limit", ", for each application",
    "no-default-limits": "No limits for applications without limits of their own"
);
limit_flags!(
    TenantLimitFlags, "tenant-limit", ", for all applications together",
    "no-tenant-limits": "No limits for all applications together"
);
limit_flags!(
    MaxLimitFlags, "max-limit", ", the platform's maximum for each application",
    "no-max-limits": "No maximum of the limits of applications"
);

#[derive(Clone, Copy, Debug)]
enum AllowedOwner {
    Any,
    One(OwnerWord),
}

fn allowed_owner(text: &str) -> Result<AllowedOwner, String> {
    if text.is_empty() {
        return Ok(AllowedOwner::Any);
    }
    let word = OwnerWord::from_str(text, false).map(AllowedOwner::One);
    word.map_err(|_| "must be user, account or '' for both".to_owned())
}

impl PolicyFlags {
    /// Whether any flag is given.
    pub(in crate::cli) fn are_given(&self) -> bool {
        self.api_credentials_disabled.is_some()
            || self.max_credentials.is_some()
            || !self.allowed_owner.is_empty()
            || self.secrets_viewable.is_some()
            || !self.fixed_field.is_empty()
            || self.max_credential_lifetime.is_some()
            || self.user_deletion.is_some()
            || !self.allowed_credential_kind.is_empty()
            || self.require_bound_tokens.is_some()
            || !self.token_claim.is_empty()
            || self.default_limits.given().is_any()
            || self.tenant_limits.given().is_any()
            || self.max_limits.given().is_any()
    }

    /// Applies the given fields to the present policy.
    pub(in crate::cli) fn onto(&self, before: pb::Policy) -> pb::Policy {
        let default_limits = self.default_limits.given().onto(before.default_limits);
        let tenant_limits = self.tenant_limits.given().onto(before.tenant_limits);
        let max_limits = self.max_limits.given().onto(before.max_limits);
        let owners = self.allowed_owner.iter().filter_map(|owner| match owner {
            AllowedOwner::Any => None,
            AllowedOwner::One(word) => Some(Owner::from(*word).into()),
        });
        let mut policy = pb::Policy {
            default_limits,
            tenant_limits,
            max_limits,
            api_credentials_disabled: self
                .api_credentials_disabled
                .unwrap_or(before.api_credentials_disabled),
            max_credentials: self.max_credentials.unwrap_or(before.max_credentials),
            secrets_viewable: self.secrets_viewable.unwrap_or(before.secrets_viewable),
            require_bound_tokens: self.require_bound_tokens.unwrap_or(before.require_bound_tokens),
            max_credential_lifetime: match self.max_credential_lifetime {
                None => before.max_credential_lifetime,
                Some(LifetimeArg::Unlimited) => None,
                Some(LifetimeArg::Span(span)) => Some(span),
            },
            ..before
        };
        if !self.allowed_owner.is_empty() {
            policy.allowed_owners = owners.collect();
        }
        if !self.fixed_field.is_empty() {
            policy.fixed_fields = names::given_words(&self.fixed_field);
        }
        if !self.allowed_credential_kind.is_empty() {
            policy.allowed_credential_kinds = names::given_words(&self.allowed_credential_kind);
        }
        if !self.token_claim.is_empty() {
            policy.token_claims = Some(claims::token_claims(&self.token_claim));
        }
        if let Some(word) = self.user_deletion {
            policy.set_user_deletion(word.into());
        }
        policy
    }
}

impl From<OwnerWord> for Owner {
    fn from(word: OwnerWord) -> Self {
        match word {
            OwnerWord::User => Self::User,
            OwnerWord::Account => Self::Account,
        }
    }
}

impl From<DeletionWord> for UserDeletion {
    fn from(word: DeletionWord) -> Self {
        match word {
            DeletionWord::Refuse => Self::Refuse,
            DeletionWord::HandOver => Self::HandOver,
            DeletionWord::Delete => Self::Delete,
        }
    }
}

/// A policy in the output. An absent member is unlimited.
#[derive(Serialize)]
#[expect(clippy::struct_excessive_bools, reason = "each is a field of the policy")]
pub(in crate::cli) struct PolicyView {
    api_credentials_disabled: bool,
    api_credentials_disabled_by_platform: bool,
    max_credentials: Option<i64>,
    allowed_owners: Vec<OwnerWord>,
    secrets_viewable: bool,
    fixed_fields: Vec<String>,
    max_credential_lifetime: Option<String>,
    default_limits: Option<LimitsView>,
    tenant_limits: Option<LimitsView>,
    max_limits: Option<LimitsView>,
    user_deletion: DeletionWord,
    allowed_credential_kinds: Vec<String>,
    require_bound_tokens: bool,
    token_claims: serde_json::Value,
}

impl From<pb::Policy> for PolicyView {
    fn from(policy: pb::Policy) -> Self {
        let owner = |owner| match owner {
            Owner::User => Some(OwnerWord::User),
            Owner::Account => Some(OwnerWord::Account),
            Owner::Unspecified => None,
        };
        Self {
            allowed_owners: policy.allowed_owners().filter_map(owner).collect(),
            user_deletion: match policy.user_deletion() {
                UserDeletion::Unspecified | UserDeletion::Refuse => DeletionWord::Refuse,
                UserDeletion::HandOver => DeletionWord::HandOver,
                UserDeletion::Delete => DeletionWord::Delete,
            },
            api_credentials_disabled: policy.api_credentials_disabled,
            api_credentials_disabled_by_platform: policy.api_credentials_disabled_by_platform,
            max_credentials: unless_zero(policy.max_credentials),
            secrets_viewable: policy.secrets_viewable,
            fixed_fields: policy.fixed_fields,
            allowed_credential_kinds: policy.allowed_credential_kinds,
            require_bound_tokens: policy.require_bound_tokens,
            token_claims: claims::json(policy.token_claims.as_ref()),
            max_credential_lifetime: names::seconds(policy.max_credential_lifetime.as_ref()),
            default_limits: policy.default_limits.map(LimitsView::from),
            tenant_limits: policy.tenant_limits.map(LimitsView::from),
            max_limits: policy.max_limits.map(LimitsView::from),
        }
    }
}

/// Zero means no limit.
fn unless_zero(number: i64) -> Option<i64> {
    Some(number).filter(|number| *number != 0)
}
