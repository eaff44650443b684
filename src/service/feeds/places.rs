//! Bounds what is held for long, as streams are: in all, and for each holder.

use std::collections::HashMap;
use std::fmt::{self, Debug};
use std::hash::Hash;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use crate::error::{Error, Result};

/// How long to wait before the next attempt, if there is no place.
const RETRY_AFTER: Duration = Duration::from_secs(5);

/// Places, and their holders.
#[derive(Debug)]
pub(super) struct StreamPlaces<H> {
    max: usize,
    max_each: usize,
    taken: Mutex<Taken<H>>,
}

#[derive(Debug)]
struct Taken<H> {
    all: usize,
    by_holder: HashMap<H, usize>,
}

/// A place, until this is dropped.
pub(super) struct Permit(#[expect(dead_code, reason = "held")] Box<dyn Send + Sync>);

struct Held<H: Eq + Hash> {
    places: Arc<StreamPlaces<H>>,
    holder: H,
}

impl<H: Clone + Debug + Eq + Hash + Send + Sync + 'static> StreamPlaces<H> {
    pub(super) fn new(max: usize, max_each: usize) -> Self {
        let taken = Mutex::new(Taken { all: 0, by_holder: HashMap::new() });
        Self { max, max_each, taken }
    }

    /// Takes a place for a holder. `what` names the places of one holder in the error.
    pub(super) fn take(self: &Arc<Self>, holder: H, what: &'static str) -> Result<Permit> {
        let overloaded = |what| Error::Overloaded { what, retry_after: RETRY_AFTER };
        let mut taken = self.taken_places();
        let held = taken.by_holder.get(&holder).copied().unwrap_or_default();
        if held >= self.max_each {
            return Err(overloaded(what));
        }
        if taken.all >= self.max {
            return Err(overloaded("streams"));
        }
        taken.all += 1;
        taken.by_holder.insert(holder.clone(), held + 1);
        Ok(Permit(Box::new(Held { places: Arc::clone(self), holder })))
    }

    /// How many places are taken.
    pub(super) fn taken(&self) -> usize {
        self.taken_places().all
    }
}

impl<H> StreamPlaces<H> {
    fn taken_places(&self) -> MutexGuard<'_, Taken<H>> {
        self.taken.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<H: Eq + Hash> Drop for Held<H> {
    fn drop(&mut self) {
        let mut taken = self.places.taken_places();
        taken.all -= 1;
        if let Some(held) = taken.by_holder.get_mut(&self.holder) {
            *held -= 1;
            if *held == 0 {
                taken.by_holder.remove(&self.holder);
            }
        }
    }
}

impl Debug for Permit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Permit")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_are_bounded_for_each_holder_and_in_all() {
        let places = Arc::new(StreamPlaces::new(5, 2));
        let take = |holder| places.take(holder, "streams of this one");
        let mut held = Vec::new();
        for (holder, succeeds) in [
            ("a", true),
            ("a", true),
            ("a", false),
            ("b", true),
            ("c", true),
            ("c", true),
            ("b", false),
        ] {
            let taken = take(holder);
            assert_eq!(taken.is_ok(), succeeds, "{holder}");
            held.extend(taken.ok());
        }
        let refused = take("a").unwrap_err().to_string();
        assert!(refused.contains("of this one"), "{refused}");
        drop(held.remove(0));
        assert_eq!(places.taken(), 4);
        assert!(take("a").is_ok(), "given back at once: {}", places.taken());
        held.clear();
        assert_eq!(places.taken(), 0);
        assert!(places.taken_places().by_holder.is_empty(), "holders are forgotten");
    }
}
