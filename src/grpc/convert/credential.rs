//! Credentials.

use std::time::Duration;

use jiff::Timestamp;

use super::{
    Mask, known, limits, moment, registration, required, required_moment, span, timestamp,
};
use crate::domain::fields::request_id;
use crate::domain::text::text;
use crate::domain::{
    ApplicationId, ApplicationName, Credential, CredentialFilter, CredentialKind, CredentialName,
    CredentialPatch, Fault, FieldErrors, SecretRecord, State, TenantId,
};
use crate::error::Result;
use crate::proto::admin as pb;
use crate::proto::admin::credential::{Kind, Secret as SecretMessage, State as StateMessage};
use crate::service::{NewCredential, Shown};

const CHANGEABLE: &[&str] = &[
    "display_name",
    "expire_time",
    "disabled",
    "limits",
    "public_key",
    "certificate",
    "federated",
    "certificate_bound_tokens",
];

pub(in crate::grpc) fn create(request: &pb::CreateCredentialRequest) -> Result<NewCredential> {
    let mut fields = FieldErrors::default();
    let application = fields.read("parent", ApplicationName::parse(&request.parent));
    let request_id = fields.read("request_id", request_id(&request.request_id));
    let rest =
        required(&mut fields, "credential", request.credential.as_ref()).and_then(|message| {
            let kind = fields.read("credential.kind", known(message.kind).and_then(kind));
            let patch = patch(&mut fields, message, &Mask::all());
            Some((kind?, patch))
        });
    let whole = (|| {
        let (kind, patch) = rest?;
        Some(NewCredential { application: application?, kind, patch, request_id: request_id? })
    })();
    fields.finish(whole)
}

/// The tenant, the application unless it is `-`, and the filter.
pub(in crate::grpc) fn list(
    request: &pb::ListCredentialsRequest,
) -> Result<(TenantId, Option<ApplicationId>, CredentialFilter)> {
    let mut fields = FieldErrors::default();
    // AIP-159: `-` means all.
    let parent = match request.parent.strip_suffix("/applications/-") {
        Some(tenant) => TenantId::from_name(tenant).map(|tenant| (tenant, None)),
        None => ApplicationName::parse(&request.parent)
            .map(|name| (name.tenant, Some(name.application))),
    };
    let parent = fields.read("parent", parent);
    let expire_before = fields.read("expire_before", moment(request.expire_before.as_ref()));
    let unused_since = fields.read("unused_since", moment(request.unused_since.as_ref()));
    let whole = (|| {
        let (tenant, application) = parent?;
        let filter = CredentialFilter {
            expire_before: expire_before?,
            unused_since: unused_since?,
            ..CredentialFilter::default()
        };
        Some((tenant, application, filter))
    })();
    fields.finish(whole)
}

pub(in crate::grpc) fn update(
    request: &pb::UpdateCredentialRequest,
) -> Result<(CredentialName, CredentialPatch, &str)> {
    let mut fields = FieldErrors::default();
    let mask = Mask::of_update(request.update_mask.as_ref(), CHANGEABLE, &mut fields);
    let whole =
        required(&mut fields, "credential", request.credential.as_ref()).and_then(|message| {
            let name = fields.read("credential.name", CredentialName::parse(&message.name));
            let patch = patch(&mut fields, message, &mask);
            Some((name?, patch, message.etag.as_str()))
        });
    fields.finish(whole)
}

pub(in crate::grpc) fn rotate(
    request: &pb::RotateCredentialRequest,
) -> Result<(CredentialName, Duration)> {
    let mut fields = FieldErrors::default();
    let name = fields.read("name", CredentialName::parse(&request.name));
    let overlap = match &request.overlap {
        None => Ok(Credential::DEFAULT_OVERLAP),
        Some(message) => span(message).and_then(|overlap| {
            if overlap <= Credential::MAX_OVERLAP {
                Ok(overlap)
            } else {
                Err(Fault::new("must be 0 to 30 days"))
            }
        }),
    };
    let overlap = fields.read("overlap", overlap);
    fields.finish(name.zip(overlap))
}

fn patch(
    fields: &mut FieldErrors,
    credential: &pb::Credential,
    mask: &Mask<'_>,
) -> CredentialPatch {
    CredentialPatch {
        display_name: mask.then("display_name", || {
            fields.read("credential.display_name", text(&credential.display_name, 0, 128))
        }),
        expires_at: mask.patch("expire_time", credential.expire_time.as_ref(), |time| {
            fields.read("credential.expire_time", required_moment(time))
        }),
        disabled: mask.then("disabled", || Some(credential.disabled)),
        limits: mask.patch("limits", credential.limits.as_ref(), |limits| {
            limits::limits(fields, "credential.limits", limits)
        }),
        registration: registration::patch(fields, credential, mask),
        certificate_bound_tokens: mask
            .contains("certificate_bound_tokens")
            .then_some(credential.certificate_bound_tokens),
    }
}

fn kind(message: Kind) -> Result<CredentialKind, Fault> {
    match message {
        Kind::ClientSecret => Ok(CredentialKind::ClientSecret),
        Kind::ApiKey => Ok(CredentialKind::ApiKey),
        Kind::PublicKey => Ok(CredentialKind::PublicKey),
        Kind::Certificate => Ok(CredentialKind::Certificate),
        Kind::Federated => Ok(CredentialKind::Federated),
        Kind::Unspecified => Err(Fault::new("must be set, to KIND_CLIENT_SECRET for example")),
    }
}

/// The visible part of a credential after a change.
pub(in crate::grpc) fn shown(credential: Shown<Credential>, now: Timestamp) -> pb::Credential {
    match credential {
        Shown::Whole(credential) => message(*credential, now),
        Shown::Name(name) => {
            let client_id = name.rsplit('/').next().unwrap_or_default().to_owned();
            pb::Credential { name, client_id, ..pb::Credential::default() }
        }
    }
}

pub(in crate::grpc) fn message(credential: Credential, now: Timestamp) -> pb::Credential {
    let state = match credential.state(now) {
        State::Active => StateMessage::Active,
        State::Disabled => StateMessage::Disabled,
        State::Expired => StateMessage::Expired,
    };
    let kind = match credential.kind {
        CredentialKind::ClientSecret => Kind::ClientSecret,
        CredentialKind::ApiKey => Kind::ApiKey,
        CredentialKind::PublicKey => Kind::PublicKey,
        CredentialKind::Certificate => Kind::Certificate,
        CredentialKind::Federated => Kind::Federated,
    };
    pb::Credential {
        name: credential.name.to_string(),
        client_id: credential.name.credential.to_string(),
        kind: kind.into(),
        state: state.into(),
        secrets: credential.live_secrets(now).map(secret).collect(),
        viewable: credential.is_viewable(),
        last_use_time: credential.last_use.as_ref().map(|used| timestamp(used.at)),
        last_use_address: credential.last_use.and_then(|used| used.address).unwrap_or_default(),
        display_name: credential.settings.display_name,
        expire_time: credential.settings.expires_at.map(timestamp),
        disabled: credential.settings.disabled,
        disabled_by_platform: credential.settings.disabled_by_platform,
        limits: credential.settings.limits.map(limits::message),
        create_time: Some(timestamp(credential.record.created_at)),
        update_time: Some(timestamp(credential.record.updated_at)),
        etag: credential.record.etag(),
        registration: credential.settings.registration.map(registration::message),
        certificate_bound_tokens: credential.settings.certificate_bound_tokens,
    }
}

fn secret(record: &SecretRecord) -> SecretMessage {
    SecretMessage {
        last_four: record.last_four.clone(),
        create_time: Some(timestamp(record.created_at)),
        expire_time: record.expires_at.map(timestamp),
    }
}
