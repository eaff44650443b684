//! Tenants and profiles.

use std::collections::BTreeMap;

use super::{Mask, required, scope, seconds, span, timestamp};
use crate::domain::fields::text;
use crate::domain::{
    Audience, Change, Fault, Fields, Profile, ScopeId, ScopeName, Tenant, TenantId, TenantPatch,
    TokenLifetime,
};
use crate::error::Result;
use crate::proto::admin as pb;
use crate::service::AppliedChange;

const CHANGEABLE: &[&str] = &[
    "display_name",
    "default_audience",
    "additional_audiences",
    "access_token_lifetime",
    "disabled",
];

const MOST_AUDIENCES: usize = 64;

pub(in crate::grpc) fn create(
    request: &pb::CreateTenantRequest,
) -> Result<(TenantId, TenantPatch)> {
    let mut fields = Fields::default();
    let id = fields.read("tenant_id", TenantId::parse(&request.tenant_id));
    let tenant = request.tenant.clone().unwrap_or_default();
    let patch = patch(&mut fields, &tenant, &Mask::all());
    fields.finish(id.map(|id| (id, patch)))
}

pub(in crate::grpc) fn update(
    request: &pb::UpdateTenantRequest,
) -> Result<(TenantId, TenantPatch, &str)> {
    let mut fields = Fields::default();
    let mask = Mask::of_update(request.update_mask.as_ref(), CHANGEABLE, &mut fields);
    let whole = required(&mut fields, "tenant", request.tenant.as_ref()).and_then(|tenant| {
        let id = fields.read("tenant.name", TenantId::from_name(&tenant.name));
        let patch = patch(&mut fields, tenant, &mask);
        Some((id?, patch, tenant.etag.as_str()))
    });
    fields.finish(whole)
}

fn patch(fields: &mut Fields, tenant: &pb::Tenant, mask: &Mask<'_>) -> TenantPatch {
    TenantPatch {
        display_name: mask.then("display_name", || {
            fields.read("tenant.display_name", text(&tenant.display_name, 0, 128))
        }),
        default_audience: mask.then("default_audience", || {
            default_audience(fields, "tenant.default_audience", &tenant.default_audience)
        }),
        additional_audiences: mask.then("additional_audiences", || {
            additional_audiences(fields, &tenant.additional_audiences)
        }),
        access_token_lifetime: mask.then("access_token_lifetime", || {
            let message = tenant.access_token_lifetime.as_ref();
            lifetime(fields, "tenant.access_token_lifetime", message)
                .or(Some(TokenLifetime::DEFAULT))
        }),
        disabled: mask.then("disabled", || Some(tenant.disabled)),
    }
}

/// `Some(None)` when it is empty: the tenant's own.
#[expect(clippy::option_option, reason = "absent for a fault, and in it absent for the default")]
fn default_audience(fields: &mut Fields, field: &str, value: &str) -> Option<Option<Audience>> {
    if value.is_empty() {
        return Some(None);
    }
    fields.read(field, Audience::parse(value)).map(Some)
}

fn additional_audiences(fields: &mut Fields, values: &[String]) -> Option<Vec<Audience>> {
    if values.len() > MOST_AUDIENCES {
        let most = format!("must have at most {MOST_AUDIENCES} entries");
        fields.fault("tenant.additional_audiences", most);
    }
    fields.read_each("tenant.additional_audiences", values, Audience::parse)
}

fn lifetime(
    fields: &mut Fields,
    field: &str,
    message: Option<&prost_types::Duration>,
) -> Option<TokenLifetime> {
    let message = message?;
    let parsed = span(message).and_then(|span| {
        if span.subsec_nanos() == 0 {
            TokenLifetime::from_seconds(message.seconds)
        } else {
            Err(Fault::new("must be 60 s to 3600 s, in whole seconds"))
        }
    });
    fields.read(field, parsed)
}

pub(in crate::grpc) fn profile(request: &pb::ApplyProfileRequest) -> Result<(TenantId, Profile)> {
    let mut fields = Fields::default();
    let id = fields.read("name", TenantId::from_name(&request.name));
    let profile = required(&mut fields, "profile", request.profile.as_ref()).map(|profile| {
        let audience = &profile.default_audience;
        Profile {
            tenant: TenantPatch {
                display_name: Some(&profile.display_name)
                    .filter(|name| !name.is_empty())
                    .and_then(|name| fields.read("profile.display_name", text(name, 1, 128))),
                default_audience: Some(audience).filter(|value| !value.is_empty()).and_then(
                    |value| default_audience(&mut fields, "profile.default_audience", value),
                ),
                access_token_lifetime: lifetime(
                    &mut fields,
                    "profile.access_token_lifetime",
                    profile.access_token_lifetime.as_ref(),
                ),
                ..TenantPatch::default()
            },
            scopes: catalogue(&mut fields, id.as_ref(), &profile.scopes),
        }
    });
    fields.finish(id.zip(profile))
}

fn catalogue(
    fields: &mut Fields,
    tenant: Option<&TenantId>,
    scopes: &[pb::Scope],
) -> BTreeMap<ScopeName, crate::domain::ScopeSettings> {
    let mut catalogue = BTreeMap::new();
    for (n, message) in scopes.iter().enumerate() {
        let field = format!("profile.scopes[{n}]");
        let name = match ScopeId::parse(&message.name) {
            Ok(id) if tenant.is_none_or(|tenant| *tenant == id.tenant) => Ok(id.scope),
            Ok(_) => Err(Fault::new("is a scope of another tenant")),
            Err(_) => ScopeName::parse(&message.name),
        };
        let name = fields.read(format!("{field}.name"), name);
        let patch = scope::patch(fields, &field, message, &Mask::all());
        if let Some(name) = name
            && catalogue.insert(name, crate::domain::ScopeSettings::default().with(patch)).is_some()
        {
            fields.fault(format!("{field}.name"), format!("{:?} stands twice", message.name));
        }
    }
    catalogue
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
        create_time: Some(timestamp(record.created_at)),
        update_time: Some(timestamp(record.updated_at)),
        etag: record.etag(),
    }
}

pub(in crate::grpc) fn change(tenant: &TenantId, applied: &AppliedChange) -> pb::ProfileChange {
    use pb::profile_change::Action;
    let scope = |scope: &ScopeName| format!("{}/scopes/{scope}", tenant.name());
    let (action, resource) = match &applied.change {
        Change::CreateTenant(_) => (Action::Create, tenant.name()),
        Change::UpdateTenant { .. } => (Action::Update, tenant.name()),
        Change::CreateScope(name, _) => (Action::Create, scope(name)),
        Change::UpdateScope { before, .. } => (Action::Update, before.id.to_string()),
        Change::DeleteScope(gone) => (Action::Delete, gone.id.to_string()),
    };
    pb::ProfileChange {
        action: action.into(),
        resource,
        details: applied.change.details(),
        affected_applications: applied.affected_applications,
    }
}
