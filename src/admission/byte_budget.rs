//! A budget of memory that sources share.

use std::sync::atomic::{AtomicUsize, Ordering};

/// A budget in bytes, and how much of it is used.
#[derive(Debug)]
pub(super) struct ByteBudget {
    pub(super) max: usize,
    pub(super) of_unknown: usize,
    pub(super) of_one_unknown: usize,
    pub(super) of_one_known: usize,
    pub(super) taken: AtomicUsize,
}

impl ByteBudget {
    /// Reserves bytes for a source, if the source's budget and the total allow it.
    pub(super) fn take(&self, of_source: &AtomicUsize, bytes: usize, is_known: bool) -> bool {
        let (all, one) = if is_known {
            (self.max, self.of_one_known)
        } else {
            (self.of_unknown, self.of_one_unknown)
        };
        if of_source.fetch_add(bytes, Ordering::Relaxed).saturating_add(bytes) > one {
            of_source.fetch_sub(bytes, Ordering::Relaxed);
            return false;
        }
        if self.taken.fetch_add(bytes, Ordering::Relaxed).saturating_add(bytes) > all {
            self.give_back(of_source, bytes);
            return false;
        }
        true
    }

    pub(super) fn give_back(&self, of_source: &AtomicUsize, bytes: usize) {
        of_source.fetch_sub(bytes, Ordering::Relaxed);
        self.taken.fetch_sub(bytes, Ordering::Relaxed);
    }
}
