//! `keyward application`

use clap::{ArgGroup, Args, Subcommand, ValueEnum};
use prost_types::FieldMask;

use super::application_view::{ApplicationView, DeletedView};
use super::client::{Authorized, all_pages};
use super::limits::limit_flags;
use super::names::Expiry;
use super::{Connection, Failure, Format, names};
use crate::domain::Moment;
use crate::proto::admin as pb;
use crate::proto::admin::application_service_client::ApplicationServiceClient;
use crate::proto::admin::list_applications_request::Ownership;

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
    /// List a tenant's applications: those that meet every condition given
    #[command(after_help = "\
Examples:
  keyward application list acme
  keyward application list acme --users --expiring 30d --order-by 'last_use_time desc'")]
    List {
        /// The tenant: acme
        tenant: String,
        #[command(flatten)]
        conditions: Conditions,
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
Examples:
  keyward application create acme --id crm --display-name CRM --scope campaigns.read
  keyward application create acme --display-name Mine --owner acme/sam --expire-time 90d")]
    Create {
        /// The tenant: acme
        tenant: String,
        /// Its id: 1 to 63 of a-z 0-9 - _ [default: one is made]
        #[arg(long, default_value = "", hide_default_value = true)]
        id: String,
        /// Who owns it: account, or a user as acme/sam [default: the acting user if there is
        /// one and he may, else account]
        #[arg(long)]
        owner: Option<String>,
        #[command(flatten)]
        fields: Fields,
        /// Names this very request, so that it can be repeated safely
        #[arg(long, default_value = "", hide_default_value = true)]
        request_id: String,
    },
    /// Change what is given of an application
    #[command(after_help = "\
Examples:
  keyward application update acme/crm --scope campaigns.read --expire-time 90d
  keyward application update acme/crm --limit-requests 40 --limit-window 1m")]
    Update {
        /// The application: acme/crm
        name: String,
        #[command(flatten)]
        fields: Fields,
        /// Disable it (true), revoking its tokens, or enable it again (false)
        #[arg(long)]
        disabled: Option<bool>,
        /// Protect it (true) from being edited and deleted, or do so no more (false)
        #[arg(long)]
        protected: Option<bool>,
        /// Only if it still has this etag
        #[arg(long, default_value = "", hide_default_value = true)]
        etag: String,
    },
    /// Delete applications and their credentials; of several, one that cannot be deleted
    /// keeps none of the others
    #[command(after_help = "\
Examples:
  keyward application delete acme/crm
  keyward application delete acme/crm acme/old acme/older")]
    Delete {
        /// The application: acme/crm; more of the same tenant can follow
        #[arg(required = true, value_name = "NAME")]
        names: Vec<String>,
        /// Only if it, the only one, still has this etag
        #[arg(long, default_value = "", hide_default_value = true)]
        etag: String,
    },
}

limit_flags!(LimitFlags, "limit", "", "no-limits": "No limits of its own: the policy's apply");

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
    /// A role it has, whose scopes it may use too, again for more; on update, in place of
    /// those it has ('': none)
    #[arg(long, value_name = "ROLE")]
    role: Vec<String>,
    #[command(flatten)]
    limits: LimitFlags,
    /// When it ends: 2027-01-31T00:00:00Z, a span as 90d, or never
    #[arg(long, value_name = "TIME", value_parser = names::expiry)]
    expire_time: Option<Expiry>,
}

impl Fields {
    /// The message and the fields that were given; limits that are given in part are
    /// completed from those before.
    fn message(self, before: Option<pb::Limits>) -> (pb::Application, Vec<String>) {
        let mask = names::given([
            ("display_name", self.display_name.is_some()),
            ("description", self.description.is_some()),
            ("contact_email", self.contact_email.is_some()),
            ("scopes", !self.scope.is_empty()),
            ("roles", !self.role.is_empty()),
            ("limits", self.limits.given().is_any()),
            ("expire_time", self.expire_time.is_some()),
        ]);
        let application = pb::Application {
            display_name: self.display_name.unwrap_or_default(),
            description: self.description.unwrap_or_default(),
            contact_email: self.contact_email.unwrap_or_default(),
            scopes: names::given_words(self.scope),
            roles: names::roles(self.role),
            limits: self.limits.given().onto(before),
            expire_time: self.expire_time.and_then(Expiry::message),
            ..pb::Application::default()
        };
        (application, mask)
    }
}

/// Which applications are wanted.
#[derive(Debug, Args)]
#[command(group(ArgGroup::new("whose").args(["mine", "users", "account", "owner"])))]
struct Conditions {
    /// A part of the display name, whatever its case
    #[arg(long, value_name = "TEXT")]
    search: Option<String>,
    /// Those of the user that is acted for
    #[arg(long)]
    mine: bool,
    /// Those of any user
    #[arg(long)]
    users: bool,
    /// Those of the account
    #[arg(long)]
    account: bool,
    /// Those of one user: acme/sam
    #[arg(long, value_name = "USER")]
    owner: Option<String>,
    /// Those in this state
    #[arg(long, value_enum)]
    state: Option<State>,
    /// Those that end within this span, as 30d, or before a moment, or have ended
    #[arg(long, value_name = "SPAN", value_parser = names::ahead)]
    expiring: Option<Moment>,
    /// `name`, `display_name`, `create_time` or `last_use_time`; ' desc' behind it: the last
    /// first
    #[arg(long, value_name = "ORDER", default_value = "name")]
    order_by: String,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum State {
    Active,
    Disabled,
    Expired,
}

impl Conditions {
    /// The request for a page of the applications that meet them.
    fn request(
        &self,
        parent: &str,
        page_size: i32,
        page_token: String,
    ) -> pb::ListApplicationsRequest {
        let ownership = match self {
            Self { mine: true, .. } => Ownership::Mine,
            Self { users: true, .. } => Ownership::Users,
            Self { account: true, .. } => Ownership::Account,
            _ => Ownership::Unspecified,
        };
        let state = match self.state {
            None => pb::application::State::Unspecified,
            Some(State::Active) => pb::application::State::Active,
            Some(State::Disabled) => pb::application::State::Disabled,
            Some(State::Expired) => pb::application::State::Expired,
        };
        let owner = self.owner.as_deref().map(|owner| names::owner(owner, parent));
        pb::ListApplicationsRequest {
            parent: parent.to_owned(),
            page_size,
            page_token,
            search: self.search.clone().unwrap_or_default(),
            ownership: ownership.into(),
            owner: owner.unwrap_or_default(),
            state: state.into(),
            expire_before: self.expiring.map(names::timestamp),
            order_by: self.order_by.clone(),
        }
    }
}

impl Application {
    pub(super) async fn run(self) -> Result<(), Failure> {
        let output = self.connection.output;
        let client = &self.connection.applications().await?;
        let mut calls = client.clone();
        let application = match self.command {
            Command::List { tenant, conditions, limit } => {
                let (parent, conditions) = (&names::tenant(&tenant), &conditions);
                let applications = all_pages(limit, async |page_size, page_token| {
                    let request = conditions.request(parent, page_size, page_token);
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
            Command::Create { tenant, id, owner, fields, request_id } => {
                let (mut application, _) = fields.message(None);
                let parent = names::tenant(&tenant);
                application.owner =
                    owner.map(|owner| names::owner(&owner, &parent)).unwrap_or_default();
                let request = pb::CreateApplicationRequest {
                    parent,
                    application_id: id,
                    application: Some(application),
                    request_id,
                };
                calls.create_application(request).await?.into_inner().application
            }
            Command::Update { name, fields, disabled, protected, mut etag } => {
                let name = names::application(&name);
                let mut limits = None;
                if fields.limits.given().is_any() {
                    let request = pb::GetApplicationRequest { name: name.clone() };
                    let read = calls.get_application(request).await?.into_inner();
                    let read = read.application.unwrap_or_default();
                    limits = read.limits;
                    etag = if etag.is_empty() { read.etag } else { etag };
                }
                let (application, mut paths) = fields.message(limits);
                paths.extend(disabled.map(|_| "disabled".to_owned()));
                paths.extend(protected.map(|_| "protected".to_owned()));
                let application = pb::Application {
                    name,
                    disabled: disabled.unwrap_or_default(),
                    protected: protected.unwrap_or_default(),
                    etag,
                    ..application
                };
                let request = pb::UpdateApplicationRequest {
                    application: Some(application),
                    update_mask: Some(FieldMask { paths }),
                };
                calls.update_application(request).await?.into_inner().application
            }
            Command::Delete { names, etag } => {
                let names: Vec<_> = names.iter().map(|name| names::application(name)).collect();
                return delete(calls, names, etag, output).await;
            }
        };
        output.one(&ApplicationView::from(application.unwrap_or_default()))
    }
}

/// Deletes one application, or several at once.
async fn delete(
    mut calls: ApplicationServiceClient<Authorized>,
    names: Vec<String>,
    etag: String,
    output: Format,
) -> Result<(), Failure> {
    if let [name] = &names[..] {
        let request = pb::DeleteApplicationRequest { name: name.clone(), etag };
        calls.delete_application(request).await?;
        output.done(&format!("{name} is deleted"));
        return Ok(());
    }
    if !etag.is_empty() {
        return Err(Failure::usage("an etag is of one application: name that alone"));
    }
    let request = pb::BatchDeleteApplicationsRequest { parent: tenant_of(&names)?, names };
    let results = calls.batch_delete_applications(request).await?.into_inner().results;
    let views: Vec<_> = results.into_iter().map(DeletedView::from).collect();
    output.many(&views)?;
    match views.iter().filter(|view| !view.deleted).count() {
        0 => Ok(()),
        left => Err(Failure::new(format!("{left} of {} were not deleted", views.len()))),
    }
}

/// The tenant that all of these applications are of.
fn tenant_of(names: &[String]) -> Result<String, Failure> {
    let mut tenants = Vec::with_capacity(names.len());
    for name in names {
        tenants.push(names::split(name, "/applications/")?.0);
    }
    tenants.dedup();
    match tenants[..] {
        [tenant] => Ok(tenant.to_owned()),
        _ => Err(Failure::usage("several applications are deleted at once only of one tenant")),
    }
}
