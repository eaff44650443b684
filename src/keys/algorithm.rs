//! The supported signature algorithms.

use jsonwebtoken::Algorithm;
use strum::{Display, EnumString, IntoStaticStr, VariantArray};

use crate::domain::Fault;

/// How tokens are signed (RFC 7518, RFC 8037). `EdDSA` is used instead of RFC 9864's `Ed25519`,
/// which several verifiers do not accept.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, Display, EnumString, IntoStaticStr, VariantArray,
)]
#[strum(serialize_all = "UPPERCASE", const_into_str)]
pub enum SigningAlgorithm {
    /// ECDSA with P-256 and SHA-256.
    #[default]
    Es256,
    /// Ed25519.
    #[strum(serialize = "EdDSA")]
    EdDsa,
    /// RSASSA-PSS with SHA-256, 3072 bits.
    Ps256,
    /// RSASSA-PKCS1-v1_5 with SHA-256, 3072 bits.
    Rs256,
}

impl SigningAlgorithm {
    /// Parses a JWS name.
    pub fn parse(name: &str) -> Result<Self, Fault> {
        name.parse().map_err(|_| Fault::new("must be ES256, EdDSA, PS256 or RS256"))
    }

    /// The length of a signature in bytes.
    pub(super) fn signature_length(self) -> usize {
        match self {
            Self::Es256 | Self::EdDsa => 64,
            Self::Ps256 | Self::Rs256 => 3072 / 8,
        }
    }

    pub(super) fn jws(self) -> Algorithm {
        match self {
            Self::Es256 => Algorithm::ES256,
            Self::EdDsa => Algorithm::EdDSA,
            Self::Ps256 => Algorithm::PS256,
            Self::Rs256 => Algorithm::RS256,
        }
    }
}
