//! A bound of the lines that failures can write to the log.

use std::sync::{Mutex, PoisonError};
use std::time::Duration;

const LINES: u64 = 10;
const PERIOD: Duration = Duration::from_mins(1);

/// At most ten lines a minute.
#[derive(Debug, Default)]
pub(super) struct LogBudget(Mutex<BudgetOfMinute>);

#[derive(Debug, Default)]
struct BudgetOfMinute {
    since: Duration,
    lines: u64,
    /// Failures without a line since the last line.
    suppressed: u64,
}

impl LogBudget {
    /// Takes a line. Returns the number of failures that had none since the last one, or `None` if
    /// there is no line left.
    pub(super) fn take(&self, now: Duration) -> Option<u64> {
        let mut budget = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if now.saturating_sub(budget.since) >= PERIOD {
            budget.since = now;
            budget.lines = 0;
        }
        if budget.lines == LINES {
            budget.suppressed += 1;
            return None;
        }
        budget.lines += 1;
        Some(std::mem::take(&mut budget.suppressed))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_bounded_and_what_has_none_is_counted() {
        let budget = LogBudget::default();
        let at = |seconds| budget.take(Duration::from_secs(seconds));
        for _ in 0..10 {
            assert_eq!(at(1), Some(0));
        }
        assert_eq!((at(2), at(59)), (None, None));
        assert_eq!((at(60), at(60)), (Some(2), Some(0)));
    }
}
