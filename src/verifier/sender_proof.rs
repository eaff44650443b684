//! What the sender of a token proved besides having it.

use crate::domain::client_certificate::thumbprint;
use crate::domain::{BindingFault, Confirmation, Possession};

/// What the sender of a token proved to have, for tokens that are bound to it (RFC 8705, section 3).
///
/// The service itself ends TLS, or trusts the proxy that does: only the certificate of a finished
/// handshake counts. Services behind [`Verifier::layer`](super::Verifier::layer) or
/// [`Verifier::interceptor`](super::Verifier::interceptor) insert it into the extensions of a
/// request.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SenderProof(Possession);

impl SenderProof {
    /// The client certificate of the connection, in DER: the first of those that the client sent.
    pub fn certificate(der: &[u8]) -> Self {
        Self(Possession { certificate: Some(thumbprint(der)), key: None })
    }

    /// Refuses a token that is bound to something else.
    pub(super) fn require(&self, bound: Option<&Confirmation>) -> Result<(), BindingFault> {
        Confirmation::require(bound, &self.0)
    }
}
