//! Client assertions that the command line signs: JWTs with which a client authenticates that has a
//! key in place of a secret (RFC 7523, section 3).

use std::path::Path;
use std::time::Duration;

use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::signature::{
    ECDSA_P256_SHA256_FIXED_SIGNING, ECDSA_P384_SHA384_FIXED_SIGNING, EcdsaKeyPair, Ed25519KeyPair,
    RSA_PSS_SHA256, RsaKeyPair,
};
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde_json::json;
use tokio_rustls::rustls::pki_types::PrivatePkcs8KeyDer;
use tokio_rustls::rustls::pki_types::pem::PemObject;

use super::{Failure, secret};
use crate::clock::Clock;
use crate::secrets::random;

/// An assertion is used at once.
const LIFETIME: Duration = Duration::from_mins(1);

/// The private key of a client.
pub(super) struct AssertionKey {
    algorithm: &'static str,
    pair: KeyOfClient,
}

enum KeyOfClient {
    Ec(EcdsaKeyPair),
    Ed(Ed25519KeyPair),
    Rsa(Box<RsaKeyPair>),
}

/// What an assertion says.
pub(super) struct AssertionClaims<'a> {
    pub(super) client_id: &'a str,
    /// The issuer of the server: the audience of the assertion.
    pub(super) issuer: &'a str,
    pub(super) key_id: Option<&'a str>,
}

impl AssertionKey {
    /// Reads a PKCS #8 key in PEM. The key decides the algorithm.
    pub(super) fn read(path: &Path) -> Result<Self, Failure> {
        let pem = secret::read(path)?;
        Self::parse(&pem)
            .map_err(|fault| Failure::usage(format!("--private-key {}: {fault}", path.display())))
    }

    fn parse(pem: &str) -> Result<Self, &'static str> {
        let der = PrivatePkcs8KeyDer::from_pem_slice(pem.as_bytes()).map_err(|_| {
            if pem.contains("-----BEGIN ENCRYPTED PRIVATE KEY-----") {
                "the key is encrypted: decrypt it with `openssl pkey`, and pass it on with -"
            } else if pem.contains(" PRIVATE KEY-----") {
                "the key must be in PKCS #8: convert it with `openssl pkcs8 -topk8 -nocrypt`"
            } else {
                "there is no PRIVATE KEY block in PEM format"
            }
        })?;
        let der = der.secret_pkcs8_der();
        let ec = |of| EcdsaKeyPair::from_pkcs8(of, der).ok().map(KeyOfClient::Ec);
        let found = if let Some(pair) = ec(&ECDSA_P256_SHA256_FIXED_SIGNING) {
            Some(("ES256", pair))
        } else if let Some(pair) = ec(&ECDSA_P384_SHA384_FIXED_SIGNING) {
            Some(("ES384", pair))
        } else if let Ok(pair) = Ed25519KeyPair::from_pkcs8(der) {
            Some(("EdDSA", KeyOfClient::Ed(pair)))
        } else {
            let pair = RsaKeyPair::from_pkcs8(der).ok();
            pair.map(|pair| ("PS256", KeyOfClient::Rsa(Box::new(pair))))
        };
        let (algorithm, pair) = found
            .ok_or("the key must be a P-256, P-384, Ed25519 or RSA key of 2048 bits or more")?;
        Ok(Self { algorithm, pair })
    }

    /// Signs an assertion.
    pub(super) fn sign(&self, claims: &AssertionClaims<'_>) -> Result<String, Failure> {
        let AssertionClaims { client_id, issuer, key_id } = claims;
        let mut header = json!({ "alg": self.algorithm, "typ": "client-authentication+jwt" });
        if let Some(kid) = key_id {
            header["kid"] = (*kid).into();
        }
        let now = Clock::system().now();
        let (iat, jti) = (now.as_second(), random::id(now).map_err(Failure::new)?);
        let exp = iat.saturating_add_unsigned(LIFETIME.as_secs());
        let claims = json!({
            "iss": client_id, "sub": client_id, "aud": issuer, "iat": iat, "exp": exp, "jti": jti,
        });
        let [header, claims] =
            [header, claims].map(|part| URL_SAFE_NO_PAD.encode(part.to_string()));
        let message = format!("{header}.{claims}");
        let signature = self.pair.sign(message.as_bytes());
        let signature = signature.ok_or_else(|| Failure::new("the key cannot sign"))?;
        Ok(format!("{message}.{}", URL_SAFE_NO_PAD.encode(signature)))
    }
}

impl KeyOfClient {
    fn sign(&self, message: &[u8]) -> Option<Vec<u8>> {
        #[expect(clippy::disallowed_methods, reason = "signatures need their own randomness")]
        let random = SystemRandom::new();
        match self {
            Self::Ec(pair) => Some(pair.sign(&random, message).ok()?.as_ref().to_vec()),
            Self::Ed(pair) => Some(pair.sign(message).as_ref().to_vec()),
            Self::Rsa(pair) => {
                let mut signature = vec![0; pair.public_modulus_len()];
                pair.sign(&RSA_PSS_SHA256, &random, message, &mut signature).ok()?;
                Some(signature)
            }
        }
    }
}
