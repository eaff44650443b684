//! Timestamps in requests.

use std::cmp::Ordering;
use std::fmt;
use std::str::FromStr;

use jiff::civil::DateTime;
use jiff::{SignedDuration, Timestamp};

use super::Fault;
use crate::clock::from_microsecond;
use crate::error::Result;

/// A time from year 1 to the end of year 9999, in microseconds: the range of protobuf's
/// `Timestamp`. jiff's `Timestamp` ends 26 hours before the end of year 9999, and many systems use
/// `9999-12-31T23:59:59Z` for "never".
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Moment(i64);

impl Moment {
    /// `0001-01-01T00:00:00Z`.
    pub const MIN: Self = Self(-62_135_596_800_000_000);
    /// `9999-12-31T23:59:59.999999Z`.
    pub const MAX: Self = Self(253_402_300_799_999_999);

    /// A time from seconds and nanoseconds since the Unix epoch, rounded down to microseconds.
    pub fn new(seconds: i64, nanos: i32) -> Result<Self, Fault> {
        if !(0..1_000_000_000).contains(&nanos) {
            return Err(Fault::new("must have 0 to 999999999 nanos"));
        }
        Self::checked(i128::from(seconds) * 1_000_000 + i128::from(nanos / 1000))
    }

    fn checked(micros: i128) -> Result<Self, Fault> {
        let moment = i64::try_from(micros).ok().map(Self);
        moment.filter(|moment| (Self::MIN..=Self::MAX).contains(moment)).ok_or_else(|| {
            Fault::new("must be between 0001-01-01T00:00:00Z and 9999-12-31T23:59:59.999999999Z")
        })
    }

    /// A time from microseconds since the Unix epoch, clamped to the valid range.
    pub fn from_microsecond(micros: i64) -> Self {
        Self(micros).clamp(Self::MIN, Self::MAX)
    }

    /// Microseconds since the Unix epoch.
    pub fn as_microsecond(self) -> i64 {
        self.0
    }

    /// Seconds since the Unix epoch, rounded down.
    pub fn as_second(self) -> i64 {
        self.0.div_euclid(1_000_000)
    }

    /// The fraction of a second, in nanoseconds.
    pub fn subsec_nanos(self) -> i32 {
        i32::try_from(self.0.rem_euclid(1_000_000) * 1000).unwrap_or_default()
    }

    /// The time as a jiff `Timestamp`, clamped to its range.
    pub fn timestamp(self) -> Timestamp {
        from_microsecond(self.0)
    }
}

impl From<Timestamp> for Moment {
    fn from(timestamp: Timestamp) -> Self {
        Self::from_microsecond(timestamp.as_microsecond())
    }
}

impl PartialEq<Timestamp> for Moment {
    fn eq(&self, other: &Timestamp) -> bool {
        *self == Self::from(*other)
    }
}

impl PartialOrd<Timestamp> for Moment {
    fn partial_cmp(&self, other: &Timestamp) -> Option<Ordering> {
        Some(self.cmp(&Self::from(*other)))
    }
}

/// RFC 3339, in UTC.
impl fmt::Display for Moment {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let since = SignedDuration::from_micros(self.0);
        let moment = jiff::civil::date(1970, 1, 1).at(0, 0, 0, 0).saturating_add(since);
        fmt::Display::fmt(&moment, f)?;
        f.write_str("Z")
    }
}

/// Parses RFC 3339.
impl FromStr for Moment {
    type Err = Fault;

    fn from_str(text: &str) -> Result<Self, Fault> {
        let wrong = || Fault::new("must be an RFC 3339 time like 2027-01-31T00:00:00Z");
        if let Ok(timestamp) = text.parse::<Timestamp>() {
            return Self::checked(timestamp.as_microsecond().into());
        }
        // The last hours of year 9999, which jiff cannot parse.
        let text = text.strip_suffix(['Z', 'z']).ok_or_else(wrong)?;
        let moment: DateTime = text.parse().map_err(|_| wrong())?;
        let since = moment.duration_since(jiff::civil::date(1970, 1, 1).at(0, 0, 0, 0));
        Self::checked(since.as_micros())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_protobuf_timestamp_round_trips() {
        for text in [
            "0001-01-01T00:00:00Z",
            "1969-12-31T23:59:59.999999Z",
            "1970-01-01T00:00:00Z",
            "2026-06-01T12:00:00.5Z",
            "9999-12-30T22:00:00Z",
            "9999-12-30T22:00:01Z",
            "9999-12-31T23:59:59Z",
            "9999-12-31T23:59:59.999999Z",
        ] {
            let moment: Moment = text.parse().unwrap();
            assert_eq!(moment.to_string(), text);
            assert_eq!(Moment::new(moment.as_second(), moment.subsec_nanos()), Ok(moment));
            assert_eq!(Moment::from_microsecond(moment.as_microsecond()), moment);
        }
        assert_eq!(Moment::new(253_402_300_799, 999_999_999), Ok(Moment::MAX));
        for (seconds, nanos) in [
            (253_402_300_800, 0),
            (-62_135_596_801, 999_999_999),
            (i64::MIN, 0),
            (i64::MAX, 0),
            (0, -1),
            (0, 1_000_000_000),
        ] {
            assert!(Moment::new(seconds, nanos).is_err(), "{seconds} {nanos}");
        }
        for text in ["", "Z", "2026-06-01", "2026-06-01T12:00:00", "0000-12-31T23:59:59Z"] {
            assert!(text.parse::<Moment>().is_err(), "{text}");
        }
    }

    #[test]
    fn moment_compares_with_timestamp() {
        let now = Timestamp::from_second(1000).unwrap();
        let moment = |second| Moment::new(second, 0).unwrap();
        assert!(moment(1000) == now && moment(1000) <= now && moment(1001) > now);
        assert!(Moment::MAX > Timestamp::MAX && Moment::MAX.timestamp() == Timestamp::MAX);
    }
}
