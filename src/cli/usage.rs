//! `keyward usage`

use clap::Args;
use serde_json::json;

use super::client::Authorized;
use super::output::{Column, Tabular, listed};
use super::{Failure, ServerConnection, names};
use crate::domain::Moment;
use crate::proto::admin::ListApplicationUsageRequest;
use crate::proto::admin::application_service_client::ApplicationServiceClient;
use crate::proto::admin::list_application_usage_response::Day;

/// Show how often an application and its credentials were used
///
/// By day (UTC): how often credentials were exchanged for tokens, and how often they or their
/// tokens were checked and found active.
#[derive(Debug, Args)]
#[command(after_help = "\
Days are UTC. The last few seconds of use can be missing.

Example:
  keyward usage acme/crm --since 30d")]
pub(super) struct Usage {
    /// The application: acme/crm
    application: String,
    /// The first day: 2027-01-31, or a span before now like 30d [default: 30 days in all]
    #[arg(long, value_name = "DAY", value_parser = names::ago)]
    since: Option<Moment>,
    /// The last day [default: today]
    #[arg(long, value_name = "DAY", value_parser = names::ago)]
    until: Option<Moment>,
    #[command(flatten)]
    connection: ServerConnection,
}

impl Tabular for Day {
    const COLUMNS: &'static [Column<Self>] = &[
        listed(1, "date", |day| json!(day.date)),
        listed(4, "credential", |day| json!(day.credential)),
        listed(2, "exchanges", |day| json!(day.exchanges)),
        listed(3, "checks", |day| json!(day.checks)),
    ];
}

impl Usage {
    pub(super) async fn run(self) -> Result<(), Failure> {
        let parent = names::application(&self.application);
        let request = ListApplicationUsageRequest {
            parent: parent.clone(),
            start_date: self.since.map(names::day).unwrap_or_default(),
            end_date: self.until.map(names::day).unwrap_or_default(),
        };
        let work = async |channel: Authorized| {
            let mut client = ApplicationServiceClient::new(channel);
            Ok(client.list_application_usage(request).await?.into_inner().days)
        };
        let days = self.connection.call(Some(&parent), work).await?;
        self.connection.output.many(&days)
    }
}
