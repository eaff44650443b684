//! All signing keys in the order of their making, and the schedule that says what each
//! is for at a given moment. The schedule is a matter of arithmetic on times that every
//! replica reads from the same rows, so replicas agree without talking.

use std::time::Duration;

use jiff::Timestamp;

use super::{Jwks, SigningAlgorithm, SigningKey, VerifyingKey};
use crate::clock::later;
use crate::domain::TokenLifetime;

/// The signing keys. Each signs from its `activates_at` until the next one's, and is
/// published from its making until every token that it signed has ended.
#[derive(Debug, Default)]
pub struct KeyRing {
    /// Oldest first.
    keys: Vec<SigningKey>,
}

impl KeyRing {
    /// How long verifiers may keep a published key set.
    pub const JWKS_MAX_AGE: Duration = Duration::from_mins(5);
    /// How long a key is published before its first use: two lives of a verifier's
    /// cache, so that none meets a token whose key it has not seen.
    pub const NOTICE: Duration = Duration::from_secs(2 * Self::JWKS_MAX_AGE.as_secs());

    /// A ring of these keys.
    pub fn new(mut keys: Vec<SigningKey>) -> Self {
        keys.sort_by_key(|key| key.generation);
        Self { keys }
    }

    /// The key that signs at `now`.
    pub fn signer(&self, now: Timestamp) -> Option<&SigningKey> {
        self.keys.iter().rev().find(|key| key.activates_at <= now)
    }

    /// The algorithm of the youngest key, which signs now or will.
    pub fn newest_algorithm(&self) -> Option<SigningAlgorithm> {
        self.keys.last().map(|key| key.public.algorithm)
    }

    /// The generation of the youngest key; 0 when there is none.
    pub fn newest_generation(&self) -> i64 {
        self.keys.last().map_or(0, |key| key.generation)
    }

    /// The keys that verifiers must know at `now`.
    pub fn published(&self, now: Timestamp) -> impl Iterator<Item = &VerifyingKey> + Clone {
        let successors = self.keys.iter().skip(1).map(|key| Some(key.activates_at));
        self.keys
            .iter()
            .zip(successors.chain([None]))
            .filter(move |(_, succeeded_at)| {
                succeeded_at.is_none_or(|at| now <= later(at, TokenLifetime::MAX.duration()))
            })
            .map(|(key, _)| &key.public)
    }

    /// The published key of this id.
    pub fn find(&self, kid: &str, now: Timestamp) -> Option<&VerifyingKey> {
        self.published(now).find(|key| key.jwk.kid == kid)
    }

    /// What verifiers are told at `now`.
    pub fn jwks(&self, now: Timestamp) -> Jwks {
        Jwks { keys: self.published(now).map(|key| key.jwk.clone()).collect() }
    }
}

#[cfg(test)]
mod tests {
    use super::super::signing::generate;
    use super::*;

    fn key(generation: i64, activates: i64) -> SigningKey {
        let algorithm = SigningAlgorithm::EdDsa;
        let pkcs8 = generate(algorithm).unwrap();
        SigningKey::from_pkcs8(algorithm, &pkcs8, generation, at(activates)).unwrap()
    }

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(second).unwrap()
    }

    #[test]
    fn a_key_is_published_before_it_signs_and_until_its_last_token_ends() {
        let ring = KeyRing::new(vec![key(2, 10_000), key(1, 0)]);
        let signer = |second| ring.signer(at(second)).map(|key| key.generation);
        let published = |second| ring.published(at(second)).count();
        assert_eq!((signer(-1), signer(0)), (None, Some(1)));
        assert_eq!((signer(9_999), published(9_999)), (Some(1), 2), "published, not yet used");
        assert_eq!((signer(10_000), published(10_000)), (Some(2), 2));
        assert_eq!(published(13_600), 2, "a token signed just before may still live");
        assert_eq!(published(13_601), 1);
    }
}
