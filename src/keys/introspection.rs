//! Introspection answers as signed JWTs (RFC 9701).

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde::Serialize;
use serde_json::json;

use super::SigningKey;
use crate::error::{Error, Result};

/// The `typ` header. No verifier of access tokens accepts it.
const TYPE: &str = "token-introspection+jwt";

/// The claims of an answer (RFC 9701, section 5).
#[derive(Serialize)]
pub struct IntrospectionClaims<'a, T> {
    pub iss: &'a str,
    /// The client that asked.
    pub aud: &'a str,
    /// When it asked, in seconds since the epoch.
    pub iat: i64,
    /// The answer.
    pub token_introspection: &'a T,
}

/// Signs an answer.
pub fn sign(key: &SigningKey, claims: &IntrospectionClaims<'_, impl Serialize>) -> Result<String> {
    let (alg, kid): (&'static str, _) = (key.public.algorithm.into(), &key.public.jwk.kid);
    let header = json!({ "alg": alg, "kid": kid, "typ": TYPE });
    let claims = serde_json::to_vec(claims).map_err(|error| Error::Internal(Box::new(error)))?;
    let mut jwt = URL_SAFE_NO_PAD.encode(header.to_string());
    jwt.push('.');
    URL_SAFE_NO_PAD.encode_string(claims, &mut jwt);
    let signature = key.sign(jwt.as_bytes())?;
    jwt.push('.');
    URL_SAFE_NO_PAD.encode_string(signature, &mut jwt);
    Ok(jwt)
}
