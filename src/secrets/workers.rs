//! Threads that compute and do nothing else, behind everything that answers callers: a flood
//! of hashes takes the time that is left over, and keeps nobody waiting who needs none.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::Duration;

use tokio::sync::oneshot;
use tokio::time::timeout;
use zeroize::Zeroize;

use crate::error::{Error, Result};

type Job = Box<dyn FnOnce(&mut Memory) + Send>;

/// What a thread computes in: as much as its largest job asked for, from one job to the next.
pub(super) type Memory = Vec<argon2::Block>;

/// When a thread that has nothing to do gives its memory back.
const IDLE: Duration = Duration::from_secs(2);

/// Threads that wait for jobs. They end when this is dropped.
#[derive(Debug)]
pub(super) struct Workers(Sender<Job>);

impl Workers {
    /// So many threads.
    pub(super) fn new(count: usize) -> Result<Self> {
        let (jobs, waiting) = channel();
        let waiting = Arc::new(Mutex::new(waiting));
        for _ in 0..count {
            let waiting = Arc::clone(&waiting);
            thread::Builder::new()
                .name("keyward-hash".to_owned())
                .spawn(move || work(&waiting))
                .map_err(|error| Error::Internal(Box::new(error)))?;
        }
        Ok(Self(jobs))
    }

    /// Does a job on one of the threads, in the order of asking: what it says, or `None` if it
    /// did not begin in time.
    pub(super) async fn run<T: Send + 'static>(
        &self,
        longest_wait: Duration,
        job: impl FnOnce(&mut Memory) -> T + Send + 'static,
    ) -> Result<Option<T>> {
        let (answer, mut answered) = oneshot::channel();
        let begun = Arc::new(AtomicBool::new(false));
        let begins = Arc::clone(&begun);
        let job = Box::new(move |memory: &mut Memory| {
            // Nobody waits for it any more: the time is for those who do.
            if !answer.is_closed() {
                begins.store(true, Ordering::Relaxed);
                drop(answer.send(job(memory)));
            }
        });
        self.0.send(job).map_err(|_| Error::internal("no hashing thread is there"))?;
        let answered = match timeout(longest_wait, &mut answered).await {
            Ok(answered) => answered,
            Err(_) if begun.load(Ordering::Relaxed) => answered.await,
            Err(_) => return Ok(None),
        };
        answered.map(Some).map_err(|_| Error::internal("a hashing thread has ended"))
    }
}

fn work(waiting: &Mutex<Receiver<Job>>) {
    step_back();
    let mut memory = Memory::new();
    loop {
        let next = waiting.lock().unwrap_or_else(PoisonError::into_inner).recv_timeout(IDLE);
        match next {
            Ok(job) => job(&mut memory),
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
