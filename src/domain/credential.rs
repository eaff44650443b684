//! Credentials: how an application proves itself.

use std::fmt::Display;
use std::time::Duration;

use jiff::Timestamp;

use super::{CredentialName, Field, LastUse, Limits, Moment, Policy, Record, State, ends_earlier};
use crate::clock::later;
use crate::error::{Error, Result};

/// What a credential is made of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CredentialKind {
    /// A client id and a client secret.
    ClientSecret,
    /// One string that is both.
    ApiKey,
}

impl CredentialKind {
    /// The word for it in tables.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::ClientSecret => "client_secret",
            Self::ApiKey => "api_key",
        }
    }

    /// Reads the word.
    pub fn parse(word: &str) -> Option<Self> {
        [Self::ClientSecret, Self::ApiKey].into_iter().find(|kind| kind.as_str() == word)
    }
}

/// How an application proves itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Credential {
    /// Its name, with its application's. The id is the client id.
    pub name: CredentialName,
    /// What it is made of.
    pub kind: CredentialKind,
    /// What can be changed of it.
    pub settings: CredentialSettings,
    /// Its secrets, newest first; some may have ended.
    pub secrets: Vec<SecretRecord>,
    /// When it was last used, if it was.
    pub last_use: Option<LastUse>,
    /// Raised to revoke every token made with the credential.
    pub epoch: i64,
    /// Version and times.
    pub record: Record,
}

/// Refuses a secret of what has expired at `now`: it could not work.
pub fn require_unexpired(name: impl Display, end: Option<Moment>, now: Timestamp) -> Result<()> {
    if end.is_some_and(|end| end <= now) {
        return Err(Error::Expired {
            name: name.to_string(),
            what_to_do: "extend its expire_time first, or create another",
        });
    }
    Ok(())
}

/// What can be changed of a credential.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct CredentialSettings {
    /// A name for people.
    pub display_name: String,
    /// From then on it is refused.
    pub expires_at: Option<Moment>,
    /// Whether it is refused.
    pub disabled: bool,
    /// Whether the platform disabled it: then no user enables it.
    pub disabled_by_platform: bool,
    /// Its own limits, beside those of its application.
    pub limits: Option<Limits>,
}

/// A change of a credential: the fields that are set.
#[derive(Clone, Debug, Default)]
pub struct CredentialPatch {
    /// New name.
    pub display_name: Option<String>,
    /// New expiry; `Some(None)` is never.
    pub expires_at: Option<Option<Moment>>,
    /// New state.
    pub disabled: Option<bool>,
    /// New limits; `Some(None)` is none of its own.
    pub limits: Option<Option<Limits>>,
}

/// What is kept of a secret: never the secret itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SecretRecord {
    /// Counts the secrets of a credential.
    pub version: i64,
    /// Its argon2id hash, as a PHC string.
    pub hash: String,
    /// Its last four characters.
    pub last_four: String,
    /// A copy sealed under the master key, where the policy has secrets viewable.
    pub sealed: Option<String>,
    /// When it was made.
    pub created_at: Timestamp,
    /// From then on it is refused.
    pub expires_at: Option<Timestamp>,
}

impl SecretRecord {
    /// Whether it is accepted at `now`.
    pub fn is_live(&self, now: Timestamp) -> bool {
        self.expires_at.is_none_or(|end| now < end)
    }
}

impl CredentialSettings {
    /// These settings with a change made to them.
    #[must_use]
    pub fn with(&self, patch: CredentialPatch) -> Self {
        Self {
            display_name: patch.display_name.unwrap_or_else(|| self.display_name.clone()),
            expires_at: patch.expires_at.unwrap_or(self.expires_at),
            disabled: patch.disabled.unwrap_or(self.disabled),
            disabled_by_platform: self.disabled_by_platform,
            limits: patch.limits.unwrap_or(self.limits),
        }
    }

    /// The fields of these settings that are others in `after`.
    pub fn changed(&self, after: &Self) -> impl Iterator<Item = Field> {
        [
            (Field::DisplayName, self.display_name != after.display_name),
            (Field::ExpireTime, self.expires_at != after.expires_at),
            (Field::Limits, self.limits != after.limits),
            (Field::Disabled, self.disabled != after.disabled),
        ]
        .into_iter()
        .filter_map(|(field, changed)| changed.then_some(field))
    }

    /// Whether going from these settings to `after` may let secrets work again.
    pub fn revives(&self, after: &Self) -> bool {
        (self.disabled && !after.disabled) || ends_earlier(after.expires_at, self.expires_at)
    }

    /// Whether going from these settings to `after` must revoke the tokens there are.
    pub fn revokes(&self, after: &Self) -> bool {
        (after.disabled && !self.disabled) || ends_earlier(self.expires_at, after.expires_at)
    }
}

impl CredentialPatch {
    /// The fields that it sets, whatever they were.
    pub fn fields(&self) -> Vec<Field> {
        let fields = [
            (Field::DisplayName, self.display_name.is_some()),
            (Field::ExpireTime, self.expires_at.is_some()),
            (Field::Limits, self.limits.is_some()),
            (Field::Disabled, self.disabled.is_some()),
        ];
        fields.into_iter().filter_map(|(field, set)| set.then_some(field)).collect()
    }

    /// Whether it may let secrets work again, whatever it changes.
    pub fn may_revive(&self) -> bool {
        self.disabled == Some(false) || self.expires_at.is_some()
    }
}

impl Credential {
    /// How long an old secret goes on working unless the caller says otherwise.
    pub const DEFAULT_OVERLAP: Duration = Duration::from_hours(24);
    /// The longest it may.
    pub const MAX_OVERLAP: Duration = Duration::from_hours(30 * 24);

    /// Whether it works at `now`.
    pub fn state(&self, now: Timestamp) -> State {
        State::at(now, self.settings.disabled, self.settings.expires_at)
    }

    /// Refuses a secret of one that has expired at `now`, by itself or by the policy.
    pub fn require_unexpired(&self, policy: &Policy, now: Timestamp) -> Result<()> {
        if policy.latest_end(self.record.created_at).is_some_and(|end| end <= now) {
            return Err(Error::Expired {
                name: self.name.to_string(),
                what_to_do: "the policy's max_credential_lifetime is over, create another \
                             credential",
            });
        }
        require_unexpired(&self.name, self.settings.expires_at, now)
    }

    /// The secrets that are accepted at `now`, newest first.
    pub fn live_secrets(&self, now: Timestamp) -> impl Iterator<Item = &SecretRecord> {
        self.secrets.iter().filter(move |secret| secret.is_live(now))
    }

    /// Whether its newest secret can be seen again.
    pub fn is_viewable(&self) -> bool {
        self.secrets.first().is_some_and(|secret| secret.sealed.is_some())
    }

    /// When the secrets there are end, if a new one is made now. At most two live at
    /// once, so a rotation that overlaps waits until the one before is over; one that
    /// does not (the answer to a leak) never has to.
    pub fn rotation_end(&self, now: Timestamp, overlap: Duration) -> Result<Timestamp> {
        let older = self.live_secrets(now).skip(1).filter_map(|secret| secret.expires_at).max();
        match older {
            Some(older_ends) if !overlap.is_zero() => Err(Error::RotationInProgress { older_ends }),
            _ => Ok(later(now, overlap)),
        }
    }

    /// The version of the next secret.
    pub fn next_version(&self) -> i64 {
        self.secrets.iter().map(|s| s.version).max().unwrap_or(0) + 1
    }
}
