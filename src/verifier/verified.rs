//! What a good token tells, and why another one is refused.

use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;

use crate::domain::Minted;
use crate::keys::{Claims, Rejection};

/// What a token says that was found good. Cheap to clone.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Verified(Arc<Claims>);

/// Why a token is refused.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Refusal {
    /// It is an API key. Only Keyward can check those: ask `AccessService.CheckAccess`.
    #[error(
        "an API key cannot be verified offline: ask AccessService.CheckAccess, or have it \
         exchanged for an access token"
    )]
    ApiKey,
    /// It has not the form of an access token of Keyward's, or is longer than any.
    #[error("the token is malformed, or a claim is missing or of the wrong type")]
    Malformed,
    /// Its header names another type than `at+jwt`, or extensions.
    #[error("the token is no access token")]
    WrongType,
    /// It names no key of the issuer's.
    #[error("the token's key is not in the key set")]
    UnknownKey,
    /// The signature is not its key's, or not by its key's algorithm.
    #[error("the token's signature is wrong")]
    BadSignature,
    /// Another issuer made it.
    #[error("the token is another issuer's")]
    WrongIssuer,
    /// It is for somebody else.
    #[error("the token is for another audience")]
    WrongAudience,
    /// Its time is over.
    #[error("the token has expired")]
    Expired,
    /// It was issued more than a minute ahead of the time that it is here: a clock was wrong.
    #[error("the token was issued in the future: a clock was, or is, wrong")]
    NotYetValid,
    /// It was revoked.
    #[error("the token was revoked")]
    Revoked,
    /// It would be good, but it is not known whether it was revoked meanwhile. Not the token's
    /// fault: it may be good again in a moment.
    #[error("what was revoked in the last {} s is not known here: try again", .lag.as_secs())]
    FeedLost {
        /// How old the knowledge is.
        lag: Duration,
    },
    /// The keys and the list of revocations have not been read yet.
    #[error("the verifier has not heard from Keyward yet: try again")]
    NotReady,
}

/// Scopes that a token lacks.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the token lacks the scope {}", .missing.join(" "))]
pub struct InsufficientScope {
    /// Which ones.
    pub missing: Vec<String>,
}

impl Refusal {
    /// Whether it is the verifier that does not know, and not the token that is bad.
    pub fn is_temporary(&self) -> bool {
        matches!(self, Self::FeedLost { .. } | Self::NotReady)
    }
}

impl From<Rejection> for Refusal {
    fn from(rejection: Rejection) -> Self {
        match rejection {
            Rejection::TooLong | Rejection::Malformed => Self::Malformed,
            Rejection::WrongType => Self::WrongType,
            Rejection::UnknownKey => Self::UnknownKey,
            Rejection::BadSignature => Self::BadSignature,
            Rejection::WrongIssuer => Self::WrongIssuer,
            Rejection::Expired => Self::Expired,
            Rejection::NotYetValid => Self::NotYetValid,
        }
    }
}

impl Verified {
    pub(super) fn new(claims: Claims) -> Self {
        Self(Arc::new(claims))
    }

    /// Whether it is a time at which it is good.
    pub(super) fn check_time(&self, now: Timestamp) -> Result<(), Refusal> {
        Ok(self.0.check_time(now)?)
    }

    /// The tenant's id.
    pub fn tenant(&self) -> &str {
        &self.0.tenant
    }

    /// The application's resource name, `tenants/{tenant}/applications/{application}`.
    pub fn application(&self) -> &str {
        &self.0.sub
    }

    /// The client id of the credential that the token was made with.
    pub fn client_id(&self) -> &str {
        &self.0.client_id
    }

    /// The ids of the application's roles.
    pub fn roles(&self) -> &[String] {
        &self.0.roles
    }

    /// Whom the token is for: the verifier's audience, and perhaps others.
    pub fn audiences(&self) -> &[String] {
        self.0.aud.as_slice()
    }

    /// The token's id, its `jti`.
    pub fn token_id(&self) -> &str {
        &self.0.jti
    }

    /// When the token ends: who goes on for it that long, as a stream does, should stop then.
    pub fn expires_at(&self) -> Timestamp {
        Timestamp::from_second(self.0.exp).unwrap_or(Timestamp::MAX)
    }

    /// The scopes.
    pub fn scopes(&self) -> impl Iterator<Item = &str> {
        self.0.scope.split(' ').filter(|scope| !scope.is_empty())
    }

    /// Whether it has a scope.
    pub fn has_scope(&self, scope: &str) -> bool {
        self.scopes().any(|has| has == scope)
    }

    /// Refuses, by name, the scopes that it lacks.
    pub fn require_scopes(&self, scopes: &[&str]) -> Result<(), InsufficientScope> {
        self.require_all(scopes.iter().copied())
    }

    pub(super) fn minted(&self) -> Minted<'_> {
        self.0.minted()
    }

    pub(super) fn require_all<'a>(
        &self,
        scopes: impl Iterator<Item = &'a str>,
    ) -> Result<(), InsufficientScope> {
        let missing: Vec<_> =
            scopes.filter(|scope| !self.has_scope(scope)).map(ToOwned::to_owned).collect();
        if missing.is_empty() { Ok(()) } else { Err(InsufficientScope { missing }) }
    }
}
