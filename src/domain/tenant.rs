//! Tenants: the customers of the platform.

use std::fmt;
use std::time::Duration;

use super::fields::Fault;
use super::{Policy, Record, TenantId};
use crate::error::{Error, Result};

/// Whom a token is for: the `aud` claim.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Audience(String);

impl Audience {
    /// The audience of tokens that are for Keyward itself.
    pub const KEYWARD: &'static str = "keyward";

    /// Checks an audience: 1 to 255 printable ASCII characters without spaces.
    pub fn parse(value: &str) -> Result<Self, Fault> {
        if value.is_empty() || value.len() > 255 || !value.bytes().all(|b| b.is_ascii_graphic()) {
            return Err(Fault::new("must be 1 to 255 printable ASCII characters without spaces"));
        }
        Ok(Self(value.to_owned()))
    }

    /// The audience that tokens of a tenant have unless it says otherwise.
    pub fn default_of(tenant: &TenantId) -> Self {
        Self(tenant.name())
    }

    /// The audience as it is written.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for Audience {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// How long an access token lives: 60 s to 3600 s.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TokenLifetime(u32);

impl TokenLifetime {
    /// What a tenant has unless it says otherwise. Longer than the 300 s under which
    /// Go's token exchange client fetches a new token at every call.
    pub const DEFAULT: Self = Self(900);
    /// The longest life of any token.
    pub const MAX: Self = Self(3600);

    /// Checks a lifetime in whole seconds.
    pub fn from_seconds(seconds: i64) -> Result<Self, Fault> {
        u32::try_from(seconds)
            .ok()
            .filter(|s| (60..=Self::MAX.0).contains(s))
            .map(Self)
            .ok_or_else(|| Fault::new("must be 60 s to 3600 s, in whole seconds"))
    }

    /// In seconds.
    pub fn seconds(self) -> i64 {
        i64::from(self.0)
    }

    /// As a duration.
    pub fn duration(self) -> Duration {
        Duration::from_secs(u64::from(self.0))
    }
}

/// One customer of the platform.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Tenant {
    /// Its id.
    pub id: TenantId,
    /// What can be changed of it.
    pub settings: TenantSettings,
    /// Raised to revoke every token of the tenant.
    pub epoch: i64,
    /// Which tenant of this name it is, by the number of its first event in the audit log; 1:
    /// there was none before.
    pub life: i64,
    /// Version and times.
    pub record: Record,
}

/// What can be changed of a tenant.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TenantSettings {
    /// A name for people.
    pub display_name: String,
    /// The audience of tokens for which none was asked.
    pub default_audience: Audience,
    /// Further audiences that may be asked for.
    pub additional_audiences: Vec<Audience>,
    /// How long its tokens live.
    pub access_token_lifetime: TokenLifetime,
    /// Whether all of its tokens are refused.
    pub disabled: bool,
    /// Its rules.
    pub policy: Policy,
}

/// A change of a tenant: the fields that are set.
#[derive(Clone, Debug, Default)]
pub struct TenantPatch {
    /// New name; `Some("")` takes the id.
    pub display_name: Option<String>,
    /// New default audience; `Some(None)` takes the tenant's own.
    pub default_audience: Option<Option<Audience>>,
    /// New additional audiences.
    pub additional_audiences: Option<Vec<Audience>>,
    /// New lifetime.
    pub access_token_lifetime: Option<TokenLifetime>,
    /// New state.
    pub disabled: Option<bool>,
    /// New rules, in place of the old ones.
    pub policy: Option<Policy>,
}

impl Tenant {
    /// Refuses the built-in tenant: it has no users and roles, its applications act by their
    /// scopes, and its catalogue and policy stay as they are.
    pub fn require_own_rules(&self) -> Result<(), Error> {
        if self.id.is_system() { Err(Error::BuiltIn(self.id.name())) } else { Ok(()) }
    }
}

impl TenantPatch {
    /// Whether it changes what is not a tenant's own to decide.
    pub fn is_more_than_policy(&self) -> bool {
        self.display_name.is_some()
            || self.default_audience.is_some()
            || self.additional_audiences.is_some()
            || self.disabled.is_some()
    }
}

impl TenantSettings {
    /// What a tenant has unless it says otherwise.
    pub fn new(id: &TenantId) -> Self {
        Self {
            display_name: id.to_string(),
            default_audience: Audience::default_of(id),
            additional_audiences: Vec::new(),
            access_token_lifetime: TokenLifetime::DEFAULT,
            disabled: false,
            policy: Policy::default(),
        }
    }

    /// These settings with a change made to them.
    #[must_use]
    pub fn with(&self, id: &TenantId, patch: TenantPatch) -> Self {
        let default = Self::new(id);
        Self {
            display_name: match patch.display_name {
                Some(name) if name.is_empty() => default.display_name,
                Some(name) => name,
                None => self.display_name.clone(),
            },
            default_audience: match patch.default_audience {
                Some(audience) => audience.unwrap_or(default.default_audience),
                None => self.default_audience.clone(),
            },
            additional_audiences: patch
                .additional_audiences
                .unwrap_or_else(|| self.additional_audiences.clone()),
            access_token_lifetime: patch
                .access_token_lifetime
                .unwrap_or(self.access_token_lifetime),
            disabled: patch.disabled.unwrap_or(self.disabled),
            policy: patch.policy.unwrap_or_else(|| self.policy.clone()),
        }
    }

    /// Whether going from these settings to `after` must revoke the tokens there are.
    pub fn revokes(&self, after: &Self) -> bool {
        let audiences = self.additional_audiences.iter().chain([&self.default_audience]);
        let narrower = audiences.into_iter().any(|audience| !after.allows_audience(audience));
        (after.disabled && !self.disabled) || narrower || self.policy.revokes(&after.policy)
    }

    /// Whether tokens of the tenant may be for this audience: one of its own, or Keyward,
    /// where every application may ask about its own tokens.
    pub fn allows_audience(&self, audience: &Audience) -> bool {
        self.default_audience == *audience
            || self.additional_audiences.contains(audience)
            || audience.as_str() == Audience::KEYWARD
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_audience_that_goes_revokes_and_one_that_comes_does_not() {
        let id = TenantId::parse("acme").unwrap();
        let audience = |text: &str| Audience::parse(text).unwrap();
        let plain = TenantSettings::new(&id);
        let with = |default: &str, more: &[&str]| TenantSettings {
            default_audience: audience(default),
            additional_audiences: more.iter().map(|text| audience(text)).collect(),
            ..plain.clone()
        };
        assert!(!with("a", &[]).revokes(&with("a", &["b"])));
        assert!(with("a", &["b"]).revokes(&with("a", &[])));
        assert!(with("a", &[]).revokes(&with("b", &[])));
        assert!(!with("a", &["b"]).revokes(&with("b", &["a"])), "both may still be asked for");
    }
}
