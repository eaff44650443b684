//! The key pair of the sample application of `keyward dev`.

use std::path::{Path, PathBuf};

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde_json::json;
use zeroize::Zeroizing;

use super::Failure;
use crate::clock::Clock;
use crate::keys::signing::generate;
use crate::keys::{SigningAlgorithm, SigningKey};
use crate::server::write_private;

const ALGORITHM: SigningAlgorithm = SigningAlgorithm::Es256;
const FILE: &str = "sample.key.pem";

/// A private key in PKCS #8.
pub(super) struct SampleKey(Zeroizing<Vec<u8>>);

impl SampleKey {
    pub(super) fn generate() -> Result<Self, Failure> {
        generate(ALGORITHM).map(Self).map_err(Failure::new)
    }

    /// The public key, as a JWK set.
    pub(super) fn jwks(&self) -> Result<String, Failure> {
        let key = SigningKey::from_pkcs8(ALGORITHM, &self.0, 0, Clock::system().now());
        let public = key.map_err(Failure::new)?.public.jwk;
        Ok(json!({ "keys": [public] }).to_string())
    }

    /// Writes the private key to a file in this folder that only the user can read.
    pub(super) fn write(&self, folder: &Path) -> Result<PathBuf, Failure> {
        let file = std::path::absolute(folder).map_err(Failure::new)?.join(FILE);
        let base64 = Zeroizing::new(STANDARD.encode(&*self.0));
        let mut pem = Zeroizing::new(String::from("-----BEGIN PRIVATE KEY-----\n"));
        for line in base64.as_bytes().chunks(64) {
            pem.push_str(&String::from_utf8_lossy(line));
            pem.push('\n');
        }
        pem.push_str("-----END PRIVATE KEY-----\n");
        write_private(&file, &pem)
            .map_err(|error| Failure::new(format!("{}: {error}", file.display())))?;
        Ok(file)
    }
}
