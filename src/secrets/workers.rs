//! Threads that only compute hashes, with the lowest scheduling priority: a flood of hashes uses
//! the CPU time that is left and does not delay other requests.
//!
//! A caller reserves a place in the queue ([`Slot`]), then waits for a turn ([`Turn`]), and then
//! gets a thread. Callers read the stored hash after they have a turn, so that a long queue does
//! not load the database. There are a few more turns than threads, so that no thread waits for the
//! database.
//!
//! The hashing threads never hold the lock of the queue. The scheduler can suspend them for a long
//! time, and a suspended thread with the lock would block the threads that answer requests. A
//! thread with normal priority gives out the turns.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::{self, Thread};
use std::time::Duration;

use tokio::sync::oneshot;
use tokio::time::timeout;
use zeroize::Zeroize;

use super::lanes::{Lane, Lanes, Ticket};
use crate::error::{Error, Result};

type Job = Box<dyn FnOnce(&mut HashMemory) + Send>;

/// The memory of a hashing thread, reused between jobs. It has the size of the largest job.
pub(super) type HashMemory = Vec<argon2::Block>;

/// Turns per thread.
const TURNS_EACH: usize = 2;

/// How long an idle thread keeps its memory.
const IDLE: Duration = Duration::from_secs(2);

/// Threads that wait for jobs. They end when this is dropped.
#[derive(Debug)]
pub(super) struct Workers {
    shared: Arc<HashQueueState>,
    dispatcher: Thread,
}

/// The state that callers and the dispatcher share.
struct HashQueueState {
    lanes: Mutex<Lanes<oneshot::Sender<Turn>>>,
    jobs: Sender<Job>,
    /// Turns that ended since the dispatcher's last pass.
    ended: AtomicUsize,
    closed: AtomicBool,
}

/// A place in the queue, given back on drop. The scheduler can take it for a shorter lane.
#[derive(Debug)]
pub struct Slot {
    workers: Arc<Workers>,
    ticket: Ticket,
}

/// Why a job got no turn.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NoTurn {
    /// It waited for the maximum time.
    TimedOut,
    /// Its place was given to a shorter lane.
    Displaced,
}

/// Permission to compute a hash now. It ends on drop.
#[derive(Debug)]
pub struct Turn {
    shared: Arc<HashQueueState>,
    dispatcher: Thread,
}

impl Workers {
    /// `count` threads and a queue for `queue` jobs.
    pub(super) fn new(count: usize, queue: usize) -> Result<Self> {
        let (jobs, waiting) = channel();
        let waiting = Arc::new(Mutex::new(waiting));
        for _ in 0..count {
            let waiting = Arc::clone(&waiting);
            spawn("keyward-hash", move || work(&waiting))?;
        }
        let shared = Arc::new(HashQueueState {
            lanes: Mutex::new(Lanes::new(TURNS_EACH * count, queue)),
            jobs,
            ended: AtomicUsize::new(0),
            closed: AtomicBool::new(false),
        });
        let dispatcher_state = Arc::clone(&shared);
        let dispatcher = spawn("keyward-turns", move || dispatcher_state.give_turns())?;
        Ok(Self { shared, dispatcher })
    }

    /// Reserves a place for a lane, if it gets one.
    pub(super) fn reserve(self: &Arc<Self>, lane: Lane) -> Option<Slot> {
        let ticket = self.shared.lanes().reserve(lane)?;
        Some(Slot { workers: Arc::clone(self), ticket })
    }

    /// The number of jobs that have a place and do not run yet.
    pub(super) fn waiting(&self) -> usize {
        self.shared.lanes().waiting()
    }
}

impl Drop for Workers {
    fn drop(&mut self) {
        self.shared.closed.store(true, Ordering::Release);
        self.dispatcher.unpark();
    }
}

impl HashQueueState {
    fn lanes(&self) -> MutexGuard<'_, Lanes<oneshot::Sender<Turn>>> {
        self.lanes.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Gives turns to waiting callers, until all callers are gone.
    fn give_turns(self: Arc<Self>) {
        while !self.closed.load(Ordering::Acquire) {
            let ended = self.ended.swap(0, Ordering::AcqRel);
            self.lanes().finished(ended);
            while let Some(waiting) = self.next() {
                let turn = Turn { shared: Arc::clone(&self), dispatcher: thread::current() };
                // If the caller has gone away, dropping the turn passes it on.
                drop(waiting.send(turn));
            }
            // Every new waiter and every ended turn unparks this thread. An unpark before `park`
            // makes it return immediately.
            thread::park();
        }
    }

    fn next(&self) -> Option<oneshot::Sender<Turn>> {
        self.lanes().next()
    }
}

impl std::fmt::Debug for HashQueueState {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Shared(…)")
    }
}

impl Slot {
    /// Waits for a turn.
    pub(super) async fn turn(self, longest_wait: Duration) -> Result<Turn, NoTurn> {
        let (waiting, mut turn) = oneshot::channel();
        if !self.lanes().enqueue(&self.ticket, waiting) {
            return Err(NoTurn::Displaced);
        }
        self.workers.dispatcher.unpark();
        match timeout(longest_wait, &mut turn).await {
            Ok(turn) => turn.map_err(|_| NoTurn::Displaced),
            Err(_) if self.lanes().leave(&self.ticket) => Err(NoTurn::TimedOut),
            Err(_) => turn.await.map_err(|_| NoTurn::Displaced),
        }
    }

    fn lanes(&self) -> MutexGuard<'_, Lanes<oneshot::Sender<Turn>>> {
        self.workers.shared.lanes()
    }
}

impl Drop for Slot {
    fn drop(&mut self) {
        self.lanes().leave(&self.ticket);
    }
}

impl Turn {
    /// Runs a job on a hashing thread. The turn lasts until the job ends, even if the caller goes
    /// away.
    pub(super) async fn run<T: Send + 'static>(
        self,
        job: impl FnOnce(&mut HashMemory) -> T + Send + 'static,
    ) -> Result<T> {
        let (answer, answered) = oneshot::channel();
        let jobs = self.shared.jobs.clone();
        let job = Box::new(move |memory: &mut HashMemory| {
            let _turn = self;
            // A job whose caller went away before it started is skipped.
            if !answer.is_closed() {
                drop(answer.send(job(memory)));
            }
        });
        jobs.send(job).map_err(|_| Error::internal("no hashing thread is running"))?;
        answered.await.map_err(|_| Error::internal("the hashing thread panicked"))
    }
}

impl Drop for Turn {
    fn drop(&mut self) {
        self.shared.ended.fetch_add(1, Ordering::AcqRel);
        self.dispatcher.unpark();
    }
}

fn spawn(name: &str, work: impl FnOnce() + Send + 'static) -> Result<Thread> {
    let thread = thread::Builder::new().name(name.to_owned()).spawn(work);
    thread.map(|handle| handle.thread().clone()).map_err(|error| Error::Internal(Box::new(error)))
}

fn work(waiting: &Mutex<Receiver<Job>>) {
    use_idle_priority();
    let mut memory = HashMemory::new();
    loop {
        let next = waiting.lock().unwrap_or_else(PoisonError::into_inner).recv_timeout(IDLE);
        match next {
            // A panic fails this job and does not end the thread.
            Ok(job) => drop(catch_unwind(AssertUnwindSafe(|| job(&mut memory)))),
            Err(RecvTimeoutError::Timeout) => {
                // The memory contains data derived from secrets.
                memory.zeroize();
                memory = HashMemory::new();
            }
            Err(RecvTimeoutError::Disconnected) => return,
        }
    }
}

/// Gives the current thread the lowest priority (`SCHED_IDLE` on Linux). A nice value would not
/// suffice: the thread could finish its time slice while others wait. On other systems all threads
/// stay equal.
pub fn use_idle_priority() {
    #[cfg(target_os = "linux")]
    {
        use thread_priority::{
            NormalThreadSchedulePolicy, ThreadPriority, ThreadSchedulePolicy,
            set_thread_priority_and_policy, thread_native_id,
        };
        let policy = ThreadSchedulePolicy::Normal(NormalThreadSchedulePolicy::Idle);
        let thread = thread_native_id();
        let done = set_thread_priority_and_policy(thread, ThreadPriority::Min, policy);
        if let Err(error) = done {
            tracing::debug!(?error, "hashing threads run with normal priority");
        }
    }
}

#[cfg(test)]
mod tests {
    use futures_util::poll;

    use super::*;

    const LONG: Duration = Duration::from_mins(1);

    fn workers(count: usize, queue: usize) -> Arc<Workers> {
        Arc::new(Workers::new(count, queue).unwrap())
    }

    fn reserve(workers: &Arc<Workers>) -> Slot {
        workers.reserve(Lane::Unknown).unwrap()
    }

    async fn turn(workers: &Arc<Workers>) -> Turn {
        reserve(workers).turn(LONG).await.unwrap()
    }

    #[tokio::test]
    async fn turns_end_with_their_job_and_without_one() {
        let workers = workers(1, 4);
        for number in 0..20 {
            assert_eq!(turn(&workers).await.run(move |_| number).await.unwrap(), number);
            drop(turn(&workers).await);
        }
    }

    #[tokio::test]
    async fn panicking_job_returns_an_error_and_its_thread_survives() {
        let workers = workers(1, 4);
        let fails: fn(&mut HashMemory) = |memory| assert!(!memory.is_empty(), "fails on purpose");
        for _ in 0..2 * TURNS_EACH {
            assert!(turn(&workers).await.run(fails).await.is_err());
        }
        assert_eq!(turn(&workers).await.run(|_| 1).await.unwrap(), 1);
    }

    #[tokio::test]
    async fn caller_that_waits_too_long_or_leaves_gets_no_turn() {
        let workers = workers(1, 3);
        let mut held = Vec::new();
        for _ in 0..TURNS_EACH {
            held.push(turn(&workers).await);
        }
        let late = reserve(&workers).turn(Duration::from_millis(1)).await;
        assert_eq!(late.unwrap_err(), NoTurn::TimedOut);
        let mut gone = Box::pin(reserve(&workers).turn(LONG));
        let mut next = Box::pin(reserve(&workers).turn(LONG));
        assert!(poll!(&mut gone).is_pending() && poll!(&mut next).is_pending());
        drop(gone);
        held.pop();
        assert!(next.await.is_ok());
    }

    #[tokio::test]
    async fn job_cancelled_before_it_starts_is_skipped() {
        let workers = workers(1, 3);
        let (go, gate) = channel::<()>();
        let mut first = Box::pin(turn(&workers).await.run(move |_| gate.recv().is_ok()));
        assert!(poll!(&mut first).is_pending());
        let ran = Arc::new(AtomicBool::new(false));
        let runs = Arc::clone(&ran);
        let job = move |_: &mut HashMemory| runs.store(true, Ordering::Release);
        let mut second = Box::pin(turn(&workers).await.run(job));
        assert!(poll!(&mut second).is_pending());
        drop(second);
        go.send(()).unwrap();
        assert!(first.await.unwrap());
        assert_eq!(turn(&workers).await.run(|_| 1).await.unwrap(), 1);
        assert!(!ran.load(Ordering::Acquire));
    }
}
