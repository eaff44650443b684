//! Applications.

use jiff::Timestamp;

use super::{Mask, moment, required, timestamp};
use crate::domain::fields::{email, request_id, text};
use crate::domain::{
    Application, ApplicationId, ApplicationName, ApplicationPatch, Fields, ScopeName, ScopeSet,
    State, TenantId,
};
use crate::error::Result;
use crate::proto::admin as pb;
use crate::service::NewApplication;

const CHANGEABLE: &[&str] =
    &["display_name", "description", "contact_email", "scopes", "expire_time", "disabled"];

const MOST_SCOPES: usize = 200;

pub(in crate::grpc) fn create(request: &pb::CreateApplicationRequest) -> Result<NewApplication> {
    let mut fields = Fields::default();
    let tenant = fields.read("parent", TenantId::from_name(&request.parent));
    let id = match request.application_id.as_str() {
        "" => Some(None),
        id => fields.read("application_id", ApplicationId::parse(id)).map(Some),
    };
    let request_id = fields.read("request_id", request_id(&request.request_id));
    let patch = required(&mut fields, "application", request.application.as_ref())
        .map(|application| patch(&mut fields, application, &Mask::all()));
    let whole = (|| {
        Some(NewApplication { tenant: tenant?, id: id?, patch: patch?, request_id: request_id? })
    })();
    fields.finish(whole)
}

pub(in crate::grpc) fn update(
    request: &pb::UpdateApplicationRequest,
) -> Result<(ApplicationName, ApplicationPatch, &str)> {
    let mut fields = Fields::default();
    let mask = Mask::of_update(request.update_mask.as_ref(), CHANGEABLE, &mut fields);
    let whole =
        required(&mut fields, "application", request.application.as_ref()).and_then(|message| {
            let name = fields.read("application.name", ApplicationName::parse(&message.name));
            let patch = patch(&mut fields, message, &mask);
            Some((name?, patch, message.etag.as_str()))
        });
    fields.finish(whole)
}

fn patch(fields: &mut Fields, application: &pb::Application, mask: &Mask<'_>) -> ApplicationPatch {
    ApplicationPatch {
        display_name: mask.then("display_name", || {
            fields.read("application.display_name", text(&application.display_name, 1, 128))
        }),
        description: mask.then("description", || {
            fields.read("application.description", text(&application.description, 0, 1000))
        }),
        contact_email: mask.then("contact_email", || {
            fields.read("application.contact_email", email(&application.contact_email))
        }),
        scopes: mask.then("scopes", || scopes(fields, &application.scopes)),
        expires_at: mask.then("expire_time", || {
            fields.read("application.expire_time", moment(application.expire_time.as_ref()))
        }),
        disabled: mask.then("disabled", || Some(application.disabled)),
    }
}

fn scopes(fields: &mut Fields, values: &[String]) -> Option<ScopeSet> {
    if values.len() > MOST_SCOPES {
        fields.fault("application.scopes", format!("must have at most {MOST_SCOPES} entries"));
    }
    fields.read_each("application.scopes", values, ScopeName::parse)
}

pub(in crate::grpc) fn message(application: Application, now: Timestamp) -> pb::Application {
    use pb::application::State as Message;
    let state = match application.state(now) {
        State::Active => Message::Active,
        State::Disabled => Message::Disabled,
        State::Expired => Message::Expired,
    };
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
    }
}
