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
        let token = bearer(headers)?;
        let verified = match presented {
            Some(presented) => self.verifier.verify_bound(token, presented)?,
            None => self.verifier.verify(token)?,
        };
        verified.require_all(self.scopes.iter().map(String::as_str))?;
        Ok(verified)
    }
}

/// The token in `authorization: Bearer …` (RFC 6750).
fn bearer(headers: &HeaderMap) -> Result<&str, Denied> {
    let mut all = headers.get_all(header::AUTHORIZATION).iter();
    let only = all.next().ok_or(Denied::NoToken)?;
    // With two headers, the service behind could read the other one.
    if all.next().is_some() {
        return Err(Denied::Refused(Refusal::Malformed));
    }
    match only.to_str().ok().and_then(Authorization::parse) {
        Some(Authorization::Bearer(token)) => Ok(token),
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
        bearer(&headers).map(ToOwned::to_owned)
    }

    #[test]
    fn exactly_one_bearer_token_is_accepted() {
        for good in ["Bearer x.y", "bearer x.y", "BEARER  x.y "] {
            assert_eq!(read(&[good]), Ok("x.y".to_owned()), "{good}");
        }
        for none in [&[][..], &["x.y"], &["Basic x.y"], &["Bearer"], &[""]] {
            assert_eq!(read(none), Err(Denied::NoToken), "{none:?}");
        }
        let two = read(&["Bearer x", "Bearer y"]);
        assert_eq!(two, Err(Denied::Refused(Refusal::Malformed)));
    }
}
