//! `keyward role`

use clap::Args;
use serde_json::json;

use super::{Deleted, FieldFlags, InTenant, Made, MaskBuilder, NoFlags, Resource, Words, calls};
use crate::cli::names::moment;
use crate::cli::output::{Column, Tabular, listed, member};
use crate::proto::admin as pb;
use crate::proto::admin::role_service_client::RoleServiceClient;

#[derive(Debug, Args)]
pub(in crate::cli) struct RoleFields {
    /// The display name
    #[arg(long, value_name = "TEXT")]
    display_name: Option<String>,
    /// What the role is for
    #[arg(long, value_name = "TEXT")]
    description: Option<String>,
    /// A permission of its holders; repeat it for more. On update it replaces the present ones ('':
    /// none). applications.VERB.REACH (VERB: view, create, edit, delete, reveal; REACH: own,
    /// account, users), audit.view, catalogue.edit, users.view, users.edit, roles.edit,
    /// policy.edit, limits.edit
    #[arg(long, value_name = "PERMISSION")]
    permission: Vec<String>,
    /// A scope that its holders may grant; repeat it for more. On update it replaces the present
    /// ones ('': none)
    #[arg(long, value_name = "SCOPE")]
    scope: Vec<String>,
    /// Whether its holders may grant every scope, future ones included
    #[arg(long, value_name = "BOOL")]
    all_scopes: Option<bool>,
}

impl FieldFlags<pb::Role> for RoleFields {
    fn apply(&self, role: &mut pb::Role, mask: &mut MaskBuilder) {
        mask.set("display_name", self.display_name.as_ref(), &mut role.display_name);
        mask.set("description", self.description.as_ref(), &mut role.description);
        mask.words("permissions", &self.permission, &mut role.permissions);
        mask.words("scopes", &self.scope, &mut role.scopes);
        mask.set("all_scopes", self.all_scopes.as_ref(), &mut role.all_scopes);
    }
}

#[derive(Debug, Args)]
pub(in crate::cli) struct RoleDelete {
    /// Remove the role from the users and applications that hold it, and revoke their tokens
    #[arg(long)]
    force: bool,
}

impl Tabular for pb::Role {
    const COLUMNS: &'static [Column<Self>] = &[
        listed(1, "name", |role| json!(role.name)),
        listed(2, "display_name", |role| json!(role.display_name)),
        listed(6, "description", |role| json!(role.description)),
        listed(3, "all_scopes", |role| json!(role.all_scopes)),
        listed(4, "scopes", |role| json!(role.scopes)),
        listed(5, "permissions", |role| json!(role.permissions)),
        listed(8, "create_time", |role| json!(moment(role.create_time.as_ref()))),
        listed(7, "update_time", |role| json!(moment(role.update_time.as_ref()))),
        member("etag", |role| json!(role.etag)),
    ];
}

impl Resource for pb::Role {
    const COLLECTIONS: &'static [&'static str] = &["tenants", "roles"];
    const WORDS: Words = Words {
        name: "The role: acme/admin",
        new_name: "The new role: acme/admin",
        list: ("List the roles of a tenant", &["acme"]),
        show: ("Show a role", &["acme/admin"]),
        create: ("Create a role", &["acme/admin --scope users.read --permission users.view"]),
        update: ("Change the given fields of a role", &["acme/admin --all-scopes true"]),
        delete: ("Delete roles", &["acme/admin --force"]),
    };

    type Place = InTenant;
    type Filter = NoFlags;
    type Fields = RoleFields;
    type OnCreate = NoFlags;
    type OnUpdate = NoFlags;
    type OnDelete = RoleDelete;

    calls! { RoleServiceClient;
        list_roles(parent, _filter, page) pb::ListRolesRequest {
            parent, page_size: page.size, page_token: page.token,
        } => |answer| (answer.roles, answer.next_page_token);
        get_role(name) pb::GetRoleRequest { name } => |answer| answer.role;
        create_role(new, _flags) pb::CreateRoleRequest {
            parent: new.parent, role_id: new.id, role: Some(new.resource),
        } => |answer| Made::plain(answer.role);
        update_role(role, mask, _flags) pb::UpdateRoleRequest {
            role: Some(role), update_mask: Some(mask),
        } => |answer| answer.role;
        delete_role(name, etag, flags) pb::DeleteRoleRequest {
            name, etag, force: flags.force,
        } => |_answer| Deleted::plain();
    }

    fn consequence(flags: &RoleDelete) -> Option<&'static str> {
        Some(if flags.force {
            "The users and applications that hold it lose it, and their tokens are revoked."
        } else {
            "Users and applications can no longer be given it."
        })
    }
}
