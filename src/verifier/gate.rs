//! The common part of the interceptor and the layer: finds and verifies the token of a request, and
//! checks its scopes. Each of them converts errors in its own way.

use std::sync::Arc;

use http::{Extensions, HeaderMap, header};

use super::{InsufficientScope, Refusal, SenderProof, Verified, Verifier};
use crate::domain::Authorization;

/// Admits requests with a valid token that has all required scopes.
#[derive(Clone, Debug)]
pub(super) struct Gate {
    pub(super) verifier: Verifier,
    pub(super) scopes: Arc<[String]>,
}

/// Why a request is refused.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum Denied {
    /// There is no token.
    #[error("an access token is required: send `authorization: Bearer TOKEN`")]
    NoToken,
    /// The token is invalid.
    #[error(transparent)]
    Refused(#[from] Refusal),
    #[error(transparent)]
    InsufficientScope(#[from] InsufficientScope),
}

impl Gate {
    pub(super) fn new(verifier: &Verifier, scopes: &[&str]) -> Self {
        let scopes = scopes.iter().map(|scope| (*scope).to_owned()).collect();
        Self { verifier: verifier.clone(), scopes }
    }

    /// Verifies the token of a request.
    pub(super) fn admit(
        &self,
        headers: &HeaderMap,
        extensions: &Extensions,
    ) -> Result<Verified, Denied> {
        let verdict = self.verify_request(headers, extensions.get());
        if let Err(denied) = &verdict {
            tracing::debug!(cause = %denied, "request refused");
        }
        verdict
    }

    fn verify_request(
        &self,
        headers: &HeaderMap,
        presented: Option<&SenderProof>,
    ) -> Result<Verified, Denied> {
        let verified = match (token(headers)?, presented) {
            (SentToken::Bearer(token), Some(proof)) => {
                self.verifier.verify_bound(token, &proof.as_bearer())?
            }
            (SentToken::Bearer(token), None) => self.verifier.verify(token)?,
            (SentToken::Dpop(token), Some(proof)) if proof.has_dpop() => {
                self.verifier.verify_bound(token, proof)?
            }
            (SentToken::Dpop(_), _) => return Err(Refusal::ProofRequired.into()),
        };
        verified.require_all(self.scopes.iter().map(String::as_str))?;
        Ok(verified)
    }
}

/// A token, by the scheme that it came with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum SentToken<'a> {
    Bearer(&'a str),
    Dpop(&'a str),
}

/// The token in `authorization: Bearer …` (RFC 6750) or `authorization: DPoP …` (RFC 9449).
fn token(headers: &HeaderMap) -> Result<SentToken<'_>, Denied> {
    let mut all = headers.get_all(header::AUTHORIZATION).iter();
    let only = all.next().ok_or(Denied::NoToken)?;
    // With two headers, the service behind could read the other one.
    if all.next().is_some() {
        return Err(Denied::Refused(Refusal::Malformed));
    }
    match only.to_str().ok().and_then(Authorization::parse) {
        Some(Authorization::Bearer(token)) => Ok(SentToken::Bearer(token)),
        Some(Authorization::Dpop(token)) => Ok(SentToken::Dpop(token)),
        _ => Err(Denied::NoToken),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(values: &[&'static str]) -> Result<String, Denied> {
        let mut headers = HeaderMap::new();
        for value in values {
            headers.append(header::AUTHORIZATION, value.parse().unwrap());
        }
        token(&headers).map(|token| format!("{token:?}"))
    }

    #[test]
    fn exactly_one_token_is_accepted() {
        for good in ["Bearer x.y", "bearer x.y", "BEARER  x.y "] {
            assert_eq!(read(&[good]), Ok("Bearer(\"x.y\")".to_owned()), "{good}");
        }
        assert_eq!(read(&["dpop x.y"]), Ok("Dpop(\"x.y\")".to_owned()));
        for none in [&[][..], &["x.y"], &["Basic x.y"], &["Bearer"], &[""]] {
            assert_eq!(read(none), Err(Denied::NoToken), "{none:?}");
        }
        let two = read(&["Bearer x", "Bearer y"]);
        assert_eq!(two, Err(Denied::Refused(Refusal::Malformed)));
    }
}
