//! Signing keys between the database, where they are sealed, and memory.

use crate::error::{Error, Result};
use crate::keys::jwk::PublicJwk;
use crate::keys::{KeyRecord, KeyRing, Schedule, SigningAlgorithm, SigningKey, VerifyingKey};
use crate::secrets::Sealer;
use crate::store::StoredSigningKey;

/// The record of a stored key.
pub(super) fn record(stored: &StoredSigningKey) -> KeyRecord {
    KeyRecord {
        generation: stored.generation,
        kid: stored.id.clone(),
        algorithm: stored.algorithm.clone(),
        created_at: stored.created_at,
        activates_at: stored.activates_at,
        retired_at: stored.retired_at,
        revoked_at: stored.revoked_at,
    }
}

pub(super) fn schedule(stored: &[StoredSigningKey]) -> Schedule {
    Schedule::new(stored.iter().map(record).collect())
}

/// The ring of stored keys.
pub(super) fn ring(sealer: &Sealer, stored: &[StoredSigningKey]) -> Result<KeyRing> {
    let (mut signers, mut public) = (Vec::new(), Vec::new());
    for key in stored {
        if let Some(signer) = signing_key(sealer, key)? {
            public.push(signer.public.clone());
            signers.push(signer);
        } else if let Some(text) = &key.sealed_public_key {
            public.push(open_public(sealer, &key.id, text)?);
        }
    }
    Ok(KeyRing::of(schedule(stored), signers, public))
}

/// The private key; `None` if it was erased.
pub(super) fn signing_key(sealer: &Sealer, key: &StoredSigningKey) -> Result<Option<SigningKey>> {
    let Some(private) = &key.sealed_private_key else { return Ok(None) };
    let algorithm = SigningAlgorithm::parse(&key.algorithm)
        .map_err(|fault| Error::internal(format!("algorithm of {} {}", key.id, fault.0)))?;
    let pkcs8 = sealer.open(&private_name(&key.id), private)?;
    SigningKey::from_pkcs8(algorithm, &pkcs8, key.generation, key.activates_at).map(Some)
}

pub(super) fn seal_private(sealer: &Sealer, kid: &str, pkcs8: &[u8]) -> Result<String> {
    sealer.seal(&private_name(kid), pkcs8)
}

/// Public keys are sealed too: one that was written by others must not be published.
pub(super) fn seal_public(sealer: &Sealer, key: &VerifyingKey) -> Result<String> {
    let jwk = serde_json::to_vec(&key.jwk).map_err(|error| Error::Internal(Box::new(error)))?;
    sealer.seal(&public_name(&key.jwk.kid), &jwk)
}

fn open_public(sealer: &Sealer, kid: &str, public: &str) -> Result<VerifyingKey> {
    let jwk = sealer.open(&public_name(kid), public)?;
    let jwk: PublicJwk =
        serde_json::from_slice(&jwk).map_err(|error| Error::Internal(Box::new(error)))?;
    VerifyingKey::from_jwk(jwk)
}

/// The name that a private key is sealed under: it opens in place of no other.
pub(in crate::service) fn private_name(kid: &str) -> String {
    format!("signingKeys/{kid}")
}

pub(in crate::service) fn public_name(kid: &str) -> String {
    format!("signingKeys/{kid}/public")
}
