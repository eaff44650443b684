//! All signing keys in the order of their creation, and the schedule that determines the use of
//! each. The schedule depends only on times that every replica reads from the same rows, so
//! replicas agree without communicating.

use std::time::Duration;

use jiff::Timestamp;

use super::{Jwks, SigningAlgorithm, SigningKey, VerifyingKey};
use crate::clock::later;
use crate::domain::TokenLifetime;

/// The signing keys. Each key signs from its `activates_at` until the next key's, and is published
/// from its creation until every token that it signed has expired.
#[derive(Debug, Default)]
pub struct KeyRing {
    keys: Vec<SigningKey>,
    /// Keys that are no longer in the database, each until its last token has expired. They stay
    /// published, so that an outdated database (a restored backup) does not invalidate valid
    /// tokens.
    missing: Vec<(VerifyingKey, Timestamp)>,
}

impl KeyRing {
    /// How long verifiers may cache the key set.
    pub const JWKS_MAX_AGE: Duration = Duration::from_mins(5);
    /// How long a key is published before its first use: two cache lifetimes, so that every
    /// verifier knows the key when it receives the first token.
    pub const NOTICE: Duration = Duration::from_secs(2 * Self::JWKS_MAX_AGE.as_secs());

    pub fn new(mut keys: Vec<SigningKey>) -> Self {
        keys.sort_by_key(|key| key.generation);
        Self { keys, missing: Vec::new() }
    }

    /// Takes over the keys that `known` had until `now` and that are missing in this ring.
    #[must_use]
    pub fn following(mut self, known: &Self, now: Timestamp) -> Self {
        let until = later(now, TokenLifetime::MAX.duration());
        let ours = known.published_of_ours(now).map(|key| (key, until));
        let missing = known.missing.iter().map(|(key, until)| (key, *until));
        for (key, until) in ours.chain(missing) {
            let there = self.keys.iter().any(|own| own.public.jwk.kid == key.jwk.kid);
            if !there && now <= until {
                self.missing.push((key.clone(), until));
            }
        }
        self
    }

    /// The key that signs at `now`.
    pub fn signer(&self, now: Timestamp) -> Option<&SigningKey> {
        self.keys.iter().rev().find(|key| key.activates_at <= now)
    }

    /// The algorithm of the newest key, whether or not it is active yet.
    pub fn newest_algorithm(&self) -> Option<SigningAlgorithm> {
        self.keys.last().map(|key| key.public.algorithm)
    }

    /// The generation of the newest key, or 0 if there is none.
    pub fn newest_generation(&self) -> i64 {
        self.keys.last().map_or(0, |key| key.generation)
    }

    /// The keys that verifiers need at `now`.
    pub fn published(&self, now: Timestamp) -> impl Iterator<Item = &VerifyingKey> + Clone {
        let missing = self.missing.iter().filter(move |(_, until)| now <= *until);
        self.published_of_ours(now).chain(missing.map(|(key, _)| key))
    }

    fn published_of_ours(&self, now: Timestamp) -> impl Iterator<Item = &VerifyingKey> + Clone {
        let successors = self.keys.iter().skip(1).map(|key| Some(key.activates_at));
        self.keys
            .iter()
            .zip(successors.chain([None]))
            .filter(move |(_, succeeded_at)| {
                succeeded_at.is_none_or(|at| now <= later(at, TokenLifetime::MAX.duration()))
            })
            .map(|(key, _)| &key.public)
    }

    /// The published key with this id.
    pub fn find(&self, kid: &str, now: Timestamp) -> Option<&VerifyingKey> {
        self.published(now).find(|key| key.jwk.kid == kid)
    }

    /// The published key set at `now`.
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
    fn key_is_published_before_it_signs_and_until_its_last_token_expires() {
        let ring = KeyRing::new(vec![key(2, 10_000), key(1, 0)]);
        let signer = |second| ring.signer(at(second)).map(|key| key.generation);
        let published = |second| ring.published(at(second)).count();
        assert_eq!((signer(-1), signer(0)), (None, Some(1)));
        assert_eq!((signer(9_999), published(9_999)), (Some(1), 2), "published, not yet used");
        assert_eq!((signer(10_000), published(10_000)), (Some(2), 2));
        assert_eq!(published(13_600), 2, "a token signed just before may still live");
        assert_eq!(published(13_601), 1);
    }

    #[test]
    fn missing_key_stays_published_until_its_last_token_expires() {
        let (old, new) = (key(1, 0), key(2, 10_000));
        let kid = new.public.jwk.kid.clone();
        let database = || KeyRing::new(vec![key(3, 0)]);
        let known = KeyRing::new(vec![old, new]);
        let restored = database().following(&known, at(20_000));
        assert!(restored.find(&kid, at(20_000)).is_some());
        assert_eq!(restored.signer(at(20_000)).map(|key| key.generation), Some(3));
        assert_eq!(restored.newest_generation(), 3);
        // Reading the keys again does not extend the time.
        let again = database().following(&restored, at(21_000));
        assert!(again.find(&kid, at(23_600)).is_some() && again.find(&kid, at(23_601)).is_none());
        let later = database().following(&again, at(24_000));
        assert!(later.missing.iter().all(|(key, _)| key.jwk.kid != kid), "the key is dropped");
    }
}
