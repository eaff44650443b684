//! Credentials: how an application authenticates.

use std::fmt;
use std::time::Duration;

use jiff::Timestamp;
use strum::{Display, EnumString, IntoStaticStr, VariantNames};

use super::{
    CredentialName, Field, FieldPatch, LastUse, Limits, Moment, Policy, Record, Registration,
    State, ends_earlier,
};
use crate::clock::later;
use crate::error::{Error, Result};

/// The kind of a credential, with its name in the database and on the wire.
#[derive(
    Clone,
    Copy,
    Debug,
    Display,
    PartialEq,
    Eq,
    PartialOrd,
    Ord,
    EnumString,
    IntoStaticStr,
    VariantNames,
)]
#[strum(serialize_all = "snake_case", const_into_str)]
pub enum CredentialKind {
    /// A client id with a client secret.
    ClientSecret,
    /// A single string that contains both.
    ApiKey,
    /// The client signs a JWT with its private key.
    PublicKey,
    /// The client proves to have a certificate in the TLS handshake.
    Certificate,
    /// The client presents a token of its platform.
    Federated,
}

/// The kinds of secrets that a client and the server share.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SecretKind {
    ClientSecret,
    ApiKey,
}

impl CredentialKind {
    /// The kind of its secret; `None`: it has none.
    pub const fn secret(self) -> Option<SecretKind> {
        match self {
            Self::ClientSecret => Some(SecretKind::ClientSecret),
            Self::ApiKey => Some(SecretKind::ApiKey),
            Self::PublicKey | Self::Certificate | Self::Federated => None,
        }
    }
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Credential {
    /// The resource name. Its last segment is the client id.
    pub name: CredentialName,
    pub kind: CredentialKind,
    pub settings: CredentialSettings,
    /// The secrets, newest first. Includes expired ones. Empty if the kind has none.
    pub secrets: Vec<SecretRecord>,
    /// When the credential was last used; `None`: never.
    pub last_use: Option<LastUse>,
    /// Raising it revokes all tokens of the credential.
    pub epoch: i64,
    pub record: Record,
}

/// Returns an error if the owner of a new secret has expired at `now`, since the secret could never
/// work.
pub fn require_unexpired(
    name: impl fmt::Display,
    end: Option<Moment>,
    now: Timestamp,
) -> Result<()> {
    if end.is_some_and(|end| end <= now) {
        return Err(Error::Expired {
            name: name.to_string(),
            what_to_do: "extend its expire_time first, or create another",
        });
    }
    Ok(())
}

/// The fields of a credential that can be changed.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct CredentialSettings {
    pub display_name: String,
    /// The credential is refused from this time on. `None`: never.
    pub expires_at: Option<Moment>,
    pub disabled: bool,
    /// Whether the platform disabled it. If so, users cannot enable it.
    pub disabled_by_platform: bool,
    /// The credential's own limits, which apply in addition to the application's.
    pub limits: Option<Limits>,
    /// What the client is recognised by, if the kind has no secret.
    pub registration: Option<Registration>,
    /// Whether each token is bound to the client certificate of the connection that asks for it.
    pub certificate_bound_tokens: bool,
}

/// Changes to a credential. `None` and `Keep` leave a field as it is.
#[derive(Clone, Debug, Default)]
pub struct CredentialPatch {
    pub display_name: Option<String>,
    pub expires_at: FieldPatch<Moment>,
    pub disabled: Option<bool>,
    pub limits: FieldPatch<Limits>,
    pub registration: Option<Registration>,
    pub certificate_bound_tokens: Option<bool>,
}

/// The stored form of a secret, which does not contain the secret itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SecretRecord {
    /// Numbers the secrets of a credential.
    pub version: i64,
    /// The argon2id hash, as a PHC string.
    pub hash: String,
    pub last_four: String,
    /// A copy that is encrypted with the master key. Only if the policy has `secrets_viewable`.
    pub sealed: Option<String>,
    pub created_at: Timestamp,
    /// The secret is refused from this time on. `None`: never.
    pub expires_at: Option<Timestamp>,
}

impl SecretRecord {
    /// Whether the secret works at `now`.
    pub fn is_live(&self, now: Timestamp) -> bool {
        self.expires_at.is_none_or(|end| now < end)
    }
}

impl CredentialSettings {
    /// Applies a patch.
    #[must_use]
    pub fn with(&self, patch: CredentialPatch) -> Self {
        Self {
            display_name: patch.display_name.unwrap_or_else(|| self.display_name.clone()),
            expires_at: patch.expires_at.apply(self.expires_at),
            disabled: patch.disabled.unwrap_or(self.disabled),
            disabled_by_platform: self.disabled_by_platform,
            limits: patch.limits.apply(self.limits),
            registration: patch.registration.or_else(|| self.registration.clone()),
            certificate_bound_tokens: patch
                .certificate_bound_tokens
                .unwrap_or(self.certificate_bound_tokens),
        }
    }

    /// The fields that differ between `self` and `after`.
    pub fn changed(&self, after: &Self) -> impl Iterator<Item = Field> {
        [
            (Field::DisplayName, self.display_name != after.display_name),
            (Field::ExpireTime, self.expires_at != after.expires_at),
            (Field::Limits, self.limits != after.limits),
            (Field::Disabled, self.disabled != after.disabled),
            // A key is to its client what a secret is, and so is the certificate that its tokens
            // are bound to.
            (
                Field::Secrets,
                self.registration != after.registration
                    || self.certificate_bound_tokens != after.certificate_bound_tokens,
            ),
        ]
        .into_iter()
        .filter_map(|(field, changed)| changed.then_some(field))
    }

    /// Whether the change from `self` to `after` can let someone authenticate who cannot now.
    pub fn revives(&self, after: &Self) -> bool {
        (self.disabled && !after.disabled)
            || ends_earlier(after.expires_at, self.expires_at)
            || self.registration != after.registration
    }

    /// Whether the change from `self` to `after` must revoke existing tokens.
    pub fn revokes(&self, after: &Self) -> bool {
        let keeps = match (&self.registration, &after.registration) {
            (Some(before), Some(after)) => after.keeps(before),
            (before, after) => before == after,
        };
        (after.disabled && !self.disabled)
            || ends_earlier(self.expires_at, after.expires_at)
            || !keeps
            // Tokens that are bound to nothing would outlive the change.
            || (after.certificate_bound_tokens && !self.certificate_bound_tokens)
    }
}

impl CredentialPatch {
    /// The fields that this patch sets, changed or not.
    pub fn fields(&self) -> Vec<Field> {
        let fields = [
            (Field::DisplayName, self.display_name.is_some()),
            (Field::ExpireTime, self.expires_at.is_named()),
            (Field::Limits, self.limits.is_named()),
            (Field::Disabled, self.disabled.is_some()),
            (
                Field::Secrets,
                self.registration.is_some() || self.certificate_bound_tokens.is_some(),
            ),
        ];
        fields.into_iter().filter_map(|(field, set)| set.then_some(field)).collect()
    }

    /// Whether this patch could let someone authenticate who cannot now.
    pub fn may_revive(&self) -> bool {
        self.disabled == Some(false) || self.expires_at.is_named() || self.registration.is_some()
    }
}

impl Credential {
    /// How long the previous secret keeps working after a rotation, by default.
    pub const DEFAULT_OVERLAP: Duration = Duration::from_hours(24);
    /// The maximum overlap of a rotation.
    pub const MAX_OVERLAP: Duration = Duration::from_hours(30 * 24);

    pub fn state(&self, now: Timestamp) -> State {
        State::at(now, self.settings.disabled, self.settings.expires_at)
    }

    /// Returns an error if the credential has expired at `now`, by its own expiry or the policy's.
    pub fn require_unexpired(&self, policy: &Policy, now: Timestamp) -> Result<()> {
        if policy.latest_end(self.record.created_at).is_some_and(|end| end <= now) {
            return Err(Error::Expired {
                name: self.name.to_string(),
                what_to_do: "the policy's max_credential_lifetime has passed: create another \
                             credential",
            });
        }
        require_unexpired(&self.name, self.settings.expires_at, now)
    }

    /// The secrets that work at `now`, newest first.
    pub fn live_secrets(&self, now: Timestamp) -> impl Iterator<Item = &SecretRecord> {
        self.secrets.iter().filter(move |secret| secret.is_live(now))
    }

    /// Whether the newest secret can be shown again.
    pub fn is_viewable(&self) -> bool {
        self.secrets.first().is_some_and(|secret| secret.sealed.is_some())
    }

    /// When the current secrets expire if the secret is rotated at `now`. At most two secrets work
    /// at a time, so a rotation with an overlap is refused until the previous overlap is over. A
    /// rotation without overlap (after a leak) always works.
    pub fn rotation_end(&self, now: Timestamp, overlap: Duration) -> Result<Timestamp> {
        let older = self.live_secrets(now).skip(1).filter_map(|secret| secret.expires_at).max();
        match older {
            Some(older_ends) if !overlap.is_zero() => Err(Error::RotationInProgress { older_ends }),
            _ => Ok(later(now, overlap)),
        }
    }

    pub fn next_version(&self) -> i64 {
        self.secrets.iter().map(|s| s.version).max().unwrap_or(0) + 1
    }
}
