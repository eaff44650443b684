//! How often applications were used.

use jiff::civil::Date;

use super::base::Admin;
use crate::domain::usage::day;
use crate::domain::{ApplicationName, Call, UsageDay};
use crate::error::{Error, Result};
use crate::service::audit::reached;
use crate::service::auth::Caller;

/// A span of days; `None` is the default.
#[derive(Clone, Copy, Debug, Default)]
pub struct Days {
    /// The first; by default 29 days before the last.
    pub first: Option<Date>,
    /// The last; by default today.
    pub last: Option<Date>,
}

impl Admin {
    /// How often an application was used, by day.
    pub async fn application_usage(
        &self,
        caller: &Caller,
        name: &ApplicationName,
        days: Days,
    ) -> Result<Vec<UsageDay>> {
        let mut reading = self.sessions.read(caller, &name.tenant).await?;
        let (session, call) = (&mut reading.session, Call::ListApplicationUsage);
        reached(session, &reading.authority, call, name).await?;
        let last = days.last.unwrap_or_else(|| day(self.clock.now()));
        let month = jiff::Span::new().days(29);
        let first = days.first.unwrap_or_else(|| last.saturating_sub(month));
        let span = first.duration_until(last);
        if span.is_negative() || span > jiff::SignedDuration::from_hours(24 * 366) {
            return Err(Error::invalid("end_date", "must be 0 to 366 days after start_date"));
        }
        reading.session.list_usage(name, first, last).await
    }
}
