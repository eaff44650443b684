//! Roles.

use std::collections::BTreeSet;

use super::{Mask, required, timestamp};
use crate::domain::text::{long_text, text};
use crate::domain::{
    Fault, FieldErrors, Permission, Role, RoleId, RoleName, RolePatch, ScopeName, TenantId,
};
use crate::error::Result;
use crate::proto::admin as pb;

const CHANGEABLE: &[&str] = &["display_name", "description", "permissions", "scopes", "all_scopes"];

pub(in crate::grpc) fn create(request: &pb::CreateRoleRequest) -> Result<(RoleName, RolePatch)> {
    let mut fields = FieldErrors::default();
    let tenant = fields.read("parent", TenantId::from_name(&request.parent));
    let role = fields.read("role_id", RoleId::parse(&request.role_id));
    let message = request.role.clone().unwrap_or_default();
    let patch = patch(&mut fields, "role", &message, &Mask::all());
    let name = tenant.zip(role).map(|(tenant, role)| RoleName { tenant, role });
    fields.finish(name.map(|name| (name, patch)))
}

pub(in crate::grpc) fn update(
    request: &pb::UpdateRoleRequest,
) -> Result<(RoleName, RolePatch, &str)> {
    let mut fields = FieldErrors::default();
    let mask = Mask::of_update(request.update_mask.as_ref(), CHANGEABLE, &mut fields);
    let whole = required(&mut fields, "role", request.role.as_ref()).and_then(|message| {
        let name = fields.read("role.name", RoleName::parse(&message.name));
        let patch = patch(&mut fields, "role", message, &mask);
        Some((name?, patch, message.etag.as_str()))
    });
    fields.finish(whole)
}

/// The change that a role message asks for; `field` is the message's own path.
pub(super) fn patch(
    fields: &mut FieldErrors,
    field: &str,
    role: &pb::Role,
    mask: &Mask<'_>,
) -> RolePatch {
    RolePatch {
        display_name: mask.then("display_name", || {
            fields.read(format!("{field}.display_name"), text(&role.display_name, 0, 128))
        }),
        description: mask.then("description", || {
            fields.read(format!("{field}.description"), long_text(&role.description, 1000))
        }),
        permissions: mask.then("permissions", || {
            let field = format!("{field}.permissions");
            fields.read_each(&field, &role.permissions, Permission::parse)
        }),
        scopes: mask.then("scopes", || {
            let field = format!("{field}.scopes");
            fields.read_list(&field, &role.scopes, Role::MAX_SCOPES, ScopeName::parse)
        }),
        all_scopes: mask.then("all_scopes", || Some(role.all_scopes)),
    }
}

/// The ids of roles, given as such or by resource names of this tenant.
pub(super) fn ids(
    fields: &mut FieldErrors,
    field: &str,
    tenant: Option<&TenantId>,
    values: &[String],
) -> Option<BTreeSet<RoleId>> {
    fields.read_list(field, values, Role::MAX_OF_HOLDER, |value| id(tenant, value))
}

/// The id of a role, given as such or by a resource name of this tenant.
pub(super) fn id(tenant: Option<&TenantId>, value: &str) -> Result<RoleId, Fault> {
    match RoleName::parse(value) {
        Ok(name) if tenant.is_none_or(|tenant| *tenant == name.tenant) => Ok(name.role),
        Ok(_) => Err(Fault::new("is a role of another tenant")),
        Err(_) => RoleId::parse(value),
    }
}

pub(in crate::grpc) fn message(role: Role) -> pb::Role {
    pb::Role {
        name: role.name.to_string(),
        permissions: role.settings.permissions.to_strings(),
        scopes: role.settings.scopes.to_strings(),
        all_scopes: role.settings.all_scopes,
        display_name: role.settings.display_name,
        description: role.settings.description,
        create_time: Some(timestamp(role.record.created_at)),
        update_time: Some(timestamp(role.record.updated_at)),
        etag: role.record.etag(),
    }
}
