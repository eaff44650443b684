//! Threads that compute and do nothing else, behind everything that answers callers: a flood
//! of hashes takes the time that is left over, and delays no one who needs none.
//!
//! A caller has a place in the queue ([`Slot`]), then a turn ([`Turn`]), and a thread with it.
//! What has to be read for a hash is read when it has its turn: there are a few more turns than
//! threads, so that none waits for a database, and a long queue costs the database nothing.
//!
//! The threads that compute never hold the lock over the places: they run only when no other
//! thread wants to, and one that was set aside with the lock in hand would stop those who answer
//! callers. A thread with the usual priority gives out the turns.

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

type Job = Box<dyn FnOnce(&mut Memory) + Send>;

/// What a thread computes in: as much as its largest job asked for, from one job to the next.
pub(super) type Memory = Vec<argon2::Block>;

/// How many turns there are for each thread.
const TURNS_EACH: usize = 2;

/// When a thread that has nothing to do gives its memory back.
const IDLE: Duration = Duration::from_secs(2);

/// Threads that wait for jobs. They end when this is dropped.
#[derive(Debug)]
pub(super) struct Workers {
    desk: Arc<Desk>,
    dispatcher: Thread,
}

/// What callers and the dispatcher share.
struct Desk {
    lanes: Mutex<Lanes<oneshot::Sender<Turn>>>,
    jobs: Sender<Job>,
    /// Turns that ended since the dispatcher last looked.
    ended: AtomicUsize,
    closed: AtomicBool,
}

/// A place in the queue. It is given back when this is dropped. Another who has fewer may get it
/// when none is free.
#[derive(Debug)]
pub struct Slot {
    workers: Arc<Workers>,
    ticket: Ticket,
}

/// The right to a hash now. It ends when this is dropped.
#[derive(Debug)]
pub struct Turn {
    desk: Arc<Desk>,
    dispatcher: Thread,
}

impl Workers {
    /// So many threads, and a queue of so many.
    pub(super) fn new(count: usize, queue: usize) -> Result<Self> {
        let (jobs, waiting) = channel();
        let waiting = Arc::new(Mutex::new(waiting));
        for _ in 0..count {
            let waiting = Arc::clone(&waiting);
            spawn("keyward-hash", move || work(&waiting))?;
        }
        let desk = Arc::new(Desk {
            lanes: Mutex::new(Lanes::new(TURNS_EACH * count, queue)),
            jobs,
            ended: AtomicUsize::new(0),
            closed: AtomicBool::new(false),
        });
        let gives_turns = Arc::clone(&desk);
        let dispatcher = spawn("keyward-turns", move || gives_turns.give_turns())?;
        Ok(Self { desk, dispatcher })
    }

    /// A place for a lane, if it gets one.
    pub(super) fn reserve(self: &Arc<Self>, lane: Lane) -> Option<Slot> {
        let ticket = self.desk.lanes().reserve(lane)?;
        Some(Slot { workers: Arc::clone(self), ticket })
    }
}

impl Drop for Workers {
    fn drop(&mut self) {
        self.desk.closed.store(true, Ordering::Release);
        self.dispatcher.unpark();
    }
}

impl Desk {
    fn lanes(&self) -> MutexGuard<'_, Lanes<oneshot::Sender<Turn>>> {
        self.lanes.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Gives turns to those who wait, as long as there are callers.
    fn give_turns(self: Arc<Self>) {
        while !self.closed.load(Ordering::Acquire) {
            let ended = self.ended.swap(0, Ordering::AcqRel);
            self.lanes().finished(ended);
            while let Some(waiting) = self.next() {
                let turn = Turn { desk: Arc::clone(&self), dispatcher: thread::current() };
                // One who has just gone away leaves the turn to the next.
                drop(waiting.send(turn));
            }
            // Each who begins to wait, and each turn that ends, wakes this thread, or keeps it
            // from sleeping.
            thread::park();
        }
    }

    fn next(&self) -> Option<oneshot::Sender<Turn>> {
        self.lanes().next()
    }
}

impl std::fmt::Debug for Desk {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Desk(…)")
    }
}

impl Slot {
    /// Waits for a turn: `None` if it does not come in time, or another got the place.
    pub(super) async fn turn(self, longest_wait: Duration) -> Option<Turn> {
        let (waiting, mut turn) = oneshot::channel();
        if !self.lanes().enqueue(&self.ticket, waiting) {
            return None;
        }
        self.workers.dispatcher.unpark();
        match timeout(longest_wait, &mut turn).await {
            Ok(turn) => turn.ok(),
            Err(_) if self.lanes().leave(&self.ticket) => None,
            Err(_) => turn.await.ok(),
        }
    }

    fn lanes(&self) -> MutexGuard<'_, Lanes<oneshot::Sender<Turn>>> {
        self.workers.desk.lanes()
    }
}

impl Drop for Slot {
    fn drop(&mut self) {
        self.lanes().leave(&self.ticket);
    }
}

impl Turn {
    /// Does a job on one of the threads. The turn lasts as long as the job, whether anyone
    /// waits for its answer or not.
    pub(super) async fn run<T: Send + 'static>(
        self,
        job: impl FnOnce(&mut Memory) -> T + Send + 'static,
    ) -> Result<T> {
        let (answer, answered) = oneshot::channel();
        let jobs = self.desk.jobs.clone();
        let job = Box::new(move |memory: &mut Memory| {
            let _turn = self;
            // What was given up before it began is not computed.
            if !answer.is_closed() {
                drop(answer.send(job(memory)));
            }
        });
        jobs.send(job).map_err(|_| Error::internal("no hashing thread is there"))?;
        answered.await.map_err(|_| Error::internal("a hash has failed"))
    }
}

impl Drop for Turn {
    fn drop(&mut self) {
        self.desk.ended.fetch_add(1, Ordering::AcqRel);
        self.dispatcher.unpark();
    }
}

fn spawn(name: &str, work: impl FnOnce() + Send + 'static) -> Result<Thread> {
    let thread = thread::Builder::new().name(name.to_owned()).spawn(work);
    thread.map(|handle| handle.thread().clone()).map_err(|error| Error::Internal(Box::new(error)))
}

fn work(waiting: &Mutex<Receiver<Job>>) {
    step_back();
    let mut memory = Memory::new();
    loop {
        let next = waiting.lock().unwrap_or_else(PoisonError::into_inner).recv_timeout(IDLE);
        match next {
            // One that fails is answered by that, and costs no thread.
            Ok(job) => drop(catch_unwind(AssertUnwindSafe(|| job(&mut memory)))),
            Err(RecvTimeoutError::Timeout) => {
                // What is left there was made from secrets.
                memory.zeroize();
                memory = Memory::new();
            }
            Err(RecvTimeoutError::Disconnected) => return,
        }
    }
}

/// Lets all others go before this thread, and at once: if it were only nice, it could finish its
/// slice while they wait. Where a system has no such place, all are equal.
pub fn step_back() {
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
            tracing::debug!(?error, "hashing threads run with the priority of all others");
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
    async fn job_that_panics_is_an_error_and_costs_no_thread() {
        let workers = workers(1, 4);
        let fails: fn(&mut Memory) = |memory| assert!(!memory.is_empty(), "on purpose");
        for _ in 0..2 * TURNS_EACH {
            assert!(turn(&workers).await.run(fails).await.is_err());
        }
        assert_eq!(turn(&workers).await.run(|_| 1).await.unwrap(), 1);
    }

    #[tokio::test]
    async fn one_who_waits_too_long_or_goes_away_gets_no_turn() {
        let workers = workers(1, 3);
        let mut held = Vec::new();
        for _ in 0..TURNS_EACH {
            held.push(turn(&workers).await);
        }
        assert!(reserve(&workers).turn(Duration::from_millis(1)).await.is_none());
        let mut gone = Box::pin(reserve(&workers).turn(LONG));
        let mut next = Box::pin(reserve(&workers).turn(LONG));
        assert!(poll!(&mut gone).is_pending() && poll!(&mut next).is_pending());
        drop(gone);
        held.pop();
        assert!(next.await.is_some());
    }

    #[tokio::test]
    async fn job_that_is_given_up_before_it_begins_is_not_done() {
        let workers = workers(1, 3);
        let (go, gate) = channel::<()>();
        let mut first = Box::pin(turn(&workers).await.run(move |_| gate.recv().is_ok()));
        assert!(poll!(&mut first).is_pending());
        let ran = Arc::new(AtomicBool::new(false));
        let runs = Arc::clone(&ran);
        let job = move |_: &mut Memory| runs.store(true, Ordering::Release);
        let mut second = Box::pin(turn(&workers).await.run(job));
        assert!(poll!(&mut second).is_pending());
        drop(second);
        go.send(()).unwrap();
        assert!(first.await.unwrap());
        assert_eq!(turn(&workers).await.run(|_| 1).await.unwrap(), 1);
        assert!(!ran.load(Ordering::Acquire));
    }
}
