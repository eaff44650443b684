//! What part of a list is wanted, besides its page.

use std::fmt;

use super::{Fault, Moment, Owners, State};
use crate::error::Result;

/// Which applications are wanted: those that meet every condition there is.
#[derive(Clone, Debug, Default)]
pub struct ApplicationFilter {
    /// Those of these owners.
    pub owners: Owners,
    /// Those whose display name has this part, as [`fold`](super::folding::fold) has both.
    pub search: String,
    /// Those in this state.
    pub state: Option<State>,
    /// Those that end before then.
    pub expire_before: Option<Moment>,
    /// In which order.
    pub order: ApplicationOrder,
}

/// An order of applications.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ApplicationOrder {
    /// By what.
    pub key: ApplicationKey,
    /// The last first.
    pub descending: bool,
}

/// What applications are ordered by; those that are equal, by id.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum ApplicationKey {
    /// The id.
    #[default]
    Name,
    /// The name for people, folded.
    DisplayName,
    /// When it was created.
    CreateTime,
    /// When it was last used; never is first.
    LastUseTime,
}

/// Which credentials are wanted.
#[derive(Clone, Debug, Default)]
pub struct CredentialFilter {
    /// Those of applications of these owners.
    pub owners: Owners,
    /// Those that end before then; with `unused_since`: those to which either applies.
    pub expire_before: Option<Moment>,
    /// Those neither made nor used since then.
    pub unused_since: Option<Moment>,
}

impl ApplicationKey {
    const ALL: [Self; 4] = [Self::Name, Self::DisplayName, Self::CreateTime, Self::LastUseTime];

    fn as_str(self) -> &'static str {
        match self {
            Self::Name => "name",
            Self::DisplayName => "display_name",
            Self::CreateTime => "create_time",
            Self::LastUseTime => "last_use_time",
        }
    }
}

impl ApplicationOrder {
    /// Reads an order as AIP-132 writes it; empty is the default.
    pub fn parse(value: &str) -> Result<Self, Fault> {
        let (key, descending) = direction(value)?;
        if key.is_empty() {
            return Ok(Self::default());
        }
        let found = ApplicationKey::ALL.into_iter().find(|known| known.as_str() == key);
        found.map(|key| Self { key, descending }).ok_or_else(|| {
            Fault::new(
                "must be name, display_name, create_time or last_use_time, with ` desc` or without",
            )
        })
    }
}

impl fmt::Display for ApplicationOrder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}{}", self.key.as_str(), if self.descending { " desc" } else { "" })
    }
}

/// The field of an order, and whether its end comes first.
pub fn direction(value: &str) -> Result<(&str, bool), Fault> {
    let mut words = value.split_whitespace();
    let field = words.next().unwrap_or_default();
    let descending = match words.next() {
        None | Some("asc") => false,
        Some("desc") => true,
        Some(_) => return Err(Fault::new("must be a field, alone or with ` desc` behind it")),
    };
    match words.next() {
        None => Ok((field, descending)),
        Some(_) => Err(Fault::new("must name one field")),
    }
}
