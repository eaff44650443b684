//! Injected time. This is the only module that reads the system's time; all others get a [`Clock`],
//! so that tests can control time.

use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::{Duration, Instant};

use jiff::Timestamp;
use tokio::sync::Notify;

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
    /// The time that was advanced. Setting the clock does not change it.
    running: AtomicI64,
    /// Wakes those who sleep.
    advanced: Notify,
}

impl Clock {
    /// The system's clock.
    pub fn system() -> Self {
        Self(TimeSource::System)
    }

    /// A clock that stays at `start` until [`Clock::advance`] is called.
    pub fn manual(start: Timestamp) -> Self {
        let time = AtomicI64::new(start.as_microsecond());
        let running = AtomicI64::new(0);
        Self(TimeSource::Manual(Arc::new(Manual { time, running, advanced: Notify::new() })))
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

    /// The time that passes from now on, by the monotonic clock.
    pub fn uptime(&self) -> Uptime {
        let manual = match &self.0 {
            TimeSource::System => None,
            TimeSource::Manual(manual) => Some(Arc::clone(manual)),
        };
        let skipped = manual.as_ref().map_or(0, |manual| manual.running());
        Uptime { stopwatch: Stopwatch::start(), manual, skipped }
    }

    /// Waits until this time has passed, or a manual clock was advanced by it.
    pub async fn sleep(&self, span: Duration) {
        let slept = tokio::time::sleep(span);
        match &self.0 {
            TimeSource::System => slept.await,
            TimeSource::Manual(manual) => {
                let end = manual.running().saturating_add(micros(span));
                tokio::select! {
                    () = slept => {}
                    () = manual.reaches(end) => {}
                }
            }
        }
    }

    /// Advances a manual clock. Has no effect on the system's clock.
    pub fn advance(&self, by: Duration) {
        if let TimeSource::Manual(manual) = &self.0 {
            manual.time.fetch_add(micros(by), Ordering::SeqCst);
            manual.running.fetch_add(micros(by), Ordering::SeqCst);
            manual.advanced.notify_waiters();
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

impl Manual {
    fn running(&self) -> i64 {
        self.running.load(Ordering::SeqCst)
    }

    /// Waits until this much time was advanced.
    async fn reaches(&self, end: i64) {
        loop {
            // Registered before the look, so that no advance is missed.
            let mut advanced = pin!(self.advanced.notified());
            advanced.as_mut().enable();
            if self.running() >= end {
                return;
            }
            advanced.await;
        }
    }
}

/// The time since it was made, by the monotonic clock: setting the clock does not change it. With a
/// manual clock, the time that a test advances is added, so that ages can be tested without waiting.
#[derive(Debug)]
pub struct Uptime {
    stopwatch: Stopwatch,
    manual: Option<Arc<Manual>>,
    /// How far the manual clock had been advanced before.
    skipped: i64,
}

impl Uptime {
    /// The time since the start.
    pub fn elapsed(&self) -> Duration {
        let advanced = self.manual.as_ref().map_or(0, |manual| manual.running() - self.skipped);
        let advanced = Duration::from_micros(u64::try_from(advanced).unwrap_or_default());
        self.stopwatch.elapsed() + advanced
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
            TimeSource::Manual(manual) => manual.running(),
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

/// Measures how long something takes. Tests cannot control it: what is decided by an age uses
/// [`Uptime`].
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

    #[tokio::test]
    async fn uptime_and_sleep_follow_advanced_time_but_not_a_clock_that_is_set() {
        const HOUR: Duration = Duration::from_hours(1);
        let clock = Clock::manual(Timestamp::UNIX_EPOCH);
        clock.advance(HOUR);
        let uptime = clock.uptime();
        clock.set_ahead(HOUR);
        assert!(uptime.elapsed() < HOUR, "what passed before does not count");
        let asleep = clock.clone();
        let slept = tokio::spawn(async move { asleep.sleep(HOUR).await });
        tokio::task::yield_now().await;
        clock.set_ahead(HOUR);
        clock.advance(HOUR / 2);
        tokio::task::yield_now().await;
        assert!(!slept.is_finished());
        clock.advance(HOUR / 2);
        slept.await.unwrap();
        assert!(uptime.elapsed() >= HOUR);
    }

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
