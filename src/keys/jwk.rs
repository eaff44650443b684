//! Public keys (RFC 7517), for publishing and for verification.

use aws_lc_rs::digest;
use aws_lc_rs::signature::{
    ECDSA_P256_SHA256_FIXED, ED25519, ParsedPublicKey, VerificationAlgorithm,
};
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use jsonwebtoken::DecodingKey;
use serde::{Deserialize, Serialize};
use serde_json::json;

use super::SigningAlgorithm;
use crate::error::{Error, Result};

/// A public key in its published form, without private members.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PublicJwk {
    /// The key's id: the RFC 7638 thumbprint.
    pub kid: String,
    /// The only algorithm that the key is used with.
    pub alg: String,
    /// Always `sig`.
    #[serde(rename = "use")]
    pub usage: String,
    #[serde(flatten)]
    pub material: Material,
}

/// The key-type specific members.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "kty")]
pub enum Material {
    /// A point on P-256.
    #[serde(rename = "EC")]
    Ec {
        /// `P-256`.
        crv: String,
        x: String,
        y: String,
    },
    /// An Ed25519 key.
    #[serde(rename = "OKP")]
    Okp {
        /// `Ed25519`.
        crv: String,
        x: String,
    },
    /// An RSA key.
    #[serde(rename = "RSA")]
    Rsa { n: String, e: String },
}

/// A published key set.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Jwks {
    pub keys: Vec<PublicJwk>,
}

/// A public key that is ready to verify signatures.
#[derive(Clone, Debug)]
pub struct VerifyingKey {
    /// The published form.
    pub jwk: PublicJwk,
    pub(super) algorithm: SigningAlgorithm,
    /// The encoded JWT header of tokens signed with this key. It is the same for all of them.
    pub(super) header: String,
    key: ParsedKey,
}

/// A parsed public key. jsonwebtoken would parse EC and Ed25519 keys for every signature, which is
/// noticeable because these signatures are fast. For RSA it makes no difference.
#[derive(Clone, Debug)]
enum ParsedKey {
    Parsed(ParsedPublicKey),
    Rsa(DecodingKey),
}

impl Material {
    /// A P-256 key from its uncompressed point.
    pub(super) fn ec(point: &[u8]) -> Result<Self> {
        match point {
            [4, coordinates @ ..] if coordinates.len() == 64 => Ok(Self::Ec {
                crv: "P-256".to_owned(),
                x: URL_SAFE_NO_PAD.encode(&coordinates[..32]),
                y: URL_SAFE_NO_PAD.encode(&coordinates[32..]),
            }),
            _ => Err(Error::internal("the key is not an uncompressed P-256 point")),
        }
    }

    pub(super) fn ed25519(key: &[u8]) -> Self {
        Self::Okp { crv: "Ed25519".to_owned(), x: URL_SAFE_NO_PAD.encode(key) }
    }

    pub(super) fn rsa(n: &[u8], e: &[u8]) -> Self {
        Self::Rsa { n: URL_SAFE_NO_PAD.encode(n), e: URL_SAFE_NO_PAD.encode(e) }
    }

    /// The RFC 7638 thumbprint: the hash of the required members in lexical order.
    fn thumbprint(&self) -> String {
        // serde_json sorts the members of a map.
        let members = match self {
            Self::Ec { crv, x, y } => json!({ "crv": crv, "kty": "EC", "x": x, "y": y }),
            Self::Okp { crv, x } => json!({ "crv": crv, "kty": "OKP", "x": x }),
            Self::Rsa { n, e } => json!({ "e": e, "kty": "RSA", "n": n }),
        };
        URL_SAFE_NO_PAD.encode(digest::digest(&digest::SHA256, members.to_string().as_bytes()))
    }

    fn key(&self) -> Result<ParsedKey> {
        let part = |part: &str| {
            URL_SAFE_NO_PAD.decode(part).map_err(|error| Error::Internal(Box::new(error)))
        };
        let parsed = |algorithm: &'static dyn VerificationAlgorithm, bytes: Vec<u8>| {
            let key = ParsedPublicKey::new(algorithm, bytes).map(ParsedKey::Parsed);
            key.map_err(|error| Error::internal(format!("invalid public key: {error}")))
        };
        match self {
            Self::Ec { x, y, .. } => {
                let (x, y) = (part(x)?, part(y)?);
                if (x.len(), y.len()) != (32, 32) {
                    return Err(Error::internal("the key is not a P-256 point"));
                }
                parsed(&ECDSA_P256_SHA256_FIXED, [&[4], x.as_slice(), &y].concat())
            }
            Self::Okp { x, .. } => parsed(&ED25519, part(x)?),
            Self::Rsa { n, e } => DecodingKey::from_rsa_components(n, e)
                .map(ParsedKey::Rsa)
                .map_err(|error| Error::Internal(Box::new(error))),
        }
    }
}

impl VerifyingKey {
    /// A key for one algorithm.
    pub(super) fn new(algorithm: SigningAlgorithm, material: Material) -> Result<Self> {
        Self::from_jwk(PublicJwk {
            kid: material.thumbprint(),
            alg: algorithm.to_string(),
            usage: "sig".to_owned(),
            material,
        })
    }

    /// A key from its published form.
    pub fn from_jwk(jwk: PublicJwk) -> Result<Self> {
        let algorithm = SigningAlgorithm::parse(&jwk.alg)
            .map_err(|fault| Error::internal(format!("alg of key {} {}", jwk.kid, fault.0)))?;
        let fits = match jwk.material {
            Material::Ec { .. } => algorithm == SigningAlgorithm::Es256,
            Material::Okp { .. } => algorithm == SigningAlgorithm::EdDsa,
            Material::Rsa { .. } => {
                matches!(algorithm, SigningAlgorithm::Ps256 | SigningAlgorithm::Rs256)
            }
        };
        if !fits {
            return Err(Error::internal(format!(
                "key {} cannot be used with {algorithm}",
                jwk.kid
            )));
        }
        let header = json!({ "alg": algorithm.into_str(), "kid": jwk.kid, "typ": "at+jwt" });
        let header = URL_SAFE_NO_PAD.encode(header.to_string());
        Ok(Self { key: jwk.material.key()?, algorithm, header, jwk })
    }

    /// Whether `signature`, encoded as in a JWS, is valid for the message.
    pub(super) fn verifies(&self, message: &str, signature: &str) -> bool {
        match &self.key {
            ParsedKey::Parsed(key) => URL_SAFE_NO_PAD
                .decode(signature)
                .is_ok_and(|signature| key.verify_sig(message.as_bytes(), &signature).is_ok()),
            ParsedKey::Rsa(key) => {
                let algorithm = self.algorithm.jws();
                let message = message.as_bytes();
                jsonwebtoken::crypto::verify(signature, message, key, algorithm).unwrap_or(false)
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn thumbprint_matches_the_example_of_rfc_7638() {
        let key = Material::Rsa {
            n: "0vx7agoebGcQSuuPiLJXZptN9nndrQmbXEps2aiAFbWhM78LhWx4cbbfAAtVT86zwu1RK7aPFFxuhDR1L6tS\
                oc_BJECPebWKRXjBZCiFV4n3oknjhMstn64tZ_2W-5JsGY4Hc5n9yBXArwl93lqt7_RN5w6Cf0h4QyQ5v-65\
                YGjQR0_FDW2QvzqY368QQMicAtaSqzs8KJZgnYb9c7d0zgdAZHzu6qMQvRL5hajrn1n91CbOpbISD08qNLyr\
                dkt-bFTWhAI4vMQFh6WeZu0fM4lFd2NcRwr3XPksINHaQ-G_xBniIqbw0Ls1jF44-csFCur-kEgU8awapJzK\
                nqDKgw"
                .to_owned(),
            e: "AQAB".to_owned(),
        };
        assert_eq!(key.thumbprint(), "NzbLsXh8uDCcd-6MNwXF4W_7noWXFZAfHkxZsRGC9Xs");
    }
}
