//! `keyward scope`

use clap::{Args, Subcommand};
use prost_types::FieldMask;
use serde::Serialize;

use super::client::all_pages;
use super::output::View;
use super::{Connection, Failure, names};
use crate::proto::admin as pb;

/// Manage the scopes of a tenant's catalogue. `keyward apply` does a whole one at once.
#[derive(Debug, Args)]
pub(super) struct Scope {
    #[command(subcommand)]
    command: Command,
    #[command(flatten)]
    connection: Connection,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// List a catalogue
    #[command(after_help = "Example:\n  keyward scope list acme")]
    List {
        /// The tenant: acme
        tenant: String,
        /// The most to list
        #[arg(long, default_value_t = 1000)]
        limit: usize,
    },
    /// Show a scope
    #[command(after_help = "Example:\n  keyward scope show acme/campaigns.read")]
    Show {
        /// The scope: acme/campaigns.read
        name: String,
    },
    /// Add a scope to a catalogue
    #[command(after_help = "\
Example:
  keyward scope create acme/campaigns.read --description 'Look at campaigns'")]
    Create {
        /// The scope: acme/campaigns.read
        name: String,
        #[command(flatten)]
        fields: Fields,
    },
    /// Change what is given of a scope
    #[command(after_help = "Example:\n  keyward scope update acme/campaigns.read --disabled true")]
    Update {
        /// The scope: acme/campaigns.read
        name: String,
        #[command(flatten)]
        fields: Fields,
        /// Disable it (true), revoking the tokens of its holders, or enable it (false)
        #[arg(long)]
        disabled: Option<bool>,
        /// Only if it still has this etag
        #[arg(long, default_value = "", hide_default_value = true)]
        etag: String,
    },
    /// Take a scope out of a catalogue
    #[command(after_help = "Example:\n  keyward scope delete acme/campaigns.read --force")]
    Delete {
        /// The scope: acme/campaigns.read
        name: String,
        /// Take it from the applications that hold it too, revoking their tokens
        #[arg(long)]
        force: bool,
        /// Only if it still has this etag
        #[arg(long, default_value = "", hide_default_value = true)]
        etag: String,
    },
}

#[derive(Debug, Args)]
struct Fields {
    /// A name for people
    #[arg(long, value_name = "TEXT")]
    display_name: Option<String>,
    /// What holding it allows
    #[arg(long, value_name = "TEXT")]
    description: Option<String>,
    /// The part of the platform it belongs to
    #[arg(long, value_name = "TEXT")]
    domain: Option<String>,
    /// The group it is offered with
    #[arg(long, value_name = "TEXT")]
    family: Option<String>,
}

impl Fields {
    /// The message and the fields that were given.
    fn message(self) -> (pb::Scope, Vec<String>) {
        let mask = names::given([
            ("display_name", self.display_name.is_some()),
            ("description", self.description.is_some()),
            ("domain", self.domain.is_some()),
            ("family", self.family.is_some()),
        ]);
        let scope = pb::Scope {
            display_name: self.display_name.unwrap_or_default(),
            description: self.description.unwrap_or_default(),
            domain: self.domain.unwrap_or_default(),
            family: self.family.unwrap_or_default(),
            ..pb::Scope::default()
        };
        (scope, mask)
    }
}

#[derive(Serialize)]
struct ScopeView {
    scope: String,
    name: String,
    display_name: String,
    description: String,
    domain: String,
    family: String,
    disabled: bool,
    disabled_by_platform: bool,
    create_time: Option<String>,
    update_time: Option<String>,
    etag: String,
}

impl View for ScopeView {
    const COLUMNS: &'static [&'static str] =
        &["scope", "display_name", "domain", "family", "disabled", "description"];
    const MEMBERS: &'static [&'static str] = &[
        "name",
        "display_name",
        "description",
        "domain",
        "family",
        "disabled",
        "disabled_by_platform",
        "create_time",
        "update_time",
        "etag",
    ];
}

impl From<pb::Scope> for ScopeView {
    fn from(scope: pb::Scope) -> Self {
        let short = scope.name.split_once("/scopes/").map(|(_, short)| short.to_owned());
        Self {
            scope: short.unwrap_or_default(),
            create_time: names::moment(scope.create_time.as_ref()),
            update_time: names::moment(scope.update_time.as_ref()),
            name: scope.name,
            display_name: scope.display_name,
            description: scope.description,
            domain: scope.domain,
            family: scope.family,
            disabled: scope.disabled,
            disabled_by_platform: scope.disabled_by_platform,
            etag: scope.etag,
        }
    }
}

impl Scope {
    pub(super) async fn run(self) -> Result<(), Failure> {
        let output = self.connection.output;
        let client = &self.connection.scopes().await?;
        let mut calls = client.clone();
        let scope = match self.command {
            Command::List { tenant, limit } => {
                let parent = &names::tenant(&tenant);
                let scopes = all_pages(limit, async |page_size, page_token| {
                    let parent = parent.clone();
                    let request = pb::ListScopesRequest { parent, page_size, page_token };
                    let page = client.clone().list_scopes(request).await?.into_inner();
                    Ok((page.scopes, page.next_page_token))
                })
                .await?;
                let views: Vec<_> = scopes.into_iter().map(ScopeView::from).collect();
                return output.many(&views);
            }
            Command::Show { name } => {
                let request = pb::GetScopeRequest { name: names::scope(&name) };
                calls.get_scope(request).await?.into_inner().scope
            }
            Command::Create { name, fields } => {
                let name = names::scope(&name);
                let (parent, id) = names::split(&name, "/scopes/")?;
                let (scope, _) = fields.message();
                let request = pb::CreateScopeRequest {
                    parent: parent.to_owned(),
                    scope_id: id.to_owned(),
                    scope: Some(scope),
                };
                calls.create_scope(request).await?.into_inner().scope
            }
            Command::Update { name, fields, disabled, etag } => {
                let (scope, mut paths) = fields.message();
                paths.extend(disabled.map(|_| "disabled".to_owned()));
                let scope = pb::Scope {
                    name: names::scope(&name),
                    disabled: disabled.unwrap_or_default(),
                    etag,
                    ..scope
                };
                let request = pb::UpdateScopeRequest {
                    scope: Some(scope),
                    update_mask: Some(FieldMask { paths }),
                };
                calls.update_scope(request).await?.into_inner().scope
            }
            Command::Delete { name, force, etag } => {
                let name = names::scope(&name);
                let request = pb::DeleteScopeRequest { name: name.clone(), etag, force };
                calls.delete_scope(request).await?;
                output.done(&format!("{name} is deleted"));
                return Ok(());
            }
        };
        output.one(&ScopeView::from(scope.unwrap_or_default()))
    }
}
