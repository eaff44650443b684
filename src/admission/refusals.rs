//! Counts refusals, and logs them at a bounded rate.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use strum::IntoStaticStr;

use crate::clock::Stopwatch;
use crate::domain::Source;

/// The minimum interval between log lines of one kind, so that a flood does not fill the log.
const LOG_INTERVAL: Duration = Duration::from_secs(10);

/// What was refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, IntoStaticStr)]
#[strum(serialize_all = "snake_case", const_into_str)]
pub enum RefusalKind {
    /// A connection, because the listener was full.
    Connection,
    /// A connection without a request, which was closed for a newer one.
    SilentConnection,
    /// A request, because too many are in flight.
    Request,
    /// A part of a request, because the memory for requests is used up.
    RequestBytes,
    /// A connection that sent too many HTTP/2 control frames.
    ControlFrames,
}

/// The labels of the refusal counter.
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct RefusedLabels {
    what: &'static str,
}

#[derive(Debug, Default)]
pub(super) struct RefusalLog {
    counters: Family<RefusedLabels, Counter>,
    logged: Mutex<HashMap<RefusalKind, ThrottledLog>>,
}

impl RefusalLog {
    pub(super) fn counters(&self) -> &Family<RefusedLabels, Counter> {
        &self.counters
    }

    pub(super) fn note(&self, what: RefusalKind, source: Source) {
        let name = what.into_str();
        self.counters.get_or_create(&RefusedLabels { what: name }).inc();
        let mut logged = self.logged.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(times) = logged.entry(what).or_default().pass() {
            tracing::warn!(what = name, %source, times, "refused: an admission budget is used up");
        }
    }
}

/// A frequent event that is logged at a bounded rate.
#[derive(Debug, Default)]
pub struct ThrottledLog {
    last: Option<Stopwatch>,
    times: u64,
}

impl ThrottledLog {
    /// Notes the event. Returns the number of events since the last log line, if a line is due.
    pub fn pass(&mut self) -> Option<u64> {
        self.times += 1;
        if self.last.is_some_and(|last| last.elapsed() < LOG_INTERVAL) {
            return None;
        }
        self.last = Some(Stopwatch::start());
        Some(std::mem::take(&mut self.times))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn repeated_event_is_logged_once() {
        let mut throttled = ThrottledLog::default();
        let logged: Vec<_> = (0..1000).filter_map(|_| throttled.pass()).collect();
        assert_eq!(logged, [1]);
    }
}
