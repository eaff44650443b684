//! `keyward user`

use clap::{Args, Subcommand};
use prost_types::FieldMask;
use serde::Serialize;

use super::client::all_pages;
use super::output::{Format, View, print_json, say};
use super::{Connection, Failure, names};
use crate::proto::admin as pb;
use crate::proto::admin::delete_user_response::Outcome;

/// Manage users: the people of a tenant. `--as-user` acts for one of them.
#[derive(Debug, Args)]
pub(super) struct User {
    #[command(subcommand)]
    command: Command,
    #[command(flatten)]
    connection: Connection,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// List a tenant's users
    #[command(after_help = "Example:\n  keyward user list acme")]
    List {
        /// The tenant: acme
        tenant: String,
        /// The most to list
        #[arg(long, default_value_t = 1000)]
        limit: usize,
    },
    /// Show a user
    #[command(after_help = "Example:\n  keyward user show acme/sam")]
    Show {
        /// The user: acme/sam
        name: String,
    },
    /// Make a user known
    #[command(after_help = "\
Example:
  keyward user create acme --id sam --display-name Sam --role admin")]
    Create {
        /// The tenant: acme
        tenant: String,
        /// Their id at the identity provider: auth0|5f7c, sam@example.com. 1 to 255 printable ASCII
        /// characters without /; percent-encode the rest
        #[arg(long)]
        id: String,
        #[command(flatten)]
        fields: Fields,
    },
    /// Change what is given of a user
    #[command(after_help = "\
Examples:
  keyward user update acme/sam --role admin --role viewer
  keyward user update acme/sam --disabled true")]
    Update {
        /// The user: acme/sam
        name: String,
        #[command(flatten)]
        fields: Fields,
        /// Disable him (true), revoking the tokens of his applications, or enable him (false)
        #[arg(long)]
        disabled: Option<bool>,
        /// Make him known if he is not
        #[arg(long)]
        allow_missing: bool,
        /// Only if he still has this etag
        #[arg(long, default_value = "", hide_default_value = true)]
        etag: String,
    },
    /// Delete a user; the tenant's policy says what becomes of his applications
    #[command(after_help = "\
Examples:
  keyward user delete acme/sam --preview
  keyward user delete acme/sam --hand-over-to acme/eve")]
    Delete {
        /// The user: acme/sam
        name: String,
        /// Who gets his applications, if the policy has them handed over: acme/eve
        #[arg(long, value_name = "USER")]
        hand_over_to: Option<String>,
        /// Say what would happen and change nothing
        #[arg(long)]
        preview: bool,
        /// Only if he still has this etag
        #[arg(long, default_value = "", hide_default_value = true)]
        etag: String,
    },
}

#[derive(Debug, Args)]
struct Fields {
    /// A name for people
    #[arg(long, value_name = "TEXT")]
    display_name: Option<String>,
    /// A role he has, again for more; on update, in place of those he has ('': none)
    #[arg(long, value_name = "ROLE")]
    role: Vec<String>,
}

impl Fields {
    /// The message and the fields that were given.
    fn message(self) -> (pb::User, Vec<String>) {
        let mask = names::given([
            ("display_name", self.display_name.is_some()),
            ("roles", !self.role.is_empty()),
        ]);
        let user = pb::User {
            display_name: self.display_name.unwrap_or_default(),
            roles: names::roles(self.role),
            ..pb::User::default()
        };
        (user, mask)
    }
}

#[derive(Serialize)]
struct UserView {
    name: String,
    display_name: String,
    roles: Vec<String>,
    disabled: bool,
    disabled_by_platform: bool,
    create_time: Option<String>,
    update_time: Option<String>,
    etag: String,
}

impl View for UserView {
    const COLUMNS: &'static [&'static str] = &["name", "display_name", "disabled", "roles"];
    const MEMBERS: &'static [&'static str] = &[
        "name",
        "display_name",
        "roles",
        "disabled",
        "disabled_by_platform",
        "create_time",
        "update_time",
        "etag",
    ];
}

impl From<pb::User> for UserView {
    fn from(user: pb::User) -> Self {
        Self {
            create_time: names::moment(user.create_time.as_ref()),
            update_time: names::moment(user.update_time.as_ref()),
            name: user.name,
            display_name: user.display_name,
            roles: user.roles,
            disabled: user.disabled,
            disabled_by_platform: user.disabled_by_platform,
            etag: user.etag,
        }
    }
}

/// What deleting a user did, or would do.
#[derive(Serialize)]
struct Deletion {
    name: String,
    preview: bool,
    outcome: &'static str,
    application_count: i64,
    credential_count: i64,
    applications: Vec<String>,
    credentials: Vec<String>,
}

impl Deletion {
    fn new(request: &pb::DeleteUserRequest, response: pb::DeleteUserResponse) -> Self {
        let outcome = match response.outcome() {
            Outcome::Unspecified => "nothing_owned",
            Outcome::Refused => "refused",
            Outcome::HandedOver => "handed_over",
            Outcome::Deleted => "deleted",
        };
        Self {
            name: request.name.clone(),
            preview: request.validate_only,
            outcome,
            application_count: response.application_count,
            credential_count: response.credential_count,
            applications: response.applications,
            credentials: response.credentials,
        }
    }

    /// Tells it to people.
    fn tell(&self, heir: &str) {
        let Self { name, preview, application_count, credential_count, .. } = self;
        let what = format!(
            "{} with {}",
            counted(*application_count, "application"),
            counted(*credential_count, "credential")
        );
        let (are, heir) = (if *preview { "would be" } else { "were" }, names::short(heir));
        match self.outcome {
            "refused" => say!("{what} stand in the way:"),
            "handed_over" => say!("{what} {are} handed over to {heir}:"),
            "deleted" => say!("{what} {are} deleted:"),
            _ => say!("{name} owned no application"),
        }
        for application in self.applications.iter().chain(&self.credentials) {
            say!("  {}", names::short(application));
        }
        let shown = i64::try_from(self.applications.len() + self.credentials.len());
        let more = application_count + credential_count - shown.unwrap_or_default();
        if more > 0 {
            say!("  and {more} more");
        }
        if *preview {
            say!("nothing was changed: this was a preview");
        } else {
            say!("{name} is deleted");
        }
    }
}

fn counted(count: i64, what: &str) -> String {
    format!("{count} {what}{}", if count == 1 { "" } else { "s" })
}

impl User {
    pub(super) async fn run(self) -> Result<(), Failure> {
        let output = self.connection.output;
        let client = &self.connection.users().await?;
        let mut calls = client.clone();
        let user = match self.command {
            Command::List { tenant, limit } => {
                let parent = &names::tenant(&tenant);
                let users = all_pages(limit, async |page_size, page_token| {
                    let parent = parent.clone();
                    let request = pb::ListUsersRequest { parent, page_size, page_token };
                    let page = client.clone().list_users(request).await?.into_inner();
                    Ok((page.users, page.next_page_token))
                })
                .await?;
                let views: Vec<_> = users.into_iter().map(UserView::from).collect();
                return output.many(&views);
            }
            Command::Show { name } => {
                let request = pb::GetUserRequest { name: names::user(&name) };
                calls.get_user(request).await?.into_inner().user
            }
            Command::Create { tenant, id, fields } => {
                let (user, _) = fields.message();
                let parent = names::tenant(&tenant);
                let request = pb::CreateUserRequest { parent, user_id: id, user: Some(user) };
                calls.create_user(request).await?.into_inner().user
            }
            Command::Update { name, fields, disabled, allow_missing, etag } => {
                let (user, mut paths) = fields.message();
                paths.extend(disabled.map(|_| "disabled".to_owned()));
                let user = pb::User {
                    name: names::user(&name),
                    disabled: disabled.unwrap_or_default(),
                    etag,
                    ..user
                };
                let request = pb::UpdateUserRequest {
                    user: Some(user),
                    update_mask: Some(FieldMask { paths }),
                    allow_missing,
                };
                calls.update_user(request).await?.into_inner().user
            }
            Command::Delete { name, hand_over_to, preview, etag } => {
                let request = pb::DeleteUserRequest {
                    name: names::user(&name),
                    etag,
                    hand_over_to: hand_over_to.as_deref().map(names::user).unwrap_or_default(),
                    validate_only: preview,
                };
                let response = calls.delete_user(request.clone()).await?.into_inner();
                let deletion = Deletion::new(&request, response);
                if output == Format::Json {
                    return print_json(&deletion);
                }
                deletion.tell(&request.hand_over_to);
                return Ok(());
            }
        };
        output.one(&UserView::from(user.unwrap_or_default()))
    }
}
