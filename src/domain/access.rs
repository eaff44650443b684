//! Access: what a request needs, and what is answered to the service that asks.

use std::fmt;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use super::policy::words;
use super::{Audience, Client, CredentialName, Fault, Limits, Moment, Rate, RoleId, ScopeSet};
use crate::error::Result;

/// Scopes that a request needs: all of some, and one of others.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct NeededScopes {
    /// All of these.
    pub all_of: ScopeSet,
    /// And one of these, if there are any.
    pub any_of: ScopeSet,
}

impl NeededScopes {
    /// The scopes that `granted` lacks, in order: those of `all_of`, and all of `any_of` if it
    /// has none of them, where one would do. None: it has what is needed.
    pub fn missing(&self, granted: &ScopeSet) -> Vec<String> {
        let mut missing = self.all_of.minus(granted);
        if self.any_of.within(granted).is_empty() {
            missing = missing.union(&self.any_of);
        }
        missing.to_strings()
    }
}

/// What must be allowed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Requirement {
    /// Scopes, as the service knows itself.
    Scopes(NeededScopes),
    /// What the tenant's rules say of a request.
    Endpoint {
        /// Its HTTP method, as it came.
        method: String,
        /// Its path, as it came.
        path: String,
    },
}

/// A question about a request.
#[derive(Clone, Debug)]
pub struct AccessQuestion {
    /// What must be allowed.
    pub requirement: Requirement,
    /// How many items are in the request.
    pub items: i64,
    /// Whom the token must be for; `None`: the tenant's default.
    pub audience: Option<Audience>,
    /// Where the request came from, if that is told.
    pub source: Option<IpAddr>,
    /// Whether nothing is counted.
    pub peek: bool,
}

/// What is answered, and why.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// It may be done.
    Allowed,
    /// The token or key is good for nothing.
    InvalidToken,
    /// The token has ended by itself.
    Expired,
    /// The token was revoked.
    Revoked,
    /// The token is for somebody else.
    WrongAudience,
    /// The path could be read in two ways.
    MalformedPath,
    /// No rule is about the request.
    UnknownEndpoint,
    /// Scopes are missing.
    InsufficientScope,
    /// There are too many items in it.
    TooManyItems,
    /// A limit is reached.
    RateLimited,
    /// Too many wrong keys came from where this one did.
    TooManyFailures,
    /// More unknown keys came than can be looked at now.
    Overloaded,
}

/// Whose token it is, and what it may do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Principal {
    /// Which credential, application and tenant.
    pub credential: Arc<CredentialName>,
    /// The application's roles.
    pub roles: Vec<RoleId>,
    /// The scopes.
    pub scopes: ScopeSet,
    /// The token's id; an API key has none.
    pub token_id: Option<String>,
    /// When it ends.
    pub expires_at: Option<Moment>,
}

/// The answer to a question.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Access {
    /// What is answered.
    pub outcome: Outcome,
    /// More about it, for people; empty: the outcome says it all.
    pub detail: String,
    /// Whose token it is, if that is certain.
    pub principal: Option<Principal>,
    /// The scopes that are missing.
    pub missing: Vec<String>,
    /// How the limits stand that apply.
    pub limits: Vec<LimitStatus>,
    /// The most items that may be in the request.
    pub most_items: Option<i64>,
    /// When to try again.
    pub retry_after: Option<Duration>,
    /// How long the answer may be used for the same question.
    pub max_age: Duration,
}

words!(
    /// What a limit counts.
    Counted {
        /// Requests that are checked.
        Requests = "requests",
        /// Tokens that are issued.
        Tokens = "tokens",
    }
);

words!(
    /// Whose a limit is.
    LimitLevel {
        /// A credential's.
        Credential = "credential",
        /// An application's.
        Application = "application",
        /// A tenant's as a whole.
        Tenant = "tenant",
        /// An endpoint's, of one application at a time.
        Endpoint = "endpoint",
    }
);

/// How a limit stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LimitStatus {
    /// Whose limit it is.
    pub level: LimitLevel,
    /// Its name.
    pub name: String,
    /// What is counted.
    pub counted: Counted,
    /// Most in any window.
    pub limit: u64,
    /// The window.
    pub window: Duration,
    /// What is left.
    pub remaining: u64,
    /// When more is left; when the limit refuses, when it does not any more.
    pub reset: Duration,
    /// Whether it is exceeded.
    pub exceeded: bool,
    /// Whether it refuses nothing.
    pub observe_only: bool,
}

/// Limits, and whose they are.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LimitsOf {
    /// Whose they are.
    pub level: LimitLevel,
    /// A resource name, or an endpoint of one application.
    pub name: String,
    /// Which application of this name it is, as [`Application::life`](super::Application::life);
    /// 0 for anything else. What an earlier one has used is not counted for it.
    pub life: i64,
    /// The limits.
    pub limits: Limits,
}

impl LimitsOf {
    /// The rate of what is counted.
    pub fn rate(&self, counted: Counted) -> Option<Rate> {
        match counted {
            Counted::Requests => self.limits.requests,
            Counted::Tokens => self.limits.tokens,
        }
    }
}

impl Client {
    /// The limits that hold for it: its own, its application's or else the policy's, and
    /// those of the tenant as a whole.
    pub fn limits(&self) -> Vec<LimitsOf> {
        let tenant = &self.tenant;
        let mut all = Vec::new();
        if let Some(limits) = self.credential_limits.as_deref().copied() {
            let (level, name) = (LimitLevel::Credential, self.name.to_string());
            all.push(LimitsOf { level, name, life: 0, limits });
        }
        for limits in self.application_limits.iter().copied() {
            let (level, name) = (LimitLevel::Application, self.subject.to_string());
            all.push(LimitsOf { level, name, life: self.application_life, limits });
        }
        if let Some(limits) = tenant.settings.policy.tenant_limits {
            let (level, name) = (LimitLevel::Tenant, tenant.id.name());
            all.push(LimitsOf { level, name, life: 0, limits });
        }
        all
    }
}

/// The most items that may be in a request under all of these; those that only observe
/// refuse none.
pub fn most_items(limits: &[LimitsOf]) -> Option<i64> {
    let binding = limits.iter().filter(|of| !of.limits.observe_only);
    binding.filter_map(|of| of.limits.items_per_request).min()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_of_some_and_one_of_others() {
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
            let told = needed.missing(&scopes(granted));
            assert_eq!(told.join(" "), missing, "{all_of} / {any_of} / {granted}");
        }
    }

    #[test]
    fn the_smallest_number_of_items_binds_unless_it_is_only_observed() {
        let of = |items: i64, observe_only| LimitsOf {
            level: LimitLevel::Tenant,
            name: String::new(),
            life: 0,
            limits: Limits { items_per_request: Some(items), observe_only, ..Limits::default() },
        };
        assert_eq!(most_items(&[]), None);
        assert_eq!(most_items(&[of(10, false), of(5, false)]), Some(5));
        assert_eq!(most_items(&[of(10, false), of(5, true)]), Some(10));
    }
}
