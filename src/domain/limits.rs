//! Limits: how much may be asked for. One form in which they are written and read again,
//! and one for people.

use std::fmt;

use super::fields::Fault;

/// How much may be asked for: what is absent is not limited.
///
/// Limits bound others: a policy bounds what applications have of their own. What only observes
/// refuses nothing, and so bounds nothing.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Limits {
    /// Requests that are checked.
    pub requests: Option<Rate>,
    /// Access tokens that are issued.
    pub tokens: Option<Rate>,
    /// Most items in one request.
    pub items_per_request: Option<i64>,
    /// Whether what goes beyond is told and not refused.
    pub observe_only: bool,
}

/// What was counted in a window, as it is kept over a restart. Times are microseconds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CountedWindow {
    /// Names the window.
    pub name: String,
    /// Its length.
    pub length: i64,
    /// When it was last counted in.
    pub newest: i64,
    /// When all of it is held no longer.
    pub ends_at: i64,
    /// The parts of the window that hold something, oldest first, and how much.
    pub parts: Vec<(i64, i64)>,
}

/// So many in any window of this length.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rate {
    /// Most in any window, at least one.
    pub most: i64,
    /// The length of the window: 1 s to 1 day.
    pub window_seconds: i64,
}

impl Rate {
    /// The window unless it is given.
    pub const DEFAULT_WINDOW: i64 = 60;
    /// The longest window: a day.
    pub const LONGEST_WINDOW: i64 = 86_400;

    /// Checks the length of a window in whole seconds.
    pub fn window(seconds: i64) -> Result<i64, Fault> {
        if (1..=Self::LONGEST_WINDOW).contains(&seconds) {
            Ok(seconds)
        } else {
            Err(Fault::new("must be 1 s to 1 day, in whole seconds"))
        }
    }

    /// Whether keeping this rate keeps the other one too: as many of these windows as one of the
    /// other touches hold no more than it allows.
    pub fn is_within(self, other: Self) -> bool {
        let windows = (other.window_seconds + self.window_seconds - 1) / self.window_seconds;
        // At most 10^12 in each of 86,400 windows.
        self.most * windows <= other.most
    }

    fn parse(text: &str) -> Result<Self, Fault> {
        let (most, window) = text.split_once('/').ok_or_else(unreadable)?;
        Ok(Self { most: number(most)?, window_seconds: Self::window(digits(window)?)? })
    }
}

impl Limits {
    /// The largest number that limits anything: sums and products of it with a window's
    /// length are far from overflowing.
    pub const LARGEST: i64 = 1_000_000_000_000;

    /// Checks a number that limits something: 0 is no limit.
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

    /// Whether anything is refused.
    pub fn binds(&self) -> bool {
        !self.observe_only && !self.is_empty()
    }

    /// Whether all that goes beyond `bound` goes beyond these, and is refused.
    pub fn are_within(&self, bound: &Self) -> bool {
        if !bound.binds() {
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

    /// These, and for what they leave open the others, if those refuse anything. Limits without
    /// any number stay so: they are meant to limit nothing.
    #[must_use]
    pub fn completed_by(self, others: Option<Self>) -> Self {
        match others.filter(Self::binds) {
            Some(others) if !self.is_empty() => Self {
                requests: self.requests.or(others.requests),
                tokens: self.tokens.or(others.tokens),
                items_per_request: self.items_per_request.or(others.items_per_request),
                ..self
            },
            _ => self,
        }
    }

    /// What holds where all of `bounds` hold beside these: as few limits as say the same. There
    /// is more than one where rates of different windows do not contain each other.
    pub fn bounded_by(self, bounds: &[Self]) -> Vec<Self> {
        let bounds: Vec<_> = bounds.iter().copied().filter(Self::binds).collect();
        if bounds.is_empty() {
            return vec![self];
        }
        // What only observes adds nothing to what refuses.
        let own = Some(self).filter(|own| !own.observe_only);
        let all: Vec<_> = own.into_iter().chain(bounds).collect();
        let requests = narrowest(all.iter().filter_map(|limits| limits.requests));
        let tokens = narrowest(all.iter().filter_map(|limits| limits.tokens));
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

    /// Reads what [`Display`](fmt::Display) writes, and nothing else.
    pub fn parse(text: &str) -> Result<Self, Fault> {
        let mut limits = Self::default();
        for word in text.split(' ').filter(|word| !word.is_empty()) {
            match word.split_once('=') {
                Some(("requests", rate)) => limits.requests = Some(Rate::parse(rate)?),
                Some(("tokens", rate)) => limits.tokens = Some(Rate::parse(rate)?),
                Some(("items", most)) => limits.items_per_request = Some(number(most)?),
                None if word == "observe_only" => limits.observe_only = true,
                _ => return Err(unreadable()),
            }
        }
        // No version writes another order, a word twice or a leading zero.
        if limits.to_string() == text { Ok(limits) } else { Err(unreadable()) }
    }

    /// For people: `40 requests in 60 s, 1000 items in a request`.
    pub fn in_words(&self) -> String {
        let rate = |rate: Option<Rate>, of: &str| {
            rate.map(|Rate { most, window_seconds }| format!("{most} {of} in {window_seconds} s"))
        };
        let items = self.items_per_request.map(|most| format!("{most} items in a request"));
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

/// As they are kept: `requests=40/60 tokens=10/60 items=1000 observe_only`. Empty is without
/// any limit, which is not the same as having no limits of one's own.
impl fmt::Display for Limits {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let rate = |of: &str, rate: Option<Rate>| {
            rate.map(|Rate { most, window_seconds }| format!("{of}={most}/{window_seconds}"))
        };
        let words = [
            rate("requests", self.requests),
            rate("tokens", self.tokens),
            self.items_per_request.map(|most| format!("items={most}")),
            self.observe_only.then(|| "observe_only".to_owned()),
        ];
        let words: Vec<_> = words.into_iter().flatten().collect();
        f.write_str(&words.join(" "))
    }
}

/// The rates that keep all of these: without those that another one implies.
fn narrowest(rates: impl Iterator<Item = Rate>) -> Vec<Rate> {
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
    Fault::new("must be like requests=40/60 tokens=10/60 items=1000 observe_only")
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Every combination of what is absent, least, usual and most.
    fn all() -> impl Iterator<Item = Limits> {
        let numbers = [None, Some(1), Some(40), Some(Limits::LARGEST)];
        let windows = [1, Rate::DEFAULT_WINDOW, 86_399, Rate::LONGEST_WINDOW];
        let rates: Vec<_> = numbers
            .into_iter()
            .flat_map(|most| {
                windows.map(|window_seconds| most.map(|most| Rate { most, window_seconds }))
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
    fn limits_are_read_as_they_are_written() {
        assert_eq!(all().count(), 16 * 16 * 4 * 2);
        for limits in all() {
            assert_eq!(Limits::parse(&limits.to_string()), Ok(limits), "{limits}");
        }
    }

    #[test]
    fn limits_that_differ_are_written_and_told_differently() {
        let mut written: Vec<_> = all().map(|limits| limits.to_string()).collect();
        let mut told: Vec<_> = all().map(|limits| limits.in_words()).collect();
        for forms in [&mut written, &mut told] {
            forms.sort();
            forms.dedup();
            // Where there is no number, the four windows are the same.
            assert_eq!(forms.len(), 13 * 13 * 4 * 2);
        }
    }

    #[test]
    fn what_nobody_wrote_is_not_read() {
        let most = format!("items={}", Limits::LARGEST + 1);
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
            &most,
        ] {
            assert!(Limits::parse(wrong).is_err(), "{wrong}");
        }
    }

    /// The most that a rate admits in a window of so many seconds, by what it promises.
    fn admitted(rate: Rate, seconds: i64) -> i64 {
        let windows = (0..seconds).step_by(usize::try_from(rate.window_seconds).unwrap()).count();
        i64::try_from(windows).unwrap() * rate.most
    }

    #[test]
    fn rate_is_within_another_if_its_bursts_are() {
        let rate = |most, window_seconds| Rate { most, window_seconds };
        let rates = [1, 2, 40, 41, 600, 2400].into_iter();
        let rates = rates.flat_map(|most| [1, 7, 60, 61, 3600].map(|window| rate(most, window)));
        let rates: Vec<_> = rates.collect();
        for own in &rates {
            for bound in &rates {
                let within = admitted(*own, bound.window_seconds) <= bound.most;
                assert_eq!(own.is_within(*bound), within, "{own:?} in {bound:?}");
            }
        }
        let largest = rate(Limits::LARGEST, 1);
        assert!(!largest.is_within(rate(Limits::LARGEST, Rate::LONGEST_WINDOW)));
    }

    #[test]
    fn bounded_limits_are_within_every_bound_and_no_narrower_than_the_narrowest() {
        let few: Vec<_> = all().filter(|limits| !limits.observe_only).step_by(7).collect();
        for own in &few {
            for bound in &few {
                let bounded = own.bounded_by(&[*bound]);
                let within = |bound: &Limits| bounded.iter().any(|one| one.are_within(bound));
                // Both are kept, by one of the limits or by several, part by part.
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
        assert_eq!(observed.bounded_by(&[observed]), [observed], "it refuses nothing");
        assert_eq!(observed.bounded_by(&[parse("items=5")]), [parse("items=5")]);
        let burst = parse("requests=2000/3600").bounded_by(&[parse("requests=40/60")]);
        assert_eq!(burst, [parse("requests=2000/3600"), parse("requests=40/60")]);
    }

    #[test]
    fn limits_are_told_in_words() {
        let told = |text: &str| Limits::parse(text).unwrap().in_words();
        let all = "40 requests in 60 s, 10 tokens in 5 s, 1000 items in a request, observed only";
        assert_eq!(told("requests=40/60 tokens=10/5 items=1000 observe_only"), all);
        assert_eq!(told(""), "no limits");
        assert_eq!(told("observe_only"), "no limits, observed only");
    }
}
