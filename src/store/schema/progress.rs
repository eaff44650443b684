//! What a migration or a wait for one is doing: for the log, and for readiness while a server
//! starts.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use crate::clock::Stopwatch;

/// How often a wait is logged that does not change.
const LOG_INTERVAL: Duration = Duration::from_secs(10);

/// The current step. Clones share it.
#[derive(Clone, Debug, Default)]
pub struct SchemaProgress(Arc<Mutex<CurrentStep>>);

#[derive(Debug, Default)]
struct CurrentStep {
    text: String,
    /// What was logged last, without the parts that change all the time, and when.
    logged: Option<(String, Stopwatch)>,
}

impl SchemaProgress {
    /// The current step, for people; empty if there is none.
    pub fn text(&self) -> String {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).text.clone()
    }

    /// A step that is logged.
    pub(super) fn step(&self, text: String) {
        tracing::info!("{text}");
        self.set(text);
    }

    /// A wait for something. It is logged when it begins, and then at intervals. `detail` changes
    /// all the time.
    pub(super) fn waiting(&self, what: &str, detail: &str) {
        let text = format!("{what}{detail}");
        let mut step = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let is_known = |(logged, since): &(String, Stopwatch)| {
            logged == what && since.elapsed() < LOG_INTERVAL
        };
        if !step.logged.as_ref().is_some_and(is_known) {
            step.logged = Some((what.to_owned(), Stopwatch::start()));
            tracing::info!("{text}");
        }
        step.text = text;
    }

    pub(super) fn set(&self, text: String) {
        let mut step = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        *step = CurrentStep { text, logged: None };
    }
}
