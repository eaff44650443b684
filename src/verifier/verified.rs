//! Verified tokens, and the reasons for refusing a token.

use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;

use crate::domain::{BindingFault, RevocationKeys};
use crate::keys::{Claims, Rejection};

/// The claims of a verified token. Cheap to clone.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Verified(Arc<SignedClaims>);

/// Claims, and the id of the key that signed them.
#[derive(Debug, PartialEq, Eq)]
struct SignedClaims {
    claims: Claims,
    kid: String,
}

/// Why a token is refused.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Refusal {
    /// An API key. Only Keyward can verify it: call `AccessService.CheckAccess`.
    #[error(
        "an API key cannot be verified offline: call AccessService.CheckAccess, or have it \
         exchanged for an access token"
    )]
    ApiKey,
    /// Not an access token of Keyward, or longer than any.
    #[error("the token is malformed, or a claim is missing or of the wrong type")]
    Malformed,
    /// The `typ` header is not `at+jwt`, or `crit` names extensions.
    #[error("the token is not an access token")]
    WrongType,
    /// The `kid` header is not in the issuer's key set.
    #[error("the token's key is not in the key set")]
    UnknownKey,
    /// The signature is invalid, or its algorithm is not that of the key.
    #[error("the token's signature is invalid")]
    BadSignature,
    /// The `iss` claim is another issuer.
    #[error("the token was issued by another issuer")]
    WrongIssuer,
    /// The `aud` claim does not contain the required audience.
    #[error("the token is for another audience")]
    WrongAudience,
    /// The token is bound to a client certificate, and none was presented with it: use
    /// [`Verifier::verify_bound`](super::Verifier::verify_bound).
    #[error("the token is bound to a client certificate, and none was presented with it")]
    CertificateRequired,
    /// The token is bound to another client certificate than the one that was presented.
    #[error("the token is bound to another client certificate")]
    OtherCertificate,
    /// The token is bound to a key (`DPoP`), and no proof of it was presented: use
    /// [`Verifier::verify_bound`](super::Verifier::verify_bound).
    #[error("the token is bound to a key, and no DPoP proof of it was presented")]
    ProofRequired,
    /// The token is bound to another key than that of the `DPoP` proof.
    #[error("the token is bound to another key than that of the DPoP proof")]
    OtherKey,
    /// A `DPoP` proof was presented with a token that is bound to no key.
    #[error("a DPoP proof was presented with a token that is bound to no key")]
    NotBoundToKey,
    /// The `DPoP` proof is not for this token and request, or is wrong in itself.
    #[error("{fault}")]
    InvalidProof {
        /// What is wrong with it.
        fault: String,
    },
    /// The token has expired.
    #[error("the token has expired")]
    Expired,
    /// The `iat` claim is more than a minute in the future.
    #[error("the token was issued in the future: check the clocks of both systems")]
    NotYetValid,
    /// The token was revoked.
    #[error("the token was revoked")]
    Revoked,
    /// The token is valid otherwise, but the revocation data is too old. This is temporary and not
    /// an error of the client.
    #[error("revocations of the last {} s are unknown: retry", .lag.as_secs())]
    FeedLost {
        /// The age of the data.
        lag: Duration,
    },
    /// Keys and revocations have not been read yet.
    #[error("the verifier is not ready yet: retry")]
    NotReady,
}

/// The token lacks scopes.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the token lacks the scope {}", .missing.join(" "))]
pub struct InsufficientScope {
    /// The missing scopes.
    pub missing: Vec<String>,
}

impl Refusal {
    /// Whether the reason is the verifier's state and not the token.
    pub fn is_temporary(&self) -> bool {
        matches!(self, Self::FeedLost { .. } | Self::NotReady)
    }

    /// Whether a right `DPoP` proof would have helped.
    pub(super) fn is_about_dpop(&self) -> bool {
        matches!(
            self,
            Self::ProofRequired | Self::OtherKey | Self::NotBoundToKey | Self::InvalidProof { .. }
        )
    }
}

impl From<BindingFault> for Refusal {
    fn from(fault: BindingFault) -> Self {
        match fault {
            BindingFault::NoCertificate => Self::CertificateRequired,
            BindingFault::OtherCertificate => Self::OtherCertificate,
            BindingFault::NoProof => Self::ProofRequired,
            BindingFault::OtherKey => Self::OtherKey,
            BindingFault::NotBoundToKey => Self::NotBoundToKey,
        }
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
    pub(super) fn new(claims: Claims, kid: &str) -> Self {
        Self(Arc::new(SignedClaims { claims, kid: kid.to_owned() }))
    }

    /// The id of the key that signed the token.
    pub(super) fn kid(&self) -> &str {
        &self.0.kid
    }

    /// Returns an error if the token has expired, or was issued in the future.
    pub(super) fn check_time(&self, now: Timestamp) -> Result<(), Refusal> {
        Ok(self.0.claims.check_time(now)?)
    }

    /// The tenant's id.
    pub fn tenant(&self) -> &str {
        &self.0.claims.tenant
    }

    /// The application's resource name, `tenants/{tenant}/applications/{application}`.
    pub fn application(&self) -> &str {
        &self.0.claims.sub
    }

    /// The client id of the credential that the token was issued for. If the token was exchanged, it
    /// is of another application than [`application`](Self::application), whose access it is.
    pub fn client_id(&self) -> &str {
        &self.0.claims.client_id
    }

    /// The application that acts for [`application`](Self::application), if the token was exchanged
    /// with an `actor_token`: its claim `act` (RFC 8693, section 4.1).
    pub fn actor(&self) -> Option<&str> {
        self.0.claims.act.as_deref().map(|actor| actor.sub.as_str())
    }

    /// The ids of the application's roles.
    pub fn roles(&self) -> &[String] {
        &self.0.claims.roles
    }

    /// The audiences of the token. They include the verifier's.
    pub fn audiences(&self) -> &[String] {
        self.0.claims.aud.as_slice()
    }

    /// The token's id, its `jti`.
    pub fn token_id(&self) -> &str {
        &self.0.claims.jti
    }

    /// When the token expires. A stream that continues with it should end then.
    pub fn expires_at(&self) -> Timestamp {
        Timestamp::from_second(self.0.claims.exp).unwrap_or(Timestamp::MAX)
    }

    /// The scopes of the token.
    pub fn scopes(&self) -> impl Iterator<Item = &str> {
        self.0.claims.scope.split(' ').filter(|scope| !scope.is_empty())
    }

    /// The SHA-256 thumbprint of the client certificate that the token is bound to, in base64url
    /// (RFC 8705, section 3.1).
    pub fn certificate_thumbprint(&self) -> Option<&str> {
        self.0.claims.cnf.as_ref().and_then(|bound| bound.certificate.as_deref())
    }

    /// Whether the token has this scope.
    pub fn has_scope(&self, scope: &str) -> bool {
        self.scopes().any(|has| has == scope)
    }

    /// Returns an error that lists missing scopes.
    pub fn require_scopes(&self, scopes: &[&str]) -> Result<(), InsufficientScope> {
        self.require_all(scopes.iter().copied())
    }

    pub(super) fn revocation_keys(&self) -> RevocationKeys<'_> {
        self.0.claims.revocation_keys().signed_by(&self.0.kid)
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
