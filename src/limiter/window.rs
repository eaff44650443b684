//! The arithmetic of a sliding window, without a clock or storage. `count.lua` implements the same
//! arithmetic with the same results.
//!
//! A window is divided into [`BUCKETS`]. A count stays until its whole bucket is older than the
//! window. So a count is never dropped too early, and no period of the window's length exceeds the
//! limit. It can stay too long by at most one bucket, 1.6 % of the window.

use std::time::Duration;

use crate::domain::CountedWindow;

/// The number of buckets in a window.
const BUCKETS: i64 = 64;
/// The largest count: Lua cannot represent larger integers exactly.
pub(super) const MAX_COUNT: i64 = (1 << 53) - 1;
/// The longest window, some 35 years. Added to the current time it stays below [`MAX_COUNT`].
const MAX_WINDOW: i64 = 1 << 50;

/// A maximum count per window.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct WindowRate {
    max: i64,
    /// In microseconds, like all times in this module.
    window: i64,
}

impl WindowRate {
    /// At most `max` in any `window`.
    pub fn new(max: u64, window: Duration) -> Self {
        let window = i64::try_from(window.as_micros()).unwrap_or(MAX_WINDOW);
        Self { max: counted(max), window: window.clamp(1, MAX_WINDOW) }
    }

    /// The maximum count.
    pub fn max(self) -> u64 {
        self.max.unsigned_abs()
    }

    /// The length of the window.
    pub fn window(self) -> Duration {
        duration(self.window)
    }

    /// The share of one of `of` processes that count independently. Each share has room for at
    /// least one request of `cost`, if the whole limit does.
    pub(super) fn share(self, of: usize, cost: i64) -> Self {
        let of = i64::try_from(of).unwrap_or(i64::MAX).max(1);
        let one = cost.max(1).min(self.max);
        Self { max: (self.max / of).max(one), window: self.window }
    }

    pub(super) fn max_count(self) -> i64 {
        self.max
    }

    pub(super) fn window_micros(self) -> i64 {
        self.window
    }

    /// The length of a bucket.
    pub(super) fn bucket(self) -> i64 {
        (self.window + BUCKETS - 1) / BUCKETS
    }

    fn bucket_at(self, time: i64) -> i64 {
        time.div_euclid(self.bucket())
    }

    /// When the counts of a bucket leave the window.
    fn restored_at(self, bucket: i64) -> i64 {
        (bucket + 1) * self.bucket() - 1 + self.window
    }
}

/// Converts a count; larger values are clamped to [`MAX_COUNT`].
pub(super) fn counted(number: u64) -> i64 {
    i64::try_from(number).map_or(MAX_COUNT, |number| number.min(MAX_COUNT))
}

pub(super) fn duration(micros: i64) -> Duration {
    Duration::from_micros(u64::try_from(micros).unwrap_or_default())
}

/// Recent counts. Reading does not change them, so if the clock is set back, counts that had left
/// the window are in it again.
#[derive(Clone, Debug, Default)]
pub(super) struct Window {
    /// The time of the newest count.
    newest: i64,
    sum: i64,
    /// The buckets with counts, oldest first: start and count.
    buckets: Vec<(i64, i64)>,
}

impl Window {
    /// Must be called before other methods. If the clock was set back by more than a window, the
    /// counts would otherwise stay until the clock catches up. They are moved, and stay for one
    /// more window.
    pub(super) fn adjust_to_clock(&mut self, now: i64, rate: WindowRate) {
        if now < self.newest - rate.window {
            self.newest = now;
            self.buckets = vec![(rate.bucket_at(now), self.sum)];
        }
    }

    /// The counts inside the window, and their sum.
    fn held(&self, now: i64, rate: WindowRate) -> (&[(i64, i64)], i64) {
        // A time before the newest count is treated as that time.
        let now = now.max(self.newest);
        let gone = self.buckets.partition_point(|&(bucket, _)| rate.restored_at(bucket) <= now);
        let (gone, held) = self.buckets.split_at(gone);
        (held, self.sum - gone.iter().map(|(_, count)| count).sum::<i64>())
    }

    /// The sum of the counts.
    pub(super) fn used(&self, now: i64, rate: WindowRate) -> i64 {
        self.held(now, rate).1
    }

    /// Whether `cost` fits now, if `pending` is also counted.
    pub(super) fn fits(&self, now: i64, rate: WindowRate, cost: i64, pending: i64) -> bool {
        cost == 0 || self.used(now, rate) + pending + cost <= rate.max
    }

    /// Counts `cost`, whether or not it fits.
    pub(super) fn count(&mut self, now: i64, rate: WindowRate, cost: i64) {
        let cost = cost.min(MAX_COUNT - self.used(now, rate));
        if cost == 0 {
            return;
        }
        self.drop_expired(now, rate);
        let bucket = rate.bucket_at(self.newest);
        match self.buckets.last_mut() {
            Some((last, count)) if *last == bucket => *count += cost,
            _ => self.buckets.push((bucket, cost)),
        }
        self.sum += cost;
    }

    /// How long until `cost` fits without other requests. `None`: never.
    pub(super) fn wait(&self, now: i64, rate: WindowRate, cost: i64) -> Option<i64> {
        if cost > rate.max {
            return None;
        }
        let (held, sum) = self.held(now, rate);
        let mut missing = sum + cost - rate.max;
        if missing <= 0 {
            return Some(0);
        }
        let last = held.iter().find(|(_, count)| {
            missing -= count;
            missing <= 0
        });
        last.map(|(bucket, _)| rate.restored_at(*bucket) - now)
    }

    /// How long until the first counts leave the window; 0 if there are none.
    pub(super) fn next_restored(&self, now: i64, rate: WindowRate) -> i64 {
        let (held, _) = self.held(now, rate);
        held.first().map_or(0, |(bucket, _)| rate.restored_at(*bucket) - now)
    }

    /// The counts in the form that is saved. `None` if there are none.
    pub(super) fn counted(&self, name: &str, rate: WindowRate) -> Option<CountedWindow> {
        let (last, _) = self.buckets.last()?;
        Some(CountedWindow {
            name: name.to_owned(),
            length: rate.window,
            newest: self.newest,
            ends_at: rate.restored_at(*last),
            parts: self.buckets.clone(),
        })
    }

    /// Restores a saved window.
    pub(super) fn restored(kept: CountedWindow) -> (Self, WindowRate) {
        let sum = kept.parts.iter().map(|(_, count)| count).sum();
        let rate = WindowRate { max: 0, window: kept.length.clamp(1, MAX_WINDOW) };
        (Self { newest: kept.newest, sum, buckets: kept.parts }, rate)
    }

    /// The time of the newest count.
    pub(super) fn newest(&self) -> i64 {
        self.newest
    }

    /// Drops counts that have left the window.
    fn drop_expired(&mut self, now: i64, rate: WindowRate) {
        let (held, sum) = self.held(now, rate);
        let gone = self.buckets.len() - held.len();
        self.buckets.drain(..gone);
        self.sum = sum;
        self.newest = self.newest.max(now);
    }
}

#[cfg(test)]
mod tests {
    use proptest::collection::vec;
    use proptest::prelude::*;

    use super::*;

    const MINUTE: i64 = 60_000_000;

    fn forty_per_minute() -> WindowRate {
        WindowRate::new(40, Duration::from_mins(1))
    }

    #[test]
    fn window_has_64_buckets() {
        for (micros, bucket) in [(64, 1), (65, 2), (1, 1), (1_000_000, 15_625)] {
            assert_eq!(WindowRate::new(1, Duration::from_micros(micros)).bucket(), bucket);
        }
    }

    #[test]
    fn count_stays_until_its_whole_bucket_is_older_than_the_window() {
        let rate = forty_per_minute();
        let mut window = Window::default();
        window.count(10, rate, 1);
        let restored = rate.bucket() - 1 + MINUTE;
        assert_eq!(window.next_restored(10, rate), restored - 10);
        assert_eq!(window.used(restored - 1, rate), 1);
        assert_eq!(window.used(restored, rate), 0);
    }

    #[test]
    fn wait_is_as_long_as_the_cost_needs() {
        let rate = forty_per_minute();
        let mut window = Window::default();
        window.count(0, rate, 10);
        window.count(2_000_000, rate, 30);
        assert_eq!(window.wait(2_000_000, rate, 0), Some(0));
        let first = rate.restored_at(0) - 2_000_000;
        assert_eq!(window.wait(2_000_000, rate, 10), Some(first));
        assert_eq!(window.wait(2_000_000, rate, 11), Some(first + 2 * rate.bucket()));
        assert_eq!(window.wait(2_000_000, rate, 41), None);
    }

    #[test]
    fn earlier_time_is_treated_as_the_newest() {
        let rate = forty_per_minute();
        let mut window = Window::default();
        window.count(30_000_000, rate, 1);
        window.count(10_000_000, rate, 1);
        assert_eq!(window.buckets, [(32, 2)]);
        let restored = rate.restored_at(32);
        // The wait is longer for a caller whose clock is behind.
        assert_eq!(window.next_restored(10_000_000, rate), restored - 10_000_000);
    }

    #[test]
    fn clock_set_far_back_extends_counts_by_one_window() {
        let rate = forty_per_minute();
        let mut window = Window::default();
        window.count(1000 * MINUTE, rate, 40);
        window.adjust_to_clock(MINUTE, rate);
        assert!(!window.fits(MINUTE, rate, 1, 0));
        assert_eq!(window.used(MINUTE + MINUTE, rate), 40);
        assert_eq!(window.used(MINUTE + MINUTE + rate.bucket(), rate), 0);
    }

    #[test]
    fn share_is_a_fraction_but_admits_what_the_limit_admits() {
        let share =
            |max, of, cost| WindowRate::new(max, Duration::from_secs(1)).share(of, cost).max();
        assert_eq!((share(40, 3, 1), share(2, 3, 1), share(0, 3, 1)), (13, 1, 0));
        assert_eq!((share(40, 3, 20), share(40, 3, 41), share(40, 0, 0)), (20, 40, 40));
    }

    #[test]
    fn largest_numbers_do_not_overflow() {
        let rate = WindowRate::new(u64::MAX, Duration::MAX);
        let mut window = Window::default();
        for _ in 0..3 {
            window.count(MINUTE, rate, MAX_COUNT);
        }
        assert_eq!(window.used(MINUTE, rate), MAX_COUNT);
        assert!(!window.fits(MINUTE, rate, MAX_COUNT, MAX_COUNT));
        assert!(window.wait(MINUTE, rate, 1).is_some_and(|wait| wait > 0));
    }

    /// The time to the next request, in thousandths of a window: bursts, a stream, or silence.
    fn gap() -> impl Strategy<Value = i64> {
        prop_oneof![4 => Just(0_i64), 4 => 0_i64..60, 1 => 0_i64..300, 1 => 900_i64..2200]
    }

    proptest! {
        #![proptest_config(ProptestConfig {
            failure_persistence: None,
            ..ProptestConfig::with_cases(512)
        })]

        #[test]
        fn no_window_exceeds_the_limit_and_no_count_stays_longer_than_a_bucket(
            max in 1_u64..20,
            micros in 1_u64..100_000,
            requests in vec((gap(), 1_i64..4), 1..120),
        ) {
            let rate = WindowRate::new(max, Duration::from_micros(micros));
            let (mut window, mut now) = (Window::default(), 1_000_000);
            let mut admitted: Vec<(i64, i64)> = Vec::new();
            for (gap, cost) in requests {
                now += gap * rate.window / 1000;
                let since = |start: i64| {
                    let inside = admitted.iter().filter(|(at, _)| *at > start);
                    inside.map(|(_, cost)| cost).sum::<i64>()
                };
                let (exact, longest) =
                    (since(now - rate.window), since(now - rate.window - rate.bucket()));
                if window.fits(now, rate, cost, 0) {
                    prop_assert!(exact + cost <= rate.max, "{exact} + {cost} in a window");
                    prop_assert_eq!(window.wait(now, rate, cost), Some(0));
                    window.count(now, rate, cost);
                    admitted.push((now, cost));
                } else {
                    prop_assert!(longest + cost > rate.max, "{longest} + {cost} are refused");
                    // A caller that waits that long is admitted, and no earlier.
                    if let Some(wait) = window.wait(now, rate, cost) {
                        prop_assert!(window.fits(now + wait, rate, cost, 0));
                        prop_assert!(!window.fits(now + wait - 1, rate, cost, 0));
                    } else {
                        prop_assert!(cost > rate.max);
                    }
                }
            }
        }
    }
}
