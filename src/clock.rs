//! Time, injected. This is the only file that asks the operating system what time
//! it is; everything else is handed a [`Clock`], so that tests can move time.

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::{Duration, Instant};

use jiff::Timestamp;

/// A source of the present moment. Cheap to clone; clones share their time.
#[derive(Clone, Debug)]
pub struct Clock(Source);

#[derive(Clone, Debug)]
enum Source {
    System,
    Manual(Arc<Manual>),
}

/// A clock that a test moves, in microseconds.
#[derive(Debug)]
struct Manual {
    /// What it shows.
    time: AtomicI64,
    /// How long it has been running, whatever it was set to.
    running: AtomicI64,
}

impl Clock {
    /// The clock of the machine.
    pub fn system() -> Self {
        Self(Source::System)
    }

    /// A clock that stands still at `start` until [`Clock::advance`] moves it.
    pub fn manual(start: Timestamp) -> Self {
        let time = AtomicI64::new(start.as_microsecond());
        Self(Source::Manual(Arc::new(Manual { time, running: AtomicI64::new(0) })))
    }

    /// The present moment, in whole microseconds: what the databases store.
    pub fn now(&self) -> Timestamp {
        match &self.0 {
            #[expect(clippy::disallowed_methods, reason = "the one place that reads the time")]
            Source::System => from_microsecond(Timestamp::now().as_microsecond()),
            Source::Manual(manual) => from_microsecond(manual.time.load(Ordering::SeqCst)),
        }
    }

    /// The present moment of a clock that a test moves: what has a clock of its own must be
    /// told it. `None` for the clock of the machine.
    pub fn simulated(&self) -> Option<Timestamp> {
        match &self.0 {
            Source::System => None,
            Source::Manual(_) => Some(self.now()),
        }
    }

    /// Lets time pass on a manual clock; the machine's clock cannot be moved.
    pub fn advance(&self, by: Duration) {
        if let Source::Manual(manual) = &self.0 {
            manual.time.fetch_add(micros(by), Ordering::SeqCst);
            manual.running.fetch_add(micros(by), Ordering::SeqCst);
        }
    }

    /// Sets a manual clock back, as happens to a machine's: no time passes.
    pub fn set_back(&self, by: Duration) {
        if let Source::Manual(manual) = &self.0 {
            manual.time.fetch_sub(micros(by), Ordering::SeqCst);
        }
    }

    /// Sets a manual clock ahead, as happens to a machine's: no time passes.
    pub fn set_ahead(&self, by: Duration) {
        if let Source::Manual(manual) = &self.0 {
            manual.time.fetch_add(micros(by), Ordering::SeqCst);
        }
    }
}

/// The time of a clock, as far as something may be forgotten for good by it. A clock that was
/// set ahead shows a later time than has passed: here it is at most a minute ahead of the time
/// that passed since this began, by the machine's monotonic clock. A clock that is behind is
/// taken as it is, which only keeps things for longer.
#[derive(Debug)]
pub struct SteadyTime {
    clock: Clock,
    since: Stopwatch,
    /// The least that the clock was ever ahead of the time that passed.
    ahead: AtomicI64,
}

impl SteadyTime {
    /// How much faster than time a clock may be, in microseconds: NTP corrects small errors so.
    pub const SLACK_MICROS: i64 = 60_000_000;

    /// Begins with what a clock shows now.
    pub fn new(clock: Clock) -> Self {
        let steady = Self { clock, since: Stopwatch::start(), ahead: AtomicI64::new(i64::MAX) };
        steady.now();
        steady
    }

    /// The present moment, not later than it can be.
    pub fn now(&self) -> Timestamp {
        let running = match &self.clock.0 {
            Source::System => micros(self.since.elapsed()),
            Source::Manual(manual) => manual.running.load(Ordering::SeqCst),
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

/// Measures how long the machine takes, which no test moves.
#[derive(Clone, Copy, Debug)]
pub struct Stopwatch(Instant);

impl Stopwatch {
    /// Begins to measure.
    #[expect(clippy::disallowed_methods, reason = "the one place that reads the time")]
    pub fn start() -> Self {
        Self(Instant::now())
    }

    /// How long it has been.
    pub fn elapsed(self) -> Duration {
        self.0.elapsed()
    }
}

/// A moment from microseconds since the epoch, held to the years that exist.
pub fn from_microsecond(micros: i64) -> Timestamp {
    Timestamp::from_microsecond(micros).unwrap_or(if micros < 0 {
        Timestamp::MIN
    } else {
        Timestamp::MAX
    })
}

/// `moment + by`, held to the years that exist.
pub fn later(moment: Timestamp, by: Duration) -> Timestamp {
    moment.saturating_add(by).unwrap_or(Timestamp::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn steady_time_follows_time_that_passes_and_no_clock_set_ahead() {
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
        // It was ahead when this began, and is right now: it can be set ahead no more.
        clock.set_ahead(HOUR);
        assert_eq!(steady.now(), later(start, HOUR + SLACK));
    }
}
