//! Filters and orders of lists.

use std::fmt;

use strum::{Display, EnumString};

use super::{Fault, Moment, Owners, State};
use crate::error::Result;

/// Selects applications. An application must match all conditions that are set.
#[derive(Clone, Debug, Default)]
pub struct ApplicationFilter {
    pub owners: Owners,
    /// A part of the display name. Both are compared after [`fold`](super::folding::fold).
    pub search: String,
    pub state: Option<State>,
    /// Exclusive.
    pub expire_before: Option<Moment>,
    pub order: ApplicationOrder,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ApplicationOrder {
    pub key: ApplicationKey,
    /// Whether the order is reversed.
    pub descending: bool,
}

/// The sort key of applications. The id breaks ties.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Display, EnumString)]
#[strum(serialize_all = "snake_case")]
pub enum ApplicationKey {
    #[default]
    Name,
    /// The display name, folded.
    DisplayName,
    CreateTime,
    /// The last use. Applications that were never used come first.
    LastUseTime,
}

/// Selects credentials.
#[derive(Clone, Debug, Default)]
pub struct CredentialFilter {
    /// Credentials of applications with these owners.
    pub owners: Owners,
    /// Credentials that expire before this time. Combined with `unused_since` as an alternative.
    pub expire_before: Option<Moment>,
    /// Credentials neither created nor used since this time.
    pub unused_since: Option<Moment>,
}

impl ApplicationOrder {
    /// Parses an AIP-132 order. An empty string is the default.
    pub fn parse(value: &str) -> Result<Self, Fault> {
        let (key, descending) = direction(value)?;
        if key.is_empty() {
            return Ok(Self::default());
        }
        key.parse().map(|key| Self { key, descending }).map_err(|_| {
            Fault::new(
                "must be name, display_name, create_time or last_use_time, optionally followed by ` desc`",
            )
        })
    }
}

impl fmt::Display for ApplicationOrder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}{}", self.key, if self.descending { " desc" } else { "" })
    }
}

/// Splits an AIP-132 order into the field and whether it is descending.
pub fn direction(value: &str) -> Result<(&str, bool), Fault> {
    let mut words = value.split_whitespace();
    let field = words.next().unwrap_or_default();
    let descending = match words.next() {
        None | Some("asc") => false,
        Some("desc") => true,
        Some(_) => return Err(Fault::new("must be one field, optionally followed by ` desc`")),
    };
    match words.next() {
        None => Ok((field, descending)),
        Some(_) => Err(Fault::new("must name one field")),
    }
}
