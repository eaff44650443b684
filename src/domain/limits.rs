//! Rate and size limits, with their text form for the database and one for people.

use std::fmt;

use super::fields::Fault;

/// Rate and size limits. `None` means unlimited.
///
/// Limits with `observe_only` are reported and not enforced, so they do not restrict other limits.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Limits {
    /// Requests that are checked with `CheckAccess`.
    pub requests: Option<Rate>,
    /// Access tokens that are issued.
    pub tokens: Option<Rate>,
    /// The maximum number of items in one request.
    pub items_per_request: Option<i64>,
    /// If true, a request that exceeds the limits is reported and not refused.
    pub observe_only: bool,
}

/// The counts of one window, as they are stored across a restart. Times are in microseconds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CountedWindow {
    /// The key of the window.
    pub name: String,
    /// The window's length.
    pub length: i64,
    /// The time of the latest count.
    pub newest: i64,
    /// From then on, all counts are outside the window.
    pub ends_at: i64,
    /// The non-empty parts of the window, oldest first: start and count.
    pub parts: Vec<(i64, i64)>,
}

/// A maximum count per window. It holds for every window of this length.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rate {
    /// The maximum count, at least 1.
    pub max: i64,
    /// The window's length in seconds: 1 to 86,400.
    pub window_seconds: i64,
}

impl Rate {
    /// The default window in seconds.
    pub const DEFAULT_WINDOW: i64 = 60;
    /// The maximum window in seconds: one day.
    pub const LONGEST_WINDOW: i64 = 86_400;

    /// Validates a window in seconds.
    pub fn window(seconds: i64) -> Result<i64, Fault> {
        if (1..=Self::LONGEST_WINDOW).contains(&seconds) {
            Ok(seconds)
        } else {
            Err(Fault::new("must be 1 s to 1 day, in whole seconds"))
        }
    }

    /// Whether every sequence of requests that satisfies this rate also satisfies `other`: the
    /// windows that are needed to cover one window of `other` together allow no more than `other`.
    pub fn is_within(self, other: Self) -> bool {
        let windows = (other.window_seconds + self.window_seconds - 1) / self.window_seconds;
        // No overflow: at most 10^12 in each of 86,400 windows.
        self.max * windows <= other.max
    }

    fn parse(text: &str) -> Result<Self, Fault> {
        let (max, window) = text.split_once('/').ok_or_else(unreadable)?;
        Ok(Self { max: number(max)?, window_seconds: Self::window(digits(window)?)? })
    }
}

impl Limits {
    /// The maximum value of a limit. Sums, and products with a window's length, are far from
    /// overflowing.
    pub const LARGEST: i64 = 1_000_000_000_000;

    /// Validates a limit. 0 means unlimited.
    pub fn number(value: i64) -> Result<Option<i64>, Fault> {
        match value {
            0 => Ok(None),
            1..=Self::LARGEST => Ok(Some(value)),
            _ => Err(Fault::new(format!("must be 0 (no limit) to {}", Self::LARGEST))),
        }
    }

    /// Whether nothing is limited.
    pub fn is_empty(&self) -> bool {
        self.requests.is_none() && self.tokens.is_none() && self.items_per_request.is_none()
    }

    /// Whether the limits are enforced and limit anything.
    pub fn is_enforced(&self) -> bool {
        !self.observe_only && !self.is_empty()
    }

    /// Whether these limits are enforced and at least as strict as `bound`.
    pub fn are_within(&self, bound: &Self) -> bool {
        if !bound.is_enforced() {
            return true;
        }
        let rate = |own: Option<Rate>, bound: Option<Rate>| {
            bound.is_none_or(|bound| own.is_some_and(|own| own.is_within(bound)))
        };
        !self.observe_only
            && rate(self.requests, bound.requests)
            && rate(self.tokens, bound.tokens)
            && bound
                .items_per_request
                .is_none_or(|bound| self.items_per_request.is_some_and(|own| own <= bound))
    }

    /// Fills missing limits from `others`, if `others` are enforced. Empty limits stay empty,
    /// because they explicitly mean "unlimited".
    #[must_use]
    pub fn completed_by(self, others: Option<Self>) -> Self {
        match others.filter(Self::is_enforced) {
            Some(others) if !self.is_empty() => Self {
                requests: self.requests.or(others.requests),
                tokens: self.tokens.or(others.tokens),
                items_per_request: self.items_per_request.or(others.items_per_request),
                ..self
            },
            _ => self,
        }
    }

    /// The limits that result if all of `bounds` apply in addition to these, with implied ones
    /// removed. The result has several elements if there are rates with different windows that do
    /// not imply each other.
    pub fn bounded_by(self, bounds: &[Self]) -> Vec<Self> {
        let bounds: Vec<_> = bounds.iter().copied().filter(Self::is_enforced).collect();
        if bounds.is_empty() {
            return vec![self];
        }
        // Limits that are only observed do not restrict enforced ones.
        let own = Some(self).filter(|own| !own.observe_only);
        let all: Vec<_> = own.into_iter().chain(bounds).collect();
        let requests = without_implied(all.iter().filter_map(|limits| limits.requests));
        let tokens = without_implied(all.iter().filter_map(|limits| limits.tokens));
        let items_per_request = all.iter().filter_map(|limits| limits.items_per_request).min();
        let count = requests.len().max(tokens.len()).max(1);
        let each = (0..count).map(|n| Self {
            requests: requests.get(n).copied(),
            tokens: tokens.get(n).copied(),
            items_per_request: items_per_request.filter(|_| n == 0),
            observe_only: false,
        });
        each.collect()
    }

    /// Parses the exact output of [`Display`](fmt::Display).
    pub fn parse(text: &str) -> Result<Self, Fault> {
        let mut limits = Self::default();
        for word in text.split(' ').filter(|word| !word.is_empty()) {
            match word.split_once('=') {
                Some(("requests", rate)) => limits.requests = Some(Rate::parse(rate)?),
                Some(("tokens", rate)) => limits.tokens = Some(Rate::parse(rate)?),
                Some(("items", max)) => limits.items_per_request = Some(number(max)?),
                None if word == "observe_only" => limits.observe_only = true,
                _ => return Err(unreadable()),
            }
        }
        // Refuses another order, a repeated word or a leading zero, which no version writes.
        if limits.to_string() == text { Ok(limits) } else { Err(unreadable()) }
    }

    /// A text for people: `40 requests in 60 s, 1000 items in a request`.
    pub fn in_words(&self) -> String {
        let rate = |rate: Option<Rate>, of: &str| {
            rate.map(|Rate { max, window_seconds }| format!("{max} {of} in {window_seconds} s"))
        };
        let items = self.items_per_request.map(|max| format!("{max} items in a request"));
        let limits = [rate(self.requests, "requests"), rate(self.tokens, "tokens"), items];
        let mut words: Vec<_> = limits.into_iter().flatten().collect();
        if words.is_empty() {
            words.push("no limits".to_owned());
        }
        if self.observe_only {
            words.push("observed only".to_owned());
        }
        words.join(", ")
    }
}

/// The database format: `requests=40/60 tokens=10/60 items=1000 observe_only`. An empty string
/// means unlimited, which differs from having no limits of one's own (NULL).
impl fmt::Display for Limits {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let rate = |of: &str, rate: Option<Rate>| {
            rate.map(|Rate { max, window_seconds }| format!("{of}={max}/{window_seconds}"))
        };
        let words = [
            rate("requests", self.requests),
            rate("tokens", self.tokens),
            self.items_per_request.map(|max| format!("items={max}")),
            self.observe_only.then(|| "observe_only".to_owned()),
        ];
        let words: Vec<_> = words.into_iter().flatten().collect();
        f.write_str(&words.join(" "))
    }
}

/// The rates without those that another one implies.
fn without_implied(rates: impl Iterator<Item = Rate>) -> Vec<Rate> {
    let mut kept: Vec<Rate> = Vec::new();
    for rate in rates {
        if !kept.iter().any(|other| other.is_within(rate)) {
            kept.retain(|other| !rate.is_within(*other));
            kept.push(rate);
        }
    }
    kept
}

fn number(text: &str) -> Result<i64, Fault> {
    Limits::number(digits(text)?)?.ok_or_else(unreadable)
}

fn digits(text: &str) -> Result<i64, Fault> {
    text.parse().map_err(|_| unreadable())
}

fn unreadable() -> Fault {
    Fault::new("must have the form requests=40/60 tokens=10/60 items=1000 observe_only")
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Every combination of absent, smallest, usual and largest values.
    fn all() -> impl Iterator<Item = Limits> {
        let numbers = [None, Some(1), Some(40), Some(Limits::LARGEST)];
        let windows = [1, Rate::DEFAULT_WINDOW, 86_399, Rate::LONGEST_WINDOW];
        let rates: Vec<_> = numbers
            .into_iter()
            .flat_map(|max| {
                windows.map(|window_seconds| max.map(|max| Rate { max, window_seconds }))
            })
            .collect();
        let tokens = rates.clone();
        rates.into_iter().flat_map(move |requests| {
            tokens.clone().into_iter().flat_map(move |tokens| {
                numbers.into_iter().flat_map(move |items_per_request| {
                    [false, true].map(|observe_only| Limits {
                        requests,
                        tokens,
                        items_per_request,
                        observe_only,
                    })
                })
            })
        })
    }

    #[test]
    fn limits_round_trip_through_text() {
        assert_eq!(all().count(), 16 * 16 * 4 * 2);
        for limits in all() {
            assert_eq!(Limits::parse(&limits.to_string()), Ok(limits), "{limits}");
        }
    }

    #[test]
    fn different_limits_have_different_texts() {
        let mut written: Vec<_> = all().map(|limits| limits.to_string()).collect();
        let mut texts: Vec<_> = all().map(|limits| limits.in_words()).collect();
        for forms in [&mut written, &mut texts] {
            forms.sort();
            forms.dedup();
            // Without a number, the four windows give the same text.
            assert_eq!(forms.len(), 13 * 13 * 4 * 2);
        }
    }

    #[test]
    fn malformed_limits_are_refused() {
        let max = format!("items={}", Limits::LARGEST + 1);
        for wrong in [
            " ",
            "requests",
            "requests=40",
            "requests=0/60",
            "requests=-1/60",
            "requests=+1/60",
            "requests=040/60",
            "requests=40/0",
            "requests=40/86401",
            "requests=40/60/60",
            "requests=40/60 requests=41/60",
            "items=1 requests=40/60",
            "items=1  observe_only",
            "items=x",
            "observe_only=true",
            "bytes=1",
            &max,
        ] {
            assert!(Limits::parse(wrong).is_err(), "{wrong}");
        }
    }

    /// The maximum count that a rate admits in a window of `seconds`.
    fn admitted(rate: Rate, seconds: i64) -> i64 {
        let windows = (0..seconds).step_by(usize::try_from(rate.window_seconds).unwrap()).count();
        i64::try_from(windows).unwrap() * rate.max
    }

    #[test]
    fn rate_is_within_another_if_its_bursts_are() {
        let rate = |max, window_seconds| Rate { max, window_seconds };
        let rates = [1, 2, 40, 41, 600, 2400].into_iter();
        let rates = rates.flat_map(|max| [1, 7, 60, 61, 3600].map(|window| rate(max, window)));
        let rates: Vec<_> = rates.collect();
        for own in &rates {
            for bound in &rates {
                let within = admitted(*own, bound.window_seconds) <= bound.max;
                assert_eq!(own.is_within(*bound), within, "{own:?} in {bound:?}");
            }
        }
        let largest = rate(Limits::LARGEST, 1);
        assert!(!largest.is_within(rate(Limits::LARGEST, Rate::LONGEST_WINDOW)));
    }

    #[test]
    fn bounded_limits_satisfy_every_bound_and_are_minimal() {
        let few: Vec<_> = all().filter(|limits| !limits.observe_only).step_by(7).collect();
        for own in &few {
            for bound in &few {
                let bounded = own.bounded_by(&[*bound]);
                let within = |bound: &Limits| bounded.iter().any(|one| one.are_within(bound));
                // Both must be satisfied, by one or by several of the limits, field by field.
                for limits in [own, bound] {
                    for part in [
                        Limits { requests: limits.requests, ..Limits::default() },
                        Limits { tokens: limits.tokens, ..Limits::default() },
                        Limits { items_per_request: limits.items_per_request, ..Limits::default() },
                    ] {
                        assert!(within(&part), "{own} by {bound}: {bounded:?}");
                    }
                }
                let given = [own.requests, bound.requests, own.tokens, bound.tokens];
                let rates = bounded.iter().flat_map(|one| [one.requests, one.tokens]);
                assert!(rates.flatten().all(|rate| given.contains(&Some(rate))));
            }
        }
        let parse = |text: &str| Limits::parse(text).unwrap();
        let observed = parse("requests=1/60 observe_only");
        assert_eq!(observed.bounded_by(&[]), [observed]);
        assert_eq!(observed.bounded_by(&[observed]), [observed], "it is not enforced");
        assert_eq!(observed.bounded_by(&[parse("items=5")]), [parse("items=5")]);
        let burst = parse("requests=2000/3600").bounded_by(&[parse("requests=40/60")]);
        assert_eq!(burst, [parse("requests=2000/3600"), parse("requests=40/60")]);
    }

    #[test]
    fn limits_have_a_text_for_people() {
        let texts = |text: &str| Limits::parse(text).unwrap().in_words();
        let all = "40 requests in 60 s, 10 tokens in 5 s, 1000 items in a request, observed only";
        assert_eq!(texts("requests=40/60 tokens=10/5 items=1000 observe_only"), all);
        assert_eq!(texts(""), "no limits");
        assert_eq!(texts("observe_only"), "no limits, observed only");
    }
}
