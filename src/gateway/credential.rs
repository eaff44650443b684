//! The credential of a request: exactly one. A request with two could be checked with one and served
//! with the other.

use super::described::{DescribedHeaders, RequestFault};
use crate::domain::Authorization;
use crate::secrets::Secret;

/// Where a client put its credential.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CredentialPlace {
    /// `Authorization: Bearer` (RFC 6750).
    Bearer,
    /// `Authorization: DPoP` (RFC 9449, section 7.1).
    Dpop,
    /// The header for API keys.
    KeyHeader,
}

const AUTHORIZATION: &str = "authorization";
/// The parameter of RFC 6750, section 2.3, which is not accepted.
const IN_QUERY: &str = "access_token";

/// The credential of a request with these headers and this query, which is not decoded.
pub(super) fn find(
    headers: &DescribedHeaders<'_>,
    query: &str,
    key_header: Option<&str>,
) -> Result<(Secret, CredentialPlace), RequestFault> {
    let authorization = headers.single(AUTHORIZATION)?;
    let key = key_header.map_or(Ok(None), |name| headers.single(name))?;
    if authorization.is_some() && key.is_some() {
        return Err(RequestFault::ambiguous("there are two credentials: send one"));
    }
    if query.split('&').any(|one| one.split('=').next() == Some(IN_QUERY)) {
        return Err(RequestFault::ambiguous("access_token must not be in the query"));
    }
    if let Some(key) = key {
        return secret(key).map(|secret| (secret, CredentialPlace::KeyHeader));
    }
    let Some(value) = authorization else { return Err(RequestFault::NoCredential) };
    match Authorization::parse(value) {
        Some(Authorization::Bearer(token)) => Ok((secret(token)?, CredentialPlace::Bearer)),
        Some(Authorization::Dpop(token)) => Ok((secret(token)?, CredentialPlace::Dpop)),
        Some(Authorization::Basic(_) | Authorization::Other) => Err(RequestFault::NoCredential),
        None => Err(malformed()),
    }
}

/// A `b64token` (RFC 6750, section 2.1). A comma or a space would join two values: gateways write
/// repeated headers so.
fn secret(text: &str) -> Result<Secret, RequestFault> {
    let body = text.trim_end_matches('=');
    let allowed = |b: u8| b.is_ascii_alphanumeric() || b"-._~+/".contains(&b);
    if body.is_empty() || !body.bytes().all(allowed) {
        return Err(malformed());
    }
    Ok(Secret::new(text))
}

fn malformed() -> RequestFault {
    RequestFault::ambiguous("the credential is not well-formed, or there are several")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(
        headers: &[(&str, &str)],
        query: &str,
    ) -> Result<(String, CredentialPlace), RequestFault> {
        let headers = headers.iter().map(|(name, value)| (*name, value.as_bytes())).collect();
        let found = find(&headers, query, Some("x-api-key"));
        found.map(|(secret, place)| (secret.expose().to_owned(), place))
    }

    #[test]
    fn one_credential_is_found_where_it_is() {
        use CredentialPlace::{Bearer, Dpop, KeyHeader};
        for (name, value, secret, place) in [
            ("authorization", "Bearer a.b-c_d~e+f/g==", "a.b-c_d~e+f/g==", Bearer),
            ("Authorization", "bearer  t ", "t", Bearer),
            ("authorization", "DPoP t", "t", Dpop),
            ("X-Api-Key", " kwk_1 ", "kwk_1", KeyHeader),
        ] {
            let expected = Ok((secret.to_owned(), place));
            assert_eq!(
                found(&[(name, value)], "q=%0A&x=access_token"),
                expected,
                "{name}: {value}"
            );
        }
        for headers in [&[][..], &[("authorization", "Basic aWQ6")], &[("cookie", "t=1")]] {
            assert_eq!(found(headers, ""), Err(RequestFault::NoCredential), "{headers:?}");
        }
    }

    #[test]
    fn several_credentials_are_refused() {
        let good = ("authorization", "Bearer good");
        for (headers, query) in [
            (&[good, ("authorization", "Bearer evil")][..], ""),
            (&[good, good], ""),
            (&[good, ("x-api-key", "k")], ""),
            (&[("authorization", "Basic aWQ6"), ("x-api-key", "k")], ""),
            (&[("x-api-key", "k"), ("X-API-Key", "k")], ""),
            (&[("authorization", "Bearer good,Bearer evil")], ""),
            (&[("authorization", "Bearer good, Bearer evil")], ""),
            (&[("authorization", "Bearer good,evil")], ""),
            (&[("x-api-key", "k,l")], ""),
            (&[("x-api-key", "k l")], ""),
            (&[("x-api-key", "")], ""),
            (&[("x-api-key", "\u{e4}")], ""),
            (&[("authorization", "Bearer")], ""),
            (&[("authorization", "Bearer =")], ""),
            (&[("authorization", "")], ""),
            (&[good], "access_token=evil"),
            (&[good], "a=1&access_token"),
            (&[], "access_token=evil"),
        ] {
            let found = found(headers, query);
            assert!(matches!(found, Err(RequestFault::Ambiguous(_))), "{headers:?} {query}");
        }
    }
}
