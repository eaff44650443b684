//! Profiles.

use std::collections::BTreeMap;

use super::{Mask, endpoint, policy, required, role, scope, tenant};
use crate::domain::text::text;
use crate::domain::{
    ApplicationId, ApplicationName, Audience, Change, DefaultApplication, Fault, FieldErrors,
    FieldPatch, Profile, RoleId, RoleName, RoleSettings, ScopeId, ScopeName, ScopeSettings,
    TenantId, TenantPatch,
};
use crate::error::Result;
use crate::proto::admin as pb;
use crate::service::AppliedChange;

pub(in crate::grpc) fn profile(request: &pb::ApplyProfileRequest) -> Result<(TenantId, Profile)> {
    let mut fields = FieldErrors::default();
    let id = fields.read("name", TenantId::from_name(&request.name));
    let profile = required(&mut fields, "profile", request.profile.as_ref()).map(|profile| {
        let audience = &profile.default_audience;
        let scopes = catalogue(&mut fields, id.as_ref(), &profile.scopes);
        let endpoints = profile.endpoint_set.as_ref().map(|set| {
            endpoint::endpoints(&mut fields, "profile.endpoint_set.endpoints", set, &scopes)
        });
        Profile {
            tenant: TenantPatch {
                display_name: Some(&profile.display_name)
                    .filter(|name| !name.is_empty())
                    .and_then(|name| fields.read("profile.display_name", text(name, 1, 128))),
                default_audience: Some(audience)
                    .filter(|value| !value.is_empty())
                    .and_then(|value| {
                        fields.read("profile.default_audience", Audience::parse(value))
                    })
                    .map_or(FieldPatch::Keep, FieldPatch::Set),
                access_token_lifetime: tenant::lifetime(
                    &mut fields,
                    "profile.access_token_lifetime",
                    profile.access_token_lifetime.as_ref(),
                ),
                policy: profile
                    .policy
                    .as_ref()
                    .and_then(|message| policy::policy(&mut fields, "profile.policy", message)),
                ..TenantPatch::default()
            },
            scopes,
            endpoints,
            roles: profile.role_set.as_ref().map(|set| roles(&mut fields, id.as_ref(), &set.roles)),
            default_application: profile
                .default_application
                .as_ref()
                .and_then(|message| default_application(&mut fields, message)),
        }
    });
    fields.finish(id.zip(profile))
}

fn catalogue(
    fields: &mut FieldErrors,
    tenant: Option<&TenantId>,
    scopes: &[pb::Scope],
) -> BTreeMap<ScopeName, ScopeSettings> {
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
            && catalogue.insert(name, ScopeSettings::default().with(patch)).is_some()
        {
            fields.fault(format!("{field}.name"), format!("{:?} is listed twice", message.name));
        }
    }
    catalogue
}

fn roles(
    fields: &mut FieldErrors,
    tenant: Option<&TenantId>,
    messages: &[pb::Role],
) -> BTreeMap<RoleId, RoleSettings> {
    let mut roles = BTreeMap::new();
    for (n, message) in messages.iter().enumerate() {
        let field = format!("profile.role_set.roles[{n}]");
        let id = fields.read(format!("{field}.name"), role::id(tenant, &message.name));
        let patch = role::patch(fields, &field, message, &Mask::all());
        if let Some(id) = id
            && roles.insert(id, RoleSettings::default().with(patch)).is_some()
        {
            fields.fault(format!("{field}.name"), format!("{:?} is listed twice", message.name));
        }
    }
    roles
}

fn default_application(
    fields: &mut FieldErrors,
    message: &pb::DefaultApplication,
) -> Option<DefaultApplication> {
    const FIELD: &str = "profile.default_application";
    let id = ApplicationId::parse(&message.application_id);
    let id = fields.read(format!("{FIELD}.application_id"), id);
    let display_name =
        fields.read(format!("{FIELD}.display_name"), text(&message.display_name, 1, 128));
    let scopes = fields.read_each(&format!("{FIELD}.scopes"), &message.scopes, ScopeName::parse);
    Some(DefaultApplication { id: id?, display_name: display_name?, scopes: scopes? })
}

pub(in crate::grpc) fn change(tenant: &TenantId, applied: &AppliedChange) -> pb::ProfileChange {
    use pb::profile_change::Action;
    let scope = |scope: &ScopeName| format!("{}/scopes/{scope}", tenant.name());
    let role_name =
        |role: &RoleId| RoleName { tenant: tenant.clone(), role: role.clone() }.to_string();
    let (action, resource) = match &applied.change {
        Change::CreateTenant(_) => (Action::Create, tenant.name()),
        Change::UpdateTenant { .. } => (Action::Update, tenant.name()),
        Change::CreateScope(name, _) => (Action::Create, scope(name)),
        Change::UpdateScope { before, .. } => (Action::Update, before.id.to_string()),
        Change::DeleteScope(gone) => (Action::Delete, gone.id.to_string()),
        Change::CreateRole(id, _) => (Action::Create, role_name(id)),
        Change::UpdateRole { before, .. } => (Action::Update, before.name.to_string()),
        Change::DeleteRole(gone) => (Action::Delete, gone.name.to_string()),
        Change::CreateEndpoint(rule) => (Action::Create, rule.name(tenant)),
        Change::UpdateEndpoint { after, .. } => (Action::Update, after.name(tenant)),
        Change::DeleteEndpoint(gone) => (Action::Delete, gone.name(tenant)),
        Change::CreateApplication(application, _) => {
            let name = ApplicationName { tenant: tenant.clone(), application: application.clone() };
            (Action::Create, name.to_string())
        }
    };
    pb::ProfileChange {
        action: action.into(),
        resource,
        details: applied.change.fields().iter().map(ToString::to_string).collect(),
        affected_applications: applied.affected,
    }
}
