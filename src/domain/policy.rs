//! Policies: the rules for all applications and credentials of a tenant.

use std::collections::BTreeSet;
use std::time::Duration;

use jiff::Timestamp;
use strum::{Display, EnumString, IntoStaticStr, VariantNames};

use super::fields::Fault;
use super::{Authority, Call, CredentialKind, Limits, Moment, Owner, OwnerKind, TokenClaims};
use crate::clock::later;
use crate::error::{Error, Result};

/// The policy of a tenant.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[expect(clippy::struct_excessive_bools, reason = "each is a rule of its own, in any mixture")]
pub struct Policy {
    /// If true, the tenant has no API credentials: existing ones are refused.
    pub api_credentials_disabled: bool,
    /// Whether the platform disabled them. If so, users cannot enable them.
    pub api_credentials_disabled_by_platform: bool,
    /// The maximum number of credentials in the tenant. `None`: unlimited.
    pub max_credentials: Option<i64>,
    /// Who may own new applications. Empty: the account and users.
    pub allowed_owners: BTreeSet<OwnerKind>,
    /// If true, secrets can be shown again.
    pub secrets_viewable: bool,
    /// Fields that cannot be changed after creation.
    pub fixed_fields: BTreeSet<Field>,
    /// The maximum lifetime of a credential. `None`: unlimited.
    pub max_credential_lifetime: Option<Lifetime>,
    /// The default limits of each application. Users can only narrow them, unless they have the
    /// permission to exceed them.
    pub default_limits: Option<Limits>,
    /// The maximum limits of each application, for all callers.
    pub max_limits: Option<Limits>,
    /// The limits of all applications of the tenant together.
    pub tenant_limits: Option<Limits>,
    /// What deleting a user does to the applications that they own.
    pub user_deletion: UserDeletion,
    /// The kinds of new credentials. Empty: all kinds.
    pub allowed_credential_kinds: BTreeSet<CredentialKind>,
    /// If true, tokens must be bound to a key or a certificate of the client.
    pub require_bound_tokens: bool,
    /// Claims that each token of the tenant carries.
    pub token_claims: TokenClaims,
}

/// What deleting a user does to the applications that they own.
#[derive(
    Clone,
    Copy,
    Debug,
    Default,
    PartialEq,
    Eq,
    PartialOrd,
    Ord,
    EnumString,
    IntoStaticStr,
    VariantNames,
)]
#[strum(serialize_all = "snake_case", const_into_str)]
pub enum UserDeletion {
    /// The user cannot be deleted while they own applications.
    #[default]
    Refuse,
    /// The applications get another owner.
    HandOver,
    /// The applications are deleted.
    Delete,
}

/// A field of an application or a credential that a policy can fix.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Display, EnumString, VariantNames)]
#[strum(serialize_all = "snake_case")]
pub enum Field {
    DisplayName,
    Description,
    ContactEmail,
    Scopes,
    Roles,
    ExpireTime,
    Limits,
    Disabled,
    /// The secrets of a credential. If fixed, they cannot be rotated.
    Secrets,
}

/// The lifetime of a credential: 60 s to 3650 days.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Lifetime(Duration);

impl Lifetime {
    /// Validates a lifetime in seconds.
    pub fn from_seconds(seconds: i64) -> Result<Self, Fault> {
        u64::try_from(seconds)
            .ok()
            .filter(|s| (60..=3650 * 86_400).contains(s))
            .map(|s| Self(Duration::from_secs(s)))
            .ok_or_else(|| Fault::new("must be 60 s to 3650 days, in whole seconds"))
    }

    pub fn seconds(self) -> i64 {
        i64::try_from(self.0.as_secs()).unwrap_or(i64::MAX)
    }

    pub fn duration(self) -> Duration {
        self.0
    }
}

impl Policy {
    /// Returns an error if the tenant's API credentials are disabled.
    pub fn require_enabled(&self) -> Result<()> {
        if self.api_credentials_disabled {
            return Err(Error::Policy {
                rule: "api_credentials_disabled",
                message: "the tenant has no API credentials".to_owned(),
            });
        }
        Ok(())
    }

    /// Returns an error if this owner may not have new applications and credentials.
    pub fn require_owner(&self, owner: &Owner) -> Result<()> {
        if self.allows_owner(owner.kind()) {
            return Ok(());
        }
        Err(Error::Policy {
            rule: "allowed_owners",
            message: format!(
                "{} cannot get new applications or credentials",
                owner.kind().phrase()
            ),
        })
    }

    pub fn allows_owner(&self, kind: OwnerKind) -> bool {
        self.allowed_owners.is_empty() || self.allowed_owners.contains(&kind)
    }

    /// Returns an error if credentials of this kind may not be created.
    pub fn require_kind(&self, kind: CredentialKind) -> Result<()> {
        if self.allows_kind(kind) {
            return Ok(());
        }
        let allowed: Vec<_> =
            self.allowed_credential_kinds.iter().map(CredentialKind::into_str).collect();
        Err(Error::Policy {
            rule: "allowed_credential_kinds",
            message: format!(
                "credentials of the kind {} are not allowed here; allowed: {}",
                kind.into_str(),
                allowed.join(", ")
            ),
        })
    }

    pub fn allows_kind(&self, kind: CredentialKind) -> bool {
        self.allowed_credential_kinds.is_empty() || self.allowed_credential_kinds.contains(&kind)
    }

    /// Returns an error if a token for a client that proved to have nothing would be refused.
    pub fn require_binding(&self, bound: bool) -> Result<()> {
        if bound || !self.require_bound_tokens {
            return Ok(());
        }
        Err(Error::Policy {
            rule: "require_bound_tokens",
            message: "tokens must be bound: send a DPoP proof, or use a client certificate"
                .to_owned(),
        })
    }

    /// Returns an error if one of the changed fields is fixed.
    pub fn require_changeable(&self, changed: impl IntoIterator<Item = Field>) -> Result<()> {
        match changed.into_iter().find(|field| self.fixed_fields.contains(field)) {
            None => Ok(()),
            Some(field) => Err(Error::Policy {
                rule: "fixed_fields",
                message: format!("{field} cannot be changed after creation"),
            }),
        }
    }

    /// Returns an error if the tenant has reached `max_credentials`.
    pub fn require_room(&self, credentials: i64) -> Result<()> {
        match self.max_credentials {
            Some(limit) if credentials >= limit => Err(Error::QuotaExceeded { limit }),
            _ => Ok(()),
        }
    }

    /// The limits that apply to an application; all of them are enforced together. Its own limits
    /// replace the default. Unless they were `lifted`, the default also bounds them, in case it
    /// became narrower later.
    pub fn application_limits(&self, own: Option<Limits>, lifted: bool) -> Vec<Limits> {
        let wanted = match own {
            Some(own) => Some(own.completed_by(self.default_limits)),
            None => self.default_limits,
        };
        let default = self.default_limits.filter(|_| !lifted);
        let bounds: Vec<_> = [default, self.max_limits].into_iter().flatten().collect();
        match wanted {
            Some(wanted) => wanted.bounded_by(&bounds),
            None if bounds.is_empty() => Vec::new(),
            None => Limits::default().bounded_by(&bounds),
        }
    }

    /// Whether an application's own limits exceed the policy's default. Returns an error if the
    /// caller may not set them. `before` holds the previous limits and whether they exceeded the
    /// default: a user may keep and narrow them.
    pub fn lifts(
        &self,
        authority: &Authority,
        call: Call,
        before: Option<(Limits, bool)>,
        own: Option<Limits>,
    ) -> Result<bool> {
        let Some(own) = own else {
            return Ok(false);
        };
        let completed = |limits: Limits| limits.completed_by(self.default_limits);
        let wanted = completed(own);
        let lifts = !within(Some(wanted), self.default_limits);
        let may_lift = authority.require_lift(call);
        if authority.user().is_none() {
            return Ok(lifts);
        }
        match before {
            Some((had, lifted)) if had == own && (lifted || may_lift.is_err()) => {
                return Ok(lifted);
            }
            Some((had, true)) if wanted.are_within(&completed(had)) => return Ok(lifts),
            _ => {}
        }
        if lifts {
            may_lift?;
        }
        self.require_within_max(wanted)?;
        Ok(lifts)
    }

    /// Returns an error if a user may not make this change to the policy's limits. Users can narrow
    /// the limits that the platform set. With a permission they can raise the default, up to the
    /// maximum.
    pub fn require_limits_kept(&self, authority: &Authority, after: &Self) -> Result<()> {
        if authority.user().is_none() {
            return Ok(());
        }
        if after.max_limits != self.max_limits || !within(after.tenant_limits, self.tenant_limits) {
            return authority.require_platform();
        }
        if !within(after.default_limits, self.default_limits) {
            authority.require_lift(Call::UpdateTenant)?;
            self.require_within_max(after.default_limits.unwrap_or_default())?;
        }
        Ok(())
    }

    fn require_within_max(&self, limits: Limits) -> Result<()> {
        match self.max_limits {
            Some(max) if !limits.are_within(&max) => Err(Error::Policy {
                rule: "max_limits",
                message: format!("limits of applications cannot go beyond {}", max.in_words()),
            }),
            _ => Ok(()),
        }
    }

    /// Returns an error if a credential created at `created` would expire later than allowed.
    pub fn require_end(&self, wanted: Option<Moment>, created: Timestamp) -> Result<()> {
        match (wanted, self.latest_end(created)) {
            (Some(wanted), Some(latest)) if wanted > latest => Err(Error::Policy {
                rule: "max_credential_lifetime",
                message: format!("the credential must end by {latest}"),
            }),
            _ => Ok(()),
        }
    }

    /// The latest expiry that the policy allows for a credential created at `created`.
    pub fn latest_end(&self, created: Timestamp) -> Option<Moment> {
        self.max_credential_lifetime.map(|max| later(created, max.duration()).into())
    }

    /// Whether the change from `self` to `after` must revoke existing tokens.
    pub fn revokes(&self, after: &Self) -> bool {
        let shorter = match (self.max_credential_lifetime, after.max_credential_lifetime) {
            (None, Some(_)) => true,
            (Some(before), Some(after)) => after < before,
            (_, None) => false,
        };
        shorter
            || (after.api_credentials_disabled && !self.api_credentials_disabled)
            || (after.require_bound_tokens && !self.require_bound_tokens)
    }
}

/// Whether optional limits are within an optional bound.
fn within(limits: Option<Limits>, bound: Option<Limits>) -> bool {
    bound.is_none_or(|bound| limits.unwrap_or_default().are_within(&bound))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn policy_limits_credential_expiry() {
        let at = |second| Timestamp::from_second(second).unwrap();
        let end = |second| Moment::from(at(second));
        let policy = Policy {
            max_credential_lifetime: Some(Lifetime::from_seconds(100).unwrap()),
            ..Policy::default()
        };
        assert_eq!(policy.latest_end(at(0)), Some(end(100)));
        assert!(policy.require_end(Some(end(100)), at(0)).is_ok());
        assert!(policy.require_end(Some(end(101)), at(0)).is_err());
        assert!(policy.require_end(None, at(0)).is_ok());
        assert_eq!(Policy::default().latest_end(at(0)), None);
    }

    fn limits(text: &str) -> Limits {
        Limits::parse(text).unwrap()
    }

    fn in_force(policy: &Policy, own: Option<&str>, lifted: bool) -> String {
        let limits = policy.application_limits(own.map(limits), lifted);
        let each: Vec<_> = limits.iter().map(ToString::to_string).collect();
        each.join("; ")
    }

    #[test]
    fn own_limits_narrow_the_default_and_lifted_limits_replace_it() {
        let policy =
            Policy { default_limits: Some(limits("requests=40/60 items=9")), ..<_>::default() };
        for (own, lifted, expected) in [
            (None, false, "requests=40/60 items=9"),
            (Some("requests=10/60"), false, "requests=10/60 items=9"),
            (Some("items=5"), false, "requests=40/60 items=5"),
            (Some("tokens=3/60"), false, "requests=40/60 tokens=3/60 items=9"),
            // Set while the default was higher.
            (Some("requests=50/60"), false, "requests=40/60 items=9"),
            (Some("requests=2000/3600"), false, "requests=2000/3600 items=9; requests=40/60"),
            (Some(""), false, "requests=40/60 items=9"),
            (Some("requests=1/60 observe_only"), false, "requests=40/60 items=9"),
            (Some("requests=50/60"), true, "requests=50/60 items=9"),
            (Some(""), true, ""),
            (None, true, "requests=40/60 items=9"),
        ] {
            assert_eq!(in_force(&policy, own, lifted), expected, "{own:?} {lifted}");
        }
        assert!(Policy::default().application_limits(None, false).is_empty());
    }

    #[test]
    fn max_limits_bound_every_application_even_if_lifted() {
        let policy = Policy {
            default_limits: Some(limits("requests=40/60")),
            max_limits: Some(limits("requests=100/60 items=7")),
            ..Policy::default()
        };
        for (own, lifted, expected) in [
            (None, false, "requests=40/60 items=7"),
            (Some("requests=90/60"), true, "requests=90/60 items=7"),
            (Some("requests=500/60 items=9"), true, "requests=100/60 items=7"),
            (Some(""), true, "requests=100/60 items=7"),
        ] {
            assert_eq!(in_force(&policy, own, lifted), expected, "{own:?} {lifted}");
        }
        let policy = Policy { default_limits: None, ..policy };
        assert_eq!(in_force(&policy, None, false), "requests=100/60 items=7");
        let observed = limits("requests=40/60 observe_only");
        let policy = Policy { default_limits: Some(observed), ..Policy::default() };
        assert_eq!(in_force(&policy, Some("requests=50/60"), false), "requests=50/60");
    }

    #[test]
    fn policy_change_revokes_tokens_that_would_outlive_it() {
        let lifetime = |seconds| Policy {
            max_credential_lifetime: Some(Lifetime::from_seconds(seconds).unwrap()),
            ..Policy::default()
        };
        let off = Policy { api_credentials_disabled: true, ..Policy::default() };
        assert!(Policy::default().revokes(&lifetime(60)));
        assert!(lifetime(61).revokes(&lifetime(60)));
        assert!(!lifetime(60).revokes(&lifetime(61)));
        assert!(!lifetime(60).revokes(&Policy::default()));
        assert!(Policy::default().revokes(&off));
        assert!(!off.revokes(&Policy::default()));
    }
}
