//! `keyward application`

use clap::{ArgGroup, Args, ValueEnum};
use serde_json::json;

use super::limits::{LimitsView, limit_flags};
use super::{
    Deleted, FieldFlags, InTenant, Made, MaskBuilder, New, NoFlags, PageArgs, Resource, Words,
    calls,
};
use crate::cli::client::Authorized;
use crate::cli::names::{self, Expiry, TokenLifetimeArg, moment};
use crate::cli::output::{Column, Tabular, listed, member};
use crate::cli::{Failure, exit};
use crate::domain::Moment;
use crate::proto::admin as pb;
use crate::proto::admin::application::State;
use crate::proto::admin::application_service_client::ApplicationServiceClient;
use crate::proto::admin::list_applications_request::Ownership;

limit_flags!(ApplicationLimits, "limit", "", "no-limits": "No own limits: the policy's apply");

#[derive(Debug, Args)]
pub(in crate::cli) struct ApplicationFields {
    /// The display name
    #[arg(long, value_name = "TEXT")]
    display_name: Option<String>,
    /// What the application is for
    #[arg(long, value_name = "TEXT")]
    description: Option<String>,
    /// The email address of a contact
    #[arg(long, value_name = "EMAIL")]
    contact_email: Option<String>,
    /// A scope of the application; repeat it for more. On update it replaces the present ones
    /// ('': none)
    #[arg(long, value_name = "SCOPE")]
    scope: Vec<String>,
    /// A role of the application, whose scopes it gets; repeat it for more. On update it replaces
    /// the present ones ('': none)
    #[arg(long, value_name = "ROLE")]
    role: Vec<String>,
    /// An audience for which the application may exchange tokens of others; repeat it for more. On
    /// update it replaces the present ones ('': none)
    #[arg(long, value_name = "AUDIENCE")]
    exchange_audience: Vec<String>,
    /// How long its access tokens live, if shorter than the tenant's: 1m to 1h, or tenant (as long
    /// as the tenant's)
    #[arg(long, value_name = "SPAN", value_parser = names::token_lifetime)]
    token_lifetime: Option<TokenLifetimeArg>,
    #[command(flatten)]
    limits: ApplicationLimits,
    /// When the application expires: 2027-01-31T00:00:00Z, a span like 90d, or never
    #[arg(long, value_name = "TIME", value_parser = names::expiry)]
    expire_time: Option<Expiry>,
}

impl FieldFlags<pb::Application> for ApplicationFields {
    /// Limits are replaced as a whole.
    fn needs_current(&self) -> bool {
        self.limits.given().is_any()
    }

    fn apply(&self, application: &mut pb::Application, mask: &mut MaskBuilder) {
        let expire_time = self.expire_time.map(Expiry::message);
        let token_lifetime = self.token_lifetime.map(TokenLifetimeArg::message);
        mask.set("display_name", self.display_name.as_ref(), &mut application.display_name);
        mask.set("description", self.description.as_ref(), &mut application.description);
        mask.set("contact_email", self.contact_email.as_ref(), &mut application.contact_email);
        mask.words("scopes", &self.scope, &mut application.scopes);
        mask.words("roles", &names::roles(&self.role), &mut application.roles);
        mask.words(
            "exchange_audiences",
            &self.exchange_audience,
            &mut application.exchange_audiences,
        );
        mask.set(
            "access_token_lifetime",
            token_lifetime.as_ref(),
            &mut application.access_token_lifetime,
        );
        mask.set("expire_time", expire_time.as_ref(), &mut application.expire_time);
        self.limits.given().apply(&mut application.limits, mask);
    }
}

#[derive(Debug, Args)]
pub(in crate::cli) struct ApplicationCreate {
    /// The owner: account, or a user like acme/sam [default: the acting user if that user may own
    /// one, otherwise the account]
    #[arg(long)]
    owner: Option<String>,
    /// An id of this request, with which it can be retried safely
    #[arg(long, value_name = "ID", default_value = "", hide_default_value = true)]
    request_id: String,
}

impl ApplicationCreate {
    fn request(&self, new: New<pb::Application>) -> pb::CreateApplicationRequest {
        let New { parent, id, mut resource } = new;
        if let Some(owner) = &self.owner {
            resource.owner = names::owner(owner, &parent);
        }
        pb::CreateApplicationRequest {
            parent,
            application_id: id,
            application: Some(resource),
            request_id: self.request_id.clone(),
        }
    }
}

#[derive(Debug, Args)]
pub(in crate::cli) struct ApplicationUpdate {
    /// Disable the application (true), which revokes its tokens, or enable it (false)
    #[arg(long, value_name = "BOOL")]
    disabled: Option<bool>,
    /// Protect the application from changes and deletion (true), or stop protecting it (false)
    #[arg(long, value_name = "BOOL")]
    protected: Option<bool>,
}

impl FieldFlags<pb::Application> for ApplicationUpdate {
    fn apply(&self, application: &mut pb::Application, mask: &mut MaskBuilder) {
        mask.set("disabled", self.disabled.as_ref(), &mut application.disabled);
        mask.set("protected", self.protected.as_ref(), &mut application.protected);
    }
}

/// The filter of a list. An application must meet all conditions.
#[derive(Debug, Default, Args)]
#[command(group(ArgGroup::new("whose").args(["mine", "users", "account", "owner"])))]
pub(in crate::cli) struct ApplicationFilterArgs {
    /// A part of the display name, in upper or lower case
    #[arg(long, value_name = "TEXT")]
    search: Option<String>,
    /// Only applications of the acting user
    #[arg(long)]
    mine: bool,
    /// Only applications of users
    #[arg(long)]
    users: bool,
    /// Only applications of the account
    #[arg(long)]
    account: bool,
    /// Only applications of one user: acme/sam
    #[arg(long, value_name = "USER")]
    owner: Option<String>,
    /// Only applications in this state
    #[arg(long, value_enum)]
    state: Option<StateWord>,
    /// Only those that expire within this span (30d) or before this time, or have expired
    #[arg(long, value_name = "SPAN", value_parser = names::ahead)]
    expiring: Option<Moment>,
    /// The order: `name`, `display_name`, `create_time` or `last_use_time`; add ' desc' for
    /// descending
    #[arg(long, value_name = "ORDER", default_value = "name")]
    order_by: String,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
pub(in crate::cli) enum StateWord {
    Active,
    Disabled,
    Expired,
}

impl ApplicationFilterArgs {
    fn request(&self, parent: String, page: PageArgs) -> pb::ListApplicationsRequest {
        let ownership = match self {
            Self { mine: true, .. } => Ownership::Mine,
            Self { users: true, .. } => Ownership::Users,
            Self { account: true, .. } => Ownership::Account,
            _ => Ownership::Unspecified,
        };
        let state = match self.state {
            None => State::Unspecified,
            Some(StateWord::Active) => State::Active,
            Some(StateWord::Disabled) => State::Disabled,
            Some(StateWord::Expired) => State::Expired,
        };
        let owner = self.owner.as_deref().map(|owner| names::owner(owner, &parent));
        pb::ListApplicationsRequest {
            parent,
            page_size: page.size,
            page_token: page.token,
            search: self.search.clone().unwrap_or_default(),
            ownership: ownership.into(),
            owner: owner.unwrap_or_default(),
            state: state.into(),
            expire_before: self.expiring.map(Into::into),
            order_by: self.order_by.clone(),
        }
    }
}

impl Tabular for pb::Application {
    const COLUMNS: &'static [Column<Self>] = &[
        listed(1, "name", |app| json!(app.name)),
        listed(2, "display_name", |app| json!(app.display_name)),
        listed(9, "description", |app| json!(app.description)),
        member("contact_email", |app| json!(app.contact_email)),
        listed(4, "owner", |app| json!(app.owner)),
        listed(3, "state", |app| {
            json!(match app.state() {
                State::Active => "active",
                State::Disabled => "disabled",
                State::Expired => "expired",
                State::Unspecified => "unknown",
            })
        }),
        member("disabled_by_platform", |app| json!(app.disabled_by_platform)),
        member("protected", |app| json!(app.protected)),
        listed(7, "masked_secrets", |app| json!(app.masked_secrets)),
        listed(5, "last_use_time", |app| json!(moment(app.last_use_time.as_ref()))),
        member("last_use_address", |app| json!(app.last_use_address)),
        listed(6, "expire_time", |app| json!(moment(app.expire_time.as_ref()))),
        listed(8, "scopes", |app| json!(app.scopes)),
        member("roles", |app| json!(app.roles)),
        member("exchange_audiences", |app| json!(app.exchange_audiences)),
        member("access_token_lifetime", |app| {
            json!(names::seconds(app.access_token_lifetime.as_ref()))
        }),
        member("effective_scopes", |app| json!(app.effective_scopes)),
        member("limits", |app| json!(app.limits.map(LimitsView::from))),
        member("limits_lifted", |app| json!(app.limits_lifted)),
        listed(11, "create_time", |app| json!(moment(app.create_time.as_ref()))),
        listed(10, "update_time", |app| json!(moment(app.update_time.as_ref()))),
        member("etag", |app| json!(app.etag)),
    ];
}

impl Resource for pb::Application {
    const COLLECTIONS: &'static [&'static str] = &["tenants", "applications"];
    const WORDS: Words = Words {
        name: "The application: acme/crm",
        new_name: "The new application: acme/crm. Its id has 1 to 63 of a-z 0-9 - _; with the \
                   tenant alone, acme, the server makes an id",
        list: (
            "List the applications of a tenant: those that meet all conditions",
            &["acme", "acme --users --expiring 30d --order-by 'last_use_time desc'"],
        ),
        show: ("Show an application", &["acme/crm"]),
        create: (
            "Create an application",
            &[
                "acme/crm --display-name CRM --scope campaigns.read",
                "acme --display-name Mine --owner acme/sam --expire-time 90d",
            ],
        ),
        update: (
            "Change the given fields of an application",
            &[
                "acme/crm --scope campaigns.read --expire-time 90d",
                "acme/crm --token-lifetime 5m",
                "acme/crm --limit-requests 40 --limit-window 1m",
            ],
        ),
        delete: (
            "Delete applications and their credentials. One that cannot be deleted does not keep \
             the others",
            &["acme/crm", "acme/crm acme/old acme/older --yes"],
        ),
    };

    type Place = InTenant;
    type Filter = ApplicationFilterArgs;
    type Fields = ApplicationFields;
    type OnCreate = ApplicationCreate;
    type OnUpdate = ApplicationUpdate;
    type OnDelete = NoFlags;

    calls! { ApplicationServiceClient;
        list_applications(parent, filter, page) filter.request(parent, page)
            => |answer| (answer.applications, answer.next_page_token);
        get_application(name) pb::GetApplicationRequest { name } => |answer| answer.application;
        create_application(new, flags) flags.request(new)
            => |answer| Made::plain(answer.application);
        update_application(application, mask, _flags) pb::UpdateApplicationRequest {
            application: Some(application), update_mask: Some(mask),
        } => |answer| answer.application;
        delete_application(name, etag, _flags) pb::DeleteApplicationRequest { name, etag }
            => |_answer| Deleted::plain();
    }

    /// With only a tenant, the server makes the id.
    fn place(name: &str) -> Result<(String, String), Failure> {
        let name = names::expand(name, Self::COLLECTIONS);
        if names::split(&name, &["tenants"]).is_ok_and(|(_, id)| !id.contains('/')) {
            return Ok((name, String::new()));
        }
        let (parent, id) = names::split(&name, Self::COLLECTIONS)?;
        Ok((parent.to_owned(), id.to_owned()))
    }

    /// Deletes all applications in one request.
    async fn delete_all(
        channel: Authorized,
        names: Vec<String>,
        _: &NoFlags,
    ) -> Result<Vec<(String, Result<Deleted, Failure>)>, Failure> {
        let request = pb::BatchDeleteApplicationsRequest { parent: tenant_of(&names)?, names };
        let answer =
            ApplicationServiceClient::new(channel).batch_delete_applications(request).await?;
        let results = answer.into_inner().results.into_iter();
        Ok(results
            .map(|result| {
                let outcome = match exit::reason_word(result.reason()) {
                    None => Ok(Deleted::plain()),
                    Some(reason) => Err(Failure::with_reason(reason, result.message)),
                };
                (result.name, outcome)
            })
            .collect())
    }

    fn consequence(_: &NoFlags) -> Option<&'static str> {
        Some("The credentials are deleted too, and the tokens are refused.")
    }
}

/// The common tenant of these applications.
fn tenant_of(names: &[String]) -> Result<String, Failure> {
    let mut tenants = Vec::with_capacity(names.len());
    for name in names {
        tenants.push(names::split(name, &["tenants", "applications"])?.0);
    }
    tenants.dedup();
    match tenants[..] {
        [tenant] => Ok(tenant.to_owned()),
        _ => Err(Failure::usage(
            "several applications can be deleted together only if they are in one tenant",
        )),
    }
}
