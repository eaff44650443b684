//! Usage: when, from where and how often a credential was used.

use jiff::Timestamp;
use jiff::civil::Date;
use jiff::tz::TimeZone;

use super::CredentialId;

/// The last use of a credential or application.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LastUse {
    pub at: Timestamp,
    /// The client's address, if known.
    pub address: Option<String>,
}

/// Identifies an application among those that had the same name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Life {
    /// See [`Tenant::life`](super::Tenant::life).
    pub tenant: i64,
    /// See [`Application::life`](super::Application::life).
    pub application: i64,
}

/// How a credential was used.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum UseKind {
    /// In exchange for a token.
    Exchange,
    /// In an access check that found it, or a token of it, valid.
    Check,
}

/// The usage of a credential on one day.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UsageDay {
    pub date: Date,
    /// May be deleted by now.
    pub credential: CredentialId,
    /// The number of exchanges for a token.
    pub exchanges: i64,
    /// The number of checks that found the credential, or a token of it, valid.
    pub checks: i64,
}

/// The UTC date of a timestamp.
pub fn day(at: Timestamp) -> Date {
    at.to_zoned_datetime(TimeZone::UTC).date()
}
