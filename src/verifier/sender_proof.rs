//! What the sender of a token proved besides having it.

use aws_lc_rs::digest::{SHA256, digest};
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use jiff::Timestamp;

use super::Refusal;
use crate::domain::{Confirmation, Possession};
use crate::jose::{DpopProof, ProvenRequest};

/// What the sender of a token proved to have, for tokens that are bound to it: a client certificate
/// (RFC 8705, section 3), or a key (`DPoP`, RFC 9449).
///
/// The service itself ends TLS, or trusts the proxy that does: only the certificate of a finished
/// handshake counts. Services behind [`Verifier::layer`](super::Verifier::layer) or
/// [`Verifier::interceptor`](super::Verifier::interceptor) insert it into the extensions of a
/// request.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SenderProof {
    certificate: Option<String>,
    dpop: Option<DpopRequest>,
}

/// A `DPoP` proof, and the request that it must be for.
#[derive(Clone, Debug, PartialEq, Eq)]
struct DpopRequest {
    proof: String,
    method: String,
    url: String,
}

impl SenderProof {
    /// The client certificate of the connection, in DER: the first of those that the client sent.
    pub fn certificate(der: &[u8]) -> Self {
        let thumbprint = URL_SAFE_NO_PAD.encode(digest(&SHA256, der));
        Self { certificate: Some(thumbprint), dpop: None }
    }

    /// The value of the header `DPoP`, for a request with `Authorization: DPoP`. A request with more
    /// than one such header must be refused. `url` is the URL of the request as the client sees it:
    /// what the service is configured with, and never the header `Host` or `X-Forwarded-Host`. For
    /// gRPC, the method is `POST` and the URL ends with the path of the method.
    ///
    /// A verifier does not remember proofs: for 70 s, one can be used again for the same request. A
    /// service that must accept each once calls `AccessService.CheckAccess`.
    pub fn dpop(
        proof: impl Into<String>,
        method: impl Into<String>,
        url: impl Into<String>,
    ) -> Self {
        Self::default().with_dpop(proof, method, url)
    }

    /// The same sender, who sent this `DPoP` proof: see [`Self::dpop`].
    #[must_use]
    pub fn with_dpop(
        self,
        proof: impl Into<String>,
        method: impl Into<String>,
        url: impl Into<String>,
    ) -> Self {
        let (proof, method, url) = (proof.into(), method.into(), url.into());
        Self { dpop: Some(DpopRequest { proof, method, url }), ..self }
    }

    /// The same sender with a token that came with `Authorization: Bearer`, for which a `DPoP` proof
    /// does not count (RFC 9449, section 7.2).
    pub(super) fn as_bearer(&self) -> Self {
        Self { certificate: self.certificate.clone(), dpop: None }
    }

    /// Whether it has a `DPoP` proof.
    pub(super) fn has_dpop(&self) -> bool {
        self.dpop.is_some()
    }

    /// Refuses a token that is bound to something else.
    pub(super) fn require(
        &self,
        bound: Option<&Confirmation>,
        token: &str,
        now: Timestamp,
    ) -> Result<(), Refusal> {
        if bound.is_none() && self.dpop.is_none() {
            return Ok(());
        }
        let proof = self.dpop.as_ref().map(|DpopRequest { proof, method, url }| {
            let request = ProvenRequest { method, url, token: Some(token) };
            DpopProof::check(proof, request, now)
        });
        let proof = proof.transpose();
        let proof = proof.map_err(|fault| Refusal::InvalidProof { fault: fault.to_string() })?;
        let key = proof.map(|proof| proof.key);
        let shown = Possession { key, certificate: self.certificate.clone() };
        Ok(Confirmation::require(bound, &shown)?)
    }
}
