//! Use: when a credential was last used, from where, and how often.

use jiff::Timestamp;
use jiff::civil::Date;
use jiff::tz::TimeZone;

use super::CredentialId;

/// When something was last used, and from where if that is known.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LastUse {
    /// When.
    pub at: Timestamp,
    /// The address that it was exchanged or presented from.
    pub address: Option<String>,
}

/// Which application of a name was used.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Life {
    /// Which tenant of its name, as [`Tenant::life`](super::Tenant::life).
    pub tenant: i64,
    /// Which application of its name, as [`Application::life`](super::Application::life).
    pub application: i64,
}

/// What a credential was used for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum UseKind {
    /// It was exchanged for a token.
    Exchange,
    /// It, or a token of it, was checked and found good.
    Check,
}

/// How often a credential was used on one day.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UsageDay {
    /// The day (UTC).
    pub date: Date,
    /// Which credential; it may be gone.
    pub credential: CredentialId,
    /// How often it was exchanged.
    pub exchanges: i64,
    /// How often it, or a token of it, was checked and found good.
    pub checks: i64,
}

/// The day (UTC) of a moment.
pub fn day(at: Timestamp) -> Date {
    at.to_zoned(TimeZone::UTC).date()
}
