//! Applications: integrations and services that get access.

use std::collections::BTreeSet;
use std::fmt;

use jiff::Timestamp;
use strum::{Display, EnumString, VariantNames};

use super::{
    ApplicationName, Audience, Fault, Field, FieldPatch, LastUse, Limits, Moment, Record, RoleId,
    ScopeSet, State, TenantId, TokenLifetime, UserId, UserName, ends_earlier,
};
use crate::error::Result;

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Application {
    pub name: ApplicationName,
    /// The user or the account that owns the application.
    pub owner: Owner,
    pub settings: ApplicationSettings,
    /// The scopes that work today; see [`effective_scopes`].
    pub effective_scopes: ScopeSet,
    /// Whether the owner is a user who is disabled.
    pub owner_disabled: bool,
    /// The expiry of its credentials' secrets: the ten that expire last.
    pub secret_ends: Vec<SecretEnd>,
    /// When the application was last used; `None`: never.
    pub last_use: Option<LastUse>,
    /// Raising it revokes all tokens of the application.
    pub epoch: i64,
    /// Distinguishes applications that reuse a deleted one's id: the number of the audit event that
    /// deleted the previous one, or 0 if there was none.
    pub life: i64,
    pub record: Record,
}

/// The parts of a secret that may be shown.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct SecretEnd {
    pub last_four: String,
    /// The secret is refused from this time on. `None`: never.
    pub expires_at: Option<Timestamp>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Owner {
    /// The tenant as a whole.
    Account,
    User(UserId),
}

/// The kinds of owners, as the policy names them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Display, EnumString, VariantNames)]
#[strum(serialize_all = "snake_case")]
pub enum OwnerKind {
    User,
    Account,
}

impl OwnerKind {
    /// The phrase for it in an error text.
    pub fn phrase(self) -> &'static str {
        match self {
            Self::User => "a user",
            Self::Account => "the account",
        }
    }
}

impl Owner {
    /// Parses `tenants/{tenant}/users/{user}`, or `tenants/{tenant}` for the account.
    pub fn parse(name: &str, tenant: &TenantId) -> Result<Self, Fault> {
        let foreign = || Fault::new("must belong to the same tenant");
        if let Ok(account) = TenantId::from_name(name) {
            return if account == *tenant { Ok(Self::Account) } else { Err(foreign()) };
        }
        let shape =
            || Fault::new("must have the form tenants/{tenant}/users/{user} or tenants/{tenant}");
        let user = UserName::parse(name).map_err(|_| shape())?;
        if user.tenant == *tenant { Ok(Self::User(user.user)) } else { Err(foreign()) }
    }

    pub fn kind(&self) -> OwnerKind {
        match self {
            Self::Account => OwnerKind::Account,
            Self::User(_) => OwnerKind::User,
        }
    }

    /// The user, or `None` for the account.
    pub fn user(&self) -> Option<&UserId> {
        match self {
            Self::Account => None,
            Self::User(user) => Some(user),
        }
    }

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

/// The scopes that an application can use today: its own scopes and those of its roles, limited to
/// what its owner may grant. Disabled scopes are already left out of the inputs. `ceiling` is
/// `None` for the account, which may grant everything.
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

/// The fields of an application that can be changed.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[expect(clippy::struct_excessive_bools, reason = "each is a setting of its own, in any mixture")]
pub struct ApplicationSettings {
    pub display_name: String,
    pub description: String,
    /// The person to contact about the application.
    pub contact_email: String,
    /// The scopes it was given, whether or not they work today.
    pub scopes: ScopeSet,
    /// The application is refused from this time on. `None`: never.
    pub expires_at: Option<Moment>,
    pub disabled: bool,
    /// Whether the platform disabled it. If so, users cannot enable it.
    pub disabled_by_platform: bool,
    /// The roles it was given.
    pub roles: BTreeSet<RoleId>,
    /// Its own limits. `None`: the policy's default.
    pub limits: Option<Limits>,
    /// Whether `limits` exceed the policy's default. Only callers with the permission can set that.
    pub limits_lifted: bool,
    /// If true, the application cannot be edited or deleted.
    pub protected: bool,
    /// The audiences for which it may exchange tokens (RFC 8693). Empty: it may not exchange any.
    /// Only the platform sets it.
    pub exchange_audiences: BTreeSet<Audience>,
    /// How long its access tokens live. The tenant's lifetime applies too: the shorter one wins.
    /// `None`: only the tenant's.
    pub access_token_lifetime: Option<TokenLifetime>,
}

/// Changes to an application. `None` and `Keep` leave a field as it is.
#[derive(Clone, Debug, Default)]
pub struct ApplicationPatch {
    pub display_name: Option<String>,
    pub description: Option<String>,
    pub contact_email: Option<String>,
    pub scopes: Option<ScopeSet>,
    pub expires_at: FieldPatch<Moment>,
    pub disabled: Option<bool>,
    /// Replaces all roles.
    pub roles: Option<BTreeSet<RoleId>>,
    /// Without own limits, the policy's default applies.
    pub limits: FieldPatch<Limits>,
    pub protected: Option<bool>,
    /// Replaces all.
    pub exchange_audiences: Option<BTreeSet<Audience>>,
    pub access_token_lifetime: FieldPatch<TokenLifetime>,
}

impl ApplicationPatch {
    /// The fields that this patch sets, changed or not.
    pub fn fields(&self) -> Vec<Field> {
        let fields = [
            (Field::DisplayName, self.display_name.is_some()),
            (Field::Description, self.description.is_some()),
            (Field::ContactEmail, self.contact_email.is_some()),
            (Field::Scopes, self.scopes.is_some()),
            (Field::Roles, self.roles.is_some()),
            (Field::ExpireTime, self.expires_at.is_named()),
            (Field::Limits, self.limits.is_named()),
            (Field::Disabled, self.disabled.is_some()),
        ];
        fields.into_iter().filter_map(|(field, set)| set.then_some(field)).collect()
    }

    /// Whether this patch could let secrets work again.
    pub fn may_revive(&self) -> bool {
        self.disabled == Some(false) || self.expires_at.is_named()
    }
}

impl Application {
    /// The maximum number of scopes that it can be given.
    pub const MAX_SCOPES: usize = 200;
    /// The maximum number of audiences for which it may exchange tokens.
    pub const MAX_EXCHANGE_AUDIENCES: usize = 64;
    /// The maximum number of applications that one call deletes.
    pub const MAX_BATCH: usize = 100;

    /// The last four characters of the secrets that work at `now`, as `…9x7Q`.
    pub fn masked_secrets(&self, now: Timestamp) -> Vec<String> {
        let live = self.secret_ends.iter().filter(|s| s.expires_at.is_none_or(|end| now < end));
        live.map(|secret| format!("…{}", secret.last_four)).collect()
    }

    pub fn state(&self, now: Timestamp) -> State {
        let disabled = self.settings.disabled || self.owner_disabled;
        State::at(now, disabled, self.settings.expires_at)
    }
}

impl ApplicationSettings {
    /// Applies a patch.
    #[must_use]
    pub fn with(&self, patch: ApplicationPatch) -> Self {
        Self {
            display_name: patch.display_name.unwrap_or_else(|| self.display_name.clone()),
            description: patch.description.unwrap_or_else(|| self.description.clone()),
            contact_email: patch.contact_email.unwrap_or_else(|| self.contact_email.clone()),
            scopes: patch.scopes.unwrap_or_else(|| self.scopes.clone()),
            expires_at: patch.expires_at.apply(self.expires_at),
            disabled: patch.disabled.unwrap_or(self.disabled),
            disabled_by_platform: self.disabled_by_platform,
            roles: patch.roles.unwrap_or_else(|| self.roles.clone()),
            limits: patch.limits.apply(self.limits),
            limits_lifted: self.limits_lifted,
            protected: patch.protected.unwrap_or(self.protected),
            exchange_audiences: patch
                .exchange_audiences
                .unwrap_or_else(|| self.exchange_audiences.clone()),
            access_token_lifetime: patch.access_token_lifetime.apply(self.access_token_lifetime),
        }
    }

    /// The fields that differ between `self` and `after`.
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

    /// Whether the change from `self` to `after` can let secrets work again.
    pub fn revives(&self, after: &Self) -> bool {
        (self.disabled && !after.disabled) || ends_earlier(after.expires_at, self.expires_at)
    }

    /// Whether the change from `self` to `after` must revoke existing tokens, because they would
    /// allow more, or live longer, than the application now may.
    pub fn revokes(&self, after: &Self) -> bool {
        (after.disabled && !self.disabled)
            || ends_earlier(self.expires_at, after.expires_at)
            || !self.scopes.without(&after.scopes).is_empty()
            || !self.roles.is_subset(&after.roles)
            || !self.exchange_audiences.is_subset(&after.exchange_audiences)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn audiences(all: &[&str]) -> BTreeSet<Audience> {
        all.iter().map(|one| Audience::parse(one).unwrap()).collect()
    }

    fn exchanging(all: &[&str]) -> ApplicationPatch {
        ApplicationPatch { exchange_audiences: Some(audiences(all)), ..Default::default() }
    }

    fn settings() -> ApplicationSettings {
        ApplicationSettings {
            scopes: ScopeSet::parse("a b").unwrap(),
            expires_at: Moment::new(1000, 0).ok(),
            exchange_audiences: audiences(&["one", "two"]),
            ..Default::default()
        }
    }

    #[test]
    fn narrowing_change_revokes_tokens_and_widening_does_not() {
        let before = settings();
        let at = |second| FieldPatch::Set(Moment::new(second, 0).unwrap());
        let cases = [
            (ApplicationPatch { disabled: Some(true), ..Default::default() }, true),
            (ApplicationPatch { disabled: Some(false), ..Default::default() }, false),
            (ApplicationPatch { scopes: ScopeSet::parse("a").ok(), ..Default::default() }, true),
            (ApplicationPatch { scopes: ScopeSet::parse("a c").ok(), ..Default::default() }, true),
            (
                ApplicationPatch { scopes: ScopeSet::parse("a b c").ok(), ..Default::default() },
                false,
            ),
            (ApplicationPatch { expires_at: at(999), ..Default::default() }, true),
            (ApplicationPatch { expires_at: at(1001), ..Default::default() }, false),
            (ApplicationPatch { expires_at: FieldPatch::Clear, ..Default::default() }, false),
            (exchanging(&["one"]), true),
            (exchanging(&["one", "two", "three"]), false),
            (ApplicationPatch { display_name: Some("x".to_owned()), ..Default::default() }, false),
        ];
        for (patch, revokes) in cases {
            let after = before.with(patch.clone());
            assert_eq!(before.revokes(&after), revokes, "{patch:?}");
        }
    }
}
