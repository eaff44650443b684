//! `keyward scope`

use clap::Args;
use serde_json::json;

use super::{Deleted, FieldFlags, InTenant, Made, MaskBuilder, NoFlags, Resource, Words, calls};
use crate::cli::names::moment;
use crate::cli::output::{Column, Tabular, listed, member};
use crate::proto::admin as pb;
use crate::proto::admin::scope_service_client::ScopeServiceClient;

#[derive(Debug, Args)]
pub(in crate::cli) struct ScopeFields {
    /// The display name
    #[arg(long, value_name = "TEXT")]
    display_name: Option<String>,
    /// What the scope allows
    #[arg(long, value_name = "TEXT")]
    description: Option<String>,
    /// The part of the platform that it belongs to
    #[arg(long, value_name = "TEXT")]
    domain: Option<String>,
    /// The group that it is offered with
    #[arg(long, value_name = "TEXT")]
    family: Option<String>,
}

impl FieldFlags<pb::Scope> for ScopeFields {
    fn apply(&self, scope: &mut pb::Scope, mask: &mut MaskBuilder) {
        mask.set("display_name", self.display_name.as_ref(), &mut scope.display_name);
        mask.set("description", self.description.as_ref(), &mut scope.description);
        mask.set("domain", self.domain.as_ref(), &mut scope.domain);
        mask.set("family", self.family.as_ref(), &mut scope.family);
    }
}

#[derive(Debug, Args)]
pub(in crate::cli) struct ScopeUpdate {
    /// Disable the scope (true), which revokes the tokens of its holders, or enable it (false)
    #[arg(long, value_name = "BOOL")]
    disabled: Option<bool>,
}

impl FieldFlags<pb::Scope> for ScopeUpdate {
    fn apply(&self, scope: &mut pb::Scope, mask: &mut MaskBuilder) {
        mask.set("disabled", self.disabled.as_ref(), &mut scope.disabled);
    }
}

#[derive(Debug, Args)]
pub(in crate::cli) struct ScopeDelete {
    /// Remove the scope from the applications and roles that hold it, and revoke their tokens
    #[arg(long)]
    force: bool,
}

impl Tabular for pb::Scope {
    const COLUMNS: &'static [Column<Self>] = &[
        listed(1, "scope", |scope| json!(scope.name.split_once("/scopes/").map(|(_, id)| id))),
        member("name", |scope| json!(scope.name)),
        listed(3, "display_name", |scope| json!(scope.display_name)),
        listed(4, "domain", |scope| json!(scope.domain)),
        listed(5, "family", |scope| json!(scope.family)),
        listed(2, "disabled", |scope| json!(scope.disabled)),
        member("disabled_by_platform", |scope| json!(scope.disabled_by_platform)),
        listed(6, "description", |scope| json!(scope.description)),
        listed(8, "create_time", |scope| json!(moment(scope.create_time.as_ref()))),
        listed(7, "update_time", |scope| json!(moment(scope.update_time.as_ref()))),
        member("etag", |scope| json!(scope.etag)),
    ];
}

impl Resource for pb::Scope {
    const COLLECTIONS: &'static [&'static str] = &["tenants", "scopes"];
    const WORDS: Words = Words {
        name: "The scope: acme/campaigns.read",
        new_name: "The new scope: acme/campaigns.read",
        list: ("List the scopes of a tenant's catalogue", &["acme"]),
        show: ("Show a scope", &["acme/campaigns.read"]),
        create: (
            "Add a scope to a tenant's catalogue",
            &["acme/campaigns.read --description 'Look at campaigns'"],
        ),
        update: ("Change the given fields of a scope", &["acme/campaigns.read --disabled true"]),
        delete: ("Delete scopes from a tenant's catalogue", &["acme/campaigns.read --force"]),
    };

    type Place = InTenant;
    type Filter = NoFlags;
    type Fields = ScopeFields;
    type OnCreate = NoFlags;
    type OnUpdate = ScopeUpdate;
    type OnDelete = ScopeDelete;

    calls! { ScopeServiceClient;
        list_scopes(parent, _filter, page) pb::ListScopesRequest {
            parent, page_size: page.size, page_token: page.token,
        } => |answer| (answer.scopes, answer.next_page_token);
        get_scope(name) pb::GetScopeRequest { name } => |answer| answer.scope;
        create_scope(new, _flags) pb::CreateScopeRequest {
            parent: new.parent, scope_id: new.id, scope: Some(new.resource),
        } => |answer| Made::plain(answer.scope);
        update_scope(scope, mask, _flags) pb::UpdateScopeRequest {
            scope: Some(scope), update_mask: Some(mask),
        } => |answer| answer.scope;
        delete_scope(name, etag, flags) pb::DeleteScopeRequest {
            name, etag, force: flags.force,
        } => |_answer| Deleted::plain();
    }

    fn consequence(flags: &ScopeDelete) -> Option<&'static str> {
        Some(if flags.force {
            "The applications and roles that hold it lose it, and their tokens are revoked."
        } else {
            "Applications and roles can no longer be given it."
        })
    }
}
