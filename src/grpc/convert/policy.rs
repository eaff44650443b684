//! Policies.

use super::{claims, known, limits, required_span, seconds};
use crate::domain::fields::one_of;
use crate::domain::{
    CredentialKind, Fault, Field, FieldErrors, Lifetime, OwnerKind, Policy, TokenClaims,
    UserDeletion,
};
use crate::error::Result;
use crate::proto::admin as pb;
use crate::proto::admin::policy::{Owner as OwnerMessage, UserDeletion as DeletionMessage};
use crate::service::PolicyViolation;

/// A policy from its message; `field` is the message's own path.
pub(super) fn policy(
    fields: &mut FieldErrors,
    field: &str,
    message: &pb::Policy,
) -> Option<Policy> {
    let at = |name: &str| format!("{field}.{name}");
    let max = match message.max_credentials {
        0 => Ok(None),
        max if max > 0 => Ok(Some(max)),
        _ => Err(Fault::new("must not be negative")),
    };
    let max_credentials = fields.read(at("max_credentials"), max);
    let owners = message.allowed_owners.iter().enumerate().map(|(n, number)| {
        fields.read(at(&format!("allowed_owners[{n}]")), known(*number).and_then(owner))
    });
    // Converts every field before it returns, so that all faults are reported.
    let owners: Vec<_> = owners.collect();
    let allowed_owners: Option<_> = owners.into_iter().collect();
    let deletion = fields.read(at("user_deletion"), known(message.user_deletion));
    let fixed_fields =
        fields.read_each(&at("fixed_fields"), &message.fixed_fields, one_of::<Field>);
    let lifetime = message
        .max_credential_lifetime
        .as_ref()
        .map(|span| required_span(span).and_then(Lifetime::from_seconds));
    let lifetime = fields.read(at("max_credential_lifetime"), lifetime.transpose());
    let mut limits = |name: &str, message: Option<&pb::Limits>| {
        message.and_then(|message| limits::limits(fields, &at(name), message))
    };
    let default_limits = limits("default_limits", message.default_limits.as_ref());
    let tenant_limits = limits("tenant_limits", message.tenant_limits.as_ref());
    let max_limits = limits("max_limits", message.max_limits.as_ref());
    if message.max_limits.is_some_and(|limits| limits.observe_only) {
        fields.fault(at("max_limits.observe_only"), "must be false: a maximum refuses");
    }
    let kinds = fields.read_each(
        &at("allowed_credential_kinds"),
        &message.allowed_credential_kinds,
        one_of::<CredentialKind>,
    );
    let claims = message
        .token_claims
        .as_ref()
        .map_or_else(|| Ok(TokenClaims::default()), claims::token_claims);
    let token_claims = fields.read(at("token_claims"), claims);
    Some(Policy {
        allowed_credential_kinds: kinds?,
        require_bound_tokens: message.require_bound_tokens,
        token_claims: token_claims?,
        api_credentials_disabled: message.api_credentials_disabled,
        // The service sets it from the caller.
        api_credentials_disabled_by_platform: false,
        max_credentials: max_credentials?,
        allowed_owners: allowed_owners?,
        secrets_viewable: message.secrets_viewable,
        fixed_fields: fixed_fields?,
        max_credential_lifetime: lifetime?,
        default_limits,
        tenant_limits,
        max_limits,
        user_deletion: match deletion? {
            DeletionMessage::Unspecified | DeletionMessage::Refuse => UserDeletion::Refuse,
            DeletionMessage::HandOver => UserDeletion::HandOver,
            DeletionMessage::Delete => UserDeletion::Delete,
        },
    })
}

fn owner(message: OwnerMessage) -> Result<OwnerKind, Fault> {
    match message {
        OwnerMessage::User => Ok(OwnerKind::User),
        OwnerMessage::Account => Ok(OwnerKind::Account),
        OwnerMessage::Unspecified => Err(Fault::new("must be OWNER_USER or OWNER_ACCOUNT")),
    }
}

pub(super) fn message(policy: &Policy) -> pb::Policy {
    let owners = policy.allowed_owners.iter().map(|kind| match kind {
        OwnerKind::User => OwnerMessage::User.into(),
        OwnerKind::Account => OwnerMessage::Account.into(),
    });
    let deletion = match policy.user_deletion {
        UserDeletion::Refuse => DeletionMessage::Refuse,
        UserDeletion::HandOver => DeletionMessage::HandOver,
        UserDeletion::Delete => DeletionMessage::Delete,
    };
    pb::Policy {
        api_credentials_disabled: policy.api_credentials_disabled,
        api_credentials_disabled_by_platform: policy.api_credentials_disabled_by_platform,
        max_credentials: policy.max_credentials.unwrap_or_default(),
        allowed_owners: owners.collect(),
        secrets_viewable: policy.secrets_viewable,
        fixed_fields: policy.fixed_fields.iter().map(ToString::to_string).collect(),
        max_credential_lifetime: policy.max_credential_lifetime.map(|max| seconds(max.duration())),
        default_limits: policy.default_limits.map(limits::message),
        tenant_limits: policy.tenant_limits.map(limits::message),
        max_limits: policy.max_limits.map(limits::message),
        user_deletion: deletion.into(),
        allowed_credential_kinds: policy
            .allowed_credential_kinds
            .iter()
            .map(ToString::to_string)
            .collect(),
        require_bound_tokens: policy.require_bound_tokens,
        token_claims: claims::message(&policy.token_claims),
    }
}

pub(in crate::grpc) fn violation(violation: PolicyViolation) -> pb::PolicyViolation {
    pb::PolicyViolation {
        field: violation.rule.to_owned(),
        description: violation.description,
        count: violation.found.count,
        resources: violation.found.first,
    }
}
