//! `keyward role`

use clap::{Args, Subcommand};
use prost_types::FieldMask;
use serde::Serialize;

use super::client::all_pages;
use super::output::View;
use super::{Connection, Failure, names};
use crate::proto::admin as pb;

/// Manage roles: what the people of a tenant may do, and which scopes they may grant.
#[derive(Debug, Args)]
pub(super) struct Role {
    #[command(subcommand)]
    command: Command,
    #[command(flatten)]
    connection: Connection,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// List a tenant's roles
    #[command(after_help = "Example:\n  keyward role list acme")]
    List {
        /// The tenant: acme
        tenant: String,
        /// The most to list
        #[arg(long, default_value_t = 1000)]
        limit: usize,
    },
    /// Show a role
    #[command(after_help = "Example:\n  keyward role show acme/admin")]
    Show {
        /// The role: acme/admin
        name: String,
    },
    /// Create a role
    #[command(after_help = "\
Example:
  keyward role create acme/admin --all-scopes true \\
    --permission applications.view.users --permission applications.create.own")]
    Create {
        /// The role: acme/admin
        name: String,
        #[command(flatten)]
        fields: Fields,
    },
    /// Change what is given of a role
    #[command(after_help = "Example:\n  keyward role update acme/admin --scope campaigns.read")]
    Update {
        /// The role: acme/admin
        name: String,
        #[command(flatten)]
        fields: Fields,
        /// Only if it still has this etag
        #[arg(long, default_value = "", hide_default_value = true)]
        etag: String,
    },
    /// Delete a role
    #[command(after_help = "Example:\n  keyward role delete acme/admin --force")]
    Delete {
        /// The role: acme/admin
        name: String,
        /// Take it from the users and applications that hold it too, revoking their tokens
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
    /// What it is for
    #[arg(long, value_name = "TEXT")]
    description: Option<String>,
    /// What its holders may do, again for more; on update, in place of those it has ('':
    /// none): applications.VERB.REACH (VERB: view, create, edit, delete, reveal; REACH: own,
    /// account, users), audit.view, catalogue.edit, users.view, users.edit, roles.edit,
    /// policy.edit, limits.edit
    #[arg(long, value_name = "PERMISSION")]
    permission: Vec<String>,
    /// A scope its holders may grant, again for more; on update, in place of those it has
    /// ('': none)
    #[arg(long, value_name = "SCOPE")]
    scope: Vec<String>,
    /// Whether its holders may grant every scope, those to come included
    #[arg(long, value_name = "BOOL")]
    all_scopes: Option<bool>,
}

impl Fields {
    /// The message and the fields that were given.
    fn message(self) -> (pb::Role, Vec<String>) {
        let mask = names::given([
            ("display_name", self.display_name.is_some()),
            ("description", self.description.is_some()),
            ("permissions", !self.permission.is_empty()),
            ("scopes", !self.scope.is_empty()),
            ("all_scopes", self.all_scopes.is_some()),
        ]);
        let role = pb::Role {
            display_name: self.display_name.unwrap_or_default(),
            description: self.description.unwrap_or_default(),
            permissions: names::given_words(self.permission),
            scopes: names::given_words(self.scope),
            all_scopes: self.all_scopes.unwrap_or_default(),
            ..pb::Role::default()
        };
        (role, mask)
    }
}

#[derive(Serialize)]
struct RoleView {
    name: String,
    display_name: String,
    description: String,
    permissions: Vec<String>,
    scopes: Vec<String>,
    all_scopes: bool,
    create_time: Option<String>,
    update_time: Option<String>,
    etag: String,
}

impl View for RoleView {
    const COLUMNS: &'static [&'static str] =
        &["name", "display_name", "all_scopes", "scopes", "permissions"];
    const MEMBERS: &'static [&'static str] = &[
        "name",
        "display_name",
        "description",
        "permissions",
        "scopes",
        "all_scopes",
        "create_time",
        "update_time",
        "etag",
    ];
}

impl From<pb::Role> for RoleView {
    fn from(role: pb::Role) -> Self {
        Self {
            create_time: names::moment(role.create_time.as_ref()),
            update_time: names::moment(role.update_time.as_ref()),
            name: role.name,
            display_name: role.display_name,
            description: role.description,
            permissions: role.permissions,
            scopes: role.scopes,
            all_scopes: role.all_scopes,
            etag: role.etag,
        }
    }
}

impl Role {
    pub(super) async fn run(self) -> Result<(), Failure> {
        let output = self.connection.output;
        let client = &self.connection.roles().await?;
        let mut calls = client.clone();
        let role = match self.command {
            Command::List { tenant, limit } => {
                let parent = &names::tenant(&tenant);
                let roles = all_pages(limit, async |page_size, page_token| {
                    let parent = parent.clone();
                    let request = pb::ListRolesRequest { parent, page_size, page_token };
                    let page = client.clone().list_roles(request).await?.into_inner();
                    Ok((page.roles, page.next_page_token))
                })
                .await?;
                let views: Vec<_> = roles.into_iter().map(RoleView::from).collect();
                return output.many(&views);
            }
            Command::Show { name } => {
                let request = pb::GetRoleRequest { name: names::role(&name) };
                calls.get_role(request).await?.into_inner().role
            }
            Command::Create { name, fields } => {
                let name = names::role(&name);
                let (parent, id) = names::split(&name, "/roles/")?;
                let (role, _) = fields.message();
                let request = pb::CreateRoleRequest {
                    parent: parent.to_owned(),
                    role_id: id.to_owned(),
                    role: Some(role),
                };
                calls.create_role(request).await?.into_inner().role
            }
            Command::Update { name, fields, etag } => {
                let (role, paths) = fields.message();
                let role = pb::Role { name: names::role(&name), etag, ..role };
                let request = pb::UpdateRoleRequest {
                    role: Some(role),
                    update_mask: Some(FieldMask { paths }),
                };
                calls.update_role(request).await?.into_inner().role
            }
            Command::Delete { name, force, etag } => {
                let name = names::role(&name);
                let request = pb::DeleteRoleRequest { name: name.clone(), etag, force };
                calls.delete_role(request).await?;
                output.done(&format!("{name} is deleted"));
                return Ok(());
            }
        };
        output.one(&RoleView::from(role.unwrap_or_default()))
    }
}
