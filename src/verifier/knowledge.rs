//! What a verifier knows: the keys, what was revoked, and how old that is. One task writes,
//! everybody reads; a reader waits for no more than a moment.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

use serde::Deserialize;
use serde_json::Value;

use crate::clock::Stopwatch;
use crate::domain::Revocation;
use crate::keys::VerifyingKey;
use crate::revocation::Index;

/// What is known.
#[derive(Debug)]
pub(super) struct Knowledge {
    /// What was revoked.
    pub(super) index: Index,
    keys: RwLock<Arc<Keys>>,
    /// Since when the moments below are counted.
    since: Stopwatch,
    /// The moment of which it is known that nothing is missing; 0: the list is not complete.
    confirmed: Moment,
    /// Whether the keys are told as they change.
    keys_followed: AtomicBool,
    /// When they last were.
    keys_confirmed: Moment,
}

/// A moment, in nanoseconds since the knowledge was begun; 0 is none.
#[derive(Debug, Default)]
struct Moment(AtomicU64);

/// A key set.
#[derive(Debug, Default)]
pub(super) struct Keys {
    keys: Vec<VerifyingKey>,
    /// How long it may be used when it is not followed.
    max_age: Duration,
}

#[derive(Deserialize)]
struct Jwks {
    keys: Vec<Value>,
}

impl Moment {
    fn get(&self) -> Option<Duration> {
        Some(self.0.load(Ordering::Acquire)).filter(|nanos| *nanos > 0).map(Duration::from_nanos)
    }

    fn raise(&self, moment: Duration) {
        self.0.fetch_max(nanos(moment), Ordering::AcqRel);
    }

    /// None stays none.
    fn lower(&self, moment: Duration) {
        self.0.fetch_min(nanos(moment), Ordering::AcqRel);
    }
}

fn nanos(moment: Duration) -> u64 {
    u64::try_from(moment.as_nanos()).unwrap_or(u64::MAX).max(1)
}

impl Keys {
    /// Reads a key set (RFC 7517). Keys that are not understood are left out: a newer server
    /// may have some for others. `None`: it is no key set.
    pub(super) fn parse(jwks: &str, max_age: Duration) -> Option<Self> {
        let jwks: Jwks = serde_json::from_str(jwks).ok()?;
        let keys = jwks.keys.into_iter().filter_map(|key| {
            VerifyingKey::from_jwk(serde_json::from_value(key).ok()?)
                .inspect_err(|error| tracing::warn!(%error, "a published key is left out"))
                .ok()
        });
        Some(Self { keys: keys.collect(), max_age })
    }

    /// The keys.
    pub(super) fn iter(&self) -> impl Iterator<Item = &VerifyingKey> + Clone {
        self.keys.iter()
    }

    pub(super) fn is_empty(&self) -> bool {
        self.keys.is_empty()
    }
}

impl Knowledge {
    /// Nothing is known yet.
    pub(super) fn nothing() -> Self {
        Self {
            index: Index::default(),
            keys: RwLock::default(),
            since: Stopwatch::start(),
            confirmed: Moment::default(),
            keys_followed: AtomicBool::new(false),
            keys_confirmed: Moment::default(),
        }
    }

    /// The present moment, by the machine's time, for what is confirmed later.
    pub(super) fn now(&self) -> Duration {
        self.since.elapsed()
    }

    /// How long ago it was last known that no revocation was missing; `None` before the whole
    /// list was read.
    pub(super) fn lag(&self) -> Option<Duration> {
        // The moment first: time that passes in between must not make the lag smaller.
        let confirmed = self.confirmed.get()?;
        Some(self.now().saturating_sub(confirmed))
    }

    /// The keys.
    pub(super) fn keys(&self) -> Arc<Keys> {
        // Replaced whole: whoever broke the lock left a set that is whole.
        Arc::clone(&self.keys.read().unwrap_or_else(PoisonError::into_inner))
    }

    /// By how much the keys are older than they may be, not being followed.
    pub(super) fn keys_overdue(&self, keys: &Keys) -> Duration {
        let confirmed = self.keys_confirmed.get().unwrap_or_default();
        self.now().saturating_sub(confirmed).saturating_sub(keys.max_age)
    }

    /// Whether both are known.
    pub(super) fn is_complete(&self) -> bool {
        self.confirmed.get().is_some() && !self.keys().is_empty()
    }

    /// Takes a whole list, with nothing missing as of a moment, in place of the one that is held.
    /// It may be an older one, as another server may know less: what it lacks stays in force until
    /// it lapses.
    pub(super) fn replace(&self, rows: Vec<Revocation>, moment: Duration) {
        self.confirmed.lower(moment);
        let last = rows.last().map_or(0, |row| row.number);
        self.index.replace("", last, last, rows);
        self.confirmed.raise(moment);
    }

    /// Nothing is missing as of a moment.
    pub(super) fn confirm(&self, moment: Duration) {
        self.confirmed.raise(moment);
        // The keys come over the same connection, which is alive.
        if self.keys_followed.load(Ordering::Acquire) {
            self.keys_confirmed.raise(self.now());
        }
    }

    /// Takes a key set, of now, which is told anew as soon as it changes.
    pub(super) fn take_keys(&self, set: Keys) {
        *self.keys.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(set);
        self.keys_confirmed.raise(self.now());
        self.keys_followed.store(true, Ordering::Release);
    }

    /// From now on nobody tells when the key set changes.
    pub(super) fn lose_keys(&self) {
        self.keys_followed.store(false, Ordering::Release);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_that_are_not_understood_are_left_out() {
        let age = Duration::from_mins(5);
        let jwks = r#"{"keys":[
            {"kid":"new","alg":"ML-DSA-65","use":"sig","kty":"AKP","pub":"AA"},
            {"kid":"odd","alg":"ES512","use":"sig","kty":"EC","crv":"P-521","x":"AA","y":"AA"},
            {"kid":"good","alg":"EdDSA","use":"sig","kty":"OKP","crv":"Ed25519",
             "x":"11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo"}]}"#;
        let keys = Keys::parse(jwks, age).unwrap();
        assert_eq!(keys.keys.len(), 1);
        let has = |kid| keys.iter().any(|key| key.jwk.kid == kid);
        assert!(has("good") && !has("new"));
        assert!(Keys::parse("[]", age).is_none() && Keys::parse("", age).is_none());
        assert!(Keys::parse(r#"{"keys":[]}"#, age).unwrap().is_empty());
    }

    #[test]
    fn keys_that_nobody_renews_grow_too_old() {
        let knowledge = Knowledge::nothing();
        let set = |max_age| Keys { keys: Vec::new(), max_age };
        knowledge.take_keys(set(Duration::ZERO));
        let (at_once, later) = (set(Duration::ZERO), set(Duration::from_mins(5)));
        assert!(knowledge.keys_overdue(&at_once) > Duration::ZERO);
        assert_eq!(knowledge.keys_overdue(&later), Duration::ZERO);
        let known = knowledge.keys_confirmed.get();
        knowledge.confirm(Duration::ZERO);
        assert!(knowledge.keys_confirmed.get() > known, "they are followed");
        knowledge.lose_keys();
        let known = knowledge.keys_confirmed.get();
        knowledge.confirm(Duration::ZERO);
        assert_eq!(knowledge.keys_confirmed.get(), known, "and now they are not");
    }

    #[test]
    fn the_lag_is_counted_from_the_last_moment_at_which_nothing_was_missing() {
        let knowledge = Knowledge::nothing();
        assert_eq!(knowledge.lag(), None);
        knowledge.confirm(Duration::ZERO);
        assert!(knowledge.lag().is_some());
        knowledge.confirm(Duration::from_secs(3));
        knowledge.confirm(Duration::from_secs(2));
        assert_eq!(knowledge.confirmed.get(), Some(Duration::from_secs(3)), "never goes back");
        knowledge.replace(Vec::new(), Duration::from_secs(1));
        let confirmed = knowledge.confirmed.get();
        assert_eq!(confirmed, Some(Duration::from_secs(1)), "unless the list is an older one");
    }
}
