//! The public half of a signing key (RFC 7517): what is published, and what verifies.

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

/// A public key as it is published: public members and no others.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PublicJwk {
    /// The key's id: its RFC 7638 thumbprint.
    pub kid: String,
    /// The one algorithm it is for.
    pub alg: String,
    /// Always `sig`.
    #[serde(rename = "use")]
    pub usage: String,
    /// The key itself.
    #[serde(flatten)]
    pub material: Material,
}

/// The numbers that make a public key, by its type.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "kty")]
pub enum Material {
    /// A point on P-256.
    #[serde(rename = "EC")]
    Ec {
        /// `P-256`.
        crv: String,
        /// Its x.
        x: String,
        /// Its y.
        y: String,
    },
    /// An Ed25519 key.
    #[serde(rename = "OKP")]
    Okp {
        /// `Ed25519`.
        crv: String,
        /// The key.
        x: String,
    },
    /// An RSA key.
    #[serde(rename = "RSA")]
    Rsa {
        /// Modulus.
        n: String,
        /// Exponent.
        e: String,
    },
}

/// A key set as it is published.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Jwks {
    /// The keys.
    pub keys: Vec<PublicJwk>,
}

/// A public key, ready to verify.
#[derive(Clone, Debug)]
pub struct VerifyingKey {
    /// As it is published.
    pub jwk: PublicJwk,
    pub(super) algorithm: SigningAlgorithm,
    /// The JWT header of tokens of ours that are signed with it, encoded: it never changes.
    pub(super) header: String,
    key: Key,
}

/// A public key as it verifies: parsed once. The library would parse it for every signature,
/// which counts where the signature itself takes so little; of RSA it does not.
#[derive(Clone, Debug)]
enum Key {
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
            _ => Err(Error::internal("not an uncompressed P-256 point")),
        }
    }

    /// An Ed25519 key.
    pub(super) fn ed25519(key: &[u8]) -> Self {
        Self::Okp { crv: "Ed25519".to_owned(), x: URL_SAFE_NO_PAD.encode(key) }
    }

    /// An RSA key.
    pub(super) fn rsa(n: &[u8], e: &[u8]) -> Self {
        Self::Rsa { n: URL_SAFE_NO_PAD.encode(n), e: URL_SAFE_NO_PAD.encode(e) }
    }

    /// The RFC 7638 thumbprint: the required members, in order, hashed.
    fn thumbprint(&self) -> String {
        // serde_json keeps the members of a map in alphabetical order.
        let members = match self {
            Self::Ec { crv, x, y } => json!({ "crv": crv, "kty": "EC", "x": x, "y": y }),
            Self::Okp { crv, x } => json!({ "crv": crv, "kty": "OKP", "x": x }),
            Self::Rsa { n, e } => json!({ "e": e, "kty": "RSA", "n": n }),
        };
        URL_SAFE_NO_PAD.encode(digest::digest(&digest::SHA256, members.to_string().as_bytes()))
    }

    fn key(&self) -> Result<Key> {
        let part = |part: &str| {
            URL_SAFE_NO_PAD.decode(part).map_err(|error| Error::Internal(Box::new(error)))
        };
        let parsed = |algorithm: &'static dyn VerificationAlgorithm, bytes: Vec<u8>| {
            let key = ParsedPublicKey::new(algorithm, bytes).map(Key::Parsed);
            key.map_err(|error| Error::internal(format!("not a public key: {error}")))
        };
        match self {
            Self::Ec { x, y, .. } => {
                let (x, y) = (part(x)?, part(y)?);
                if (x.len(), y.len()) != (32, 32) {
                    return Err(Error::internal("not a P-256 point"));
                }
                parsed(&ECDSA_P256_SHA256_FIXED, [&[4], x.as_slice(), &y].concat())
            }
            Self::Okp { x, .. } => parsed(&ED25519, part(x)?),
            Self::Rsa { n, e } => DecodingKey::from_rsa_components(n, e)
                .map(Key::Rsa)
                .map_err(|error| Error::Internal(Box::new(error))),
        }
    }
}

impl VerifyingKey {
    /// The key of this material, for one algorithm.
    pub(super) fn new(algorithm: SigningAlgorithm, material: Material) -> Result<Self> {
        Self::from_jwk(PublicJwk {
            kid: material.thumbprint(),
            alg: algorithm.to_string(),
            usage: "sig".to_owned(),
            material,
        })
    }

    /// A key as somebody published it.
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
            return Err(Error::internal(format!("key {} is not for {algorithm}", jwk.kid)));
        }
        let header = json!({ "alg": algorithm.as_str(), "kid": jwk.kid, "typ": "at+jwt" });
        let header = URL_SAFE_NO_PAD.encode(header.to_string());
        Ok(Self { key: jwk.material.key()?, algorithm, header, jwk })
    }

    /// Whether this is the signature of the message, encoded as in a JWS.
    pub(super) fn verifies(&self, message: &str, signature: &str) -> bool {
        match &self.key {
            Key::Parsed(key) => URL_SAFE_NO_PAD
                .decode(signature)
                .is_ok_and(|signature| key.verify_sig(message.as_bytes(), &signature).is_ok()),
            Key::Rsa(key) => {
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
    fn the_thumbprint_is_that_of_rfc_7638() {
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
