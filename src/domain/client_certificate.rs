//! The certificate that a client proved to have.

use std::sync::Arc;

use aws_lc_rs::digest::{SHA256, digest};
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;

/// The client's own certificate (the leaf of its chain) in DER. The TLS handshake verified it, and
/// that the client has its key. Clones share it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ClientCertificate(Arc<[u8]>);

impl ClientCertificate {
    /// A certificate that a handshake verified.
    pub fn verified(der: &[u8]) -> Self {
        Self(der.into())
    }

    /// The SHA-256 hash of the certificate in base64url: the form of `x5t#S256` (RFC 8705, section
    /// 3.1).
    pub fn thumbprint(&self) -> String {
        URL_SAFE_NO_PAD.encode(digest(&SHA256, &self.0))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn thumbprint_is_sha256_in_base64url() {
        let thumbprint = ClientCertificate::verified(b"abc").thumbprint();
        assert_eq!(thumbprint, "ungWv48Bz-pBQUDeXa4iI7ADYaOWF3qctBD_YfIAFa0");
    }
}
