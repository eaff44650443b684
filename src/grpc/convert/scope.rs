//! Scopes.

use super::{Mask, required, timestamp};
use crate::domain::text::{long_text, text};
use crate::domain::{FieldErrors, Scope, ScopeId, ScopeName, ScopePatch, TenantId};
use crate::error::Result;
use crate::proto::admin as pb;

const CHANGEABLE: &[&str] = &["display_name", "description", "domain", "family", "disabled"];

pub(in crate::grpc) fn create(request: &pb::CreateScopeRequest) -> Result<(ScopeId, ScopePatch)> {
    let mut fields = FieldErrors::default();
    let tenant = fields.read("parent", TenantId::from_name(&request.parent));
    let scope = fields.read("scope_id", ScopeName::parse(&request.scope_id));
    let message = request.scope.clone().unwrap_or_default();
    let patch = patch(&mut fields, "scope", &message, &Mask::all());
    let id = tenant.zip(scope).map(|(tenant, scope)| ScopeId { tenant, scope });
    fields.finish(id.map(|id| (id, patch)))
}

pub(in crate::grpc) fn update(
    request: &pb::UpdateScopeRequest,
) -> Result<(ScopeId, ScopePatch, &str)> {
    let mut fields = FieldErrors::default();
    let mask = Mask::of_update(request.update_mask.as_ref(), CHANGEABLE, &mut fields);
    let whole = required(&mut fields, "scope", request.scope.as_ref()).and_then(|scope| {
        let id = fields.read("scope.name", ScopeId::parse(&scope.name));
        let patch = patch(&mut fields, "scope", scope, &mask);
        Some((id?, patch, scope.etag.as_str()))
    });
    fields.finish(whole)
}

/// The change that a scope message asks for; `field` is the message's own path.
pub(super) fn patch(
    fields: &mut FieldErrors,
    field: &str,
    scope: &pb::Scope,
    mask: &Mask<'_>,
) -> ScopePatch {
    ScopePatch {
        display_name: mask.then("display_name", || {
            fields.read(format!("{field}.display_name"), text(&scope.display_name, 0, 128))
        }),
        description: mask.then("description", || {
            fields.read(format!("{field}.description"), long_text(&scope.description, 1000))
        }),
        domain: mask
            .then("domain", || fields.read(format!("{field}.domain"), text(&scope.domain, 0, 64))),
        family: mask
            .then("family", || fields.read(format!("{field}.family"), text(&scope.family, 0, 64))),
        disabled: mask.then("disabled", || Some(scope.disabled)),
    }
}

pub(in crate::grpc) fn message(scope: Scope) -> pb::Scope {
    pb::Scope {
        name: scope.id.to_string(),
        display_name: scope.settings.display_name,
        description: scope.settings.description,
        domain: scope.settings.domain,
        family: scope.settings.family,
        disabled: scope.settings.disabled,
        disabled_by_platform: scope.settings.disabled_by_platform,
        create_time: Some(timestamp(scope.record.created_at)),
        update_time: Some(timestamp(scope.record.updated_at)),
        etag: scope.record.etag(),
    }
}
