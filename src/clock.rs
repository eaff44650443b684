//! Injected time. This is the only module that reads the system's time; all others get a [`Clock`],
//! so that tests can control time.

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::{Duration, Instant};

use jiff::Timestamp;

/// A source of the current time. Clones share it.
#[derive(Clone, Debug)]
pub struct Clock(TimeSource);

#[derive(Clone, Debug)]
enum TimeSource {
    System,
    Manual(Arc<Manual>),
}

/// A clock that a test controls, in microseconds.
#[derive(Debug)]
struct Manual {
    /// The time that the clock shows.
    time: AtomicI64,
    /// The time that has passed. Setting the clock does not change it.
    running: AtomicI64,
}

impl Clock {
    /// The system's clock.
    pub fn system() -> Self {
        Self(TimeSource::System)
    }

    /// A clock that stays at `start` until [`Clock::advance`] is called.
    pub fn manual(start: Timestamp) -> Self {
        let time = AtomicI64::new(start.as_microsecond());
        Self(TimeSource::Manual(Arc::new(Manual { time, running: AtomicI64::new(0) })))
    }

    /// The current time, truncated to microseconds, the precision of the databases.
    pub fn now(&self) -> Timestamp {
        match &self.0 {
            #[expect(clippy::disallowed_methods, reason = "the only reader of the system time")]
            TimeSource::System => from_microsecond(Timestamp::now().as_microsecond()),
            TimeSource::Manual(manual) => from_microsecond(manual.time.load(Ordering::SeqCst)),
        }
    }

    /// The time of a manual clock, for systems with their own clock, which need the simulated time.
    /// `None` for the system's clock.
    pub fn simulated(&self) -> Option<Timestamp> {
        match &self.0 {
            TimeSource::System => None,
            TimeSource::Manual(_) => Some(self.now()),
        }
    }

    /// Advances a manual clock. Has no effect on the system's clock.
    pub fn advance(&self, by: Duration) {
        if let TimeSource::Manual(manual) = &self.0 {
            manual.time.fetch_add(micros(by), Ordering::SeqCst);
            manual.running.fetch_add(micros(by), Ordering::SeqCst);
        }
    }

    /// Sets a manual clock back without time passing, as an administrator can do.
    pub fn set_back(&self, by: Duration) {
        if let TimeSource::Manual(manual) = &self.0 {
            manual.time.fetch_sub(micros(by), Ordering::SeqCst);
        }
    }

    /// Sets a manual clock ahead without time passing, as an administrator can do.
    pub fn set_ahead(&self, by: Duration) {
        if let TimeSource::Manual(manual) = &self.0 {
            manual.time.fetch_add(micros(by), Ordering::SeqCst);
        }
    }
}

/// A time that is safe for irreversible deletions. A clock that was set ahead shows a later time
/// than has passed. `SteadyTime` is at most a minute ahead of the time that has passed on the
/// monotonic clock since its creation. A clock that is behind is used as it is, which only keeps
/// data for longer.
#[derive(Debug)]
pub struct SteadyTime {
    clock: Clock,
    since: Stopwatch,
    /// The smallest observed lead of the clock over the time that has passed.
    ahead: AtomicI64,
}

impl SteadyTime {
    /// The tolerated lead of the clock in microseconds, because NTP adjusts small errors by a
    /// faster clock.
    pub const SLACK_MICROS: i64 = 60_000_000;

    /// Starts with the current time of the clock.
    pub fn new(clock: Clock) -> Self {
        let steady = Self { clock, since: Stopwatch::start(), ahead: AtomicI64::new(i64::MAX) };
        steady.now();
        steady
    }

    /// The current time, limited by the time that has passed.
    pub fn now(&self) -> Timestamp {
        let running = match &self.clock.0 {
            TimeSource::System => micros(self.since.elapsed()),
            TimeSource::Manual(manual) => manual.running.load(Ordering::SeqCst),
        };
        let shown = self.clock.now().as_microsecond();
        let ahead = shown - running;
        let least = self.ahead.fetch_min(ahead, Ordering::AcqRel).min(ahead);
        from_microsecond(shown.min(least + running + Self::SLACK_MICROS))
    }
}

fn micros(span: Duration) -> i64 {
    i64::try_from(span.as_micros()).unwrap_or(i64::MAX)
}

/// Measures elapsed time with the monotonic clock. Tests cannot control it.
#[derive(Clone, Copy, Debug)]
pub struct Stopwatch(Instant);

impl Stopwatch {
    /// Starts the measurement.
    #[expect(clippy::disallowed_methods, reason = "the only reader of the monotonic clock")]
    pub fn start() -> Self {
        Self(Instant::now())
    }

    /// The time since the start.
    pub fn elapsed(self) -> Duration {
        self.0.elapsed()
    }
}

/// A timestamp from microseconds since the epoch, clamped to jiff's range.
pub fn from_microsecond(micros: i64) -> Timestamp {
    Timestamp::from_microsecond(micros).unwrap_or(if micros < 0 {
        Timestamp::MIN
    } else {
        Timestamp::MAX
    })
}

/// `moment + by`, clamped to jiff's range.
pub fn later(moment: Timestamp, by: Duration) -> Timestamp {
    moment.saturating_add(by).unwrap_or(Timestamp::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn steady_time_follows_passing_time_but_not_a_clock_set_ahead() {
        const HOUR: Duration = Duration::from_hours(1);
        const SLACK: Duration = Duration::from_mins(1);
        let start = Timestamp::from_second(1_000_000).unwrap();
        let clock = Clock::manual(start);
        let steady = SteadyTime::new(clock.clone());
        assert_eq!(steady.now(), start);
        clock.advance(HOUR);
        assert_eq!(steady.now(), later(start, HOUR));
        clock.set_ahead(HOUR * 3);
        assert_eq!(steady.now(), later(start, HOUR + SLACK));
        clock.advance(HOUR);
        assert_eq!(steady.now(), later(start, HOUR * 2 + SLACK));
        clock.set_back(HOUR * 3);
        assert_eq!(steady.now(), later(start, HOUR * 2));
        clock.set_back(HOUR);
        assert_eq!(steady.now(), later(start, HOUR));
        // The clock was ahead at the start and is right now. Setting it ahead again has no effect.
        clock.set_ahead(HOUR);
        assert_eq!(steady.now(), later(start, HOUR + SLACK));
    }
}
