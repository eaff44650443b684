//! The certificate that a client proved to have.

use std::sync::Arc;

use aws_lc_rs::digest::{SHA256, digest};
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;

/// The certificates of a client in DER: its own (the leaf), and those that it sent for the path to
/// an authority. The TLS handshake proved that the client has the key of the leaf. It did not
/// necessarily verify the path. Clones share them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ClientCertificate(Arc<Certificates>);

#[derive(Debug, PartialEq, Eq)]
struct Certificates {
    leaf: Box<[u8]>,
    intermediates: Box<[Box<[u8]>]>,
}

impl ClientCertificate {
    /// The most certificates after the leaf. Real paths have one or two, and path validation
    /// itself follows six.
    pub const MAX_INTERMEDIATES: usize = 8;
    /// The most bytes of all certificates together. A connection keeps them.
    pub const MAX_BYTES: usize = 32 * 1024;

    /// The certificates that a handshake received, leaf first. `None` if there are none, or more
    /// than the bounds allow.
    pub fn presented<'a>(certificates: impl IntoIterator<Item = &'a [u8]>) -> Option<Self> {
        let mut left = Self::MAX_BYTES;
        let mut bounded = |der: &[u8]| {
            left = left.checked_sub(der.len())?;
            Some(Box::from(der))
        };
        let mut certificates = certificates.into_iter();
        let leaf = bounded(certificates.next()?)?;
        let mut intermediates = Vec::new();
        for der in certificates {
            if intermediates.len() == Self::MAX_INTERMEDIATES {
                return None;
            }
            intermediates.push(bounded(der)?);
        }
        Some(Self(Arc::new(Certificates { leaf, intermediates: intermediates.into() })))
    }

    /// The client's own certificate.
    pub fn leaf(&self) -> &[u8] {
        &self.0.leaf
    }

    /// The certificates that the client sent after its own.
    pub fn intermediates(&self) -> impl Iterator<Item = &[u8]> {
        self.0.intermediates.iter().map(AsRef::as_ref)
    }

    /// The thumbprint of the client's own certificate.
    pub fn thumbprint(&self) -> String {
        thumbprint(&self.0.leaf)
    }
}

/// The SHA-256 hash of a certificate in base64url: the form of `x5t#S256` (RFC 8705, section 3.1).
pub fn thumbprint(der: &[u8]) -> String {
    URL_SAFE_NO_PAD.encode(digest(&SHA256, der))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn thumbprint_is_sha256_in_base64url() {
        let certificate = ClientCertificate::presented([&b"abc"[..], b"other"]).unwrap();
        assert_eq!(certificate.thumbprint(), "ungWv48Bz-pBQUDeXa4iI7ADYaOWF3qctBD_YfIAFa0");
    }

    #[test]
    fn certificates_are_bounded() {
        let count = |count: usize| ClientCertificate::presented(vec![&b"x"[..]; count]);
        assert!(count(0).is_none());
        assert!(count(1 + ClientCertificate::MAX_INTERMEDIATES).is_some());
        assert!(count(2 + ClientCertificate::MAX_INTERMEDIATES).is_none());
        let half = vec![0; ClientCertificate::MAX_BYTES / 2];
        assert!(ClientCertificate::presented([&half[..]; 2]).is_some());
        assert!(ClientCertificate::presented([&half[..], &half, b"x"]).is_none());
    }
}
