//! Tenants: the customers of the platform.

use std::fmt;
use std::time::Duration;

use super::fields::Fault;
use super::{FieldPatch, Policy, Record, TenantId};
use crate::error::{Error, Result};

/// The intended recipient of a token: the `aud` claim.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Audience(String);

impl Audience {
    /// The audience of tokens for Keyward itself.
    pub const KEYWARD: &'static str = "keyward";

    /// Validates an audience: 1 to 255 printable ASCII characters without spaces.
    pub fn parse(value: &str) -> Result<Self, Fault> {
        if value.is_empty() || value.len() > 255 || !value.bytes().all(|b| b.is_ascii_graphic()) {
            return Err(Fault::new("must be 1 to 255 printable ASCII characters without spaces"));
        }
        Ok(Self(value.to_owned()))
    }

    /// The same, for which tokens can be exchanged: any but Keyward itself. What happens there is
    /// attributed to the application that calls, which must be the one that acts.
    pub fn parse_for_exchange(value: &str) -> Result<Self, Fault> {
        match Self::parse(value)? {
            audience if audience.0 == Self::KEYWARD => {
                Err(Fault::new("must not be keyward: tokens for Keyward itself are not exchanged"))
            }
            audience => Ok(audience),
        }
    }

    /// The audience of a tenant that configures none.
    pub fn default_of(tenant: &TenantId) -> Self {
        Self(tenant.name())
    }

    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for Audience {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// The lifetime of access tokens: 60 s to 3600 s.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct TokenLifetime(u32);

impl TokenLifetime {
    /// The default. Go's token exchange client refreshes tokens 300 s before their expiry, so a
    /// lifetime of 300 s or less would make it request a new token for every call.
    pub const DEFAULT: Self = Self(900);
    pub const MAX: Self = Self(3600);

    /// Validates a lifetime in seconds.
    pub fn from_seconds(seconds: i64) -> Result<Self, Fault> {
        u32::try_from(seconds)
            .ok()
            .filter(|s| (60..=Self::MAX.0).contains(s))
            .map(Self)
            .ok_or_else(|| Fault::new("must be 60 s to 3600 s, in whole seconds"))
    }

    pub fn seconds(self) -> i64 {
        i64::from(self.0)
    }

    pub fn duration(self) -> Duration {
        Duration::from_secs(u64::from(self.0))
    }
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Tenant {
    pub id: TenantId,
    pub settings: TenantSettings,
    /// Raising it revokes all tokens of the tenant.
    pub epoch: i64,
    /// Distinguishes tenants that reuse a deleted one's id: the number of the tenant's first audit
    /// event, or 1 if there was no earlier tenant.
    pub life: i64,
    pub record: Record,
}

/// The fields of a tenant that can be changed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TenantSettings {
    pub display_name: String,
    /// The audience of tokens, unless the client requests another.
    pub default_audience: Audience,
    /// Other audiences that clients can request.
    pub additional_audiences: Vec<Audience>,
    pub access_token_lifetime: TokenLifetime,
    /// If true, all tokens of the tenant are refused.
    pub disabled: bool,
    pub policy: Policy,
}

/// Changes to a tenant. `None` and `Keep` leave a field as it is.
#[derive(Clone, Debug, Default)]
pub struct TenantPatch {
    /// `Some("")` restores the default, the tenant's id.
    pub display_name: Option<String>,
    /// Clearing it restores the default.
    pub default_audience: FieldPatch<Audience>,
    pub additional_audiences: Option<Vec<Audience>>,
    pub access_token_lifetime: Option<TokenLifetime>,
    pub disabled: Option<bool>,
    /// Replaces the whole policy.
    pub policy: Option<Policy>,
}

impl Tenant {
    /// Returns an error for the built-in tenant. It has no users and roles, its applications act by
    /// their scopes, and its catalogue and policy are fixed.
    pub fn require_own_rules(&self) -> Result<(), Error> {
        if self.id.is_system() { Err(Error::BuiltIn(self.id.name())) } else { Ok(()) }
    }
}

impl TenantPatch {
    /// Whether the patch changes more than what users of the tenant may decide.
    pub fn is_more_than_policy(&self) -> bool {
        self.display_name.is_some()
            || self.default_audience.is_named()
            || self.additional_audiences.is_some()
            || self.disabled.is_some()
    }
}

impl TenantSettings {
    /// The maximum number of additional audiences.
    pub const MAX_AUDIENCES: usize = 64;

    /// The defaults of a new tenant.
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

    /// Applies a patch.
    #[must_use]
    pub fn with(&self, id: &TenantId, patch: TenantPatch) -> Self {
        let default = Self::new(id);
        Self {
            display_name: match patch.display_name {
                Some(name) if name.is_empty() => default.display_name,
                Some(name) => name,
                None => self.display_name.clone(),
            },
            default_audience: patch
                .default_audience
                .apply(Some(self.default_audience.clone()))
                .unwrap_or(default.default_audience),
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

    /// Whether the change from `self` to `after` must revoke existing tokens.
    pub fn revokes(&self, after: &Self) -> bool {
        let audiences = self.additional_audiences.iter().chain([&self.default_audience]);
        let narrower = audiences.into_iter().any(|audience| !after.allows_audience(audience));
        (after.disabled && !self.disabled) || narrower || self.policy.revokes(&after.policy)
    }

    /// Returns an error if an application may not get the right to exchange tokens for one of these
    /// audiences, because no token of the tenant may have it.
    pub fn require_exchange_audiences<'a>(
        &self,
        audiences: impl IntoIterator<Item = &'a Audience>,
    ) -> Result<(), Error> {
        match audiences.into_iter().find(|audience| !self.allows_audience(audience)) {
            None => Ok(()),
            Some(foreign) => Err(Error::invalid(
                "application.exchange_audiences",
                format!(
                    "has {foreign}, which is not an audience of the tenant: add it to the tenant's \
                     additional_audiences first"
                ),
            )),
        }
    }

    /// Whether tokens of the tenant may have this audience: one of its own, or Keyward, so that
    /// applications can ask about their own tokens.
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
    fn removed_audience_revokes_tokens_and_added_one_does_not() {
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
        assert!(!with("a", &["b"]).revokes(&with("b", &["a"])), "both can still be requested");
    }
}
