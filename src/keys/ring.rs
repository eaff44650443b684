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
    /// Keys that were known and are not there any more, each until its last token ends: a
    /// database that is an older state does not make good tokens bad.
    missing: Vec<(VerifyingKey, Timestamp)>,
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
        Self { keys, missing: Vec::new() }
    }

    /// This ring, in place of one that was known until `now`.
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

    #[test]
    fn key_that_vanished_is_published_until_its_last_token_ends_and_signs_nothing() {
        let (old, new) = (key(1, 0), key(2, 10_000));
        let kid = new.public.jwk.kid.clone();
        let database = || KeyRing::new(vec![key(3, 0)]);
        let known = KeyRing::new(vec![old, new]);
        let restored = database().following(&known, at(20_000));
        assert!(restored.find(&kid, at(20_000)).is_some());
        assert_eq!(restored.signer(at(20_000)).map(|key| key.generation), Some(3));
        assert_eq!(restored.newest_generation(), 3);
        // However often the keys are read, it lasts no longer.
        let again = database().following(&restored, at(21_000));
        assert!(again.find(&kid, at(23_600)).is_some() && again.find(&kid, at(23_601)).is_none());
        let later = database().following(&again, at(24_000));
        assert!(later.missing.iter().all(|(key, _)| key.jwk.kid != kid), "it is forgotten");
    }
}
