//! Signed JWTs in compact form (RFC 7515, section 7.1), and their verification.

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde_json::{Map, Value};

use super::{JwsAlgorithm, JwtClaims, JwtRefusal, KeySet, PublicKey, members};

/// The maximum length of a token. A longer one is refused before it is parsed.
pub const MAX_JWT_LENGTH: usize = 16 * 1024;
/// The maximum length of `kid` and `typ`.
const MAX_MEMBER: usize = 256;
const MEMBER: &str = "a string of 1 to 256 characters";

/// The header of a token. Keys and addresses of keys in it (`jku`, `x5u`, `x5c`) are ignored.
#[derive(Clone, Debug, PartialEq)]
pub struct JwtHeader {
    algorithm: JwsAlgorithm,
    typ: Option<String>,
    kid: Option<String>,
    jwk: Option<Value>,
}

/// A token whose signature is not verified.
#[derive(Clone, Debug, PartialEq)]
pub struct SignedJwt<'a> {
    header: JwtHeader,
    claims: JwtClaims,
    /// What is signed: the encoded header and payload.
    message: &'a str,
    signature: &'a str,
}

/// A token with a verified signature. Its times and claims are not checked.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct VerifiedJwt<'a> {
    header: &'a JwtHeader,
    claims: &'a JwtClaims,
}

impl JwtHeader {
    fn read(mut members: Map<String, Value>) -> Result<Self, JwtRefusal> {
        // RFC 7515, section 4.1.11: extensions that are not understood make the token invalid. None
        // is understood here. `b64` (RFC 7797) changes what is signed.
        for name in ["crit", "b64"] {
            if members.contains_key(name) {
                return Err(JwtRefusal::HeaderUnsupported(name));
            }
        }
        let mut text = |name: &'static str| match members.remove(name) {
            None => Ok(None),
            Some(Value::String(text)) if (1..=MAX_MEMBER).contains(&text.len()) => Ok(Some(text)),
            Some(_) => Err(JwtRefusal::HeaderType(name, MEMBER)),
        };
        let algorithm = text("alg")?.ok_or(JwtRefusal::HeaderMissing("alg"))?;
        let (typ, kid) = (text("typ")?, text("kid")?);
        let algorithm = JwsAlgorithm::parse(&algorithm).ok_or(JwtRefusal::Algorithm)?;
        Ok(Self { algorithm, typ, kid, jwk: members.remove("jwk") })
    }

    #[cfg(any(test, feature = "internals"))]
    pub fn algorithm(&self) -> JwsAlgorithm {
        self.algorithm
    }

    pub fn kid(&self) -> Option<&str> {
        self.kid.as_deref()
    }

    pub fn typ(&self) -> Option<&str> {
        self.typ.as_deref()
    }

    /// Checks that `typ` is one of these types, or is missing if `or_none`. A type is a media type
    /// without `application/`, which may be written, in any case (RFC 7515, section 4.1.9).
    pub fn check_type(&self, types: &[&str], or_none: bool) -> Result<(), JwtRefusal> {
        const PREFIX: &str = "application/";
        let Some(typ) = self.typ() else {
            return if or_none { Ok(()) } else { Err(JwtRefusal::HeaderMissing("typ")) };
        };
        let short = match typ.split_at_checked(PREFIX.len()) {
            Some((prefix, rest)) if prefix.eq_ignore_ascii_case(PREFIX) => rest,
            _ => typ,
        };
        if types.iter().any(|known| known.eq_ignore_ascii_case(short)) {
            return Ok(());
        }
        Err(JwtRefusal::Type)
    }
}

impl<'a> SignedJwt<'a> {
    /// Reads a token. Checks its form, and the types of the members of its header and of the
    /// registered claims.
    pub fn parse(token: &'a str) -> Result<Self, JwtRefusal> {
        if token.len() > MAX_JWT_LENGTH {
            return Err(JwtRefusal::TooLong);
        }
        let (message, signature) = token.rsplit_once('.').ok_or(JwtRefusal::Malformed)?;
        let (header, payload) = message.split_once('.').ok_or(JwtRefusal::Malformed)?;
        // No character of base64url is a dot: a fourth part makes the payload malformed. Padding,
        // white space and bits that do not count are refused, so a token has one form only.
        let header = decode(header)?;
        let payload = decode(payload)?;
        decode(signature)?;
        let header = members::object(&header).ok_or(JwtRefusal::HeaderNotObject)?;
        let header = JwtHeader::read(header)?;
        let payload = members::object(&payload).ok_or(JwtRefusal::ClaimsNotObject)?;
        Ok(Self { header, claims: JwtClaims::read(payload)?, message, signature })
    }

    pub fn header(&self) -> &JwtHeader {
        &self.header
    }

    /// What the token claims. Anyone can write that. It serves to find the keys that may have
    /// signed it, and decides nothing.
    pub fn unverified_claims(&self) -> &JwtClaims {
        &self.claims
    }

    /// Verifies the signature with the keys of the signer: with the key that `kid` names, if it
    /// fits `alg`; without `kid`, with each key that fits. The key in the header is ignored.
    pub fn verify_with(&self, keys: &KeySet) -> Result<VerifiedJwt<'_>, JwtRefusal> {
        let candidates = keys.candidates(self.header.kid(), self.header.algorithm)?;
        if candidates.into_iter().any(|key| self.is_signed_by(key)) {
            return Ok(self.verified());
        }
        Err(JwtRefusal::Signature)
    }

    /// Verifies the signature with the key in the header, which proves that the sender has that
    /// key, and nothing else (DPoP, RFC 9449). Returns the key too.
    pub fn verify_with_jwk(&self) -> Result<(VerifiedJwt<'_>, PublicKey), JwtRefusal> {
        let jwk = self.header.jwk.as_ref().ok_or(JwtRefusal::HeaderMissing("jwk"))?;
        let key = PublicKey::parse(jwk).map_err(|_| JwtRefusal::HeaderKey)?;
        if !key.fits(self.header.algorithm) {
            return Err(JwtRefusal::NoKeyFits);
        }
        if !self.is_signed_by(&key) {
            return Err(JwtRefusal::Signature);
        }
        Ok((self.verified(), key))
    }

    fn is_signed_by(&self, key: &PublicKey) -> bool {
        key.verifies(self.header.algorithm, self.message.as_bytes(), self.signature)
    }

    fn verified(&self) -> VerifiedJwt<'_> {
        VerifiedJwt { header: &self.header, claims: &self.claims }
    }
}

impl<'a> VerifiedJwt<'a> {
    #[cfg(any(test, feature = "internals"))]
    pub fn header(&self) -> &'a JwtHeader {
        self.header
    }

    pub fn claims(&self) -> &'a JwtClaims {
        self.claims
    }
}

fn decode(part: &str) -> Result<Vec<u8>, JwtRefusal> {
    match URL_SAFE_NO_PAD.decode(part) {
        Ok(bytes) if !bytes.is_empty() => Ok(bytes),
        _ => Err(JwtRefusal::Malformed),
    }
}
