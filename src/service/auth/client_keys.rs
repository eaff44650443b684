//! The public keys of clients, and of the issuers that clients have tokens of.

use std::sync::Arc;

use quick_cache::Weighter;
use quick_cache::sync::Cache;

use crate::domain::{CredentialId, Registration};
use crate::error::Result;
use crate::jose::{JwtRefusal, KeySet, SignedJwt};
use crate::outbound::{JwksSource, KeyLocation};

/// The memory for parsed keys.
const MAX_BYTES: u64 = 64 * 1024 * 1024;
/// The number of key sets that usually fit into [`MAX_BYTES`].
const EXPECTED_SETS: usize = 20_000;

/// The keys of clients: those that are registered, and those at an address.
#[derive(Debug)]
pub(in crate::service) struct ClientKeys {
    parsed: Cache<CredentialId, ParsedKeys, KeysWeighter>,
    remote: JwksSource,
    pub(super) decoys: Decoys,
}

/// The keys of one registration.
#[derive(Clone, Debug)]
struct ParsedKeys {
    /// What they were parsed from.
    registration: Arc<Registration>,
    keys: Arc<KeySet>,
}

#[derive(Clone, Debug)]
struct KeysWeighter;

impl Weighter<CredentialId, ParsedKeys> for KeysWeighter {
    fn weight(&self, _id: &CredentialId, parsed: &ParsedKeys) -> u64 {
        const ENTRY: usize = 256;
        /// A parsed key has its members as text, and a key of the library.
        const KEY: usize = 2048;
        (ENTRY + parsed.registration.memory() * 2 + parsed.keys.keys().len() * KEY) as u64
    }
}

impl ClientKeys {
    pub(in crate::service) fn new(remote: JwksSource) -> Self {
        let parsed = Cache::with_weighter(EXPECTED_SETS, MAX_BYTES, KeysWeighter);
        Self { parsed, remote, decoys: Decoys::default() }
    }

    /// The keys of a client that are registered as `jwks`, parsed once.
    pub(super) fn stored(
        &self,
        client: &CredentialId,
        registration: &Arc<Registration>,
        jwks: &str,
    ) -> Result<Arc<KeySet>> {
        if let Some(parsed) = self.parsed.get(client)
            && (Arc::ptr_eq(&parsed.registration, registration)
                || *parsed.registration == **registration)
        {
            return Ok(parsed.keys);
        }
        let keys = Arc::new(KeySet::from_stored(jwks)?);
        let registration = Arc::clone(registration);
        self.parsed.insert(*client, ParsedKeys { registration, keys: Arc::clone(&keys) });
        Ok(keys)
    }

    /// Verifies a token with the keys at a location. If other keys could make it valid, they are
    /// fetched again, at a bounded rate. An error: it is not known which keys are there.
    pub(super) async fn verify_remote(
        &self,
        at: &KeyLocation,
        jwt: &SignedJwt<'_>,
    ) -> Result<Result<(), JwtRefusal>> {
        let keys = self.remote.keys(at).await?;
        match jwt.verify_with(&keys) {
            Ok(_) => Ok(Ok(())),
            Err(refusal) if wants_newer_keys(refusal, jwt) => {
                let newer = self.remote.newer_keys(at).await?;
                Ok(jwt.verify_with(&newer).map(drop))
            }
            Err(refusal) => Ok(Err(refusal)),
        }
    }
}

/// Whether a client that replaced its keys could have sent this token. Without key ids, a new key
/// looks like a wrong signature.
fn wants_newer_keys(refusal: JwtRefusal, jwt: &SignedJwt<'_>) -> bool {
    let has_no_id = jwt.header().kid().is_none();
    refusal.asks_for_newer_keys() || (refusal == JwtRefusal::Signature && has_no_id)
}

/// Keys of no client, to verify a token of an unknown one with: that takes as long as with a key of a
/// known one.
#[derive(Debug)]
pub(super) struct Decoys(KeySet);

/// The base points of the curves, and a modulus whose factors are thrown away.
const DECOYS: &str = r#"{"keys":[
{"kty":"EC","crv":"P-256","x":"axfR8uEsQkf4vOblY6RA8ncDfYEt6zOg9KE5RdiYwpY","y":"T-NC4v4af5uO5-tKfA-eFivOM1drMV7Oy7ZAaDe_UfU"},
{"kty":"EC","crv":"P-384","x":"qofKIr6LBTeOscce8yCtdG4dO2KLp5uYWfdB4IJUKjhVAvJdv1UpbDpUXjhydgq3","y":"NhfeSpYmLG9dnpi_kpLcKfj0Hb0omhR86doxE7XwuMAKYLHOHX6BnXpDHXyQ6g5f"},
{"kty":"OKP","crv":"Ed25519","x":"WGZmZmZmZmZmZmZmZmZmZmZmZmZmZmZmZmZmZmZmZmY"},
{"kty":"RSA","e":"AQAB","n":"quvDCVGZ9xgej6XheEIJp4_kLdGGFBgHtBA1jMFn8VNuROCKL2t0GHhtzx7vo00t8Txne0RjTpMqhFPn7-SD-JnULliHbSK6R-5_hdKVkx1ieeH9L4LvVl99g01gmFyhPXBRmcBPp7jvlaUfjpRi6ZO6ainIGNVaSM0MFGKrp8xwJRc-5EqHgFq3sf1hcsb5tFki9nmIddcwZq_kecx0uRrPiI0z_QWIF85vZeGm277v1OW4xOLaDDL6EztSvZqsOezXap9IEoJm6akp6n-N9P-ZyMtgQSBIEno9zuT2WSqGV-X7ECwq_7W5QVZfp5BX_RGNQosqDMQj_0H15JcKfQ"}]}"#;

impl Default for Decoys {
    fn default() -> Self {
        Self(KeySet::from_stored(DECOYS).unwrap_or_default())
    }
}

impl Decoys {
    /// Verifies the signature of a token, which fails.
    pub(super) fn verify(&self, jwt: &SignedJwt<'_>) {
        // The keys have no id, so each id means them.
        let _ = jwt.verify_with(&self.0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_type_of_key_has_a_decoy() {
        assert_eq!(Decoys::default().0.keys().len(), 4);
    }
}
