//! `keyward tenant`

use clap::{Args, Subcommand};
use prost_types::{Duration, FieldMask};
use serde::Serialize;

use super::apply::tell;
use super::client::{Authorized, all_pages};
use super::output::View;
use super::policy::{PolicyFlags, PolicyView};
use super::{Connection, Failure, names};
use crate::proto::admin as pb;
use crate::proto::admin::tenant_service_client::TenantServiceClient;

/// Manage tenants: the customers of the platform.
#[derive(Debug, Args)]
pub(super) struct Tenant {
    #[command(subcommand)]
    command: Command,
    #[command(flatten)]
    connection: Connection,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// List tenants
    #[command(after_help = "Example:\n  keyward tenant list --output json")]
    List {
        /// The most to list
        #[arg(long, default_value_t = 1000)]
        limit: usize,
    },
    /// Show a tenant
    #[command(after_help = "Example:\n  keyward tenant show acme")]
    Show {
        /// The tenant: acme
        name: String,
    },
    /// Create a tenant
    #[command(after_help = "Example:\n  keyward tenant create acme --display-name 'Acme Ltd'")]
    Create {
        /// Its id: 1 to 63 of a-z 0-9 - _
        id: String,
        #[command(flatten)]
        fields: Fields,
        #[command(flatten)]
        policy: Box<PolicyFlags>,
    },
    /// Change what is given of a tenant and its policy, and tell what is there already and
    /// the policy would not allow any more
    #[command(after_help = "\
Examples:
  keyward tenant update acme --access-token-lifetime 5m
  keyward tenant update acme --max-credentials 50 --max-credential-lifetime 365d")]
    Update {
        /// The tenant: acme
        name: String,
        #[command(flatten)]
        fields: Fields,
        /// Disable it (true), revoking all of its tokens, or enable it again (false)
        #[arg(long)]
        disabled: Option<bool>,
        /// Only if it still has this etag
        #[arg(long, default_value = "", hide_default_value = true)]
        etag: String,
        #[command(flatten)]
        policy: Box<PolicyFlags>,
    },
    /// Delete a tenant
    #[command(after_help = "Example:\n  keyward tenant delete acme --force")]
    Delete {
        /// The tenant: acme
        name: String,
        /// Delete its applications and their credentials too
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
    /// The audience of tokens for which none is asked
    #[arg(long, value_name = "AUDIENCE")]
    default_audience: Option<String>,
    /// An audience that may be asked for, again for more; on update, in place of those
    /// there are ('': none)
    #[arg(long, value_name = "AUDIENCE")]
    additional_audience: Vec<String>,
    /// How long access tokens live: 1m to 1h
    #[arg(long, value_name = "SPAN", value_parser = names::span)]
    access_token_lifetime: Option<Duration>,
}

impl Fields {
    /// The message and the fields that were given.
    fn message(self) -> (pb::Tenant, Vec<String>) {
        let mask = names::given([
            ("display_name", self.display_name.is_some()),
            ("default_audience", self.default_audience.is_some()),
            ("additional_audiences", !self.additional_audience.is_empty()),
            ("access_token_lifetime", self.access_token_lifetime.is_some()),
        ]);
        let tenant = pb::Tenant {
            display_name: self.display_name.unwrap_or_default(),
            default_audience: self.default_audience.unwrap_or_default(),
            additional_audiences: names::given_words(self.additional_audience),
            access_token_lifetime: self.access_token_lifetime,
            ..pb::Tenant::default()
        };
        (tenant, mask)
    }
}

#[derive(Serialize)]
struct TenantView {
    name: String,
    display_name: String,
    default_audience: String,
    additional_audiences: Vec<String>,
    access_token_lifetime: Option<String>,
    disabled: bool,
    policy: PolicyView,
    create_time: Option<String>,
    update_time: Option<String>,
    etag: String,
}

impl View for TenantView {
    const COLUMNS: &'static [&'static str] =
        &["name", "display_name", "default_audience", "access_token_lifetime", "disabled"];
    const MEMBERS: &'static [&'static str] = &[
        "name",
        "display_name",
        "default_audience",
        "additional_audiences",
        "access_token_lifetime",
        "disabled",
        "policy",
        "create_time",
        "update_time",
        "etag",
    ];
}

impl From<pb::Tenant> for TenantView {
    fn from(tenant: pb::Tenant) -> Self {
        Self {
            access_token_lifetime: names::seconds(tenant.access_token_lifetime.as_ref()),
            policy: tenant.policy.unwrap_or_default().into(),
            create_time: names::moment(tenant.create_time.as_ref()),
            update_time: names::moment(tenant.update_time.as_ref()),
            name: tenant.name,
            display_name: tenant.display_name,
            default_audience: tenant.default_audience,
            additional_audiences: tenant.additional_audiences,
            disabled: tenant.disabled,
            etag: tenant.etag,
        }
    }
}

impl Tenant {
    pub(super) async fn run(self) -> Result<(), Failure> {
        let output = self.connection.output;
        let client = &self.connection.tenants().await?;
        let mut calls = client.clone();
        let tenant = match self.command {
            Command::List { limit } => {
                let tenants = all_pages(limit, async |page_size, page_token| {
                    let request = pb::ListTenantsRequest { page_size, page_token };
                    let page = client.clone().list_tenants(request).await?.into_inner();
                    Ok((page.tenants, page.next_page_token))
                })
                .await?;
                let views: Vec<_> = tenants.into_iter().map(TenantView::from).collect();
                return output.many(&views);
            }
            Command::Show { name } => {
                let request = pb::GetTenantRequest { name: names::tenant(&name) };
                calls.get_tenant(request).await?.into_inner().tenant
            }
            Command::Create { id, fields, policy } => {
                let (mut tenant, _) = fields.message();
                if policy.are_given() {
                    tenant.policy = Some(policy.onto(pb::Policy::default()));
                }
                let request = pb::CreateTenantRequest { tenant_id: id, tenant: Some(tenant) };
                calls.create_tenant(request).await?.into_inner().tenant
            }
            Command::Update { name, fields, policy, disabled, etag } => {
                let (tenant, mut paths) = fields.message();
                paths.extend(disabled.map(|_| "disabled".to_owned()));
                let tenant = pb::Tenant {
                    name: names::tenant(&name),
                    disabled: disabled.unwrap_or_default(),
                    etag,
                    ..tenant
                };
                update(&mut calls, tenant, paths, policy).await?
            }
            Command::Delete { name, force, etag } => {
                let name = names::tenant(&name);
                let request = pb::DeleteTenantRequest { name: name.clone(), etag, force };
                calls.delete_tenant(request).await?;
                output.done(&format!("{name} is deleted"));
                return Ok(());
            }
        };
        output.one(&TenantView::from(tenant.unwrap_or_default()))
    }
}

/// Changes a tenant. A policy is changed as a whole: what is not given of it stays as it is
/// in the version that was read.
async fn update(
    calls: &mut TenantServiceClient<Authorized>,
    mut tenant: pb::Tenant,
    mut paths: Vec<String>,
    policy: Box<PolicyFlags>,
) -> Result<Option<pb::Tenant>, Failure> {
    if policy.are_given() {
        let request = pb::GetTenantRequest { name: tenant.name.clone() };
        let read = calls.get_tenant(request).await?.into_inner().tenant.unwrap_or_default();
        tenant.policy = Some(policy.onto(read.policy.unwrap_or_default()));
        if tenant.etag.is_empty() {
            tenant.etag = read.etag;
        }
        paths.push("policy".to_owned());
    }
    let update_mask = Some(FieldMask { paths });
    let request = pb::UpdateTenantRequest { tenant: Some(tenant), update_mask };
    let updated = calls.update_tenant(request).await?.into_inner();
    tell(&updated.violations);
    Ok(updated.tenant)
}
