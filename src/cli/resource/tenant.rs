//! `keyward tenant`

use clap::Args;
use prost_types::Duration;
use serde_json::json;

use super::policy::{PolicyFlags, PolicyView};
use super::{Deleted, FieldFlags, Made, MaskBuilder, NoFlags, Place, Resource, Words, calls};
use crate::cli::apply::report;
use crate::cli::names::{self, moment};
use crate::cli::output::{Column, Tabular, listed, member};
use crate::proto::admin as pb;
use crate::proto::admin::tenant_service_client::TenantServiceClient;

#[derive(Debug, Args)]
pub(in crate::cli) struct TenantFields {
    /// The display name
    #[arg(long, value_name = "TEXT")]
    display_name: Option<String>,
    /// The default audience of tokens
    #[arg(long, value_name = "AUDIENCE")]
    default_audience: Option<String>,
    /// A further audience that tokens can be requested for; repeat it for more. On update it
    /// replaces the present ones ('': none)
    #[arg(long, value_name = "AUDIENCE")]
    additional_audience: Vec<String>,
    /// How long access tokens live: 1m to 1h
    #[arg(long, value_name = "SPAN", value_parser = names::span)]
    access_token_lifetime: Option<Duration>,
    #[command(flatten)]
    policy: Box<PolicyFlags>,
}

impl FieldFlags<pb::Tenant> for TenantFields {
    /// A policy is replaced as a whole.
    fn needs_current(&self) -> bool {
        self.policy.are_given()
    }

    fn apply(&self, tenant: &mut pb::Tenant, mask: &mut MaskBuilder) {
        let lifetime = self.access_token_lifetime.map(Some);
        mask.set("display_name", self.display_name.as_ref(), &mut tenant.display_name);
        mask.set("default_audience", self.default_audience.as_ref(), &mut tenant.default_audience);
        mask.words(
            "additional_audiences",
            &self.additional_audience,
            &mut tenant.additional_audiences,
        );
        mask.set("access_token_lifetime", lifetime.as_ref(), &mut tenant.access_token_lifetime);
        if self.policy.are_given() {
            tenant.policy = Some(self.policy.onto(tenant.policy.take().unwrap_or_default()));
            mask.add("policy");
        }
    }
}

#[derive(Debug, Args)]
pub(in crate::cli) struct TenantUpdate {
    /// Disable the tenant (true), which revokes all of its tokens, or enable it (false)
    #[arg(long, value_name = "BOOL")]
    disabled: Option<bool>,
}

impl FieldFlags<pb::Tenant> for TenantUpdate {
    fn apply(&self, tenant: &mut pb::Tenant, mask: &mut MaskBuilder) {
        mask.set("disabled", self.disabled.as_ref(), &mut tenant.disabled);
    }
}

#[derive(Debug, Args)]
pub(in crate::cli) struct TenantDelete {
    /// Delete its applications and their credentials too
    #[arg(long)]
    force: bool,
}

#[derive(Debug, Args)]
pub(in crate::cli) struct Everywhere {}

impl Place for Everywhere {
    fn parent(&self) -> String {
        String::new()
    }
}

impl Tabular for pb::Tenant {
    const COLUMNS: &'static [Column<Self>] = &[
        listed(1, "name", |tenant| json!(tenant.name)),
        listed(2, "display_name", |tenant| json!(tenant.display_name)),
        listed(4, "default_audience", |tenant| json!(tenant.default_audience)),
        member("additional_audiences", |tenant| json!(tenant.additional_audiences)),
        listed(5, "access_token_lifetime", |tenant| {
            json!(names::seconds(tenant.access_token_lifetime.as_ref()))
        }),
        listed(3, "disabled", |tenant| json!(tenant.disabled)),
        member("policy", |tenant| {
            json!(PolicyView::from(tenant.policy.clone().unwrap_or_default()))
        }),
        listed(7, "create_time", |tenant| json!(moment(tenant.create_time.as_ref()))),
        listed(6, "update_time", |tenant| json!(moment(tenant.update_time.as_ref()))),
        member("etag", |tenant| json!(tenant.etag)),
    ];
}

impl Resource for pb::Tenant {
    const COLLECTIONS: &'static [&'static str] = &["tenants"];
    const WORDS: Words = Words {
        name: "The tenant: acme",
        new_name: "The new tenant: acme. Its id has 1 to 63 of a-z 0-9 - _",
        list: ("List tenants", &["--output json"]),
        show: ("Show a tenant", &["acme"]),
        create: ("Create a tenant", &["acme --display-name 'Acme Ltd'"]),
        update: (
            "Change the given fields of a tenant and its policy, and report what exists and the \
             policy no longer allows",
            &[
                "acme --access-token-lifetime 5m",
                "acme --max-credentials 50 --max-credential-lifetime 365d",
            ],
        ),
        delete: ("Delete tenants", &["acme --force"]),
    };

    type Place = Everywhere;
    type Filter = NoFlags;
    type Fields = TenantFields;
    type OnCreate = NoFlags;
    type OnUpdate = TenantUpdate;
    type OnDelete = TenantDelete;

    calls! { TenantServiceClient;
        list_tenants(_parent, _filter, page) pb::ListTenantsRequest {
            page_size: page.size, page_token: page.token,
        } => |answer| (answer.tenants, answer.next_page_token);
        get_tenant(name) pb::GetTenantRequest { name } => |answer| answer.tenant;
        create_tenant(new, _flags) pb::CreateTenantRequest {
            tenant_id: new.id, tenant: Some(new.resource),
        } => |answer| Made::plain(answer.tenant);
        update_tenant(tenant, mask, _flags) pb::UpdateTenantRequest {
            tenant: Some(tenant), update_mask: Some(mask),
        } => |answer| {
            report(&answer.violations);
            answer.tenant
        };
        delete_tenant(name, etag, flags) pb::DeleteTenantRequest {
            name, etag, force: flags.force,
        } => |_answer| Deleted::plain();
    }

    fn consequence(flags: &TenantDelete) -> Option<&'static str> {
        Some(if flags.force {
            "All of its applications, credentials, users, roles and scopes are deleted too, and \
             its tokens are refused."
        } else {
            "Its users, roles and scopes are deleted too."
        })
    }
}
