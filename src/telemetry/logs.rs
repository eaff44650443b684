//! Bounds the log per callsite, because clients and failing dependencies can make one callsite
//! write a line for every packet or request. The number of suppressed lines is logged and counted.
//! Debug and trace lines are not bounded, because they are wanted completely.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

use prometheus_client::metrics::counter::Counter;
use tracing::callsite::Identifier;
use tracing::span::{Attributes, Id, Record};
use tracing::{Event, Level, Metadata};
use tracing_subscriber::Registry;
use tracing_subscriber::layer::{Context, Layer};

use crate::clock::Stopwatch;

/// How many lines a callsite of this crate may write at once.
const BURST: u64 = 20;
/// The same for other crates, whose repeated lines are of little use.
const OTHER_CRATES_BURST: u64 = 5;
/// A callsite gets one more line each time this interval has passed.
const REFILL: Duration = Duration::from_secs(10);
/// Refusals are already bounded per client and source.
const REFUSED: &str = "keyward::refused";
const BURST_OF_REFUSED: u64 = 200;
const REFILL_OF_REFUSED: Duration = Duration::from_secs(1);
/// The access log has one line per request, and needs a bound only against floods.
pub(super) const ACCESS: &str = "keyward::access";
const BURST_OF_ACCESS: u64 = 5000;
const REFILL_OF_ACCESS: Duration = Duration::from_millis(1);
/// Each migration has a line, and there are more of them than lines at once.
const MIGRATIONS: &str = "keyward::store::schema::progress";
const BURST_OF_MIGRATIONS: u64 = 500;
/// The interval of reports about suppressed lines.
const REPORT: Duration = Duration::from_mins(1);
/// The target of these reports, which is not bounded.
const REPORTS: &str = "keyward::log";

/// Bounds the lines of each callsite. Clones share the counts.
#[derive(Clone, Debug)]
pub(super) struct LineBudgets(Arc<LineBudgetsState>);

#[derive(Debug)]
struct LineBudgetsState {
    clock: Stopwatch,
    callsites: RwLock<HashMap<Identifier, Arc<Callsite>>>,
    suppressed_lines: Counter,
    /// Wakes the reporting thread.
    wake: SyncSender<()>,
}

#[derive(Debug)]
struct Callsite {
    metadata: &'static Metadata<'static>,
    budget: LineBudget,
    suppressed_lines: AtomicU64,
}

/// A token bucket as one number: when it will be full again, in nanoseconds.
#[derive(Debug)]
struct LineBudget {
    full_at: AtomicU64,
    burst: u64,
    refill: Duration,
}

impl LineBudget {
    fn new(burst: u64, refill: Duration) -> Self {
        Self { full_at: AtomicU64::new(0), burst, refill }
    }

    /// The budget of a callsite with this target.
    fn of(target: &str) -> Self {
        match target {
            REFUSED => Self::new(BURST_OF_REFUSED, REFILL_OF_REFUSED),
            MIGRATIONS => Self::new(BURST_OF_MIGRATIONS, REFILL),
            ACCESS => Self::new(BURST_OF_ACCESS, REFILL_OF_ACCESS),
            _ if target.starts_with("keyward") => Self::new(BURST, REFILL),
            _ => Self::new(OTHER_CRATES_BURST, REFILL),
        }
    }

    /// Takes one line from the budget, if there is one left at `now`.
    fn take(&self, now: Duration) -> bool {
        let (now, each) = (nanos(now), nanos(self.refill));
        let taken = self.full_at.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |full_at| {
            let next = full_at.max(now) + each;
            (next - now <= each * self.burst).then_some(next)
        });
        taken.is_ok()
    }
}

fn nanos(span: Duration) -> u64 {
    u64::try_from(span.as_nanos()).unwrap_or(u64::MAX / 2)
}

impl Callsite {
    fn new(metadata: &'static Metadata<'static>) -> Self {
        let budget = LineBudget::of(metadata.target());
        Self { metadata, budget, suppressed_lines: AtomicU64::new(0) }
    }
}

impl LineBudgets {
    /// The bounds, and a thread that reports suppressed lines.
    pub(super) fn start() -> std::io::Result<Self> {
        let (wake, woken) = sync_channel(1);
        let bounds = Self(Arc::new(LineBudgetsState {
            clock: Stopwatch::start(),
            callsites: RwLock::default(),
            suppressed_lines: Counter::default(),
            wake,
        }));
        let reporting = bounds.clone();
        // A separate thread, because writing a line while another one is written would confuse the
        // filters.
        std::thread::Builder::new()
            .name("keyward-log".to_owned())
            .spawn(move || reporting.run(&woken))?;
        Ok(bounds)
    }

    fn run(&self, woken: &Receiver<()>) {
        while woken.recv().is_ok() {
            std::thread::sleep(REPORT);
            self.report();
        }
    }

    /// Reports the number of suppressed lines since the last report.
    pub(super) fn report(&self) {
        let callsites: Vec<_> = self.callsites().values().cloned().collect();
        for callsite in callsites {
            let suppressed_lines = callsite.suppressed_lines.swap(0, Ordering::Relaxed);
            if suppressed_lines == 0 {
                continue;
            }
            let metadata = callsite.metadata;
            tracing::warn!(
                target: REPORTS,
                left_out = suppressed_lines,
                level = %metadata.level(),
                target = metadata.target(),
                line = metadata.line(),
                "similar lines were suppressed"
            );
        }
    }

    fn callsites(&self) -> std::sync::RwLockReadGuard<'_, HashMap<Identifier, Arc<Callsite>>> {
        self.0.callsites.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn callsite(&self, metadata: &'static Metadata<'static>) -> Arc<Callsite> {
        let id = metadata.callsite();
        if let Some(known) = self.callsites().get(&id) {
            return Arc::clone(known);
        }
        let mut callsites = self.0.callsites.write().unwrap_or_else(PoisonError::into_inner);
        Arc::clone(callsites.entry(id).or_insert_with(|| Arc::new(Callsite::new(metadata))))
    }

    fn admits(&self, metadata: &'static Metadata<'static>) -> bool {
        if *metadata.level() > Level::INFO || metadata.target() == REPORTS {
            return true;
        }
        let callsite = self.callsite(metadata);
        if callsite.budget.take(self.0.clock.elapsed()) {
            return true;
        }
        self.0.suppressed_lines.inc();
        if callsite.suppressed_lines.fetch_add(1, Ordering::Relaxed) == 0 {
            // If the channel is full, a report is due already.
            self.0.wake.try_send(()).ok();
        }
        false
    }
}

/// The layer that writes bounded lines.
///
/// A filter's `event_enabled` is intended for this. But if it refuses an event of a callsite with
/// `Interest::always`, the filters' state is not reset, and the next line is lost.
pub(super) struct BoundedLayer {
    write: Box<dyn Layer<Registry> + Send + Sync>,
    bounds: LineBudgets,
}

impl BoundedLayer {
    pub(super) fn new(write: Box<dyn Layer<Registry> + Send + Sync>, bounds: LineBudgets) -> Self {
        Self { write, bounds }
    }
}

impl Layer<Registry> for BoundedLayer {
    fn on_event(&self, event: &Event<'_>, context: Context<'_, Registry>) {
        if self.bounds.admits(event.metadata()) {
            self.write.on_event(event, context);
        }
    }

    fn on_new_span(&self, attributes: &Attributes<'_>, id: &Id, context: Context<'_, Registry>) {
        self.write.on_new_span(attributes, id, context);
    }

    fn on_record(&self, id: &Id, values: &Record<'_>, context: Context<'_, Registry>) {
        self.write.on_record(id, values, context);
    }

    fn on_enter(&self, id: &Id, context: Context<'_, Registry>) {
        self.write.on_enter(id, context);
    }

    fn on_exit(&self, id: &Id, context: Context<'_, Registry>) {
        self.write.on_exit(id, context);
    }

    fn on_close(&self, id: Id, context: Context<'_, Registry>) {
        self.write.on_close(id, context);
    }
}

/// The counter of suppressed lines, if the process has a log.
pub(super) fn suppressed_lines() -> Option<Counter> {
    tracing::dispatcher::get_default(|log| {
        let lines = log.downcast_ref::<BoundedLayer>();
        lines.map(|lines| lines.bounds.0.suppressed_lines.clone())
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn budget_admits_a_burst_and_then_one_line_each_time() {
        let budget = LineBudget::new(3, REFILL);
        let start = Duration::from_secs(1000);
        let admitted = |at: Duration| (0..100).filter(|_| budget.take(at)).count();
        assert_eq!(admitted(start), 3);
        assert_eq!(admitted(start + REFILL / 2), 0);
        assert_eq!(admitted(start + REFILL), 1);
        assert_eq!(admitted(start + 3 * REFILL), 2);
        assert_eq!(admitted(start + 100 * REFILL), 3, "no more than a burst is saved");
    }

    #[test]
    fn rare_lines_are_never_suppressed() {
        let budget = LineBudget::new(1, REFILL);
        assert!((0..1000).all(|n| budget.take(n * REFILL)));
    }
}
