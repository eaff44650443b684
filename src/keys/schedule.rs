//! The life of signing keys: next, active, retiring, removed, or revoked. A key's state follows
//! from times that every replica reads from the same rows, so replicas agree without communicating.
//!
//! ```text
//! created      activates               the next key activates     + kept()
//!    |--- next ---|-------- active --------|------- retiring --------|--- removed
//!    |<- published (JWKS) ----------------------------------------->|
//! ```

use std::fmt;
use std::time::Duration;

use jiff::Timestamp;

use crate::clock::later;
use crate::domain::TokenLifetime;

/// How long verifiers may cache the key set.
pub const JWKS_MAX_AGE: Duration = Duration::from_mins(5);
/// How long a key is published before its first use: two cache lifetimes, so that every verifier
/// knows the key when it receives the first token.
pub const NOTICE: Duration = Duration::from_secs(2 * JWKS_MAX_AGE.as_secs());
/// How often a server reads the keys again.
pub const RELOAD_INTERVAL: Duration = Duration::from_secs(30);
/// How long before a changed activation takes effect, so that every server has read it.
const AGREED: Duration = Duration::from_secs(2 * RELOAD_INTERVAL.as_secs());
/// How long a key is published after it stopped signing. The additional ten minutes are for a
/// server that learned late that the key no longer signs.
pub fn kept() -> Duration {
    TokenLifetime::MAX.duration() + NOTICE
}

/// How long a private key is kept after it stopped signing: clocks of servers differ by less.
const ERASED_AFTER: Duration = Duration::from_mins(2);
/// The next key of a rotation by schedule is published a day before it signs, for verifiers that
/// cache longer than `max-age` allows.
const AHEAD: Duration = Duration::from_hours(24);

/// What the database says of a signing key, without the key itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KeyRecord {
    /// 1, 2, 3 … in the order of creation.
    pub generation: i64,
    pub kid: String,
    /// The name of its JWS algorithm.
    pub algorithm: String,
    pub created_at: Timestamp,
    /// The key signs from this time on, until a newer one does.
    pub activates_at: Timestamp,
    /// When the key was withdrawn before it signed.
    pub retired_at: Option<Timestamp>,
    /// When the key was revoked.
    pub revoked_at: Option<Timestamp>,
}

/// A stage in the life of a key.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum KeyState {
    /// Published, and will sign.
    Next,
    /// Signs.
    Active,
    /// No longer signs. It is published until its last token has expired.
    Retiring,
    /// No longer published.
    Removed,
    /// Every token that it signed is refused.
    Revoked,
}

impl KeyState {
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Next => "next",
            Self::Active => "active",
            Self::Retiring => "retiring",
            Self::Removed => "removed",
            Self::Revoked => "revoked",
        }
    }
}

impl fmt::Display for KeyState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl KeyRecord {
    /// Whether the key signed at some time, or will.
    fn signs(&self) -> bool {
        let ends = [self.retired_at, self.revoked_at].into_iter().flatten();
        ends.min().is_none_or(|end| self.activates_at < end)
    }

    /// Since when the key can sign. The first key of a database activates at the epoch.
    pub fn in_use_since(&self) -> Timestamp {
        self.activates_at.max(self.created_at)
    }

    /// From when on every verifier knows the key.
    pub fn known_from(&self) -> Timestamp {
        later(self.created_at, NOTICE)
    }
}

/// The records of keys, and what follows from them.
#[derive(Clone, Debug, Default)]
pub struct Schedule(Vec<KeyRecord>);

impl Schedule {
    pub fn new(mut records: Vec<KeyRecord>) -> Self {
        records.sort_by_key(|record| (record.generation, record.created_at));
        Self(records)
    }

    /// The records in the order of creation.
    pub fn records(&self) -> &[KeyRecord] {
        &self.0
    }

    pub fn find(&self, kid: &str) -> Option<&KeyRecord> {
        self.0.iter().find(|record| record.kid == kid)
    }

    /// When a key stops signing. `None`: it has no successor yet.
    pub fn signs_until(&self, of: &KeyRecord) -> Option<Timestamp> {
        let newer = self.0.iter().filter(|key| key.generation > of.generation && key.signs());
        let ends = [of.retired_at, of.revoked_at].into_iter().flatten();
        newer.map(|key| key.activates_at).chain(ends).min()
    }

    /// The last time at which a key is published. `None`: no end is known.
    pub fn published_until(&self, of: &KeyRecord) -> Option<Timestamp> {
        if of.revoked_at.is_some() {
            return of.revoked_at;
        }
        self.signs_until(of).map(|end| later(end, kept()))
    }

    pub fn state(&self, of: &KeyRecord, now: Timestamp) -> KeyState {
        if of.revoked_at.is_some() {
            return KeyState::Revoked;
        }
        match self.signs_until(of) {
            Some(end) if end <= now && now <= later(end, kept()) => KeyState::Retiring,
            Some(end) if end <= now => KeyState::Removed,
            _ if of.activates_at <= now => KeyState::Active,
            _ => KeyState::Next,
        }
    }

    fn in_state(&self, state: KeyState, now: Timestamp) -> Option<&KeyRecord> {
        self.0.iter().rev().find(|key| self.state(key, now) == state)
    }

    /// The key that signs at `now`.
    pub fn active(&self, now: Timestamp) -> Option<&KeyRecord> {
        self.in_state(KeyState::Active, now)
    }

    /// The key that will sign after the active one.
    pub fn next(&self, now: Timestamp) -> Option<&KeyRecord> {
        self.0.iter().find(|key| self.state(key, now) == KeyState::Next)
    }

    /// Whether the private key can be erased: no server signs with it any more.
    pub fn may_erase(&self, of: &KeyRecord, now: Timestamp) -> bool {
        let end = self.signs_until(of);
        of.revoked_at.is_some() || end.is_some_and(|end| later(end, ERASED_AFTER) <= now)
    }

    /// When the next key must sign, if it must be made now. `period` is how long a key signs;
    /// `None`: without end.
    pub fn successor_due(&self, now: Timestamp, period: Option<Duration>) -> Option<Timestamp> {
        if self.next(now).is_some() {
            return None;
        }
        let Some(active) = self.active(now) else {
            // The servers cannot sign at all.
            return Some(now);
        };
        let period = period?;
        let due = later(active.in_use_since(), period);
        let ahead = AHEAD.min(period / 2).max(NOTICE);
        (due <= later(now, ahead)).then(|| due.max(later(now, NOTICE)))
    }

    /// The earliest time at which the next key can sign: every verifier knows it, and every server
    /// has read the changed time.
    pub fn earliest(next: &KeyRecord, now: Timestamp) -> Timestamp {
        next.known_from().max(later(now, AGREED))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const DAY: i64 = 86_400;

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(second).unwrap()
    }

    fn key(generation: i64, created: i64, activates: i64) -> KeyRecord {
        KeyRecord {
            generation,
            kid: format!("k{generation}"),
            algorithm: "ES256".to_owned(),
            created_at: at(created),
            activates_at: at(activates),
            retired_at: None,
            revoked_at: None,
        }
    }

    fn states(schedule: &Schedule, second: i64) -> Vec<&'static str> {
        let records = schedule.records().iter();
        records.map(|key| schedule.state(key, at(second)).as_str()).collect()
    }

    #[test]
    fn key_is_next_then_active_then_retiring_then_removed() {
        let schedule = Schedule::new(vec![key(2, 9_000, 10_000), key(1, 0, 0)]);
        assert_eq!(states(&schedule, 9_999), ["active", "next"]);
        assert_eq!(states(&schedule, 10_000), ["retiring", "active"]);
        assert_eq!(states(&schedule, 14_200), ["retiring", "active"]);
        assert_eq!(states(&schedule, 14_201), ["removed", "active"]);
        let [first, second] = schedule.records() else { panic!() };
        assert_eq!(schedule.published_until(first), Some(at(14_200)));
        assert_eq!(schedule.published_until(second), None);
        assert!(!schedule.may_erase(first, at(10_119)) && schedule.may_erase(first, at(10_120)));
        assert!(!schedule.may_erase(second, at(99_999_999)));
    }

    #[test]
    fn withdrawn_next_key_never_signs() {
        let withdrawn = KeyRecord { retired_at: Some(at(9_500)), ..key(2, 9_000, 10_000) };
        let schedule = Schedule::new(vec![key(1, 0, 0), withdrawn]);
        assert_eq!(states(&schedule, 20_000), ["active", "removed"]);
        assert_eq!(states(&schedule, 9_600), ["active", "retiring"]);
    }

    #[test]
    fn revoked_key_ends_at_once_and_its_predecessor_keeps_its_end() {
        let revoked = KeyRecord { revoked_at: Some(at(11_000)), ..key(2, 9_000, 10_000) };
        let keys = vec![key(1, 0, 0), revoked, key(3, 11_000, 11_000)];
        let schedule = Schedule::new(keys);
        assert_eq!(states(&schedule, 11_000), ["retiring", "revoked", "active"]);
        assert_eq!(schedule.published_until(&schedule.records()[0]), Some(at(14_200)));
        // Revoked before it signed, it ends nothing.
        let revoked = KeyRecord { revoked_at: Some(at(9_500)), ..key(2, 9_000, 10_000) };
        let schedule = Schedule::new(vec![key(1, 0, 0), revoked]);
        assert_eq!(states(&schedule, 50_000), ["active", "revoked"]);
    }

    #[test]
    fn successor_is_made_a_day_ahead_and_never_signs_without_notice() {
        let month = Some(Duration::from_hours(24 * 30));
        let schedule = Schedule::new(vec![key(1, 0, 0)]);
        let due = |now, period| schedule.successor_due(at(now), period).map(Timestamp::as_second);
        assert_eq!(due(29 * DAY - 1, month), None);
        assert_eq!(due(29 * DAY, month), Some(30 * DAY));
        assert_eq!(due(99 * DAY, month), Some(99 * DAY + 600), "overdue");
        assert_eq!(due(99 * DAY, None), None, "never");
        let hour = Some(Duration::from_hours(1));
        assert_eq!((due(1_799, hour), due(1_800, hour)), (None, Some(3_600)));
        let waiting = Schedule::new(vec![key(1, 0, 0), key(2, 10, 100 * DAY)]);
        assert_eq!(waiting.successor_due(at(99 * DAY), month), None, "one waits already");
        assert_eq!(Schedule::default().successor_due(at(7), None), Some(at(7)), "none signs");
    }
}
