//! Policies: what holds for all applications and credentials of a tenant.

use std::collections::BTreeSet;
use std::fmt;
use std::time::Duration;

use jiff::Timestamp;

use super::fields::Fault;
use super::{Limits, Moment, Owner, OwnerKind};
use crate::clock::later;
use crate::error::{Error, Result};

/// A tenant's rules.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Policy {
    /// Whether the tenant has no API credentials.
    pub api_credentials_disabled: bool,
    /// Most credentials of the tenant; `None`: any number.
    pub max_credentials: Option<i64>,
    /// Who may own new applications; empty: anybody.
    pub allowed_owners: BTreeSet<OwnerKind>,
    /// Whether secrets can be seen again.
    pub secrets_viewable: bool,
    /// What cannot be changed after creation.
    pub fixed_fields: BTreeSet<Field>,
    /// The longest a credential works; `None`: for ever.
    pub max_credential_lifetime: Option<Lifetime>,
    /// The limits of applications that have none of their own.
    pub default_limits: Option<Limits>,
    /// The limits of all applications of the tenant together.
    pub tenant_limits: Option<Limits>,
    /// What deleting a user does to the applications he owns.
    pub user_deletion: UserDeletion,
}

/// Words of a closed list, read and written.
macro_rules! words {
    ($(#[$meta:meta])* $name:ident { $($(#[$variant_meta:meta])* $variant:ident = $word:literal),+ $(,)? }) => {
        $(#[$meta])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
        pub enum $name { $($(#[$variant_meta])* $variant),+ }

        impl $name {
            /// All of them.
            pub const ALL: &'static [Self] = &[$(Self::$variant),+];

            /// The word for it.
            pub fn as_str(self) -> &'static str {
                match self { $(Self::$variant => $word),+ }
            }

            /// Reads the word.
            pub fn parse(word: &str) -> Result<Self, Fault> {
                Self::ALL.iter().copied().find(|one| one.as_str() == word).ok_or_else(|| {
                    Fault::new(format!("must be one of {}", [$($word),+].join(", ")))
                })
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(self.as_str())
            }
        }
    };
}
pub(crate) use words;

words!(
    /// What deleting a user does to the applications he owns.
    #[derive(Default)]
    UserDeletion {
        /// They stand in the way.
        #[default]
        Refuse = "refuse",
        /// Another user gets them.
        HandOver = "hand_over",
        /// They are deleted.
        Delete = "delete",
    }
);

words!(
    /// A field of an application or a credential that a policy can fix.
    Field {
        /// The name for people.
        DisplayName = "display_name",
        /// What it is for.
        Description = "description",
        /// Whom to ask about it.
        ContactEmail = "contact_email",
        /// The scopes.
        Scopes = "scopes",
        /// The roles.
        Roles = "roles",
        /// When it ends.
        ExpireTime = "expire_time",
        /// How much may be asked for.
        Limits = "limits",
        /// Whether it is refused.
        Disabled = "disabled",
        /// The secrets of a credential: they cannot be rotated.
        Secrets = "secrets",
    }
);

/// How long a credential may work: 60 s to 3650 days.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Lifetime(Duration);

impl Lifetime {
    /// Checks a lifetime in whole seconds.
    pub fn from_seconds(seconds: i64) -> Result<Self, Fault> {
        u64::try_from(seconds)
            .ok()
            .filter(|s| (60..=3650 * 86_400).contains(s))
            .map(|s| Self(Duration::from_secs(s)))
            .ok_or_else(|| Fault::new("must be 60 s to 3650 days, in whole seconds"))
    }

    /// In seconds.
    pub fn seconds(self) -> i64 {
        i64::try_from(self.0.as_secs()).unwrap_or(i64::MAX)
    }

    /// As a duration.
    pub fn duration(self) -> Duration {
        self.0
    }
}

impl Policy {
    /// Refuses what makes something new, where the tenant has no API credentials.
    pub fn require_enabled(&self) -> Result<()> {
        if self.api_credentials_disabled {
            return Err(Error::Policy {
                rule: "api_credentials_disabled",
                message: "the tenant has no API credentials".to_owned(),
            });
        }
        Ok(())
    }

    /// Refuses an owner that new applications and credentials may not have.
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

    /// Whether new applications may have an owner of this kind.
    pub fn allows_owner(&self, kind: OwnerKind) -> bool {
        self.allowed_owners.is_empty() || self.allowed_owners.contains(&kind)
    }

    /// Refuses a change of what is fixed.
    pub fn require_changeable(&self, changed: impl IntoIterator<Item = Field>) -> Result<()> {
        match changed.into_iter().find(|field| self.fixed_fields.contains(field)) {
            None => Ok(()),
            Some(field) => Err(Error::Policy {
                rule: "fixed_fields",
                message: format!("{field} cannot be changed after creation"),
            }),
        }
    }

    /// Refuses one credential more where there are as many as there may be.
    pub fn require_room(&self, credentials: i64) -> Result<()> {
        match self.max_credentials {
            Some(limit) if credentials >= limit => Err(Error::QuotaExceeded { limit }),
            _ => Ok(()),
        }
    }

    /// The limits that hold for an application with these of its own.
    pub fn application_limits(&self, own: Option<Limits>) -> Option<Limits> {
        own.or(self.default_limits)
    }

    /// The end of a credential that is made at `created`: the one wanted, which must not be
    /// too late, or the latest there can be.
    pub fn credential_end(
        &self,
        wanted: Option<Moment>,
        created: Timestamp,
    ) -> Result<Option<Moment>> {
        let latest = self.latest_end(created);
        match (wanted, latest) {
            (Some(wanted), Some(latest)) if wanted > latest => Err(Error::Policy {
                rule: "max_credential_lifetime",
                message: format!("the credential must end by {latest}"),
            }),
            (Some(wanted), _) => Ok(Some(wanted)),
            (None, latest) => Ok(latest),
        }
    }

    /// When a credential that was made at `created` ends whatever it says itself.
    pub fn latest_end(&self, created: Timestamp) -> Option<Moment> {
        self.max_credential_lifetime.map(|most| later(created, most.duration()).into())
    }

    /// Whether going from this policy to `after` must revoke the tokens there are.
    pub fn revokes(&self, after: &Self) -> bool {
        let shorter = match (self.max_credential_lifetime, after.max_credential_lifetime) {
            (None, Some(_)) => true,
            (Some(before), Some(after)) => after < before,
            (_, None) => false,
        };
        shorter || (after.api_credentials_disabled && !self.api_credentials_disabled)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_credential_ends_when_the_policy_says_at_the_latest() {
        let at = |second| Timestamp::from_second(second).unwrap();
        let end = |second| Moment::from(at(second));
        let policy = Policy {
            max_credential_lifetime: Some(Lifetime::from_seconds(100).unwrap()),
            ..Policy::default()
        };
        assert_eq!(policy.credential_end(None, at(0)).unwrap(), Some(end(100)));
        assert_eq!(policy.credential_end(Some(end(100)), at(0)).unwrap(), Some(end(100)));
        assert!(policy.credential_end(Some(end(101)), at(0)).is_err());
        assert_eq!(Policy::default().credential_end(None, at(0)).unwrap(), None);
    }

    #[test]
    fn an_applications_own_limits_take_the_place_of_the_default() {
        let forty = Limits::parse("requests=40/60").unwrap();
        let policy = Policy { default_limits: Some(forty), ..Policy::default() };
        assert_eq!(policy.application_limits(None), Some(forty));
        let unlimited = Some(Limits::default());
        assert_eq!(policy.application_limits(unlimited), unlimited, "none is a limit of its own");
    }

    #[test]
    fn tokens_are_revoked_by_what_they_would_outlive() {
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
