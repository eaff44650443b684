//! Limits: their text, and which limits imply which.

use keyward::internals::domain::{Limits, PageRequest, Rate};
use proptest::collection::vec;
use proptest::option;
use proptest::prelude::*;

use super::cases;

fn rate(max: i64, window: i64) -> impl Strategy<Value = Rate> {
    (1..=max, 1..=window).prop_map(|(max, window_seconds)| Rate { max, window_seconds })
}

fn limits(max: i64, window: i64) -> impl Strategy<Value = Limits> {
    let rates = (option::of(rate(max, window)), option::of(rate(max, window)));
    (rates, option::of(1..=max), any::<bool>()).prop_map(
        |((requests, tokens), items_per_request, observe_only)| Limits {
            requests,
            tokens,
            items_per_request,
            observe_only,
        },
    )
}

/// Whether requests at these seconds, in order, keep to a rate in every window.
fn keeps_to(rate: Rate, at: &[i64]) -> bool {
    at.iter().enumerate().all(|(first, start)| {
        let inside = at[first..].iter().filter(|second| *second - start < rate.window_seconds);
        i64::try_from(inside.count()).unwrap() <= rate.max
    })
}

proptest! {
    #![proptest_config(cases(512))]

    #[test]
    fn limits_are_parsed_from_their_text(limits in limits(Limits::LARGEST, Rate::LONGEST_WINDOW)) {
        prop_assert_eq!(Limits::parse(&limits.to_string()), Ok(limits));
    }

    #[test]
    fn accepted_text_of_limits_has_one_spelling(
        text in "((requests|tokens|items)?=?[0-9]{0,3}/?[0-9]{0,3} ?|observe_only ?){0,3}",
    ) {
        if let Ok(limits) = Limits::parse(&text) {
            prop_assert_eq!(limits.to_string(), text);
        }
    }

    #[test]
    fn largest_rates_are_compared_without_overflow(
        one in rate(Limits::LARGEST, Rate::LONGEST_WINDOW),
        other in rate(Limits::LARGEST, Rate::LONGEST_WINDOW),
    ) {
        prop_assert!(one.is_within(one));
        prop_assert!(!(one.is_within(other) && one.max > other.max));
    }

    #[test]
    fn requests_within_a_rate_keep_to_every_rate_that_it_is_within(
        one in rate(4, 6), other in rate(12, 20), mut at in vec(0_i64..40, 0..16),
    ) {
        at.sort_unstable();
        // Drop what exceeds the first rate.
        let mut kept = Vec::new();
        for second in at {
            kept.push(second);
            if !keeps_to(one, &kept) {
                kept.pop();
            }
        }
        prop_assert!(!one.is_within(other) || keeps_to(other, &kept));
    }

    #[test]
    fn bounded_limits_are_within_every_bound(
        own in limits(5, 5), bounds in vec(limits(5, 5), 0..4),
    ) {
        let bounded = own.bounded_by(&bounds);
        prop_assert!(!bounded.is_empty());
        for bound in bounds.iter().filter(|bound| bound.is_enforced()) {
            let within = |of: fn(&Limits) -> Option<Rate>| {
                of(bound).is_none_or(|bound| {
                    bounded.iter().filter_map(of).any(|rate| rate.is_within(bound))
                })
            };
            prop_assert!(within(|limits| limits.requests) && within(|limits| limits.tokens));
            prop_assert!(bounded.iter().all(|limits| !limits.observe_only));
            if let Some(max) = bound.items_per_request {
                let items = bounded.iter().find_map(|limits| limits.items_per_request);
                prop_assert!(items.is_some_and(|items| items <= max));
            }
        }
    }

    #[test]
    fn pages_have_every_item_once(count in 0_usize..200, size in 1_i32..50) {
        let (mut seen, mut after) = (Vec::new(), None);
        loop {
            let request = PageRequest::new(size, after).unwrap();
            let start = request.after.as_ref().map_or(0, |last| last.parse::<usize>().unwrap() + 1);
            let read = (start..count).take(usize::try_from(request.limit()).unwrap());
            let page = request.page(read.collect(), ToString::to_string);
            prop_assert!(page.items.len() <= request.size());
            seen.extend(page.items.iter().copied());
            after = page.next;
            if after.is_none() {
                break;
            }
        }
        prop_assert_eq!(seen, (0..count).collect::<Vec<_>>());
    }
}
