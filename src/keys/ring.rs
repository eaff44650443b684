//! All signing keys in the order of their creation: which one signs, and which are published. When
//! that changes is decided by the [schedule](super::schedule).

use std::collections::HashSet;

use jiff::Timestamp;

use super::schedule::{KeyState, Schedule};
use super::{Jwks, SigningAlgorithm, SigningKey, VerifyingKey};
use crate::clock::later;
use crate::domain::TokenLifetime;

/// The signing keys as they were read.
#[derive(Debug, Default)]
pub struct KeyRing {
    schedule: Schedule,
    /// The private keys, by generation. Keys that no longer sign have none.
    signers: Vec<SigningKey>,
    /// The public keys with the last time at which they are published; `None`: no end is known.
    published: Vec<(VerifyingKey, Option<Timestamp>)>,
    /// Keys that are no longer in the database, each until its last token has expired. They stay
    /// published, so that an outdated database (a restored backup) does not invalidate valid
    /// tokens.
    missing: Vec<(VerifyingKey, Timestamp)>,
    /// The ids of revoked keys, which are never published or used again, whatever the database has.
    revoked: HashSet<String>,
}

impl KeyRing {
    /// A ring of keys that are neither retired nor revoked.
    #[cfg(test)]
    pub fn new(keys: Vec<SigningKey>) -> Self {
        let record = |key: &SigningKey| super::schedule::KeyRecord {
            generation: key.generation,
            kid: key.public.jwk.kid.clone(),
            algorithm: key.public.algorithm.to_string(),
            created_at: key.activates_at,
            activates_at: key.activates_at,
            retired_at: None,
            revoked_at: None,
        };
        let public = keys.iter().map(|key| key.public.clone()).collect();
        Self::of(Schedule::new(keys.iter().map(record).collect()), keys, public)
    }

    /// A ring of the keys of this schedule, as far as they are still needed.
    pub fn of(schedule: Schedule, mut signers: Vec<SigningKey>, public: Vec<VerifyingKey>) -> Self {
        signers.sort_by_key(|key| key.generation);
        let revoked: HashSet<_> = schedule
            .records()
            .iter()
            .filter(|record| record.revoked_at.is_some())
            .map(|record| record.kid.clone())
            .collect();
        let published = public.into_iter().filter_map(|key| {
            let record = schedule.find(&key.jwk.kid)?;
            record.withdrawn_unused().is_none().then(|| (key, schedule.published_until(record)))
        });
        let mut ring = Self {
            published: published.collect(),
            schedule,
            signers,
            missing: Vec::new(),
            revoked: HashSet::new(),
        };
        ring.revoke(revoked);
        let withdrawn = |key: &SigningKey| {
            let record = ring.schedule.find(&key.public.jwk.kid);
            record.is_none_or(|record| record.retired_at.is_some())
        };
        ring.signers.retain(|key| !withdrawn(key));
        ring
    }

    /// Removes keys for ever, by their ids.
    pub fn revoke(&mut self, kids: impl IntoIterator<Item = String>) {
        self.revoked.extend(kids);
        let revoked = &self.revoked;
        self.signers.retain(|key| !revoked.contains(&key.public.jwk.kid));
        self.published.retain(|(key, _)| !revoked.contains(&key.jwk.kid));
        self.missing.retain(|(key, _)| !revoked.contains(&key.jwk.kid));
    }

    /// Takes over the keys that `known` had until `now` and that are missing in this ring, and what
    /// it knew as revoked.
    #[must_use]
    pub fn following(mut self, known: &Self, now: Timestamp) -> Self {
        let until = later(now, TokenLifetime::MAX.duration());
        let ours = known.published_of_ours(now).map(|key| (key, until));
        let missing = known.missing.iter().map(|(key, until)| (key, *until));
        for (key, until) in ours.chain(missing) {
            let there = self.schedule.find(&key.jwk.kid).is_some();
            if !there && now <= until {
                self.missing.push((key.clone(), until));
            }
        }
        self.revoke(known.revoked.iter().cloned());
        self
    }

    /// The key that signs at `now`. If none is active by this clock, which may be behind, it is the
    /// first that will be: its predecessor is gone, so other servers use it.
    pub fn signer(&self, now: Timestamp) -> Option<&SigningKey> {
        let active = self.signers.iter().rev().find(|key| key.activates_at <= now);
        active.or(self.signers.first())
    }

    /// The schedule of the keys.
    pub fn schedule(&self) -> &Schedule {
        &self.schedule
    }

    /// The state of each key that is still needed, or was revoked.
    pub fn states(&self, now: Timestamp) -> impl Iterator<Item = KeyState> {
        self.schedule.records().iter().map(move |record| self.schedule.state(record, now))
    }

    /// The algorithm of the newest key, whether or not it is active yet.
    pub fn newest_algorithm(&self) -> Option<SigningAlgorithm> {
        self.signers.last().map(|key| key.public.algorithm)
    }

    /// Whether no key was ever made.
    pub fn is_empty(&self) -> bool {
        self.schedule.records().is_empty()
    }

    /// The keys that verifiers need at `now`.
    pub fn published(&self, now: Timestamp) -> impl Iterator<Item = &VerifyingKey> + Clone {
        let missing = self.missing.iter().filter(move |(_, until)| now <= *until);
        self.published_of_ours(now).chain(missing.map(|(key, _)| key))
    }

    fn published_of_ours(&self, now: Timestamp) -> impl Iterator<Item = &VerifyingKey> + Clone {
        let published = self.published.iter();
        published
            .filter(move |(_, until)| until.is_none_or(|until| now <= until))
            .map(|(key, _)| key)
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
        assert_eq!(signer(0), Some(1));
        assert_eq!(signer(-1), Some(1), "a clock that is behind");
        assert_eq!((signer(9_999), published(9_999)), (Some(1), 2), "published, not yet used");
        assert_eq!((signer(10_000), published(10_000)), (Some(2), 2));
        assert_eq!(published(14_200), 2, "a token signed just before may still live");
        assert_eq!(published(14_201), 1);
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
        // Reading the keys again does not extend the time.
        let again = database().following(&restored, at(21_000));
        assert!(again.find(&kid, at(23_600)).is_some() && again.find(&kid, at(23_601)).is_none());
        let later = database().following(&again, at(24_000));
        assert!(later.missing.iter().all(|(key, _)| key.jwk.kid != kid), "the key is dropped");
    }

    #[test]
    fn revoked_key_never_returns() {
        let (old, new) = (key(1, 0), key(2, 10_000));
        let kid = old.public.jwk.kid.clone();
        let mut known = KeyRing::new(vec![old, new]);
        known.revoke([kid.clone()]);
        assert!(known.find(&kid, at(5_000)).is_none());
        assert_eq!(known.signer(at(5_000)).map(|key| key.generation), Some(2));
        // Neither as a key that the database lacks, nor from a restored database that has it.
        let lacking = KeyRing::new(vec![key(3, 0)]).following(&known, at(20_000));
        assert!(lacking.find(&kid, at(20_000)).is_none());
        assert!(lacking.revoked.contains(&kid));
    }
}
