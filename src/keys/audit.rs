//! The key that signs places in the hash chains of audit logs.

use std::fmt;

use aws_lc_rs::signature::{ED25519, Ed25519KeyPair, KeyPair, UnparsedPublicKey};
use jiff::Timestamp;

use crate::domain::{ChainHash, PlaceKind, SignedPlace, TenantId};
use crate::error::{Error, Result};

/// An Ed25519 key. All replicas derive the same one from the master key, so that it needs no storage
/// and no rotation of its own.
pub struct AuditKey {
    pair: Ed25519KeyPair,
}

impl fmt::Debug for AuditKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("AuditKey").finish_non_exhaustive()
    }
}

impl AuditKey {
    /// The key with this seed.
    pub fn from_seed(seed: &[u8; 32]) -> Result<Self> {
        let pair = Ed25519KeyPair::from_seed_unchecked(seed);
        Ok(Self { pair: pair.map_err(|_| Error::internal("the audit key could not be derived"))? })
    }

    /// The public key, 32 bytes.
    pub fn public(&self) -> &[u8] {
        self.pair.public_key().as_ref()
    }

    /// Signs a place.
    pub fn sign(
        &self,
        kind: PlaceKind,
        tenant: &TenantId,
        number: i64,
        hash: ChainHash,
        at: Timestamp,
    ) -> SignedPlace {
        let text = SignedPlace::text(kind, tenant, number, hash, at);
        SignedPlace {
            kind,
            tenant: tenant.clone(),
            number,
            hash,
            at,
            public_key: self.public().to_vec(),
            signature: self.pair.sign(text.as_bytes()).as_ref().to_vec(),
        }
    }
}

/// Whether the signature of a place is right, by the key that the place names.
pub fn is_signed(place: &SignedPlace) -> bool {
    UnparsedPublicKey::new(&ED25519, &place.public_key)
        .verify(place.signed_text().as_bytes(), &place.signature)
        .is_ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn signature_covers_every_part_of_a_place() {
        let key = AuditKey::from_seed(&[7; 32]).unwrap();
        let tenant = TenantId::parse("acme").unwrap();
        let at = "2026-06-01T12:00:00.000001Z".parse().unwrap();
        let place = key.sign(PlaceKind::Head, &tenant, 7, ChainHash::START.next("a"), at);
        assert!(is_signed(&place));
        let changed: [&dyn Fn(&mut SignedPlace); 7] = [
            &|place| place.kind = PlaceKind::Checkpoint,
            &|place| place.tenant = TenantId::parse("other").unwrap(),
            &|place| place.number = 8,
            &|place| place.hash = ChainHash::START,
            &|place| place.at = "2026-06-01T12:00:00.000002Z".parse().unwrap(),
            &|place| place.public_key = AuditKey::from_seed(&[8; 32]).unwrap().public().to_vec(),
            &|place| place.signature[0] ^= 1,
        ];
        for change in changed {
            let mut other = place.clone();
            change(&mut other);
            assert!(!is_signed(&other), "{other:?}");
        }
    }
}
