//! Access tokens: JWTs as RFC 9068 defines them, and their validation (RFC 8725).

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::{SigningKey, VerifyingKey};
use crate::domain::{
    Confirmation, Epochs, MAX_CLOCK_LEAD, RevocationKeys, TokenActor, TokenClaims, TokenParent,
};
use crate::error::{Error, Result};

/// The maximum length of a token. Servers accept some 8 KiB of headers, and the token must fit into
/// them. A longer token is refused before it is parsed.
pub const MAX_LENGTH: usize = 6 * 1024;

/// The claims of a token (RFC 9068, section 2.2). A missing claim or a claim of the
/// wrong type makes the token invalid. Optional are `roles`, `cnf`, `act`, and one of `epochs` and
/// `parents`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Claims {
    /// The issuer.
    pub iss: String,
    /// The application's resource name.
    pub sub: String,
    /// The audience.
    pub aud: Audiences,
    /// The id of the credential that the token was issued for.
    pub client_id: String,
    /// The issue time, in seconds since the epoch.
    pub iat: i64,
    /// The expiry, in seconds since the epoch.
    pub exp: i64,
    /// The token's id.
    pub jti: String,
    /// The scopes, separated by spaces.
    pub scope: String,
    /// The tenant's id.
    pub tenant: String,
    /// The application's role ids (section 2.2.3.1). Absent if there are none.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub roles: Vec<String>,
    /// The epochs of tenant, application and credential when the token was issued. If one of them
    /// has been raised since, the token is revoked. Absent in an exchanged token, which has
    /// `parents`: so that a verifier of an older version, which knows no `parents` and requires
    /// `epochs`, refuses it. It could not know that a parent was revoked.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub epochs: Option<[i64; 3]>,
    /// What the token is bound to (RFC 7800). Absent: the bearer may use it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cnf: Option<Box<Confirmation>>,
    /// Who acts for the subject (RFC 8693, section 4.1).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub act: Option<Box<TokenActor>>,
    /// What an exchanged token rests on. Absent in all other tokens.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub parents: Option<Box<[TokenParent]>>,
}

impl Claims {
    /// Returns an error if the token has expired, or was issued in the future.
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

    /// The values that revocations are matched against. The claims do not contain the key that
    /// signed them: add it with [`RevocationKeys::signed_by`].
    pub fn revocation_keys(&self) -> RevocationKeys<'_> {
        let token = Some(self.jti.as_str());
        match self.parents() {
            [] => RevocationKeys {
                tenant: &self.tenant,
                application: &self.sub,
                credential: &self.client_id,
                token,
                signing_key: None,
                // Without epochs it would not have been verified.
                epochs: Epochs::from(self.epochs.unwrap_or_default()),
                parents: &[],
            },
            [parents @ .., holder] => {
                RevocationKeys { token, parents, ..holder.revocation_keys(&self.tenant) }
            }
        }
    }

    /// What an exchanged token rests on; empty for all others.
    pub fn parents(&self) -> &[TokenParent] {
        self.parents.as_deref().unwrap_or_default()
    }

    /// The resource name of the application that the token was issued to: another one than `sub` in
    /// an exchanged token.
    pub fn holder(&self) -> &str {
        self.parents().last().map_or(&self.sub, |holder| &holder.sub)
    }

    /// Whether the token says completely what it rests on.
    fn is_complete(&self) -> bool {
        match (&self.epochs, self.parents()) {
            (Some(_), []) => self.parents.is_none(),
            (None, [first, .., last]) => first.sub == self.sub && last.client_id == self.client_id,
            _ => false,
        }
    }
}

/// The `aud` claim: a string or an array of strings.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum Audiences {
    One(String),
    Many(Vec<String>),
}

impl Audiences {
    /// A string for one audience, because several verifiers do not accept an array.
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

/// Why a token is invalid.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Rejection {
    /// Longer than [`MAX_LENGTH`].
    #[error("the token is too long")]
    TooLong,
    /// Not a JWT with the required claims.
    #[error("the token is malformed, or a claim is missing or of the wrong type")]
    Malformed,
    /// The `typ` header is not `at+jwt`, or `crit` names extensions.
    #[error("the token is not an access token")]
    WrongType,
    /// The `kid` header is not in the key set.
    #[error("the token's key is not in the key set")]
    UnknownKey,
    /// The signature is invalid, or its algorithm is not that of the key.
    #[error("the token's signature is invalid")]
    BadSignature,
    /// The `iss` claim is another issuer.
    #[error("the token was issued by another issuer")]
    WrongIssuer,
    /// The `exp` claim is not in the future.
    #[error("the token has expired")]
    Expired,
    /// The `iat` claim is further in the future than [`MAX_CLOCK_LEAD`] allows.
    #[error("the token was issued in the future: check the clocks of both systems")]
    NotYetValid,
}

/// A token before signing, which is the expensive step. Its length is known already.
#[derive(Debug)]
pub struct Unsigned<'a> {
    key: &'a SigningKey,
    message: String,
}

impl<'a> Unsigned<'a> {
    /// Serializes the claims, and after them the tenant's own, and selects the key.
    pub fn new(key: &'a SigningKey, claims: &Claims, own: &TokenClaims) -> Result<Self> {
        let mut claims =
            serde_json::to_vec(claims).map_err(|error| Error::Internal(Box::new(error)))?;
        if !own.is_empty() {
            // Two objects become one. No name is in both: see `domain::registered_claims`.
            claims.pop();
            claims.push(b',');
            claims.extend_from_slice(own.json().get(1..).unwrap_or("}").as_bytes());
        }
        let signature = base64_length(key.public.algorithm.signature_length());
        let length = key.public.header.len() + base64_length(claims.len()) + signature + 2;
        let mut message = String::with_capacity(length);
        message.push_str(&key.public.header);
        message.push('.');
        URL_SAFE_NO_PAD.encode_string(&claims, &mut message);
        Ok(Self { key, message })
    }

    /// The length of the signed token.
    pub fn length(&self) -> usize {
        self.message.len() + 1 + base64_length(self.key.public.algorithm.signature_length())
    }

    /// Signs the token.
    pub fn sign(self) -> Result<String> {
        let Self { key, message: mut token } = self;
        let signature = key.sign(token.as_bytes())?;
        token.push('.');
        URL_SAFE_NO_PAD.encode_string(&signature, &mut token);
        Ok(token)
    }
}

/// The number of base64 characters without padding for this many bytes.
fn base64_length(bytes: usize) -> usize {
    (bytes * 4).div_ceil(3)
}

/// Tokens with any claims, for tests.
#[cfg(any(test, feature = "internals"))]
pub fn sign(key: &SigningKey, claims: &Claims) -> Result<String> {
    Unsigned::new(key, claims, &TokenClaims::default())?.sign()
}

/// Validates everything that can be checked without a database: what [`verify_signed`] checks, and
/// the times. The expiry has no leeway; the issue time has a leeway of [`MAX_CLOCK_LEAD`].
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

/// Validates the form, type, signature and issuer of a token. The signature must be by the key that
/// `kid` names, with that key's algorithm. Keys in the token (`jku`, `x5u`, `jwk`) are ignored.
/// Returns the claims and the key.
pub fn verify_signed<'a>(
    token: &str,
    mut keys: impl Iterator<Item = &'a VerifyingKey> + Clone,
    issuer: &str,
) -> Result<(Claims, &'a VerifyingKey), Rejection> {
    if token.len() > MAX_LENGTH {
        return Err(Rejection::TooLong);
    }
    let (header, _) = token.split_once('.').ok_or(Rejection::Malformed)?;
    // Tokens issued here have the precomputed header of their key, so the header need not be
    // parsed.
    let key = match keys.clone().find(|key| key.header == header) {
        Some(key) => key,
        None => named(token, &mut keys)?,
    };
    let (message, signature) = token.rsplit_once('.').ok_or(Rejection::Malformed)?;
    let (_, payload) = message.split_once('.').ok_or(Rejection::Malformed)?;
    if !key.verifies(message, signature) {
        return Err(Rejection::BadSignature);
    }
    // `Claims` checks the presence and types of claims. Times and issuer are checked separately,
    // with the injected clock.
    let payload = URL_SAFE_NO_PAD.decode(payload).map_err(|_| Rejection::Malformed)?;
    let claims: Claims = serde_json::from_slice(&payload).map_err(|_| Rejection::Malformed)?;
    if !claims.is_complete() {
        return Err(Rejection::Malformed);
    }
    if claims.iss != issuer {
        return Err(Rejection::WrongIssuer);
    }
    Ok((claims, key))
}

/// The claims of a tenant in a token, whose signature was verified.
pub fn own_claims(token: &str) -> TokenClaims {
    let payload = token.split('.').nth(1).unwrap_or_default();
    let payload = URL_SAFE_NO_PAD.decode(payload).unwrap_or_default();
    TokenClaims::in_token(&payload)
}

/// The issue time in an unverified token.
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

/// The key that the token's header names.
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
    // The key determines the algorithm; the header must agree.
    if header.alg == key.algorithm.jws() { Ok(key) } else { Err(Rejection::BadSignature) }
}

#[cfg(test)]
mod tests {
    use jsonwebtoken::{Algorithm, EncodingKey, Header};
    use serde_json::{Value, json};
    use strum::VariantArray;

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
            epochs: Some([0, 1, 2]),
            cnf: None,
            act: None,
            parents: None,
        }
    }

    fn check(ring: &KeyRing, token: &str) -> Result<Claims, Rejection> {
        verify(token, ring.published(at(1500)), ISSUER, at(1500)).map(|(claims, _)| claims)
    }

    /// A token with this header and these claims, signed with the ring's key.
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
    fn every_algorithm_verifies_its_own_signatures() {
        for &algorithm in SigningAlgorithm::VARIANTS {
            let ring = ring(algorithm);
            let token = sign(ring.signer(at(1500)).unwrap(), &claims()).unwrap();
            assert_eq!(check(&ring, &token), Ok(claims()), "{algorithm}");
            let stranger = super::tests::ring(algorithm);
            assert_eq!(check(&stranger, &token), Err(Rejection::UnknownKey));
        }
    }

    #[test]
    fn altered_or_truncated_token_is_refused() {
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
    fn missing_or_mistyped_claim_is_refused() {
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
    fn header_cannot_choose_key_or_algorithm() {
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
        assert_eq!(
            with("alg", json!("PS256")),
            Err(Rejection::BadSignature),
            "the key's algorithm"
        );
        for none in ["none", "None", "nOnE", "noNE", ""] {
            assert_eq!(with("alg", json!(none)), Err(Rejection::Malformed), "{none}");
        }
        assert!(with("jku", json!("https://evil.example/jwks")).is_ok(), "ignored");
    }

    #[test]
    fn public_key_is_not_accepted_as_hmac_secret() {
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
    fn issuer_and_expiry_are_checked_exactly() {
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

    fn exchanged() -> Claims {
        let parent = |sub: &str, client_id: &str| TokenParent {
            sub: sub.to_owned(),
            client_id: client_id.to_owned(),
            epochs: [0, 1, 2],
            jti: None,
            kid: None,
            actor: false,
        };
        let subject = TokenParent {
            jti: Some("first".to_owned()),
            kid: Some("key".to_owned()),
            ..parent("tenants/acme/applications/crm", "s")
        };
        let holder = parent("tenants/acme/applications/gateway", "c");
        Claims { epochs: None, parents: Some([subject, holder].into()), ..claims() }
    }

    #[test]
    fn exchanged_token_says_completely_what_it_rests_on() {
        let ring = ring(SigningAlgorithm::EdDsa);
        let token = sign(ring.signer(at(1500)).unwrap(), &exchanged()).unwrap();
        assert_eq!(check(&ring, &token), Ok(exchanged()));
        let good = serde_json::to_value(exchanged()).unwrap();
        let altered = |change: fn(&mut Value)| {
            let mut claims = good.clone();
            change(&mut claims);
            check(&ring, &forged(&ring, &own_header(&ring), &claims)).map(drop)
        };
        assert_eq!(altered(|_| {}), Ok(()));
        for change in [
            (|claims| claims["epochs"] = json!([0, 1, 2])) as fn(&mut Value),
            |claims| claims["parents"] = json!([]),
            |claims| claims["parents"] = json!({}),
            |claims| drop(claims["parents"].as_array_mut().unwrap().remove(0)),
            |claims| drop(claims["parents"].as_array_mut().unwrap().pop()),
            |claims| claims["parents"][0]["sub"] = json!("tenants/acme/applications/other"),
            |claims| claims["parents"][1]["client_id"] = json!("s"),
            |claims| claims["parents"][0]["later"] = json!("cannot be checked"),
            |claims| claims["parents"][0]["epochs"] = json!([0, 1]),
            |claims| claims["parents"][0]["jti"] = json!(1),
            |claims| drop(claims.as_object_mut().unwrap().remove("parents")),
        ] {
            assert_eq!(altered(change), Err(Rejection::Malformed));
        }
        // An ordinary token rests on its client alone.
        let empty = Claims { parents: Some([].into()), ..claims() };
        let token = sign(ring.signer(at(1500)).unwrap(), &empty).unwrap();
        assert_eq!(check(&ring, &token), Err(Rejection::Malformed));
    }

    /// Versions before token exchange require `epochs`, and know no `parents`.
    #[test]
    fn older_verifier_refuses_exchanged_token() {
        #[derive(Deserialize)]
        #[expect(dead_code, reason = "only the shape counts")]
        struct OlderClaims {
            iss: String,
            sub: String,
            aud: Audiences,
            client_id: String,
            iat: i64,
            exp: i64,
            jti: String,
            scope: String,
            tenant: String,
            #[serde(default)]
            roles: Vec<String>,
            epochs: [i64; 3],
        }
        let older = |claims| {
            serde_json::from_value::<OlderClaims>(serde_json::to_value(claims).unwrap()).is_ok()
        };
        assert!(older(claims()));
        assert!(!older(exchanged()));
    }

    #[test]
    fn parents_are_among_what_is_matched_against_revocations() {
        let claims = exchanged();
        let keys = claims.revocation_keys().signed_by("own");
        assert_eq!((keys.token, keys.signing_key), (Some("j"), Some("own")));
        assert_eq!(keys.application, "tenants/acme/applications/gateway");
        let parents: Vec<_> = keys.of_parents().collect();
        assert_eq!((parents.len(), parents[0].token), (1, Some("first")));
        assert_eq!((parents[0].signing_key, parents[0].tenant), (Some("key"), "acme"));
        assert_eq!(parents[0].application, "tenants/acme/applications/crm");
    }

    #[test]
    fn oversized_token_is_refused_before_parsing() {
        let ring = ring(SigningAlgorithm::EdDsa);
        assert_eq!(check(&ring, &".".repeat(1_000_000)), Err(Rejection::TooLong));
        assert_eq!(check(&ring, &"a".repeat(3_000_000)), Err(Rejection::TooLong));
        assert_eq!(check(&ring, &".".repeat(100)), Err(Rejection::Malformed));
        assert_eq!(check(&ring, ""), Err(Rejection::Malformed));
    }
}
