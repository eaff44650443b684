//! `keyward endpoint`

use clap::{Args, Subcommand};
use serde_json::json;

use super::client::{Authorized, Limit, all_pages};
use super::output::{Column, Tabular, listed};
use super::resource::limits::LimitsView;
use super::{Failure, ServerConnection, names};
use crate::proto::admin as pb;
use crate::proto::admin::endpoint_service_client::EndpointServiceClient;

/// Read a tenant's endpoint rules: which scopes a request needs
///
/// They are part of a profile: `keyward apply` sets all of them at once.
#[derive(Debug, Args)]
pub(super) struct EndpointArgs {
    #[command(subcommand)]
    command: EndpointCommand,
    #[command(flatten)]
    connection: ServerConnection,
}

#[derive(Debug, Subcommand)]
enum EndpointCommand {
    /// List a tenant's rules by path, then method
    #[command(after_help = "\
Examples:
  keyward endpoint list acme
  keyward endpoint list acme --output json")]
    List {
        /// The tenant: acme
        tenant: String,
        #[command(flatten)]
        limit: Limit,
    },
}

impl Tabular for pb::Endpoint {
    const COLUMNS: &'static [Column<Self>] = &[
        listed(1, "method", |endpoint| json!(endpoint.method)),
        listed(2, "path", |endpoint| json!(endpoint.path)),
        listed(3, "all_of", |endpoint| json!(endpoint.all_of)),
        listed(4, "any_of", |endpoint| json!(endpoint.any_of)),
        listed(5, "limits", |endpoint| json!(endpoint.limits.map(LimitsView::from))),
        listed(6, "description", |endpoint| json!(endpoint.description)),
    ];
}

impl EndpointArgs {
    pub(super) async fn run(self) -> Result<(), Failure> {
        let EndpointCommand::List { tenant, limit } = self.command;
        let parent = &names::tenant(&tenant);
        let work = async |channel: Authorized| {
            all_pages(limit, async |page_size, page_token| {
                let parent = parent.clone();
                let request = pb::ListEndpointsRequest { parent, page_size, page_token };
                let mut client = EndpointServiceClient::new(channel.clone());
                let page = client.list_endpoints(request).await?.into_inner();
                Ok((page.endpoints, page.next_page_token))
            })
            .await
        };
        let endpoints = self.connection.call(Some(parent), work).await?;
        self.connection.output.list(&endpoints)
    }
}
