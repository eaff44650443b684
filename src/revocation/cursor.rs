//! Positions in the revocation list, and the order of lists.
//!
//! A list is named after the database in which it began and, if an operator has declared a state of
//! that database authoritative, the time of the last declaration: `{database}`, then
//! `{database}.{microseconds}`. So every replica can tell which of two lists is newer, even if a
//! backup from before the last declaration is restored.

use std::cmp::Ordering;
use std::fmt;

use jiff::Timestamp;

use crate::domain::Fault;

/// A position in a revocation list.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Cursor {
    /// The name of the list.
    pub feed: String,
    /// The number of the last revocation that was read.
    pub number: i64,
}

impl Cursor {
    pub fn parse(text: &str) -> Result<Self, Fault> {
        text.rsplit_once('-')
            .and_then(|(feed, number)| {
                let number = number.parse().ok().filter(|number| *number >= 0)?;
                Some(Self { feed: feed.to_owned(), number })
            })
            .ok_or_else(|| Fault::new("must be a cursor that this service returned"))
    }

    /// Compares two positions in the same list, or in a list and one that replaced it. `None`: the
    /// lists began in different databases.
    pub fn compare(&self, other: &Self) -> Option<Ordering> {
        let ((ours, declared), (theirs, before)) = (split(&self.feed), split(&other.feed));
        (ours == theirs).then(|| (declared, self.number).cmp(&(before, other.number)))
    }
}

impl fmt::Display for Cursor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}-{}", self.feed, self.number)
    }
}

/// The name of the list that replaces `feed` from now on.
pub fn successor(feed: &str, now: Timestamp) -> String {
    let (database, before) = split(feed);
    format!("{database}.{}", now.as_microsecond().max(before + 1))
}

/// Splits a list name into the database and the time of its declaration, or 0.
fn split(feed: &str) -> (&str, i64) {
    let declared =
        feed.rsplit_once('.').and_then(|(database, at)| Some((database, at.parse().ok()?)));
    declared.unwrap_or((feed, 0))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(feed: &str, number: i64) -> Cursor {
        Cursor { feed: feed.to_owned(), number }
    }

    #[test]
    fn declared_list_follows_all_earlier_ones_of_its_database() {
        let first = at("db", 9);
        let now = Timestamp::from_second(1000).unwrap();
        let second = at(&successor("db", now), 2);
        assert_eq!(second.feed, "db.1000000000");
        // A backup from before the second declaration, restored later.
        let third = at(&successor("db", Timestamp::from_second(1001).unwrap()), 0);
        let ordered = [&first, &at("db", 10), &second, &third];
        assert!(ordered.windows(2).all(|w| w[0].compare(w[1]) == Some(Ordering::Less)));
        assert_eq!(second.compare(&second), Some(Ordering::Equal));
        assert_eq!(first.compare(&at("other.7", 1)), None);
        // Even if the clock was set back, the new list is later.
        let again = at(&successor(&third.feed, Timestamp::UNIX_EPOCH), 0);
        assert_eq!(again.compare(&third), Some(Ordering::Greater));
        assert_eq!(Cursor::parse(&second.to_string()).unwrap(), second);
    }
}
