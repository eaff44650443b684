//! Users.

use super::{Mask, required, role, timestamp};
use crate::domain::text::text;
use crate::domain::{
    FieldErrors, RoleName, TenantId, User, UserDeletion, UserId, UserName, UserPatch,
};
use crate::error::Result;
use crate::proto::admin as pb;
use crate::proto::admin::delete_user_response::Outcome;
use crate::service::{DeletedUser, Shown};

const CHANGEABLE: &[&str] = &["display_name", "roles", "disabled"];

pub(in crate::grpc) fn create(request: &pb::CreateUserRequest) -> Result<(UserName, UserPatch)> {
    let mut fields = FieldErrors::default();
    let tenant = fields.read("parent", TenantId::from_name(&request.parent));
    let user = fields.read("user_id", UserId::parse(&request.user_id));
    let message = request.user.clone().unwrap_or_default();
    let patch = patch(&mut fields, tenant.as_ref(), &message, &Mask::all());
    let name = tenant.zip(user).map(|(tenant, user)| UserName { tenant, user });
    fields.finish(name.map(|name| (name, patch)))
}

pub(in crate::grpc) fn update(
    request: &pb::UpdateUserRequest,
) -> Result<(UserName, UserPatch, &str)> {
    let mut fields = FieldErrors::default();
    let mask = Mask::of_update(request.update_mask.as_ref(), CHANGEABLE, &mut fields);
    let whole = required(&mut fields, "user", request.user.as_ref()).and_then(|message| {
        let name = fields.read("user.name", UserName::parse(&message.name));
        let tenant = name.as_ref().map(|name| &name.tenant);
        let patch = patch(&mut fields, tenant, message, &mask);
        Some((name?, patch, message.etag.as_str()))
    });
    fields.finish(whole)
}

pub(in crate::grpc) fn delete(
    request: &pb::DeleteUserRequest,
) -> Result<(UserName, Option<UserName>)> {
    let mut fields = FieldErrors::default();
    let name = fields.read("name", UserName::parse(&request.name));
    let heir = match request.hand_over_to.as_str() {
        "" => None,
        heir => fields.read("hand_over_to", UserName::parse(heir)),
    };
    fields.finish(name.map(|name| (name, heir)))
}

fn patch(
    fields: &mut FieldErrors,
    tenant: Option<&TenantId>,
    user: &pb::User,
    mask: &Mask<'_>,
) -> UserPatch {
    UserPatch {
        display_name: mask.then("display_name", || {
            fields.read("user.display_name", text(&user.display_name, 0, 128))
        }),
        roles: mask.then("roles", || role::ids(fields, "user.roles", tenant, &user.roles)),
        disabled: mask.then("disabled", || Some(user.disabled)),
    }
}

/// The visible part of a user after a change.
pub(in crate::grpc) fn shown(user: Shown<User>) -> pb::User {
    match user {
        Shown::Whole(user) => message(*user),
        Shown::Name(name) => pb::User { name, ..pb::User::default() },
    }
}

pub(in crate::grpc) fn message(user: User) -> pb::User {
    let tenant = &user.name.tenant;
    let role = |role| RoleName { tenant: tenant.clone(), role }.to_string();
    pb::User {
        name: user.name.to_string(),
        roles: user.settings.roles.into_iter().map(role).collect(),
        display_name: user.settings.display_name,
        disabled: user.settings.disabled,
        disabled_by_platform: user.settings.disabled_by_platform,
        create_time: Some(timestamp(user.record.created_at)),
        update_time: Some(timestamp(user.record.updated_at)),
        etag: user.record.etag(),
    }
}

pub(in crate::grpc) fn deleted(deleted: DeletedUser) -> pb::DeleteUserResponse {
    let outcome = match deleted.deletion {
        _ if deleted.owned.application_count == 0 => Outcome::Unspecified,
        UserDeletion::Refuse => Outcome::Refused,
        UserDeletion::HandOver => Outcome::HandedOver,
        UserDeletion::Delete => Outcome::Deleted,
    };
    pb::DeleteUserResponse {
        outcome: outcome.into(),
        applications: deleted.owned.applications,
        credentials: deleted.owned.credentials,
        application_count: deleted.owned.application_count,
        credential_count: deleted.owned.credential_count,
    }
}
