//! Load: callers that call again as soon as they are answered, or at a fixed rate, and the
//! durations of the answers.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU8, Ordering};
use std::time::Duration;

use keyward::internals::clock::Stopwatch;
use tokio::task::JoinSet;
use tokio::time::{interval, sleep};

use crate::process::Process;

/// How callers are distributed over connections.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Shape {
    pub(crate) connections: usize,
    /// Calls in flight on each.
    pub(crate) in_flight: usize,
}

impl Shape {
    /// Many small callers.
    pub(crate) const MANY: Self = Self { connections: 64, in_flight: 2 };
    /// A few busy callers.
    pub(crate) const FEW: Self = Self { connections: 4, in_flight: 32 };

    pub(crate) fn callers(self) -> usize {
        self.connections * self.in_flight
    }

    pub(crate) fn title(self) -> String {
        format!("{} x {}", self.connections, self.in_flight)
    }
}

/// A caller. It panics if an answer is wrong.
pub(crate) trait Caller: Send + 'static {
    /// Makes one call. Returns false if nothing is left to call with.
    fn call(&mut self) -> impl Future<Output = bool> + Send;
}

/// The result of some seconds of load.
#[derive(Clone, Debug)]
pub(crate) struct Measured {
    pub(crate) calls: usize,
    pub(crate) elapsed: Duration,
    /// Processor time of the server.
    pub(crate) cpu: Duration,
    /// Bytes that the server wrote to disk.
    pub(crate) written: u64,
    pub(crate) latencies: Latencies,
    /// Callers that waited for an earlier answer all the time.
    waited: usize,
}

impl Measured {
    pub(crate) fn rate(&self) -> f64 {
        count(self.calls) / self.elapsed.as_secs_f64()
    }

    pub(crate) fn in_words(&self) -> String {
        let [p50, p99, max] = [50, 99, 100].map(|percent| self.latencies.percentile(percent));
        let waited = match self.waited {
            0 => String::new(),
            waited => format!(", {waited} callers LEFT WAITING"),
        };
        format!("p50 {p50:.2} ms, p99 {p99:.2} ms, max {max:.0} ms{waited}")
    }

    /// Bytes written to disk per call.
    #[expect(clippy::cast_precision_loss, reason = "no run writes 2^52 bytes here")]
    pub(crate) fn written_each(&self) -> f64 {
        self.written as f64 / count(self.calls)
    }

    /// Processor time of the server per call, in microseconds.
    pub(crate) fn cpu_each(&self) -> f64 {
        self.cpu.as_secs_f64() * 1e6 / count(self.calls)
    }
}

/// Durations of answers in microseconds, sorted.
#[derive(Clone, Debug)]
pub(crate) struct Latencies(Vec<u32>);

impl Latencies {
    pub(crate) fn new(mut each: Vec<u32>) -> Self {
        each.sort_unstable();
        Self(each)
    }

    /// A percentile, in milliseconds.
    pub(crate) fn percentile(&self, percent: usize) -> f64 {
        let last = self.0.len().checked_sub(1).expect("something was measured");
        f64::from(self.0[last * percent / 100]) / 1e3
    }

    pub(crate) fn len(&self) -> usize {
        self.0.len()
    }
}

const WARMING_UP: u8 = 0;
const MEASURED: u8 = 1;
const OVER: u8 = 2;

/// Lets all callers call without a pause: first unmeasured, then for `measured`, or until they have
/// nothing left to call with. Returns the callers.
pub(crate) async fn press<C: Caller>(
    callers: Vec<C>,
    server: &Process,
    warm_up: Duration,
    measured: Duration,
) -> (Vec<C>, Measured) {
    let phase = Arc::new(AtomicU8::new(WARMING_UP));
    let mut tasks = JoinSet::new();
    for caller in callers {
        tasks.spawn(call_on(caller, Arc::clone(&phase)));
    }
    sleep(warm_up).await;
    let (cpu, written, watch) = (server.cpu(), server.written(), Stopwatch::start());
    phase.store(MEASURED, Ordering::Relaxed);
    let mut done = Vec::new();
    let mut ended = |one: Option<Result<_, tokio::task::JoinError>>| match one {
        Some(Ok(one)) => done.push(one),
        Some(Err(error)) => std::panic::resume_unwind(error.into_panic()),
        None => {}
    };
    let time_is_up = sleep(measured);
    tokio::pin!(time_is_up);
    while !tasks.is_empty() {
        tokio::select! {
            () = &mut time_is_up => break,
            one = tasks.join_next() => ended(one),
        }
    }
    let (cpu, elapsed) = (server.cpu().saturating_sub(cpu), watch.elapsed());
    let written = server.written() - written;
    phase.store(OVER, Ordering::Relaxed);
    while !tasks.is_empty() {
        ended(tasks.join_next().await);
    }
    let (callers, latencies): (Vec<_>, Vec<_>) = done.into_iter().unzip();
    let waited = latencies.iter().filter(|latencies: &&Vec<u32>| latencies.is_empty()).count();
    let latencies = Latencies::new(latencies.concat());
    let calls = latencies.len();
    assert!(calls > 0, "nothing was answered");
    (callers, Measured { calls, elapsed, cpu, written, latencies, waited })
}

async fn call_on<C: Caller>(mut caller: C, phase: Arc<AtomicU8>) -> (C, Vec<u32>) {
    let mut latencies = Vec::new();
    loop {
        let begun_in = phase.load(Ordering::Relaxed);
        if begun_in == OVER {
            break;
        }
        let watch = Stopwatch::start();
        if !caller.call().await {
            break;
        }
        if begun_in == MEASURED {
            latencies.push(micros(watch.elapsed()));
        }
    }
    (caller, latencies)
}

/// Makes `rate` calls a second with all callers together until `other` is done. Returns the result.
/// A call that starts late because of a slow answer is measured from its scheduled time.
pub(crate) async fn pace<C: Caller, T>(
    callers: Vec<C>,
    rate: f64,
    until: impl Future<Output = T>,
) -> (Vec<C>, Latencies, T) {
    let period = Duration::from_secs_f64(count(callers.len()) / rate);
    let apart = period.div_f64(count(callers.len()));
    let over = Arc::new(AtomicBool::new(false));
    let mut tasks = JoinSet::new();
    for (n, caller) in callers.into_iter().enumerate() {
        let first = apart.mul_f64(count(n));
        tasks.spawn(call_at(caller, first, period, Arc::clone(&over)));
    }
    let came = until.await;
    over.store(true, Ordering::Relaxed);
    let (callers, latencies): (Vec<_>, Vec<_>) = tasks.join_all().await.into_iter().unzip();
    (callers, Latencies::new(latencies.concat()), came)
}

async fn call_at<C: Caller>(
    mut caller: C,
    first: Duration,
    period: Duration,
    over: Arc<AtomicBool>,
) -> (C, Vec<u32>) {
    sleep(first).await;
    let mut ticks = interval(period);
    let mut latencies = Vec::new();
    let mut late = false;
    loop {
        let due = ticks.tick().await;
        if over.load(Ordering::Relaxed) {
            break;
        }
        let watch = Stopwatch::start();
        if !caller.call().await {
            break;
        }
        // The resolution of the timer is not the server's.
        let took = if late { due.elapsed() } else { watch.elapsed() };
        late = took >= period;
        latencies.push(micros(took));
    }
    (caller, latencies)
}

fn micros(span: Duration) -> u32 {
    u32::try_from(span.as_micros()).unwrap_or(u32::MAX)
}

/// A count, for calculations.
#[expect(clippy::cast_precision_loss, reason = "nothing here is counted to 2^52")]
pub(crate) fn count(number: usize) -> f64 {
    number as f64
}
