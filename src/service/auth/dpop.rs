//! `DPoP` (RFC 9449): the sender of a request proves that it has a key. A token for a proof is bound
//! to its key, and is accepted with a proof of that key only.
//!
//! What can be checked without the database comes first, the nonce included. A proof is spent last,
//! when everything else about its request is known to be right.

use std::sync::Arc;

use jiff::Timestamp;

use super::dpop_nonces::DpopNonces;
use super::replay::{Replay, Spent};
use crate::domain::{OneTimePurpose, PresentedProof};
use crate::error::{Error, Result};
use crate::jose::{DpopProof, JwsAlgorithm, ProofFault, ProvenRequest};
use crate::secrets::Secret;

/// The signature algorithms of proofs, as metadata and challenges list them.
pub const DPOP_ALGORITHMS: &[&str] = &JwsAlgorithm::NAMES;

/// Checks proofs.
#[derive(Debug)]
pub(in crate::service) struct DpopVerifier {
    pub(in crate::service) nonces: DpopNonces,
    pub(in crate::service) replay: Arc<Replay>,
}

impl DpopVerifier {
    /// Checks a proof that came without a token, or with this one. Does not spend it.
    pub(in crate::service) fn check(
        &self,
        presented: &PresentedProof,
        token: Option<&Secret>,
        now: Timestamp,
    ) -> Result<DpopProof> {
        let with_token = token.is_some();
        let refused = |fault: ProofFault| refused(&fault, with_token);
        let proof = presented.proof.as_deref().ok_or_else(|| refused(ProofFault::Repeated))?;
        let request = ProvenRequest {
            method: &presented.method,
            url: &presented.url,
            token: token.map(Secret::expose),
        };
        let proof = DpopProof::check(proof, request, now).map_err(refused)?;
        if self.nonces.are_missing(proof.nonce.as_deref(), now) {
            return Err(Error::UseDpopNonce { nonce: self.nonces.make(now), with_token });
        }
        Ok(proof)
    }

    /// Spends a proof that was checked.
    pub(in crate::service) async fn spend(&self, proof: DpopProof, with_token: bool) -> Result<()> {
        let DpopProof { key, id, until, .. } = proof;
        match self.replay.spend(OneTimePurpose::DpopProof, &key, &id, until).await? {
            Spent::First => Ok(()),
            Spent::Again => Err(refused(&ProofFault::Used, with_token)),
        }
    }

    /// The value for the next proof of a client, if this server asks for one.
    pub(in crate::service) fn next_nonce(&self, now: Timestamp) -> Option<String> {
        self.nonces.required.then(|| self.nonces.make(now))
    }
}

fn refused(fault: &ProofFault, with_token: bool) -> Error {
    Error::InvalidDpopProof { fault: fault.to_string(), with_token }
}
