//! What is counted of documents of other hosts.

use prometheus_client::metrics::counter::Counter;

/// Counts. Clones share them.
#[derive(Clone, Debug, Default)]
pub struct OutboundMetrics {
    /// Documents that were fetched.
    pub fetched: Counter,
    /// The host could not be reached, or not in time.
    pub unreachable: Counter,
    /// The address may not be reached.
    pub address: Counter,
    /// The host answered, but not with a document that is accepted.
    pub answer: Counter,
    /// There was no place in the queue.
    pub busy: Counter,
    /// Keys of fetched sets that are not used.
    pub skipped_keys: Counter,
    /// Answers from a set that could not be refreshed in time.
    pub stale_answers: Counter,
}

impl OutboundMetrics {
    /// The counters of fetches, with the values of the label `result`.
    pub fn fetches(&self) -> [(&'static str, &Counter); 5] {
        [
            ("ok", &self.fetched),
            ("unreachable", &self.unreachable),
            ("address", &self.address),
            ("answer", &self.answer),
            ("busy", &self.busy),
        ]
    }
}
