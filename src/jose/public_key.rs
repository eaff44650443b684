//! One public key (RFC 7517).

use aws_lc_rs::digest::{SHA256, digest};
use aws_lc_rs::signature::{
    ECDSA_P256_SHA256_FIXED, ECDSA_P384_SHA384_FIXED, ED25519, ParsedPublicKey,
};
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use jsonwebtoken::DecodingKey;
use serde_json::{Map, Value, json};

use super::JwsAlgorithm;
use crate::domain::Fault;

/// The maximum length of `kid`, in bytes.
const MAX_ID: usize = 256;
/// The members of a private or symmetric key (RFC 7518, sections 6.2.2, 6.3.2 and 6.4.1, and RFC
/// 8037).
const PRIVATE_MEMBERS: [&str; 8] = ["d", "p", "q", "dp", "dq", "qi", "oth", "k"];
/// RSA keys have 2048 to 8192 bits, which is what aws-lc verifies with.
const MIN_RSA_BITS: usize = 2048;
const MAX_RSA_BITS: usize = 8192;
/// The maximum length of an RSA exponent. Verification with a long one is slow.
const MAX_EXPONENT_BYTES: usize = 4;

/// A public key that another party signs with.
#[derive(Clone)]
pub struct PublicKey {
    kid: Option<String>,
    /// The only algorithm that the key may be used with, if it names one.
    algorithm: Option<JwsAlgorithm>,
    parameters: KeyParameters,
    key: DecodingKey,
}

/// The parameters of a key, in base64url.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum KeyParameters {
    P256 { x: String, y: String },
    P384 { x: String, y: String },
    Ed25519 { x: String },
    Rsa { n: String, e: String },
}

/// What is wrong with a member of a key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct JwkFault {
    /// The member. Empty: the key as a whole.
    pub member: &'static str,
    pub fault: Fault,
}

impl JwkFault {
    pub(super) fn new(member: &'static str, fault: impl Into<String>) -> Self {
        Self { member, fault: Fault::new(fault) }
    }
}

impl PublicKey {
    /// Reads a JWK. Members that are not known are ignored.
    pub fn parse(jwk: &Value) -> Result<Self, JwkFault> {
        let jwk = jwk.as_object().ok_or_else(|| JwkFault::new("", "must be a JSON object"))?;
        if let Some(member) = PRIVATE_MEMBERS.into_iter().find(|name| jwk.contains_key(*name)) {
            return Err(JwkFault::new(
                member,
                "belongs to a private or symmetric key: send only the public key, and replace this \
                 one if it was private, because it has left its place",
            ));
        }
        check_usage(jwk)?;
        let parameters = KeyParameters::read(jwk)?;
        let algorithm = match optional_text(jwk, "alg")? {
            Some(name) => Some(JwsAlgorithm::parse(name).ok_or_else(|| {
                JwkFault::new("alg", format!("must be one of {}", JwsAlgorithm::NAMES.join(", ")))
            })?),
            None => None,
        };
        if algorithm.is_some_and(|algorithm| !parameters.fit(algorithm)) {
            return Err(JwkFault::new("alg", "must be an algorithm for this kty and crv"));
        }
        let kid = optional_text(jwk, "kid")?.map(str::to_owned);
        if kid.as_ref().is_some_and(|kid| !(1..=MAX_ID).contains(&kid.len())) {
            return Err(JwkFault::new("kid", "must have 1 to 256 bytes"));
        }
        Self::new(parameters, algorithm, kid)
    }

    /// Checks the parameters: a point must be on its curve, an RSA key must have an accepted size.
    pub(super) fn new(
        parameters: KeyParameters,
        algorithm: Option<JwsAlgorithm>,
        kid: Option<String>,
    ) -> Result<Self, JwkFault> {
        let key = parameters.decoding_key()?;
        Ok(Self { kid, algorithm, parameters, key })
    }

    pub fn kid(&self) -> Option<&str> {
        self.kid.as_deref()
    }

    /// Whether the key may verify signatures of this algorithm.
    pub fn fits(&self, algorithm: JwsAlgorithm) -> bool {
        self.parameters.fit(algorithm) && self.algorithm.is_none_or(|only| only == algorithm)
    }

    /// The RFC 7638 thumbprint with SHA-256, in base64url: `jkt` of DPoP (RFC 9449).
    pub fn thumbprint(&self) -> String {
        let text = match &self.parameters {
            KeyParameters::P256 { x, y } => {
                format!(r#"{{"crv":"P-256","kty":"EC","x":"{x}","y":"{y}"}}"#)
            }
            KeyParameters::P384 { x, y } => {
                format!(r#"{{"crv":"P-384","kty":"EC","x":"{x}","y":"{y}"}}"#)
            }
            KeyParameters::Ed25519 { x } => format!(r#"{{"crv":"Ed25519","kty":"OKP","x":"{x}"}}"#),
            KeyParameters::Rsa { n, e } => format!(r#"{{"e":"{e}","kty":"RSA","n":"{n}"}}"#),
        };
        URL_SAFE_NO_PAD.encode(digest(&SHA256, text.as_bytes()))
    }

    /// The public JWK, with the members that are used.
    pub fn to_jwk(&self) -> Value {
        let mut jwk = match &self.parameters {
            KeyParameters::P256 { x, y } => json!({"kty": "EC", "crv": "P-256", "x": x, "y": y}),
            KeyParameters::P384 { x, y } => json!({"kty": "EC", "crv": "P-384", "x": x, "y": y}),
            KeyParameters::Ed25519 { x } => json!({"kty": "OKP", "crv": "Ed25519", "x": x}),
            KeyParameters::Rsa { n, e } => json!({"kty": "RSA", "n": n, "e": e}),
        };
        if let Some(kid) = &self.kid {
            jwk["kid"] = kid.as_str().into();
        }
        if let Some(algorithm) = self.algorithm {
            jwk["alg"] = <&str>::from(algorithm).into();
        }
        jwk
    }

    /// Whether `signature`, encoded as in a JWS, is valid for the message. The key must fit.
    pub(super) fn verifies(
        &self,
        algorithm: JwsAlgorithm,
        message: &[u8],
        signature: &str,
    ) -> bool {
        let verified = jsonwebtoken::crypto::verify(signature, message, &self.key, algorithm.jws());
        self.fits(algorithm) && verified.unwrap_or(false)
    }
}

impl PartialEq for PublicKey {
    fn eq(&self, other: &Self) -> bool {
        (&self.kid, self.algorithm, &self.parameters)
            == (&other.kid, other.algorithm, &other.parameters)
    }
}

impl Eq for PublicKey {}

impl std::fmt::Debug for PublicKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "PublicKey({})", self.to_jwk())
    }
}

impl KeyParameters {
    fn read(jwk: &Map<String, Value>) -> Result<Self, JwkFault> {
        let text = |name: &'static str| {
            optional_text(jwk, name)?.ok_or_else(|| JwkFault::new(name, "is missing"))
        };
        let owned = |name: &'static str| text(name).map(str::to_owned);
        match text("kty")? {
            "EC" => match text("crv")? {
                "P-256" => Ok(Self::P256 { x: owned("x")?, y: owned("y")? }),
                "P-384" => Ok(Self::P384 { x: owned("x")?, y: owned("y")? }),
                _ => Err(JwkFault::new("crv", "must be P-256 or P-384")),
            },
            "OKP" if text("crv")? == "Ed25519" => Ok(Self::Ed25519 { x: owned("x")? }),
            "OKP" => Err(JwkFault::new("crv", "must be Ed25519")),
            "RSA" => Ok(Self::Rsa { n: owned("n")?, e: owned("e")? }),
            _ => Err(JwkFault::new("kty", "must be EC, OKP or RSA")),
        }
    }

    fn fit(&self, algorithm: JwsAlgorithm) -> bool {
        match self {
            Self::P256 { .. } => algorithm == JwsAlgorithm::Es256,
            Self::P384 { .. } => algorithm == JwsAlgorithm::Es384,
            Self::Ed25519 { .. } => algorithm == JwsAlgorithm::Ed25519,
            Self::Rsa { .. } => {
                matches!(algorithm, JwsAlgorithm::Ps256 | JwsAlgorithm::Rs256)
            }
        }
    }

    fn decoding_key(&self) -> Result<DecodingKey, JwkFault> {
        match self {
            Self::P256 { x, y } => {
                let point = point(x, y, 32)?;
                ParsedPublicKey::new(&ECDSA_P256_SHA256_FIXED, &point)
                    .map_err(|_| JwkFault::new("x", "and y must be a point on P-256"))?;
                Ok(DecodingKey::from_ec_der(&point))
            }
            Self::P384 { x, y } => {
                let point = point(x, y, 48)?;
                ParsedPublicKey::new(&ECDSA_P384_SHA384_FIXED, &point)
                    .map_err(|_| JwkFault::new("x", "and y must be a point on P-384"))?;
                Ok(DecodingKey::from_ec_der(&point))
            }
            Self::Ed25519 { x } => {
                let x = fixed("x", x, 32)?;
                ParsedPublicKey::new(&ED25519, &x)
                    .map_err(|_| JwkFault::new("x", "must be an Ed25519 public key"))?;
                Ok(DecodingKey::from_ed_der(&x))
            }
            Self::Rsa { n, e } => {
                let (n, e) = (decode("n", n)?, decode("e", e)?);
                check_modulus(&n)?;
                check_exponent(&e)?;
                Ok(DecodingKey::from_rsa_raw_components(&n, &e))
            }
        }
    }
}

/// A key for encryption is not a key for signatures (RFC 7517, sections 4.2 and 4.3).
fn check_usage(jwk: &Map<String, Value>) -> Result<(), JwkFault> {
    // `jwt-svid` is what SPIFFE calls keys that sign tokens of workloads.
    if optional_text(jwk, "use")?.is_some_and(|usage| !["sig", "jwt-svid"].contains(&usage)) {
        return Err(JwkFault::new("use", "must be sig, or absent"));
    }
    let verifies = match jwk.get("key_ops") {
        None => true,
        Some(Value::Array(operations)) => operations.iter().any(|operation| operation == "verify"),
        Some(_) => false,
    };
    if verifies {
        return Ok(());
    }
    Err(JwkFault::new("key_ops", "must be an array with verify, or absent"))
}

fn optional_text<'a>(
    jwk: &'a Map<String, Value>,
    name: &'static str,
) -> Result<Option<&'a str>, JwkFault> {
    match jwk.get(name) {
        None => Ok(None),
        Some(Value::String(text)) => Ok(Some(text)),
        Some(_) => Err(JwkFault::new(name, "must be a string")),
    }
}

fn decode(name: &'static str, text: &str) -> Result<Vec<u8>, JwkFault> {
    URL_SAFE_NO_PAD
        .decode(text)
        .map_err(|_| JwkFault::new(name, "must be base64url without padding"))
}

fn fixed(name: &'static str, text: &str, length: usize) -> Result<Vec<u8>, JwkFault> {
    let bytes = decode(name, text)?;
    if bytes.len() == length {
        return Ok(bytes);
    }
    Err(JwkFault::new(name, format!("must have {length} bytes")))
}

/// A point in uncompressed form.
fn point(x: &str, y: &str, length: usize) -> Result<Vec<u8>, JwkFault> {
    let (x, y) = (fixed("x", x, length)?, fixed("y", y, length)?);
    Ok([&[4], x.as_slice(), &y].concat())
}

fn check_modulus(n: &[u8]) -> Result<(), JwkFault> {
    let leading = n.first().copied().unwrap_or_default().leading_zeros() as usize;
    let bits = n.len() * 8 - leading.min(n.len() * 8);
    if !(MIN_RSA_BITS..=MAX_RSA_BITS).contains(&bits) {
        return Err(JwkFault::new("n", "must have 2048 to 8192 bits"));
    }
    // RFC 7518, section 6.3.1.1: no more bytes than needed.
    if leading >= 8 {
        return Err(JwkFault::new("n", "must not start with a zero byte"));
    }
    if n.last().is_some_and(|last| last % 2 == 0) {
        return Err(JwkFault::new("n", "must be odd"));
    }
    Ok(())
}

fn check_exponent(e: &[u8]) -> Result<(), JwkFault> {
    let is_odd = e.last().is_some_and(|last| last % 2 == 1);
    let is_minimal = e.first().is_some_and(|first| *first != 0);
    if is_odd && is_minimal && e.len() <= MAX_EXPONENT_BYTES && *e != [1] {
        return Ok(());
    }
    Err(JwkFault::new("e", "must be an odd number of at most 4 bytes, usually AQAB"))
}
