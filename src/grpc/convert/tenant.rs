//! Tenants.

use super::{Mask, policy, required, required_span, seconds, timestamp};
use crate::domain::text::text;
use crate::domain::{
    Audience, FieldErrors, Policy, Tenant, TenantId, TenantPatch, TenantSettings, TokenLifetime,
};
use crate::error::Result;
use crate::proto::admin as pb;

const CHANGEABLE: &[&str] = &[
    "display_name",
    "default_audience",
    "additional_audiences",
    "access_token_lifetime",
    "disabled",
    "policy",
];

pub(in crate::grpc) fn create(
    request: &pb::CreateTenantRequest,
) -> Result<(TenantId, TenantPatch)> {
    let mut fields = FieldErrors::default();
    let id = fields.read("tenant_id", TenantId::parse(&request.tenant_id));
    let tenant = request.tenant.clone().unwrap_or_default();
    let patch = patch(&mut fields, &tenant, &Mask::all());
    fields.finish(id.map(|id| (id, patch)))
}

pub(in crate::grpc) fn update(
    request: &pb::UpdateTenantRequest,
) -> Result<(TenantId, TenantPatch, &str)> {
    let mut fields = FieldErrors::default();
    let mask = Mask::of_update(request.update_mask.as_ref(), CHANGEABLE, &mut fields);
    let whole = required(&mut fields, "tenant", request.tenant.as_ref()).and_then(|tenant| {
        let id = fields.read("tenant.name", TenantId::from_name(&tenant.name));
        let patch = patch(&mut fields, tenant, &mask);
        Some((id?, patch, tenant.etag.as_str()))
    });
    fields.finish(whole)
}

fn patch(fields: &mut FieldErrors, tenant: &pb::Tenant, mask: &Mask<'_>) -> TenantPatch {
    TenantPatch {
        display_name: mask.then("display_name", || {
            fields.read("tenant.display_name", text(&tenant.display_name, 0, 128))
        }),
        default_audience: {
            let value = Some(&tenant.default_audience).filter(|value| !value.is_empty());
            mask.patch("default_audience", value, |value| {
                fields.read("tenant.default_audience", Audience::parse(value))
            })
        },
        additional_audiences: mask.then("additional_audiences", || {
            let (audiences, max) = (&tenant.additional_audiences, TenantSettings::MAX_AUDIENCES);
            fields.read_list("tenant.additional_audiences", audiences, max, Audience::parse)
        }),
        access_token_lifetime: mask.then("access_token_lifetime", || {
            let message = tenant.access_token_lifetime.as_ref();
            lifetime(fields, "tenant.access_token_lifetime", message)
                .or(Some(TokenLifetime::DEFAULT))
        }),
        disabled: mask.then("disabled", || Some(tenant.disabled)),
        policy: mask.then("policy", || match &tenant.policy {
            None => Some(Policy::default()),
            Some(message) => policy::policy(fields, "tenant.policy", message),
        }),
    }
}

pub(super) fn lifetime(
    fields: &mut FieldErrors,
    field: &str,
    message: Option<&prost_types::Duration>,
) -> Option<TokenLifetime> {
    let message = message?;
    let parsed = required_span(message).and_then(TokenLifetime::from_seconds);
    fields.read(field, parsed)
}

pub(in crate::grpc) fn message(tenant: Tenant) -> pb::Tenant {
    let (settings, record) = (tenant.settings, tenant.record);
    pb::Tenant {
        name: tenant.id.name(),
        display_name: settings.display_name,
        default_audience: settings.default_audience.to_string(),
        additional_audiences: settings
            .additional_audiences
            .iter()
            .map(ToString::to_string)
            .collect(),
        access_token_lifetime: Some(seconds(settings.access_token_lifetime.duration())),
        disabled: settings.disabled,
        policy: Some(policy::message(&settings.policy)),
        create_time: Some(timestamp(record.created_at)),
        update_time: Some(timestamp(record.updated_at)),
        etag: record.etag(),
    }
}
