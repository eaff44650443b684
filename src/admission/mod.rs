//! Admission at the edge: what one source, and all sources together, may hold at a time.
//!
//! Connections, first requests and the memory of requests under way have budgets, each for a
//! source and in all. A part of each is kept for known sources: those from which a caller
//! authenticated a short while ago. A flood of strangers takes nothing from them.
//!
//! Everything that is held is a guard that gives it back when it is dropped.

mod connections;
mod refusals;
mod requests;
mod sources;

use std::sync::Arc;

use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;

pub use connections::{ConnectionLimits, ConnectionPermit, Connections};
pub use refusals::{RefusedLabels, Throttled, What};
pub use requests::{Gate, RequestPermit};
pub use sources::SourceState;

use crate::domain::Source;
use refusals::Refusals;
use requests::Budget;
use sources::Sources;

/// The budgets of a server. Cheap to clone; clones share them.
#[derive(Clone, Debug)]
pub struct Admission(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    sources: Arc<Sources>,
    /// Memory of requests as they come, before it is known who calls.
    arriving: Budget,
    /// Memory of what authenticated callers send.
    callers: Budget,
    refusals: Arc<Refusals>,
}

impl Admission {
    /// Budgets for requests under way that take this many bytes in all: one half as they
    /// come, the other half for what authenticated callers send.
    pub fn new(request_memory: usize) -> Self {
        let half = request_memory / 2;
        Self(Arc::new(Inner {
            sources: Arc::default(),
            // An unknown source gets a quarter, a known one a half; a quarter of all is kept
            // for known ones.
            arriving: Budget {
                most: half,
                of_unknown: half - half / 4,
                of_one_unknown: half / 4,
                of_one_known: half / 2,
                taken: 0.into(),
            },
            callers: Budget {
                most: half,
                of_unknown: half,
                of_one_unknown: half / 2,
                of_one_known: half / 2,
                taken: 0.into(),
            },
            refusals: Arc::default(),
        }))
    }

    /// What is held by a source: looked up once for each connection.
    pub fn source(&self, source: Source) -> Arc<SourceState> {
        self.0.sources.state_of(source)
    }

    /// Places for the connections of a listener.
    pub fn connections(&self, limits: ConnectionLimits) -> Arc<Connections> {
        Connections::new(limits, Arc::clone(&self.0.refusals))
    }

    /// Notes that something was refused to a source, or ended.
    pub fn refuse(&self, what: What, source: Source) {
        self.0.refusals.note(what, source);
    }

    /// Counts what is refused.
    pub fn refused(&self) -> &Family<RefusedLabels, Counter> {
        self.0.refusals.counters()
    }
}
