//! Where a reader of the list is.

use std::fmt;

use crate::domain::Fault;

/// A place in a list of revocations.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Cursor {
    /// Which list.
    pub feed: String,
    /// The number of the last revocation that was read.
    pub number: i64,
}

impl Cursor {
    /// Reads a cursor.
    pub fn parse(text: &str) -> Result<Self, Fault> {
        text.rsplit_once('-')
            .and_then(|(feed, number)| {
                let number = number.parse().ok().filter(|number| *number >= 0)?;
                Some(Self { feed: feed.to_owned(), number })
            })
            .ok_or_else(|| Fault::new("must be a cursor that this service gave"))
    }
}

impl fmt::Display for Cursor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}-{}", self.feed, self.number)
    }
}
