//! How often a cache had what was looked up.

use prometheus_client::metrics::counter::Counter;

/// Counts the lookups of one cache. Clones share the counts.
#[derive(Clone, Debug, Default)]
pub struct CacheLookups {
    pub hits: Counter,
    pub misses: Counter,
}

impl CacheLookups {
    /// Counts a lookup, and returns whether it was a hit.
    pub(super) fn count(&self, is_hit: bool) -> bool {
        if is_hit {
            self.hits.inc();
        } else {
            self.misses.inc();
        }
        is_hit
    }
}
