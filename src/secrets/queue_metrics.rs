//! The metrics of the hash queue.

use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::histogram::Histogram;

/// From a free thread to the default of `secrets.hash_wait`.
const WAITS: [f64; 10] = [0.001, 0.005, 0.025, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0];

/// What happens to jobs in the queue. Clones share the counts.
#[derive(Clone, Debug)]
pub struct HashQueueMetrics {
    /// How long jobs waited, in seconds, whether or not they got a turn.
    pub waited: Histogram,
    /// Jobs that found no place.
    pub full: Counter,
    /// Jobs that waited for the maximum time.
    pub timed_out: Counter,
    /// Jobs whose place was given to another source or caller.
    pub displaced: Counter,
}

impl Default for HashQueueMetrics {
    fn default() -> Self {
        Self {
            waited: Histogram::new(WAITS),
            full: Counter::default(),
            timed_out: Counter::default(),
            displaced: Counter::default(),
        }
    }
}
