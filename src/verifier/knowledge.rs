//! The verifier's data: keys, revocations, and their age. One task writes, and all threads read
//! without long waits.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

use serde::Deserialize;
use serde_json::Value;

use crate::clock::{Clock, Uptime};
use crate::keys::VerifyingKey;
use crate::revocation::{Index, NewList};

/// The keys and revocations, with their age.
#[derive(Debug)]
pub(super) struct Knowledge {
    pub(super) index: Index,
    keys: RwLock<Arc<Keys>>,
    /// The reference point of the times below.
    since: Uptime,
    /// The time as of which the list is complete; 0 before it was read.
    confirmed: AtomicTime,
    /// Whether key changes are streamed.
    keys_followed: AtomicBool,
    /// When the keys were last confirmed.
    keys_confirmed: AtomicTime,
}

/// A time in nanoseconds since the reference point; 0 means none.
#[derive(Debug, Default)]
struct AtomicTime(AtomicU64);

/// A key set.
#[derive(Debug, Default)]
pub(super) struct Keys {
    keys: Vec<VerifyingKey>,
    /// How long the set may be used while it is not streamed.
    max_age: Duration,
}

#[derive(Deserialize)]
struct RawJwks {
    keys: Vec<Value>,
}

impl AtomicTime {
    fn get(&self) -> Option<Duration> {
        Some(self.0.load(Ordering::Acquire)).filter(|nanos| *nanos > 0).map(Duration::from_nanos)
    }

    fn raise(&self, moment: Duration) {
        self.0.fetch_max(nanos(moment), Ordering::AcqRel);
    }

    /// Has no effect if there is no time.
    fn lower(&self, moment: Duration) {
        self.0.fetch_min(nanos(moment), Ordering::AcqRel);
    }
}

fn nanos(moment: Duration) -> u64 {
    u64::try_from(moment.as_nanos()).unwrap_or(u64::MAX).max(1)
}

impl Keys {
    /// Parses a key set (RFC 7517). Unknown keys are skipped, because a newer server can publish
    /// keys for other purposes. `None`: not a key set.
    pub(super) fn parse(jwks: &str, max_age: Duration) -> Option<Self> {
        let jwks: RawJwks = serde_json::from_str(jwks).ok()?;
        let keys = jwks.keys.into_iter().filter_map(|key| {
            VerifyingKey::from_jwk(serde_json::from_value(key).ok()?)
                .inspect_err(|error| tracing::warn!(%error, "skipped a published key"))
                .ok()
        });
        Some(Self { keys: keys.collect(), max_age })
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = &VerifyingKey> + Clone {
        self.keys.iter()
    }

    pub(super) fn is_empty(&self) -> bool {
        self.keys.is_empty()
    }
}

impl Knowledge {
    pub(super) fn empty(clock: &Clock) -> Self {
        Self {
            index: Index::default(),
            keys: RwLock::default(),
            since: clock.uptime(),
            confirmed: AtomicTime::default(),
            keys_followed: AtomicBool::new(false),
            keys_confirmed: AtomicTime::default(),
        }
    }

    /// The current time on the monotonic clock, for later confirmations.
    pub(super) fn now(&self) -> Duration {
        self.since.elapsed()
    }

    /// The time since the list was last complete. `None` before it was read once.
    pub(super) fn lag(&self) -> Option<Duration> {
        // Read first, so that a delay between the reads cannot make the lag smaller.
        let confirmed = self.confirmed.get()?;
        Some(self.now().saturating_sub(confirmed))
    }

    pub(super) fn keys(&self) -> Arc<Keys> {
        // The set is replaced as a whole, so it is valid even if the lock is poisoned.
        Arc::clone(&self.keys.read().unwrap_or_else(PoisonError::into_inner))
    }

    /// By how much the keys exceed their maximum age while they are not streamed.
    pub(super) fn keys_overdue(&self, keys: &Keys) -> Duration {
        let confirmed = self.keys_confirmed.get().unwrap_or_default();
        self.now().saturating_sub(confirmed).saturating_sub(keys.max_age)
    }

    /// Whether both keys and revocations are known.
    pub(super) fn is_complete(&self) -> bool {
        self.confirmed.get().is_some() && !self.keys().is_empty()
    }

    /// Replaces the list by one that is complete as of `moment`. That can be an older list, if
    /// another server knows less. Revocations that are missing in it stay in force until they
    /// expire.
    pub(super) fn replace(&self, newer: NewList, moment: Duration) {
        self.confirmed.lower(moment);
        let last = newer.last_number();
        self.index.replace("", last, last, newer);
        self.confirmed.raise(moment);
    }

    /// Notes that the list is complete as of `moment`.
    pub(super) fn confirm(&self, moment: Duration) {
        self.confirmed.raise(moment);
        // Keys use the same connection, which has just proved to work.
        if self.keys_followed.load(Ordering::Acquire) {
            self.keys_confirmed.raise(self.now());
        }
    }

    /// Stores a current key set, whose changes are streamed.
    pub(super) fn take_keys(&self, set: Keys) {
        *self.keys.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(set);
        self.keys_confirmed.raise(self.now());
        self.keys_followed.store(true, Ordering::Release);
    }

    /// Notes that key changes are no longer streamed.
    pub(super) fn lose_keys(&self) {
        self.keys_followed.store(false, Ordering::Release);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn unknown_keys_are_skipped() {
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
    fn keys_expire_unless_they_are_confirmed() {
        let knowledge = Knowledge::empty(&Clock::system());
        let set = |max_age| Keys { keys: Vec::new(), max_age };
        knowledge.take_keys(set(Duration::ZERO));
        let (at_once, later) = (set(Duration::ZERO), set(Duration::from_mins(5)));
        assert!(knowledge.keys_overdue(&at_once) > Duration::ZERO);
        assert_eq!(knowledge.keys_overdue(&later), Duration::ZERO);
        let known = knowledge.keys_confirmed.get();
        knowledge.confirm(Duration::ZERO);
        assert!(knowledge.keys_confirmed.get() > known, "the keys are streamed");
        knowledge.lose_keys();
        let known = knowledge.keys_confirmed.get();
        knowledge.confirm(Duration::ZERO);
        assert_eq!(knowledge.keys_confirmed.get(), known, "the keys are not streamed");
    }

    #[test]
    fn lag_is_measured_from_the_last_complete_moment() {
        let knowledge = Knowledge::empty(&Clock::system());
        assert_eq!(knowledge.lag(), None);
        knowledge.confirm(Duration::ZERO);
        assert!(knowledge.lag().is_some());
        knowledge.confirm(Duration::from_secs(3));
        knowledge.confirm(Duration::from_secs(2));
        assert_eq!(knowledge.confirmed.get(), Some(Duration::from_secs(3)), "it never moves back");
        knowledge.replace(NewList::default(), Duration::from_secs(1));
        let confirmed = knowledge.confirmed.get();
        assert_eq!(confirmed, Some(Duration::from_secs(1)), "except for an older list");
    }
}
