//! Admission control: bounds on what one source, and all sources together, can hold at a time.
//!
//! Connections, first requests and the memory of requests in flight have budgets per source and in
//! total. A part of each budget is reserved for known sources, from which a caller authenticated
//! recently. So a flood from unknown sources does not affect them.
//!
//! All resources are guards that give back what they hold on drop.

mod byte_budget;
mod connections;
mod refusals;
mod requests;
mod sources;

use std::sync::Arc;

use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;

pub use connections::{ConnectionLimits, ConnectionPermit, Connections};
pub use refusals::{RefusalKind, RefusedLabels, ThrottledLog};
pub use requests::{RequestPermit, SourceGate};
pub use sources::SourceState;

use crate::domain::Source;
use byte_budget::ByteBudget;
use refusals::RefusalLog;
use sources::Sources;

/// The budgets of a server. Clones share them.
#[derive(Clone, Debug)]
pub struct Admission(Arc<AdmissionInner>);

#[derive(Debug)]
struct AdmissionInner {
    sources: Arc<Sources>,
    /// Memory of requests before the caller is authenticated.
    arriving: ByteBudget,
    /// Memory of requests from authenticated callers.
    callers: ByteBudget,
    refusals: Arc<RefusalLog>,
}

impl Admission {
    /// Budgets for requests in flight that take `request_memory` bytes in total: one half before
    /// authentication, the other half for authenticated callers.
    pub fn new(request_memory: usize) -> Self {
        let half = request_memory / 2;
        Self(Arc::new(AdmissionInner {
            sources: Arc::default(),
            // An unknown source gets a quarter, a known one a half. A quarter of the total is
            // reserved for known sources.
            arriving: ByteBudget {
                max: half,
                of_unknown: half - half / 4,
                of_one_unknown: half / 4,
                of_one_known: half / 2,
                taken: 0.into(),
            },
            callers: ByteBudget {
                max: half,
                of_unknown: half,
                of_one_unknown: half / 2,
                of_one_known: half / 2,
                taken: 0.into(),
            },
            refusals: Arc::default(),
        }))
    }

    /// The state of a source. Look it up once per connection.
    pub fn source(&self, source: Source) -> Arc<SourceState> {
        self.0.sources.state_of(source)
    }

    /// The connections of a listener.
    pub fn connections(&self, limits: ConnectionLimits) -> Arc<Connections> {
        Connections::new(limits, Arc::clone(&self.0.refusals))
    }

    /// Notes that something of a source was refused or closed.
    pub fn refuse(&self, what: RefusalKind, source: Source) {
        self.0.refusals.note(what, source);
    }

    /// The counters of refusals.
    pub fn refused(&self) -> &Family<RefusedLabels, Counter> {
        self.0.refusals.counters()
    }
}
