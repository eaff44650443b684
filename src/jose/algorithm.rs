//! The algorithms that others may sign with.

use jsonwebtoken::Algorithm;
use strum::{Display, EnumString, IntoStaticStr};

/// A signature algorithm with public keys. `none`, HMAC and all others have no variant, so they
/// cannot be asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Display, EnumString, IntoStaticStr)]
#[strum(serialize_all = "UPPERCASE")]
pub enum JwsAlgorithm {
    /// ECDSA with P-256 and SHA-256.
    Es256,
    /// ECDSA with P-384 and SHA-384.
    Es384,
    /// Ed25519. Its names are `EdDSA` (RFC 8037) and `Ed25519` (RFC 9864).
    #[strum(to_string = "EdDSA", serialize = "Ed25519")]
    Ed25519,
    /// RSASSA-PSS with SHA-256.
    Ps256,
    /// RSASSA-PKCS1-v1_5 with SHA-256.
    Rs256,
}

impl JwsAlgorithm {
    /// All accepted names, as metadata lists them.
    pub const NAMES: [&'static str; 6] = ["ES256", "ES384", "EdDSA", "Ed25519", "PS256", "RS256"];

    /// The algorithm with this exact name.
    pub fn parse(name: &str) -> Option<Self> {
        name.parse().ok()
    }

    /// As jsonwebtoken names it.
    pub(super) fn jws(self) -> Algorithm {
        match self {
            Self::Es256 => Algorithm::ES256,
            Self::Es384 => Algorithm::ES384,
            Self::Ed25519 => Algorithm::EdDSA,
            Self::Ps256 => Algorithm::PS256,
            Self::Rs256 => Algorithm::RS256,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn exactly_the_listed_names_are_accepted() {
        for name in JwsAlgorithm::NAMES {
            assert!(JwsAlgorithm::parse(name).is_some(), "{name}");
        }
        assert_eq!(JwsAlgorithm::parse("Ed25519"), JwsAlgorithm::parse("EdDSA"));
        assert_eq!(JwsAlgorithm::Ed25519.to_string(), "EdDSA");
        for name in [
            "none",
            "None",
            "NONE",
            "",
            "HS256",
            "HS384",
            "HS512",
            "RS384",
            "RS512",
            "PS384",
            "PS512",
            "ES512",
            "ES256K",
            "Ed448",
            "es256",
            "eddsa",
            "ED25519",
            "EDDSA",
            " ES256",
            "ML-DSA-44",
        ] {
            assert_eq!(JwsAlgorithm::parse(name), None, "{name}");
        }
    }
}
