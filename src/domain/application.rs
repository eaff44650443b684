//! Applications: what gets access.

use std::collections::BTreeSet;
use std::fmt;

use jiff::Timestamp;

use super::policy::words;
use super::{
    ApplicationName, Fault, Field, LastUse, Limits, Moment, Record, RoleId, ScopeSet, State,
    TenantId, UserId, UserName, ends_earlier,
};
use crate::error::Result;

/// Something that gets access.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Application {
    /// Its name, with the tenant's.
    pub name: ApplicationName,
    /// Whose it is.
    pub owner: Owner,
    /// What can be changed of it.
    pub settings: ApplicationSettings,
    /// The scopes it can use now.
    pub effective_scopes: ScopeSet,
    /// Whether the user who owns it is disabled.
    pub owner_disabled: bool,
    /// The ends of its credentials' secrets, the ten that end last.
    pub secret_ends: Vec<SecretEnd>,
    /// When it was last used, if it was.
    pub last_use: Option<LastUse>,
    /// Raised to revoke every token of the application.
    pub epoch: i64,
    /// Which application of this name it is, by the number of the event that ended the one
    /// before; 0: there was none.
    pub life: i64,
    /// Version and times.
    pub record: Record,
}

/// What may be shown of a secret.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct SecretEnd {
    /// Its last four characters.
    pub last_four: String,
    /// From then on it is refused.
    pub expires_at: Option<Timestamp>,
}

/// Whose an application is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Owner {
    /// The tenant's as a whole.
    Account,
    /// A user's.
    User(UserId),
}

words!(
    /// Who can own applications.
    OwnerKind {
        /// A user.
        User = "user",
        /// The account.
        Account = "account",
    }
);

impl OwnerKind {
    /// The word for it in a sentence.
    pub fn phrase(self) -> &'static str {
        match self {
            Self::User => "a user",
            Self::Account => "the account",
        }
    }
}

impl Owner {
    /// Reads `tenants/{tenant}/users/{user}`, or `tenants/{tenant}` for the account.
    pub fn parse(name: &str, tenant: &TenantId) -> Result<Self, Fault> {
        let foreign = || Fault::new("must be of the same tenant");
        if let Ok(account) = TenantId::from_name(name) {
            return if account == *tenant { Ok(Self::Account) } else { Err(foreign()) };
        }
        let shape =
            || Fault::new("must be like tenants/{tenant}/users/{user}, or tenants/{tenant}");
        let user = UserName::parse(name).map_err(|_| shape())?;
        if user.tenant == *tenant { Ok(Self::User(user.user)) } else { Err(foreign()) }
    }

    /// What it is.
    pub fn kind(&self) -> OwnerKind {
        match self {
            Self::Account => OwnerKind::Account,
            Self::User(_) => OwnerKind::User,
        }
    }

    /// The user, unless it is the account.
    pub fn user(&self) -> Option<&UserId> {
        match self {
            Self::Account => None,
            Self::User(user) => Some(user),
        }
    }

    /// The resource name.
    pub fn name(&self, tenant: &TenantId) -> String {
        match self {
            Self::Account => tenant.name(),
            Self::User(user) => UserName { tenant: tenant.clone(), user: user.clone() }.to_string(),
        }
    }
}

impl fmt::Display for Owner {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Account => f.write_str("account"),
            Self::User(user) => write!(f, "user {user}"),
        }
    }
}

/// The scopes that an application can use: its own and those of its roles, as far as its
/// owner may grant them. All are of the enabled catalogue; `None` is an owner without a
/// ceiling, the account.
pub fn effective_scopes(
    own: ScopeSet,
    of_roles: &ScopeSet,
    ceiling: Option<&ScopeSet>,
) -> ScopeSet {
    let all = own.union(of_roles);
    match ceiling {
        Some(ceiling) => all.within(ceiling),
        None => all,
    }
}

/// What can be changed of an application.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[expect(clippy::struct_excessive_bools, reason = "each is a setting of its own, in any mixture")]
pub struct ApplicationSettings {
    /// A name for people.
    pub display_name: String,
    /// What it is for.
    pub description: String,
    /// Whom to ask about it.
    pub contact_email: String,
    /// The scopes it was given.
    pub scopes: ScopeSet,
    /// From then on it is refused.
    pub expires_at: Option<Moment>,
    /// Whether it is refused.
    pub disabled: bool,
    /// Whether the platform disabled it: then no user enables it.
    pub disabled_by_platform: bool,
    /// The roles it was given.
    pub roles: BTreeSet<RoleId>,
    /// Its own limits.
    pub limits: Option<Limits>,
    /// Whether they were given by one who may lift the policy's default, and do.
    pub limits_lifted: bool,
    /// Whether it can be neither edited nor deleted.
    pub protected: bool,
}

/// A change of an application: the fields that are set.
#[derive(Clone, Debug, Default)]
pub struct ApplicationPatch {
    /// New name.
    pub display_name: Option<String>,
    /// New description.
    pub description: Option<String>,
    /// New contact.
    pub contact_email: Option<String>,
    /// New scopes, in place of the old ones.
    pub scopes: Option<ScopeSet>,
    /// New expiry; `Some(None)` is never.
    pub expires_at: Option<Option<Moment>>,
    /// New state.
    pub disabled: Option<bool>,
    /// New roles, in place of the old ones.
    pub roles: Option<BTreeSet<RoleId>>,
    /// New limits; `Some(None)` is the policy's.
    pub limits: Option<Option<Limits>>,
    /// New protection.
    pub protected: Option<bool>,
}

impl ApplicationPatch {
    /// The fields that it sets, whatever they were.
    pub fn fields(&self) -> Vec<Field> {
        let fields = [
            (Field::DisplayName, self.display_name.is_some()),
            (Field::Description, self.description.is_some()),
            (Field::ContactEmail, self.contact_email.is_some()),
            (Field::Scopes, self.scopes.is_some()),
            (Field::Roles, self.roles.is_some()),
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

impl Application {
    /// The secrets that work at `now`, masked: `…9x7Q`.
    pub fn masked_secrets(&self, now: Timestamp) -> Vec<String> {
        let live = self.secret_ends.iter().filter(|s| s.expires_at.is_none_or(|end| now < end));
        live.map(|secret| format!("…{}", secret.last_four)).collect()
    }

    /// Whether it works at `now`.
    pub fn state(&self, now: Timestamp) -> State {
        let disabled = self.settings.disabled || self.owner_disabled;
        State::at(now, disabled, self.settings.expires_at)
    }
}

impl ApplicationSettings {
    /// These settings with a change made to them.
    #[must_use]
    pub fn with(&self, patch: ApplicationPatch) -> Self {
        Self {
            display_name: patch.display_name.unwrap_or_else(|| self.display_name.clone()),
            description: patch.description.unwrap_or_else(|| self.description.clone()),
            contact_email: patch.contact_email.unwrap_or_else(|| self.contact_email.clone()),
            scopes: patch.scopes.unwrap_or_else(|| self.scopes.clone()),
            expires_at: patch.expires_at.unwrap_or(self.expires_at),
            disabled: patch.disabled.unwrap_or(self.disabled),
            disabled_by_platform: self.disabled_by_platform,
            roles: patch.roles.unwrap_or_else(|| self.roles.clone()),
            limits: patch.limits.unwrap_or(self.limits),
            limits_lifted: self.limits_lifted,
            protected: patch.protected.unwrap_or(self.protected),
        }
    }

    /// The ids of the roles, in order.
    pub fn role_ids(&self) -> Vec<String> {
        self.roles.iter().map(ToString::to_string).collect()
    }

    /// The fields of these settings that are others in `after`.
    pub fn changed(&self, after: &Self) -> impl Iterator<Item = Field> {
        [
            (Field::DisplayName, self.display_name != after.display_name),
            (Field::Description, self.description != after.description),
            (Field::ContactEmail, self.contact_email != after.contact_email),
            (Field::Scopes, self.scopes != after.scopes),
            (Field::Roles, self.roles != after.roles),
            (Field::ExpireTime, self.expires_at != after.expires_at),
            (
                Field::Limits,
                self.limits != after.limits || self.limits_lifted != after.limits_lifted,
            ),
            (Field::Disabled, self.disabled != after.disabled),
        ]
        .into_iter()
        .filter_map(|(field, changed)| changed.then_some(field))
    }

    /// Whether going from these settings to `after` may let secrets work again.
    pub fn revives(&self, after: &Self) -> bool {
        (self.disabled && !after.disabled) || ends_earlier(after.expires_at, self.expires_at)
    }

    /// Whether going from these settings to `after` must revoke the tokens there are:
    /// they would allow more, or last longer, than the application now may.
    pub fn revokes(&self, after: &Self) -> bool {
        (after.disabled && !self.disabled)
            || ends_earlier(self.expires_at, after.expires_at)
            || !self.scopes.without(&after.scopes).is_empty()
            || !self.roles.is_subset(&after.roles)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn settings() -> ApplicationSettings {
        ApplicationSettings {
            scopes: ScopeSet::parse("a b").unwrap(),
            expires_at: Moment::new(1000, 0).ok(),
            ..Default::default()
        }
    }

    #[test]
    fn what_narrows_revokes_and_what_widens_does_not() {
        let before = settings();
        let at = |second| Moment::new(second, 0).ok();
        let cases = [
            (ApplicationPatch { disabled: Some(true), ..Default::default() }, true),
            (ApplicationPatch { disabled: Some(false), ..Default::default() }, false),
            (ApplicationPatch { scopes: ScopeSet::parse("a").ok(), ..Default::default() }, true),
            (ApplicationPatch { scopes: ScopeSet::parse("a c").ok(), ..Default::default() }, true),
            (
                ApplicationPatch { scopes: ScopeSet::parse("a b c").ok(), ..Default::default() },
                false,
            ),
            (ApplicationPatch { expires_at: Some(at(999)), ..Default::default() }, true),
            (ApplicationPatch { expires_at: Some(at(1001)), ..Default::default() }, false),
            (ApplicationPatch { expires_at: Some(None), ..Default::default() }, false),
            (ApplicationPatch { display_name: Some("x".to_owned()), ..Default::default() }, false),
        ];
        for (patch, revokes) in cases {
            let after = before.with(patch.clone());
            assert_eq!(before.revokes(&after), revokes, "{patch:?}");
        }
    }
}
