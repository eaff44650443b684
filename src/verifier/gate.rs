//! What the interceptor and the layer have in common: the token of a request is found and
//! checked, and scopes are asked for. How a refusal is told is the affair of each.

use std::sync::Arc;

use http::{HeaderMap, header};

use super::{InsufficientScope, Refusal, Verified, Verifier};

/// Lets requests in whose token is good and has all of these scopes.
#[derive(Clone, Debug)]
pub(super) struct Gate {
    pub(super) verifier: Verifier,
    pub(super) scopes: Arc<[String]>,
}

/// Why a request is not let in.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum Denied {
    /// It has no token.
    #[error("this needs an access token behind `authorization: Bearer`")]
    NoToken,
    /// Its token is refused.
    #[error(transparent)]
    Refused(#[from] Refusal),
    /// Its token has not all scopes.
    #[error(transparent)]
    InsufficientScope(#[from] InsufficientScope),
}

impl Gate {
    pub(super) fn new(verifier: &Verifier, scopes: &[&str]) -> Self {
        let scopes = scopes.iter().map(|scope| (*scope).to_owned()).collect();
        Self { verifier: verifier.clone(), scopes }
    }

    /// What the token of a request says, if it may come in.
    pub(super) fn admit(&self, headers: &HeaderMap) -> Result<Verified, Denied> {
        let verdict = self.judge(headers);
        if let Err(denied) = &verdict {
            tracing::debug!(cause = %denied, "request refused");
        }
        verdict
    }

    fn judge(&self, headers: &HeaderMap) -> Result<Verified, Denied> {
        let verified = self.verifier.verify(bearer(headers)?)?;
        verified.require_all(self.scopes.iter().map(String::as_str))?;
        Ok(verified)
    }
}

/// The bearer string of `authorization: Bearer …` (RFC 6750).
fn bearer(headers: &HeaderMap) -> Result<&str, Denied> {
    let mut all = headers.get_all(header::AUTHORIZATION).iter();
    let only = all.next().ok_or(Denied::NoToken)?;
    // With two, somebody else may read the other one.
    if all.next().is_some() {
        return Err(Denied::Refused(Refusal::Malformed));
    }
    let (scheme, token) =
        only.to_str().ok().and_then(|value| value.split_once(' ')).ok_or(Denied::NoToken)?;
    if scheme.eq_ignore_ascii_case("bearer") { Ok(token.trim()) } else { Err(Denied::NoToken) }
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
    fn there_is_one_bearer_token_or_none() {
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
