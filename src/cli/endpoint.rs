//! `keyward endpoint`

use clap::{Args, Subcommand};
use serde::Serialize;

use super::client::all_pages;
use super::limits::LimitsView;
use super::output::View;
use super::{Connection, Failure, names};
use crate::proto::admin as pb;

/// Read a tenant's rules for endpoints: which scopes a request needs
///
/// They come with a profile: `keyward apply` sets them all at once.
#[derive(Debug, Args)]
pub(super) struct Endpoint {
    #[command(subcommand)]
    command: Command,
    #[command(flatten)]
    connection: Connection,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// List a tenant's rules by path, then method
    #[command(after_help = "\
Examples:
  keyward endpoint list acme
  keyward endpoint list acme --output json")]
    List {
        /// The tenant: acme
        tenant: String,
        /// The most to list
        #[arg(long, default_value_t = 1000)]
        limit: usize,
    },
}

#[derive(Serialize)]
struct EndpointView {
    method: String,
    path: String,
    all_of: Vec<String>,
    any_of: Vec<String>,
    limits: Option<LimitsView>,
    description: String,
}

impl View for EndpointView {
    const COLUMNS: &'static [&'static str] =
        &["method", "path", "all_of", "any_of", "limits", "description"];
    const MEMBERS: &'static [&'static str] = Self::COLUMNS;
}

impl From<pb::Endpoint> for EndpointView {
    fn from(endpoint: pb::Endpoint) -> Self {
        Self {
            method: endpoint.method,
            path: endpoint.path,
            all_of: endpoint.all_of,
            any_of: endpoint.any_of,
            limits: endpoint.limits.map(LimitsView::from),
            description: endpoint.description,
        }
    }
}

impl Endpoint {
    pub(super) async fn run(self) -> Result<(), Failure> {
        let output = self.connection.output;
        let client = &self.connection.endpoints().await?;
        let Command::List { tenant, limit } = self.command;
        let parent = &names::tenant(&tenant);
        let endpoints = all_pages(limit, async |page_size, page_token| {
            let parent = parent.clone();
            let request = pb::ListEndpointsRequest { parent, page_size, page_token };
            let page = client.clone().list_endpoints(request).await?.into_inner();
            Ok((page.endpoints, page.next_page_token))
        })
        .await?;
        let views: Vec<_> = endpoints.into_iter().map(EndpointView::from).collect();
        output.many(&views)
    }
}
