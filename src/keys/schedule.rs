//! The life of signing keys: next, active, retiring, removed, or revoked. A key's state follows
//! from times that every replica reads from the same rows, so replicas agree without communicating.
//!
//! ```text
//! created      activates               the next key activates     + kept()
//!    |--- next ---|-------- active --------|------- retiring --------|--- removed
//!    |<- published (JWKS) ----------------------------------------->|
//! ```
//!
//! There is always a next key, made when the one before it starts to sign. So a rotation by hand,
//! and the revocation of the active key, promote a key that every verifier has in its cache.

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
/// The time of a rotation by schedule is set a day ahead, where operators see it.
const AHEAD: Duration = Duration::from_hours(24);
/// The time of activation of a next key for which none is set yet: 9999-01-01.
pub const UNPLANNED: Timestamp = Timestamp::constant(253_370_764_800, 0);

/// What the database says of a signing key, without the key itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KeyRecord {
    /// 1, 2, 3 … in the order of creation.
    pub generation: i64,
    pub kid: String,
    /// The name of its JWS algorithm.
    pub algorithm: String,
    pub created_at: Timestamp,
    /// The key signs from this time on, until a newer one does. [`UNPLANNED`]: no time is set.
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

    /// When the key activates; `None`: no time is set.
    pub fn planned(&self) -> Option<Timestamp> {
        (self.activates_at < UNPLANNED).then_some(self.activates_at)
    }

    /// When the key was withdrawn, if no server can have signed with it: it was withdrawn before a
    /// server that had not read that yet would have used it.
    pub fn withdrawn_unused(&self) -> Option<Timestamp> {
        self.retired_at.filter(|at| later(*at, AGREED) < self.activates_at)
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

/// What is due so that a key can take over from the active one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SuccessorDue {
    /// There is no next key: make one, which activates at this time.
    Make(Timestamp),
    /// The next key must activate at this time, earlier than is set.
    Plan(Timestamp),
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
        newer.filter_map(KeyRecord::planned).chain(ends).min()
    }

    /// The last time at which a key is published. `None`: no end is known.
    pub fn published_until(&self, of: &KeyRecord) -> Option<Timestamp> {
        let unused = of.revoked_at.or(of.withdrawn_unused());
        unused.or_else(|| self.signs_until(of).map(|end| later(end, kept())))
    }

    pub fn state(&self, of: &KeyRecord, now: Timestamp) -> KeyState {
        if of.revoked_at.is_some() {
            return KeyState::Revoked;
        }
        match self.signs_until(of) {
            Some(end) if end <= now && of.withdrawn_unused().is_some() => KeyState::Removed,
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

    /// What is due so that a key can take over. `period` is how long a key signs; `None`: without
    /// end.
    pub fn successor_due(&self, now: Timestamp, period: Option<Duration>) -> Option<SuccessorDue> {
        let next = self.next(now);
        let Some(active) = self.active(now) else {
            // The servers cannot sign at all.
            let Some(next) = next else { return Some(SuccessorDue::Make(now)) };
            return next.planned().is_none().then_some(SuccessorDue::Plan(now));
        };
        let due = period.and_then(|period| {
            let due = later(active.in_use_since(), period);
            (due <= later(now, AHEAD.min(period / 2).max(NOTICE))).then_some(due)
        });
        let Some(next) = next else {
            let at = due.map_or(UNPLANNED, |due| due.max(later(now, NOTICE)));
            return Some(SuccessorDue::Make(at));
        };
        let at = due?.max(Self::earliest(next, now));
        (at < next.activates_at).then_some(SuccessorDue::Plan(at))
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
        let withdrawn =
            |at_second| KeyRecord { retired_at: Some(at(at_second)), ..key(2, 9_000, 10_000) };
        let late = Schedule::new(vec![key(1, 0, 0), withdrawn(9_940)]);
        assert_eq!(states(&late, 9_941), ["active", "retiring"], "another server may use it");
        assert_eq!(states(&late, 20_000), ["active", "removed"]);
        let early = Schedule::new(vec![key(1, 0, 0), withdrawn(9_939)]);
        assert_eq!(states(&early, 9_939), ["active", "removed"]);
        assert_eq!(early.published_until(&early.records()[1]), Some(at(9_939)));
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
    fn next_key_is_made_at_once_and_planned_a_day_ahead() {
        let month = Some(Duration::from_hours(24 * 30));
        let hour = Some(Duration::from_hours(1));
        let make = |second| Some(SuccessorDue::Make(at(second)));
        let plan = |second| Some(SuccessorDue::Plan(at(second)));
        let due = |schedule: &Schedule, now, period| schedule.successor_due(at(now), period);

        let alone = Schedule::new(vec![key(1, 0, 0)]);
        assert_eq!(due(&alone, 1, month), Some(SuccessorDue::Make(UNPLANNED)));
        assert_eq!(due(&alone, 99 * DAY, None), Some(SuccessorDue::Make(UNPLANNED)));
        assert_eq!(due(&alone, 29 * DAY, month), make(30 * DAY));
        assert_eq!(due(&alone, 99 * DAY, month), make(99 * DAY + 600), "not without notice");

        let waiting = KeyRecord { activates_at: UNPLANNED, ..key(2, 0, 0) };
        let waiting = Schedule::new(vec![key(1, 0, 0), waiting]);
        assert_eq!(states(&waiting, 99 * DAY), ["active", "next"]);
        assert_eq!(waiting.signs_until(&waiting.records()[0]), None);
        assert_eq!(due(&waiting, 29 * DAY - 1, month), None);
        assert_eq!(due(&waiting, 29 * DAY, month), plan(30 * DAY));
        assert_eq!(due(&waiting, 99 * DAY, month), plan(99 * DAY + 60), "when all servers know");
        assert_eq!((due(&waiting, 1_799, hour), due(&waiting, 1_800, hour)), (None, plan(3_600)));
        assert_eq!(due(&waiting, 99 * DAY, None), None, "never");

        let planned = Schedule::new(vec![key(1, 0, 0), key(2, 10, 100 * DAY)]);
        assert_eq!(due(&planned, 100 * DAY - 60, month), None);
        assert_eq!(due(&planned, 29 * DAY, month), plan(30 * DAY), "the period is shorter now");
        let soon = Schedule::new(vec![key(1, 0, 0), key(2, 10, 50)]);
        assert_eq!(due(&soon, 20, month), None, "brought forward by hand");
    }

    #[test]
    fn without_an_active_key_the_next_one_signs_at_once() {
        let due = |keys| Schedule::new(keys).successor_due(at(7), None);
        assert_eq!(due(vec![]), Some(SuccessorDue::Make(at(7))));
        let waiting = KeyRecord { activates_at: UNPLANNED, ..key(2, 0, 0) };
        assert_eq!(due(vec![waiting]), Some(SuccessorDue::Plan(at(7))));
    }
}
