//! `keyward usage`

use clap::Args;
use serde::Serialize;

use super::output::View;
use super::{Connection, Failure, names};
use crate::domain::Moment;
use crate::proto::admin::ListApplicationUsageRequest;
use crate::proto::admin::list_application_usage_response::Day;

/// Show how often an application and its credentials were used
///
/// How often credentials were exchanged for tokens, and they or their tokens found good when
/// checked, by day (UTC).
#[derive(Debug, Args)]
#[command(after_help = "\
Days are those of UTC. What was used in the last few seconds may be missing.

Example:
  keyward usage acme/crm --since 30d")]
pub(super) struct Usage {
    /// The application: acme/crm
    application: String,
    /// From which day on: 2027-01-31, or a span before now as 30d [default: 30 days in all]
    #[arg(long, value_name = "DAY", value_parser = names::ago)]
    since: Option<Moment>,
    /// Until which day, itself included [default: today]
    #[arg(long, value_name = "DAY", value_parser = names::ago)]
    until: Option<Moment>,
    #[command(flatten)]
    connection: Connection,
}

#[derive(Serialize)]
struct DayView {
    date: String,
    credential: String,
    exchanges: i64,
    checks: i64,
}

impl View for DayView {
    const COLUMNS: &'static [&'static str] = &["date", "credential", "exchanges", "checks"];
    const MEMBERS: &'static [&'static str] = Self::COLUMNS;
}

impl From<Day> for DayView {
    fn from(day: Day) -> Self {
        let Day { date, credential, exchanges, checks } = day;
        Self { date, credential, exchanges, checks }
    }
}

impl Usage {
    pub(super) async fn run(self) -> Result<(), Failure> {
        let request = ListApplicationUsageRequest {
            parent: names::application(&self.application),
            start_date: self.since.map(names::day).unwrap_or_default(),
            end_date: self.until.map(names::day).unwrap_or_default(),
        };
        let mut client = self.connection.applications().await?;
        let days = client.list_application_usage(request).await?.into_inner().days;
        let views: Vec<_> = days.into_iter().map(DayView::from).collect();
        self.connection.output.many(&views)
    }
}
