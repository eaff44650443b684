//! Access checks: what a request needs, and the answer to the service that asks.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use strum::{EnumString, IntoStaticStr};

use super::{
    Audience, Client, CredentialName, Limits, Moment, Possession, PresentedProof, Rate, RoleId,
    ScopeSet,
};

/// The scopes that a request to a service of the platform needs: all of `all_of`, and at least one
/// of `any_of`. Calls of Keyward itself are in `domain::rights`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct NeededScopes {
    pub all_of: ScopeSet,
    /// Empty means that none of these is needed.
    pub any_of: ScopeSet,
}

impl NeededScopes {
    /// The scopes that are missing from `granted`, sorted. If none of `any_of` is granted, all of
    /// them are listed, although one would be enough. Empty means that `granted` suffices.
    pub fn missing(&self, granted: &ScopeSet) -> Vec<String> {
        let mut missing = self.all_of.minus(granted);
        if self.any_of.within(granted).is_empty() {
            missing = missing.union(&self.any_of);
        }
        missing.to_strings()
    }
}

/// What an access check tests, as the service states it: scopes, or a request whose [`NeededScopes`]
/// are in the endpoint rules.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Requirement {
    /// Scopes, listed by the calling service.
    Scopes(NeededScopes),
    /// A request, matched against the tenant's endpoint rules.
    Endpoint {
        /// The HTTP method, unchanged.
        method: String,
        /// The path, unchanged.
        path: String,
    },
}

/// An access check, as the service sends it.
#[derive(Clone, Debug)]
pub struct AccessQuestion {
    pub requirement: Requirement,
    /// The number of items in the request, for `items_per_request`.
    pub items: i64,
    /// The required audience of the token. `None`: the tenant's default audience.
    pub audience: Option<Audience>,
    /// The client's address, if the service sends it.
    pub source: Option<IpAddr>,
    /// If true, nothing is counted against the limits.
    pub peek: bool,
    /// What the client proved besides having the token. The proof of a key is in `proof`.
    pub possession: Possession,
    /// The `DPoP` proof that came with the token.
    pub proof: Option<PresentedProof>,
}

impl AccessQuestion {
    /// The maximum number of questions in a batch.
    pub const MAX_BATCH: usize = 100;
    /// The maximum number of scopes that one question lists.
    pub const MAX_SCOPES: usize = 200;
}

/// The result of an access check. The names are those of logs and metadata of gateways.
#[derive(Clone, Copy, Debug, PartialEq, Eq, IntoStaticStr)]
#[strum(serialize_all = "snake_case", const_into_str)]
pub enum AccessOutcome {
    Allowed,
    /// The token or key is unknown, malformed, or no longer works.
    InvalidToken,
    /// The token has expired.
    Expired,
    Revoked,
    /// The token was issued for another audience.
    WrongAudience,
    /// The path is ambiguous; see [`RequestPath`](super::RequestPath).
    MalformedPath,
    /// No endpoint rule matches the request.
    UnknownEndpoint,
    /// The token or key lacks scopes that the request needs.
    InsufficientScope,
    /// The request has more items than `items_per_request` allows.
    TooManyItems,
    /// A rate limit is used up.
    RateLimited,
    /// The source of the request has sent too many wrong keys.
    TooManyFailures,
    /// The hash queue is full, so an unknown key cannot be verified now.
    Overloaded,
    /// The token is bound, and the client did not prove to have what it is bound to.
    NotPossessed,
}

impl AccessOutcome {
    /// The outcome in words, for developers.
    pub fn words(self) -> &'static str {
        match self {
            Self::Allowed => "allowed",
            Self::InvalidToken => "the token or API key is not valid",
            Self::Expired => "the token has expired",
            Self::Revoked => "the token was revoked",
            Self::WrongAudience => "the token is for another audience",
            Self::MalformedPath => "the path is not plain",
            Self::UnknownEndpoint => "no endpoint rule allows this method and path",
            Self::InsufficientScope => "the token lacks scopes",
            Self::TooManyItems => "there are too many items in the request",
            Self::RateLimited => "a limit is reached",
            Self::TooManyFailures => "too many wrong keys from this source",
            Self::Overloaded => "too many unknown keys at once, try again",
            Self::NotPossessed => "the sender did not prove to have what the token is bound to",
        }
    }
}

/// Who sent the request, and what they may do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Principal {
    /// The credential, with its application and tenant.
    pub credential: Arc<CredentialName>,
    pub roles: Vec<RoleId>,
    pub scopes: ScopeSet,
    /// The token's id (`jti`). `None` for an API key.
    pub token_id: Option<String>,
    /// When the token or key expires.
    pub expires_at: Option<Moment>,
    /// The credential that got the token by token exchange. `None`: `credential` itself.
    pub exchanged_by: Option<String>,
}

/// The answer to an access check.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AccessAnswer {
    pub outcome: AccessOutcome,
    /// An explanation for people; empty if the outcome needs none.
    pub detail: String,
    /// Who sent the request; `None` if the token or key is not authentic.
    pub principal: Option<Principal>,
    /// The missing scopes.
    pub missing: Vec<String>,
    /// The state of every limit that applies.
    pub limits: Vec<LimitStatus>,
    /// The maximum number of items in the request. `None`: no maximum.
    pub max_items: Option<i64>,
    /// How long to wait before the next try.
    pub retry_after: Option<Duration>,
    /// How long the caller may reuse the answer for the same question.
    pub max_age: Duration,
    /// What the `DPoP` proof must have as its nonce.
    pub nonce: Option<String>,
}

impl AccessAnswer {
    /// The outcome in words, with its explanation.
    pub fn message(&self) -> String {
        let words = self.outcome.words();
        if self.detail.is_empty() { words.to_owned() } else { format!("{words}: {}", self.detail) }
    }
}

/// What a rate limit counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, EnumString, IntoStaticStr)]
#[strum(serialize_all = "snake_case", const_into_str)]
pub enum Counted {
    /// Requests that are checked with `CheckAccess`.
    Requests,
    /// Access tokens that are issued.
    Tokens,
}

/// The level that a limit belongs to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, IntoStaticStr)]
#[strum(serialize_all = "snake_case", const_into_str)]
pub enum LimitLevel {
    Credential,
    Application,
    Tenant,
    /// One endpoint rule, counted separately for each application.
    Endpoint,
}

/// The state of a limit after a check.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LimitStatus {
    /// The level that the limit belongs to.
    pub level: LimitLevel,
    /// The resource name of the credential, application or tenant, or the endpoint rule.
    pub name: String,
    pub counted: Counted,
    /// The maximum count in any window of length `window`.
    pub limit: u64,
    pub window: Duration,
    /// How much of the limit is left.
    pub remaining: u64,
    /// When more becomes available. If the limit is exceeded: when the next request can pass.
    pub reset: Duration,
    pub exceeded: bool,
    /// If true, the limit is reported and not enforced.
    pub observe_only: bool,
}

/// Limits, with the level and resource they belong to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AppliedLimits {
    pub level: LimitLevel,
    /// A resource name, or the endpoint rule and the application.
    pub name: String,
    /// The application's [`life`](super::Application::life), or 0 on other levels. It keeps the
    /// counts of a deleted application apart from those of a new one with the same name.
    pub life: i64,
    pub limits: Limits,
}

impl AppliedLimits {
    /// The rate limit for `counted`, if there is one.
    pub fn rate(&self, counted: Counted) -> Option<Rate> {
        match counted {
            Counted::Requests => self.limits.requests,
            Counted::Tokens => self.limits.tokens,
        }
    }
}

impl Client {
    /// All limits that apply to the client: the credential's own, the application's (completed by
    /// the policy), and the tenant's.
    pub fn limits(&self) -> Vec<AppliedLimits> {
        let tenant = &self.tenant;
        let mut all = Vec::new();
        if let Some(limits) = self.credential_limits.as_deref().copied() {
            let (level, name) = (LimitLevel::Credential, self.name.to_string());
            all.push(AppliedLimits { level, name, life: 0, limits });
        }
        for limits in self.application_limits.iter().copied() {
            let (level, name) = (LimitLevel::Application, self.subject.to_string());
            all.push(AppliedLimits { level, name, life: self.application_life, limits });
        }
        if let Some(limits) = tenant.settings.policy.tenant_limits {
            let (level, name) = (LimitLevel::Tenant, tenant.id.name());
            all.push(AppliedLimits { level, name, life: 0, limits });
        }
        all
    }
}

/// The smallest `items_per_request` of all limits that are enforced.
pub fn max_items(limits: &[AppliedLimits]) -> Option<i64> {
    let binding = limits.iter().filter(|of| !of.limits.observe_only);
    binding.filter_map(|of| of.limits.items_per_request).min()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn missing_scopes_of_all_of_and_any_of() {
        let scopes = |text: &str| ScopeSet::parse(text).unwrap();
        for (all_of, any_of, granted, missing) in [
            ("", "", "", ""),
            ("", "", "x", ""),
            ("a b", "", "a b c", ""),
            ("a b", "", "b c", "a"),
            ("a b", "", "", "a b"),
            ("", "c d", "d", ""),
            ("", "c d", "x", "c d"),
            ("a", "c d", "a c", ""),
            ("a", "c d", "a", "c d"),
            ("a", "c d", "c", "a"),
            ("a", "c d", "", "a c d"),
            ("a", "a b", "", "a b"),
        ] {
            let needed = NeededScopes { all_of: scopes(all_of), any_of: scopes(any_of) };
            let actual = needed.missing(&scopes(granted));
            assert_eq!(actual.join(" "), missing, "{all_of} / {any_of} / {granted}");
        }
    }

    #[test]
    fn smallest_enforced_item_limit_applies() {
        let of = |items: i64, observe_only| AppliedLimits {
            level: LimitLevel::Tenant,
            name: String::new(),
            life: 0,
            limits: Limits { items_per_request: Some(items), observe_only, ..Limits::default() },
        };
        assert_eq!(max_items(&[]), None);
        assert_eq!(max_items(&[of(10, false), of(5, false)]), Some(5));
        assert_eq!(max_items(&[of(10, false), of(5, true)]), Some(10));
    }
}
