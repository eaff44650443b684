//! The key that tokens of the command line are bound to (`DPoP`, RFC 9449).

use std::fmt::Display;
use std::path::Path;

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde_json::json;
use tokio_rustls::rustls::pki_types::PrivatePkcs8KeyDer;
use tokio_rustls::rustls::pki_types::pem::PemObject;

use super::Failure;
use crate::clock::Clock;
use crate::keys::{SigningAlgorithm, SigningKey};
use crate::secrets::random;

fn failed(error: impl Display) -> Failure {
    Failure::usage(format!("--dpop-key: {error}"))
}

/// A private key from a file.
pub(super) struct ProofKey(SigningKey);

impl ProofKey {
    /// Reads a private key: EC on P-256, Ed25519 or RSA.
    pub(super) fn read(file: &Path) -> Result<Self, Failure> {
        let wrong = |why: &str| Failure::usage(format!("--dpop-key {}: {why}", file.display()));
        let pem = std::fs::read(file).map_err(|error| wrong(&error.to_string()))?;
        let der = PrivatePkcs8KeyDer::from_pem_slice(&pem).map_err(|_| {
            wrong(
                "it must have a private key in PKCS #8 (BEGIN PRIVATE KEY), as `openssl genpkey \
                 -algorithm EC -pkeyopt ec_paramgen_curve:P-256` prints",
            )
        })?;
        let now = Clock::system().now();
        let algorithms =
            [SigningAlgorithm::Es256, SigningAlgorithm::EdDsa, SigningAlgorithm::Ps256];
        let parsed = algorithms.into_iter().find_map(|algorithm| {
            SigningKey::from_pkcs8(algorithm, der.secret_pkcs8_der(), 0, now).ok()
        });
        parsed.map(Self).ok_or_else(|| wrong("the key must be EC on P-256, Ed25519 or RSA"))
    }

    /// A proof for a gRPC call to this URL.
    pub(super) fn proof(&self, url: &str, nonce: Option<&str>) -> Result<String, Failure> {
        let now = Clock::system().now();
        let public = &self.0.public.jwk;
        let header = json!({ "typ": "dpop+jwt", "alg": public.alg, "jwk": public.material });
        let mut claims = json!({
            "jti": random::id(now).map_err(failed)?,
            "htm": "POST",
            "htu": url,
            "iat": now.as_second(),
        });
        if let Some(nonce) = nonce {
            claims["nonce"] = nonce.into();
        }
        let part = |value: &serde_json::Value| URL_SAFE_NO_PAD.encode(value.to_string());
        let message = format!("{}.{}", part(&header), part(&claims));
        let signature = self.0.sign(message.as_bytes()).map_err(failed)?;
        Ok(format!("{message}.{}", URL_SAFE_NO_PAD.encode(signature)))
    }
}
