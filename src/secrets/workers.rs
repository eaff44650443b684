//! Threads that compute and do nothing else, behind everything that answers callers: a flood
//! of hashes takes the time that is left over, and keeps nobody waiting who needs none.

use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::Duration;

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

    /// Does a job on one of the threads, as soon as one is free.
    pub(super) async fn run<T: Send + 'static>(
        &self,
        job: impl FnOnce(&mut Memory) -> T + Send + 'static,
    ) -> Result<T> {
        let (answer, answered) = tokio::sync::oneshot::channel();
        let ended = |_| Error::internal("a hashing thread has ended");
        // Whoever asked may have gone away meanwhile.
        let job = Box::new(move |memory: &mut Memory| drop(answer.send(job(memory))));
        self.0.send(job).map_err(|_| Error::internal("no hashing thread is there"))?;
        answered.await.map_err(ended)
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

/// Lets all others go first, and at once: a thread that were only nice could finish its slice
/// while they wait. Where a system has no such place, all are equal.
fn step_back() {
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
