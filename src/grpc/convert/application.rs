//! Applications.

use std::collections::BTreeSet;

use jiff::Timestamp;
use jiff::civil::Date;

use super::{
    Mask, known, limits, moment, required, required_moment, role, seconds, tenant, timestamp,
};
use crate::domain::fields::request_id;
use crate::domain::text::{email, long_text, search_text, text};
use crate::domain::{
    Application, ApplicationFilter, ApplicationId, ApplicationName, ApplicationOrder,
    ApplicationPatch, Audience, CredentialName, Fault, FieldErrors, Owner, RoleName, ScopeName,
    State, TenantId, UsageDay,
};
use crate::error::Result;
use crate::proto::admin as pb;
use crate::proto::admin::application::State as StateMessage;
use crate::proto::admin::list_applications_request::Ownership as OwnershipMessage;
use crate::service::{Days, NewApplication, Ownership, Shown};

const CHANGEABLE: &[&str] = &[
    "display_name",
    "description",
    "contact_email",
    "scopes",
    "expire_time",
    "disabled",
    "roles",
    "limits",
    "protected",
    "exchange_audiences",
    "access_token_lifetime",
];

pub(in crate::grpc) fn create(request: &pb::CreateApplicationRequest) -> Result<NewApplication> {
    let mut fields = FieldErrors::default();
    let tenant = fields.read("parent", TenantId::from_name(&request.parent));
    let id = match request.application_id.as_str() {
        "" => None,
        id => fields.read("application_id", ApplicationId::parse(id)),
    };
    let request_id = fields.read("request_id", request_id(&request.request_id));
    let message = required(&mut fields, "application", request.application.as_ref());
    let rest = message.map(|message| {
        let owner = owner(&mut fields, "application.owner", tenant.as_ref(), &message.owner);
        let patch = patch(&mut fields, tenant.as_ref(), message, &Mask::all());
        let exchange_audiences = exchange_audiences(&mut fields, message);
        let protected = Some(message.protected);
        (owner, ApplicationPatch { protected, exchange_audiences, ..patch })
    });
    let whole = (|| {
        let (owner, patch) = rest?;
        Some(NewApplication { tenant: tenant?, id, owner, patch, request_id: request_id? })
    })();
    fields.finish(whole)
}

/// The owner of an application, if the request names one.
fn owner(
    fields: &mut FieldErrors,
    field: &str,
    tenant: Option<&TenantId>,
    value: &str,
) -> Option<Owner> {
    if value.is_empty() {
        return None;
    }
    fields.read(field, Owner::parse(value, tenant?))
}

pub(in crate::grpc) fn list(
    request: &pb::ListApplicationsRequest,
) -> Result<(TenantId, Ownership, ApplicationFilter)> {
    let mut fields = FieldErrors::default();
    let tenant = fields.read("parent", TenantId::from_name(&request.parent));
    let one = owner(&mut fields, "owner", tenant.as_ref(), &request.owner);
    let ownership = fields.read("ownership", known(request.ownership)).unwrap_or_default();
    let ownership = match (ownership, one) {
        (OwnershipMessage::Unspecified, None) => Ownership::Viewable,
        (OwnershipMessage::Unspecified, Some(owner)) => Ownership::Of(owner),
        (OwnershipMessage::Mine, None) => Ownership::Mine,
        (OwnershipMessage::Users, None) => Ownership::Users,
        (OwnershipMessage::Account, None) => Ownership::Of(Owner::Account),
        (_, Some(_)) => {
            fields.fault("owner", "must be empty when ownership is set");
            Ownership::Viewable
        }
    };
    let search = fields.read("search", search_text(&request.search, 128));
    let expire_before = fields.read("expire_before", moment(request.expire_before.as_ref()));
    let state = fields.read("state", known(request.state).map(state));
    let order = fields.read("order_by", ApplicationOrder::parse(&request.order_by));
    let whole = (|| {
        let filter = ApplicationFilter {
            search: search?,
            state: state?,
            expire_before: expire_before?,
            order: order?,
            ..ApplicationFilter::default()
        };
        Some((tenant?, ownership, filter))
    })();
    fields.finish(whole)
}

fn state(message: StateMessage) -> Option<State> {
    match message {
        StateMessage::Unspecified => None,
        StateMessage::Active => Some(State::Active),
        StateMessage::Disabled => Some(State::Disabled),
        StateMessage::Expired => Some(State::Expired),
    }
}

pub(in crate::grpc) fn batch(
    request: &pb::BatchDeleteApplicationsRequest,
) -> Result<Vec<ApplicationName>> {
    let mut fields = FieldErrors::default();
    let tenant = fields.read("parent", TenantId::from_name(&request.parent));
    if !(1..=Application::MAX_BATCH).contains(&request.names.len()) {
        fields.fault("names", format!("must have 1 to {} entries", Application::MAX_BATCH));
    }
    let names = fields.read_each("names", &request.names, |name| {
        let name = ApplicationName::parse(name)?;
        if tenant.as_ref().is_none_or(|tenant| *tenant == name.tenant) {
            Ok(name)
        } else {
            Err(Fault::new("must be of the tenant that is the parent"))
        }
    });
    fields.finish(tenant.and(names))
}

pub(in crate::grpc) fn usage(
    request: &pb::ListApplicationUsageRequest,
) -> Result<(ApplicationName, Days)> {
    let mut fields = FieldErrors::default();
    let name = fields.read("parent", ApplicationName::parse(&request.parent));
    let first = fields.read("start_date", date(&request.start_date));
    let last = fields.read("end_date", date(&request.end_date));
    fields.finish((|| Some((name?, Days { first: first?, last: last? })))())
}

fn date(value: &str) -> Result<Option<Date>, Fault> {
    if value.is_empty() {
        return Ok(None);
    }
    value.parse().map(Some).map_err(|_| Fault::new("must be a day, as 2026-11-22"))
}

pub(in crate::grpc) fn day(
    application: &ApplicationName,
    day: &UsageDay,
) -> pb::list_application_usage_response::Day {
    let credential =
        CredentialName { application: application.clone(), credential: day.credential };
    pb::list_application_usage_response::Day {
        date: day.date.to_string(),
        credential: credential.to_string(),
        exchanges: day.exchanges,
        checks: day.checks,
    }
}

pub(in crate::grpc) fn update(
    request: &pb::UpdateApplicationRequest,
) -> Result<(ApplicationName, ApplicationPatch, &str)> {
    let mut fields = FieldErrors::default();
    let mask = Mask::of_update(request.update_mask.as_ref(), CHANGEABLE, &mut fields);
    let whole =
        required(&mut fields, "application", request.application.as_ref()).and_then(|message| {
            let name = fields.read("application.name", ApplicationName::parse(&message.name));
            let tenant = name.as_ref().map(|name| &name.tenant);
            let patch = patch(&mut fields, tenant, message, &mask);
            Some((name?, patch, message.etag.as_str()))
        });
    fields.finish(whole)
}

fn patch(
    fields: &mut FieldErrors,
    tenant: Option<&TenantId>,
    application: &pb::Application,
    mask: &Mask<'_>,
) -> ApplicationPatch {
    ApplicationPatch {
        display_name: mask.then("display_name", || {
            fields.read("application.display_name", text(&application.display_name, 1, 128))
        }),
        description: mask.then("description", || {
            fields.read("application.description", long_text(&application.description, 1000))
        }),
        contact_email: mask.then("contact_email", || {
            fields.read("application.contact_email", email(&application.contact_email))
        }),
        scopes: mask.then("scopes", || {
            let (scopes, max) = (&application.scopes, Application::MAX_SCOPES);
            fields.read_list("application.scopes", scopes, max, ScopeName::parse)
        }),
        expires_at: mask.patch("expire_time", application.expire_time.as_ref(), |time| {
            fields.read("application.expire_time", required_moment(time))
        }),
        disabled: mask.then("disabled", || Some(application.disabled)),
        roles: mask
            .then("roles", || role::ids(fields, "application.roles", tenant, &application.roles)),
        limits: mask.patch("limits", application.limits.as_ref(), |limits| {
            limits::limits(fields, "application.limits", limits)
        }),
        // A mask of `*` does not mean what only the platform sets.
        protected: mask.names("protected").then_some(application.protected),
        exchange_audiences: if mask.names("exchange_audiences") {
            exchange_audiences(fields, application)
        } else {
            None
        },
        access_token_lifetime: {
            let value = application.access_token_lifetime.as_ref();
            mask.patch("access_token_lifetime", value, |value| {
                tenant::lifetime(fields, "application.access_token_lifetime", Some(value))
            })
        },
    }
}

fn exchange_audiences(
    fields: &mut FieldErrors,
    application: &pb::Application,
) -> Option<BTreeSet<Audience>> {
    let (audiences, max) = (&application.exchange_audiences, Application::MAX_EXCHANGE_AUDIENCES);
    let field = "application.exchange_audiences";
    fields.read_list(field, audiences, max, Audience::parse_for_exchange)
}

/// The visible part of an application after a change.
pub(in crate::grpc) fn shown(application: Shown<Application>, now: Timestamp) -> pb::Application {
    match application {
        Shown::Whole(application) => message(*application, now),
        Shown::Name(name) => pb::Application { name, ..pb::Application::default() },
    }
}

pub(in crate::grpc) fn message(application: Application, now: Timestamp) -> pb::Application {
    let state = match application.state(now) {
        State::Active => StateMessage::Active,
        State::Disabled => StateMessage::Disabled,
        State::Expired => StateMessage::Expired,
    };
    let masked_secrets = application.masked_secrets(now);
    let tenant = &application.name.tenant;
    let role = |role| RoleName { tenant: tenant.clone(), role }.to_string();
    let (settings, record) = (application.settings, application.record);
    pb::Application {
        name: application.name.to_string(),
        display_name: settings.display_name,
        description: settings.description,
        contact_email: settings.contact_email,
        scopes: settings.scopes.to_strings(),
        expire_time: settings.expires_at.map(timestamp),
        disabled: settings.disabled,
        state: state.into(),
        create_time: Some(timestamp(record.created_at)),
        update_time: Some(timestamp(record.updated_at)),
        etag: record.etag(),
        owner: application.owner.name(tenant),
        roles: settings.roles.into_iter().map(role).collect(),
        limits: settings.limits.map(limits::message),
        limits_lifted: settings.limits_lifted,
        protected: settings.protected,
        exchange_audiences: settings.exchange_audiences.iter().map(ToString::to_string).collect(),
        access_token_lifetime: settings
            .access_token_lifetime
            .map(|lifetime| seconds(lifetime.duration())),
        disabled_by_platform: settings.disabled_by_platform,
        effective_scopes: application.effective_scopes.to_strings(),
        masked_secrets,
        last_use_time: application.last_use.as_ref().map(|used| timestamp(used.at)),
        last_use_address: application.last_use.and_then(|used| used.address).unwrap_or_default(),
    }
}
