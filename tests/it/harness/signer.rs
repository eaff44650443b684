//! A party that signs JWTs with its own key: client assertions, federated tokens, DPoP proofs.

#![expect(clippy::disallowed_methods, reason = "signatures of tests need randomness")]

use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::rsa::KeySize;
use aws_lc_rs::signature::{
    ECDSA_P256_SHA256_FIXED_SIGNING, ECDSA_P384_SHA384_FIXED_SIGNING, EcdsaKeyPair, Ed25519KeyPair,
    KeyPair, RSA_PKCS1_SHA256, RSA_PSS_SHA256, RsaEncoding, RsaKeyPair, RsaPublicKeyComponents,
};
use base64::Engine;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use serde_json::{Value, json};

/// A key of another party, with its algorithm.
pub(crate) struct Signer {
    algorithm: &'static str,
    pair: SignerPair,
}

enum SignerPair {
    Ec(EcdsaKeyPair),
    Ed(Ed25519KeyPair),
    Rsa(RsaKeyPair),
}

/// All algorithms that are accepted.
pub(crate) const ALGORITHMS: [&str; 6] = ["ES256", "ES384", "EdDSA", "Ed25519", "PS256", "RS256"];

pub(crate) fn base64url(bytes: impl AsRef<[u8]>) -> String {
    URL_SAFE_NO_PAD.encode(bytes)
}

impl Signer {
    /// A new key for an algorithm, by its name in JWS.
    pub(crate) fn new(algorithm: &'static str) -> Self {
        let ec = |of| SignerPair::Ec(EcdsaKeyPair::generate(of).unwrap());
        let pair = match algorithm {
            "ES256" => ec(&ECDSA_P256_SHA256_FIXED_SIGNING),
            "ES384" => ec(&ECDSA_P384_SHA384_FIXED_SIGNING),
            "EdDSA" | "Ed25519" => SignerPair::Ed(Ed25519KeyPair::generate().unwrap()),
            "PS256" | "RS256" => SignerPair::Rsa(RsaKeyPair::generate(KeySize::Rsa2048).unwrap()),
            other => panic!("no algorithm {other}"),
        };
        Self { algorithm, pair }
    }

    pub(crate) fn algorithm(&self) -> &'static str {
        self.algorithm
    }

    /// The public key, with only the members of its type.
    pub(crate) fn jwk(&self) -> Value {
        match &self.pair {
            SignerPair::Ec(pair) => {
                let point = &pair.public_key().as_ref()[1..];
                let (x, y) = point.split_at(point.len() / 2);
                let curve = if x.len() == 32 { "P-256" } else { "P-384" };
                json!({"kty": "EC", "crv": curve, "x": base64url(x), "y": base64url(y)})
            }
            SignerPair::Ed(pair) => {
                json!({"kty": "OKP", "crv": "Ed25519", "x": base64url(pair.public_key())})
            }
            SignerPair::Rsa(pair) => {
                let components = RsaPublicKeyComponents::<Vec<u8>>::from(pair.public_key());
                json!({"kty": "RSA", "n": base64url(components.n), "e": base64url(components.e)})
            }
        }
    }

    /// The public key with more members, such as `kid`.
    pub(crate) fn jwk_with(&self, members: &[(&str, &str)]) -> Value {
        let mut jwk = self.jwk();
        for (name, value) in members {
            jwk[*name] = (*value).into();
        }
        jwk
    }

    /// The public key as a PEM block (`SubjectPublicKeyInfo`).
    pub(crate) fn pem(&self) -> String {
        use aws_lc_rs::encoding::{AsDer, PublicKeyX509Der};
        let der = match &self.pair {
            SignerPair::Ec(pair) => {
                AsDer::<PublicKeyX509Der<'_>>::as_der(pair.public_key()).unwrap()
            }
            SignerPair::Ed(pair) => {
                AsDer::<PublicKeyX509Der<'_>>::as_der(pair.public_key()).unwrap()
            }
            SignerPair::Rsa(pair) => {
                AsDer::<PublicKeyX509Der<'_>>::as_der(pair.public_key()).unwrap()
            }
        };
        let text = STANDARD.encode(der.as_ref());
        let lines: Vec<_> =
            text.as_bytes().chunks(64).map(|line| str::from_utf8(line).unwrap()).collect();
        format!("-----BEGIN PUBLIC KEY-----\n{}\n-----END PUBLIC KEY-----\n", lines.join("\n"))
    }

    /// A token with these claims; the header has `alg` and these members.
    pub(crate) fn token(&self, header: &Value, claims: &Value) -> String {
        let mut whole = json!({ "alg": self.algorithm });
        for (name, value) in header.as_object().unwrap() {
            whole[name] = value.clone();
        }
        self.token_of_texts(&whole.to_string(), &claims.to_string())
    }

    /// A token with exactly these texts as header and payload.
    pub(crate) fn token_of_texts(&self, header: &str, claims: &str) -> String {
        let message = format!("{}.{}", base64url(header), base64url(claims));
        let signature = self.sign(message.as_bytes());
        format!("{message}.{}", base64url(signature))
    }

    fn sign(&self, message: &[u8]) -> Vec<u8> {
        let random = SystemRandom::new();
        match &self.pair {
            SignerPair::Ec(pair) => pair.sign(&random, message).unwrap().as_ref().to_vec(),
            SignerPair::Ed(pair) => pair.sign(message).as_ref().to_vec(),
            SignerPair::Rsa(pair) => {
                let encoding: &dyn RsaEncoding =
                    if self.algorithm == "PS256" { &RSA_PSS_SHA256 } else { &RSA_PKCS1_SHA256 };
                let mut signature = vec![0; pair.public_modulus_len()];
                pair.sign(encoding, &random, message, &mut signature).unwrap();
                signature
            }
        }
    }
}
