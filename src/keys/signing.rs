//! Private keys: generated, sealed by other modules, and parsed once. `jsonwebtoken` parses a key
//! for every signature, which takes as long as the signature itself. Therefore this module signs
//! with the underlying library.

use std::fmt;

use aws_lc_rs::encoding::{AsDer, Pkcs8V1Der};
use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::rsa::KeySize;
use aws_lc_rs::signature::{
    ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, Ed25519KeyPair, KeyPair, RSA_PKCS1_SHA256,
    RSA_PSS_SHA256, RsaEncoding, RsaKeyPair, RsaPublicKeyComponents,
};
use jiff::Timestamp;
use zeroize::Zeroizing;

use super::jwk::Material;
use super::{SigningAlgorithm, VerifyingKey};
use crate::error::{Error, Result};

/// A private key with its public key and its place in the schedule.
pub struct SigningKey {
    /// 1, 2, 3 … in the order of creation.
    pub generation: i64,
    /// The key signs from this time on, until a newer one does.
    pub activates_at: Timestamp,
    pub public: VerifyingKey,
    random: SystemRandom,
    pair: Pair,
}

enum Pair {
    Ec(EcdsaKeyPair),
    Ed(Ed25519KeyPair),
    Rsa(RsaKeyPair, &'static dyn RsaEncoding),
}

impl fmt::Debug for SigningKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SigningKey")
            .field("generation", &self.generation)
            .field("kid", &self.public.jwk.kid)
            .finish_non_exhaustive()
    }
}

/// Generates a private key in PKCS #8.
pub fn generate(algorithm: SigningAlgorithm) -> Result<Zeroizing<Vec<u8>>> {
    let document = match algorithm {
        SigningAlgorithm::Es256 => EcdsaKeyPair::generate(&ECDSA_P256_SHA256_FIXED_SIGNING)
            .and_then(|pair| pair.to_pkcs8v1())
            .map(|der| der.as_ref().to_vec()),
        SigningAlgorithm::EdDsa => Ed25519KeyPair::generate()
            .and_then(|pair| pair.to_pkcs8v1())
            .map(|der| der.as_ref().to_vec()),
        SigningAlgorithm::Ps256 | SigningAlgorithm::Rs256 => RsaKeyPair::generate(KeySize::Rsa3072)
            .and_then(|pair| AsDer::<Pkcs8V1Der<'_>>::as_der(&pair))
            .map(|der| der.as_ref().to_vec()),
    };
    document
        .map(Zeroizing::new)
        .map_err(|_| Error::internal(format!("the {algorithm} key could not be generated")))
}

impl SigningKey {
    /// Parses a private key in PKCS #8.
    pub fn from_pkcs8(
        algorithm: SigningAlgorithm,
        pkcs8: &[u8],
        generation: i64,
        activates_at: Timestamp,
    ) -> Result<Self> {
        let (pair, material) = parse(algorithm, pkcs8)?;
        let public = VerifyingKey::new(algorithm, material)?;
        #[expect(clippy::disallowed_methods, reason = "signatures need their own randomness")]
        let random = SystemRandom::new();
        Ok(Self { generation, activates_at, public, random, pair })
    }

    /// Signs a message.
    pub fn sign(&self, message: &[u8]) -> Result<Vec<u8>> {
        let failed = |_| Error::internal("signing failed");
        match &self.pair {
            Pair::Ec(pair) => pair
                .sign(&self.random, message)
                .map(|signature| signature.as_ref().to_vec())
                .map_err(failed),
            Pair::Ed(pair) => Ok(pair.sign(message).as_ref().to_vec()),
            Pair::Rsa(pair, encoding) => {
                let mut signature = vec![0; pair.public_modulus_len()];
                pair.sign(*encoding, &self.random, message, &mut signature).map_err(failed)?;
                Ok(signature)
            }
        }
    }
}

fn parse(algorithm: SigningAlgorithm, pkcs8: &[u8]) -> Result<(Pair, Material)> {
    let refused = |error: aws_lc_rs::error::KeyRejected| {
        Error::internal(format!("invalid private {algorithm} key: {error}"))
    };
    match algorithm {
        SigningAlgorithm::Es256 => {
            let pair = EcdsaKeyPair::from_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, pkcs8)
                .map_err(refused)?;
            let material = Material::ec(pair.public_key().as_ref())?;
            Ok((Pair::Ec(pair), material))
        }
        SigningAlgorithm::EdDsa => {
            let pair = Ed25519KeyPair::from_pkcs8(pkcs8).map_err(refused)?;
            let material = Material::ed25519(pair.public_key().as_ref());
            Ok((Pair::Ed(pair), material))
        }
        SigningAlgorithm::Ps256 | SigningAlgorithm::Rs256 => {
            let pair = RsaKeyPair::from_pkcs8(pkcs8).map_err(refused)?;
            let components = RsaPublicKeyComponents::<Vec<u8>>::from(pair.public_key());
            let material = Material::rsa(&components.n, &components.e);
            let encoding: &'static dyn RsaEncoding = match algorithm {
                SigningAlgorithm::Ps256 => &RSA_PSS_SHA256,
                _ => &RSA_PKCS1_SHA256,
            };
            Ok((Pair::Rsa(pair, encoding), material))
        }
    }
}
