//! `keyward application`

use clap::{Args, Subcommand};
use prost_types::FieldMask;
use serde::Serialize;

use super::client::{PAGE_SIZE, all_pages};
use super::names::Expiry;
use super::output::View;
use super::{Connection, Failure, names};
use crate::proto::admin as pb;
use crate::proto::admin::application::State;

/// Manage applications: what gets access.
#[derive(Debug, Args)]
pub(super) struct Application {
    #[command(subcommand)]
    command: Command,
    #[command(flatten)]
    connection: Connection,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// List a tenant's applications
    #[command(after_help = "Example:\n  keyward application list acme")]
    List {
        /// The tenant: acme
        tenant: String,
        /// The most to list
        #[arg(long, default_value_t = 1000)]
        limit: usize,
    },
    /// Show an application
    #[command(after_help = "Example:\n  keyward application show acme/crm")]
    Show {
        /// The application: acme/crm
        name: String,
    },
    /// Create an application
    #[command(after_help = "\
Example:
  keyward application create acme --id crm --display-name CRM --scope campaigns.read")]
    Create {
        /// The tenant: acme
        tenant: String,
        /// Its id: 1 to 63 of a-z 0-9 - _ [default: one is made]
        #[arg(long, default_value = "", hide_default_value = true)]
        id: String,
        #[command(flatten)]
        fields: Fields,
        /// Names this very request, so that it can be repeated safely
        #[arg(long, default_value = "", hide_default_value = true)]
        request_id: String,
    },
    /// Change what is given of an application
    #[command(after_help = "\
Example:
  keyward application update acme/crm --scope campaigns.read --expire-time 90d")]
    Update {
        /// The application: acme/crm
        name: String,
        #[command(flatten)]
        fields: Fields,
        /// Disable it (true), revoking its tokens, or enable it again (false)
        #[arg(long)]
        disabled: Option<bool>,
        /// Only if it still has this etag
        #[arg(long, default_value = "", hide_default_value = true)]
        etag: String,
    },
    /// Delete an application and its credentials
    #[command(after_help = "Example:\n  keyward application delete acme/crm")]
    Delete {
        /// The application: acme/crm
        name: String,
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
    /// Whom to ask about it
    #[arg(long, value_name = "EMAIL")]
    contact_email: Option<String>,
    /// A scope it may use, again for more; on update, in place of those it has ('': none)
    #[arg(long, value_name = "SCOPE")]
    scope: Vec<String>,
    /// When it ends: 2027-01-31T00:00:00Z, a span as 90d, or never
    #[arg(long, value_name = "TIME", value_parser = names::expiry)]
    expire_time: Option<Expiry>,
}

impl Fields {
    /// The message and the fields that were given.
    fn message(self) -> (pb::Application, Vec<String>) {
        let mask = names::given([
            ("display_name", self.display_name.is_some()),
            ("description", self.description.is_some()),
            ("contact_email", self.contact_email.is_some()),
            ("scopes", !self.scope.is_empty()),
            ("expire_time", self.expire_time.is_some()),
        ]);
        let application = pb::Application {
            display_name: self.display_name.unwrap_or_default(),
            description: self.description.unwrap_or_default(),
            contact_email: self.contact_email.unwrap_or_default(),
            scopes: self.scope.into_iter().filter(|scope| !scope.is_empty()).collect(),
            expire_time: self.expire_time.and_then(Expiry::message),
            ..pb::Application::default()
        };
        (application, mask)
    }
}

#[derive(Serialize)]
struct ApplicationView {
    name: String,
    display_name: String,
    description: String,
    contact_email: String,
    state: &'static str,
    scopes: Vec<String>,
    expire_time: Option<String>,
    create_time: Option<String>,
    update_time: Option<String>,
    etag: String,
}

impl View for ApplicationView {
    const COLUMNS: &'static [&'static str] =
        &["name", "display_name", "state", "expire_time", "scopes"];
    const MEMBERS: &'static [&'static str] = &[
        "name",
        "display_name",
        "description",
        "contact_email",
        "state",
        "scopes",
        "expire_time",
        "create_time",
        "update_time",
        "etag",
    ];
}

impl From<pb::Application> for ApplicationView {
    fn from(application: pb::Application) -> Self {
        let state = match application.state() {
            State::Active => "active",
            State::Disabled => "disabled",
            State::Expired => "expired",
            State::Unspecified => "unknown",
        };
        Self {
            state,
            expire_time: names::moment(application.expire_time.as_ref()),
            create_time: names::moment(application.create_time.as_ref()),
            update_time: names::moment(application.update_time.as_ref()),
            name: application.name,
            display_name: application.display_name,
            description: application.description,
            contact_email: application.contact_email,
            scopes: application.scopes,
            etag: application.etag,
        }
    }
}

impl Application {
    pub(super) async fn run(self) -> Result<(), Failure> {
        let output = self.connection.output;
        let client = &self.connection.applications().await?;
        let mut calls = client.clone();
        let application = match self.command {
            Command::List { tenant, limit } => {
                let parent = &names::tenant(&tenant);
                let applications = all_pages(limit, async |page_token| {
                    let parent = parent.clone();
                    let request = pb::ListApplicationsRequest {
                        parent,
                        page_size: PAGE_SIZE,
                        page_token,
                        ..Default::default()
                    };
                    let page = client.clone().list_applications(request).await?.into_inner();
                    Ok((page.applications, page.next_page_token))
                })
                .await?;
                let views: Vec<_> = applications.into_iter().map(ApplicationView::from).collect();
                return output.many(&views);
            }
            Command::Show { name } => {
                let request = pb::GetApplicationRequest { name: names::application(&name) };
                calls.get_application(request).await?.into_inner().application
            }
            Command::Create { tenant, id, fields, request_id } => {
                let (application, _) = fields.message();
                let request = pb::CreateApplicationRequest {
                    parent: names::tenant(&tenant),
                    application_id: id,
                    application: Some(application),
                    request_id,
                };
                calls.create_application(request).await?.into_inner().application
            }
            Command::Update { name, fields, disabled, etag } => {
                let (application, mut paths) = fields.message();
                paths.extend(disabled.map(|_| "disabled".to_owned()));
                let application = pb::Application {
                    name: names::application(&name),
                    disabled: disabled.unwrap_or_default(),
                    etag,
                    ..application
                };
                let request = pb::UpdateApplicationRequest {
                    application: Some(application),
                    update_mask: Some(FieldMask { paths }),
                };
                calls.update_application(request).await?.into_inner().application
            }
            Command::Delete { name, etag } => {
                let name = names::application(&name);
                let request = pb::DeleteApplicationRequest { name: name.clone(), etag };
                calls.delete_application(request).await?;
                output.done(&format!("{name} is deleted"));
                return Ok(());
            }
        };
        output.one(&ApplicationView::from(application.unwrap_or_default()))
    }
}
