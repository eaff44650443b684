//! Access tokens: JWTs as in RFC 9068, and what one must be to be believed (RFC 8725).

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::{SigningKey, VerifyingKey};
use crate::domain::{Epochs, MAX_CLOCK_LEAD, Minted};
use crate::error::{Error, Result};

/// The longest token that is issued, and that is looked at: it must fit into the headers
/// of a request, of which servers take 8 KiB. A longer one is refused before anything in
/// it is read.
pub const MAX_LENGTH: usize = 6 * 1024;

/// What a token says (RFC 9068, section 2.2). Every claim but `roles` is required, and
/// each has one type: a missing or a wrongly typed one refuses the token.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Claims {
    /// Who made it.
    pub iss: String,
    /// The application's resource name.
    pub sub: String,
    /// Whom it is for.
    pub aud: Audiences,
    /// The credential it was made with.
    pub client_id: String,
    /// When it was made, in seconds since the epoch.
    pub iat: i64,
    /// When it ends, in seconds since the epoch.
    pub exp: i64,
    /// Its id.
    pub jti: String,
    /// Its scopes, with a space between.
    pub scope: String,
    /// The tenant's id.
    pub tenant: String,
    /// The ids of the application's roles (section 2.2.3.1); absent when it has none.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub roles: Vec<String>,
    /// The epochs of tenant, application and credential that it was made from: with
    /// any of them raised since, it is revoked.
    pub epochs: [i64; 3],
}

impl Claims {
    /// Whether it is a time at which the token is good.
    pub fn check_time(&self, now: Timestamp) -> Result<(), Rejection> {
        let now = now.as_second();
        if self.exp <= now {
            return Err(Rejection::Expired);
        }
        if self.iat > now.saturating_add_unsigned(MAX_CLOCK_LEAD) {
            return Err(Rejection::NotYetValid);
        }
        Ok(())
    }

    /// What they say of the token's making.
    pub fn minted(&self) -> Minted<'_> {
        let [tenant, application, credential] = self.epochs;
        Minted {
            tenant: &self.tenant,
            application: &self.sub,
            credential: &self.client_id,
            token: Some(&self.jti),
            epochs: Epochs { tenant, application, credential },
        }
    }
}

/// The `aud` claim: a string, or several in an array.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum Audiences {
    /// One.
    One(String),
    /// Several.
    Many(Vec<String>),
}

impl Audiences {
    /// As few brackets as can be: several verifiers expect a string.
    pub fn new(mut audiences: Vec<String>) -> Self {
        match audiences.pop() {
            Some(only) if audiences.is_empty() => Self::One(only),
            Some(last) => {
                audiences.push(last);
                Self::Many(audiences)
            }
            None => Self::Many(audiences),
        }
    }

    /// As a list.
    pub fn as_slice(&self) -> &[String] {
        match self {
            Self::One(audience) => std::slice::from_ref(audience),
            Self::Many(audiences) => audiences,
        }
    }
}

/// Why a token is not believed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Rejection {
    /// It is longer than any of ours.
    #[error("the token is too long")]
    TooLong,
    /// It has not the form of a JWT with our claims.
    #[error("the token is malformed, or a claim is missing or of the wrong type")]
    Malformed,
    /// Its header names another type than `at+jwt`, or extensions we do not know.
    #[error("the token is no access token")]
    WrongType,
    /// It names no key of ours.
    #[error("the token's key is not in the key set")]
    UnknownKey,
    /// The signature is not its key's, or not by its key's algorithm.
    #[error("the token's signature is wrong")]
    BadSignature,
    /// Another issuer made it.
    #[error("the token is another issuer's")]
    WrongIssuer,
    /// Its time is over.
    #[error("the token has expired")]
    Expired,
    /// It was made by a clock that was ahead of ours.
    #[error("the token was issued in the future: a clock was, or is, wrong")]
    NotYetValid,
}

/// A token that lacks its signature, which costs most.
#[derive(Debug)]
pub struct Unsigned<'a> {
    key: &'a SigningKey,
    message: String,
}

impl<'a> Unsigned<'a> {
    /// What the key is to sign.
    pub fn new(key: &'a SigningKey, claims: &Claims) -> Result<Self> {
        let claims =
            serde_json::to_vec(claims).map_err(|error| Error::Internal(Box::new(error)))?;
        let signature = base64_length(key.public.algorithm.signature_length());
        let length = key.public.header.len() + base64_length(claims.len()) + signature + 2;
        let mut message = String::with_capacity(length);
        message.push_str(&key.public.header);
        message.push('.');
        URL_SAFE_NO_PAD.encode_string(&claims, &mut message);
        Ok(Self { key, message })
    }

    /// How long the token will be.
    pub fn length(&self) -> usize {
        self.message.len() + 1 + base64_length(self.key.public.algorithm.signature_length())
    }

    /// The token.
    pub fn sign(self) -> Result<String> {
        let Self { key, message: mut token } = self;
        let signature = key.sign(token.as_bytes())?;
        token.push('.');
        URL_SAFE_NO_PAD.encode_string(&signature, &mut token);
        Ok(token)
    }
}

/// How many characters so many bytes are, without padding.
fn base64_length(bytes: usize) -> usize {
    (bytes * 4).div_ceil(3)
}

/// Signs a token.
pub fn sign(key: &SigningKey, claims: &Claims) -> Result<String> {
    Unsigned::new(key, claims)?.sign()
}

/// Checks everything about a token that it can tell by itself: what [`verify_signed`] does, and
/// its time: expiry without leeway, issuance with that of [`MAX_CLOCK_LEAD`].
pub fn verify<'a>(
    token: &str,
    keys: impl Iterator<Item = &'a VerifyingKey> + Clone,
    issuer: &str,
    now: Timestamp,
) -> Result<(Claims, &'a VerifyingKey), Rejection> {
    let (claims, key) = verify_signed(token, keys, issuer)?;
    claims.check_time(now)?;
    Ok((claims, key))
}

/// Checks who made a token: form, type, signature by the one of these keys that it names and
/// that key's algorithm, issuer. Keys that the token brings along (`jku`, `x5u`, `jwk`) are not
/// looked at. With what it says goes the key that signed it.
pub fn verify_signed<'a>(
    token: &str,
    mut keys: impl Iterator<Item = &'a VerifyingKey> + Clone,
    issuer: &str,
) -> Result<(Claims, &'a VerifyingKey), Rejection> {
    if token.len() > MAX_LENGTH {
        return Err(Rejection::TooLong);
    }
    let (header, _) = token.split_once('.').ok_or(Rejection::Malformed)?;
    // Ours have the header that their key gives them, which need not be read then.
    let key = match keys.clone().find(|key| key.header == header) {
        Some(key) => key,
        None => named(token, &mut keys)?,
    };
    let (message, signature) = token.rsplit_once('.').ok_or(Rejection::Malformed)?;
    let (_, payload) = message.split_once('.').ok_or(Rejection::Malformed)?;
    if !key.verifies(message, signature) {
        return Err(Rejection::BadSignature);
    }
    // Presence and types of claims are those of `Claims`; times and issuer are checked here, by
    // our clock.
    let payload = URL_SAFE_NO_PAD.decode(payload).map_err(|_| Rejection::Malformed)?;
    let claims: Claims = serde_json::from_slice(&payload).map_err(|_| Rejection::Malformed)?;
    if claims.iss != issuer {
        return Err(Rejection::WrongIssuer);
    }
    Ok((claims, key))
}

/// When a token says that it was made. Nothing of it is checked.
pub fn claimed_issuance(token: &str) -> Option<Timestamp> {
    #[derive(Deserialize)]
    struct Issued {
        iat: i64,
    }
    let payload = token.split('.').nth(1).filter(|_| token.len() <= MAX_LENGTH)?;
    let payload = URL_SAFE_NO_PAD.decode(payload).ok()?;
    let Issued { iat } = serde_json::from_slice(&payload).ok()?;
    Timestamp::from_second(iat).ok()
}

/// The key that a token names in its header.
fn named<'a>(
    token: &str,
    keys: &mut impl Iterator<Item = &'a VerifyingKey>,
) -> Result<&'a VerifyingKey, Rejection> {
    let header = jsonwebtoken::decode_header(token).map_err(|_| Rejection::Malformed)?;
    if header.typ.as_deref() != Some("at+jwt") || header.crit.is_some() {
        return Err(Rejection::WrongType);
    }
    let kid = header.kid.as_deref().ok_or(Rejection::UnknownKey)?;
    let key = keys.find(|key| key.jwk.kid == kid).ok_or(Rejection::UnknownKey)?;
    // The key says by which algorithm; the token may only agree.
    if header.alg == key.algorithm.jws() { Ok(key) } else { Err(Rejection::BadSignature) }
}

#[cfg(test)]
mod tests {
    use jsonwebtoken::{Algorithm, EncodingKey, Header};
    use serde_json::{Value, json};

    use super::super::signing::generate;
    use super::super::{KeyRing, SigningAlgorithm};
    use super::*;

    const ISSUER: &str = "https://keyward.example";

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(second).unwrap()
    }

    fn ring(algorithm: SigningAlgorithm) -> KeyRing {
        let pkcs8 = generate(algorithm).unwrap();
        KeyRing::new(vec![SigningKey::from_pkcs8(algorithm, &pkcs8, 1, at(0)).unwrap()])
    }

    fn claims() -> Claims {
        Claims {
            iss: ISSUER.to_owned(),
            sub: "tenants/acme/applications/crm".to_owned(),
            aud: Audiences::new(vec!["tenants/acme".to_owned()]),
            client_id: "c".to_owned(),
            iat: 1000,
            exp: 1900,
            jti: "j".to_owned(),
            scope: "a b".to_owned(),
            tenant: "acme".to_owned(),
            roles: Vec::new(),
            epochs: [0, 1, 2],
        }
    }

    fn check(ring: &KeyRing, token: &str) -> Result<Claims, Rejection> {
        verify(token, ring.published(at(1500)), ISSUER, at(1500)).map(|(claims, _)| claims)
    }

    /// A token with this header and these claims, signed by the ring's own key.
    fn forged(ring: &KeyRing, header: &Value, claims: &Value) -> String {
        let part = |value: &Value| URL_SAFE_NO_PAD.encode(value.to_string());
        let message = format!("{}.{}", part(header), part(claims));
        let signature = ring.signer(at(1500)).unwrap().sign(message.as_bytes()).unwrap();
        format!("{message}.{}", URL_SAFE_NO_PAD.encode(signature))
    }

    fn own_header(ring: &KeyRing) -> Value {
        let key = &ring.published(at(1500)).next().unwrap().jwk;
        json!({ "alg": key.alg, "kid": key.kid, "typ": "at+jwt" })
    }

    #[test]
    fn every_algorithm_signs_what_it_verifies() {
        for algorithm in SigningAlgorithm::ALL {
            let ring = ring(algorithm);
            let token = sign(ring.signer(at(1500)).unwrap(), &claims()).unwrap();
            assert_eq!(check(&ring, &token), Ok(claims()), "{algorithm}");
            let stranger = super::tests::ring(algorithm);
            assert_eq!(check(&stranger, &token), Err(Rejection::UnknownKey));
        }
    }

    #[test]
    fn a_flipped_bit_anywhere_refuses_the_token() {
        let ring = ring(SigningAlgorithm::Es256);
        let token = sign(ring.signer(at(1500)).unwrap(), &claims()).unwrap();
        for position in 0..token.len() - 1 {
            let mut bytes = token.clone().into_bytes();
            bytes[position] ^= 1;
            if let Ok(altered) = String::from_utf8(bytes) {
                assert!(check(&ring, &altered).is_err(), "byte {position}");
            }
        }
        for length in 0..token.len() {
            assert!(check(&ring, &token[..length]).is_err(), "cut to {length}");
        }
    }

    #[test]
    fn a_claim_that_is_missing_or_of_another_type_refuses_the_token() {
        let ring = ring(SigningAlgorithm::EdDsa);
        let good = serde_json::to_value(claims()).unwrap();
        assert!(check(&ring, &forged(&ring, &own_header(&ring), &good)).is_ok());
        for claim in good.as_object().unwrap().keys() {
            let mut without = good.clone();
            without.as_object_mut().unwrap().remove(claim);
            let token = forged(&ring, &own_header(&ring), &without);
            assert_eq!(check(&ring, &token), Err(Rejection::Malformed), "without {claim}");
            for wrong in
                [json!(null), json!(true), json!({}), json!([[]]), json!(1.5), json!("9e9")]
            {
                let mut altered = good.clone();
                altered[claim] = wrong.clone();
                let strings = ["iss", "sub", "aud", "client_id", "jti", "scope", "tenant"];
                if wrong.is_string() && strings.contains(&claim.as_str()) && claim != "iss" {
                    continue;
                }
                let token = forged(&ring, &own_header(&ring), &altered);
                assert!(check(&ring, &token).is_err(), "{claim} = {wrong}");
            }
        }
    }

    #[test]
    fn the_header_decides_nothing() {
        let ring = ring(SigningAlgorithm::Rs256);
        let good = serde_json::to_value(claims()).unwrap();
        let with = |member: &str, value: Value| {
            let mut header = own_header(&ring);
            header[member] = value;
            check(&ring, &forged(&ring, &header, &good))
        };
        assert_eq!(with("typ", json!("JWT")), Err(Rejection::WrongType));
        assert_eq!(with("typ", json!("id+jwt")), Err(Rejection::WrongType));
        assert_eq!(with("crit", json!(["exp"])), Err(Rejection::WrongType));
        assert_eq!(with("kid", json!("other")), Err(Rejection::UnknownKey));
        assert_eq!(with("kid", json!(null)), Err(Rejection::UnknownKey));
        assert_eq!(with("alg", json!("PS256")), Err(Rejection::BadSignature), "pinned by the key");
        for none in ["none", "None", "nOnE", "noNE", ""] {
            assert_eq!(with("alg", json!(none)), Err(Rejection::Malformed), "{none}");
        }
        assert!(with("jku", json!("https://evil.example/jwks")).is_ok(), "ignored");
    }

    #[test]
    fn a_public_key_is_no_hmac_secret() {
        let ring = ring(SigningAlgorithm::Rs256);
        let key = ring.published(at(1500)).next().unwrap();
        let public = serde_json::to_vec(&key.jwk).unwrap();
        let mut header = Header::new(Algorithm::HS256);
        header.kid = Some(key.jwk.kid.clone());
        header.typ = Some("at+jwt".to_owned());
        let token =
            jsonwebtoken::encode(&header, &claims(), &EncodingKey::from_secret(&public)).unwrap();
        assert_eq!(check(&ring, &token), Err(Rejection::BadSignature));
    }

    #[test]
    fn issuer_and_expiry_are_exact() {
        let ring = ring(SigningAlgorithm::EdDsa);
        let with =
            |claims: Claims| check(&ring, &sign(ring.signer(at(1500)).unwrap(), &claims).unwrap());
        for issuer in
            ["https://keyward.example.evil", "https://keyward", "https://keyward.example/", ""]
        {
            let foreign = Claims { iss: issuer.to_owned(), ..claims() };
            assert_eq!(with(foreign), Err(Rejection::WrongIssuer), "{issuer}");
        }
        assert_eq!(with(Claims { exp: 1500, ..claims() }), Err(Rejection::Expired));
        assert!(with(Claims { exp: 1501, ..claims() }).is_ok());
        let ahead = |iat| with(Claims { iat, exp: i64::MAX, ..claims() }).map(drop);
        assert_eq!((ahead(1560), ahead(1561)), (Ok(()), Err(Rejection::NotYetValid)));
        assert_eq!(ahead(i64::MAX), Err(Rejection::NotYetValid));
    }

    #[test]
    fn a_token_of_megabytes_or_of_dots_is_refused_unread() {
        let ring = ring(SigningAlgorithm::EdDsa);
        assert_eq!(check(&ring, &".".repeat(1_000_000)), Err(Rejection::TooLong));
        assert_eq!(check(&ring, &"a".repeat(3_000_000)), Err(Rejection::TooLong));
        assert_eq!(check(&ring, &".".repeat(100)), Err(Rejection::Malformed));
        assert_eq!(check(&ring, ""), Err(Rejection::Malformed));
    }
}
