//! How applications are shown.

use serde::Serialize;

use super::limits::LimitsView;
use super::names;
use super::output::View;
use crate::proto::admin as pb;
use crate::proto::admin::application::State;
use crate::proto::admin::batch_delete_applications_response::Result as Deleted;
use crate::proto::errors::ErrorReason;

/// An application.
#[derive(Serialize)]
pub(super) struct ApplicationView {
    name: String,
    display_name: String,
    description: String,
    contact_email: String,
    owner: String,
    state: &'static str,
    disabled_by_platform: bool,
    protected: bool,
    scopes: Vec<String>,
    roles: Vec<String>,
    effective_scopes: Vec<String>,
    limits: Option<LimitsView>,
    limits_lifted: bool,
    masked_secrets: Vec<String>,
    last_use_time: Option<String>,
    last_use_address: String,
    expire_time: Option<String>,
    create_time: Option<String>,
    update_time: Option<String>,
    etag: String,
}

impl View for ApplicationView {
    const COLUMNS: &'static [&'static str] = &[
        "name",
        "display_name",
        "owner",
        "state",
        "masked_secrets",
        "last_use_time",
        "expire_time",
        "scopes",
    ];
    const MEMBERS: &'static [&'static str] = &[
        "name",
        "display_name",
        "description",
        "contact_email",
        "owner",
        "state",
        "disabled_by_platform",
        "protected",
        "scopes",
        "roles",
        "effective_scopes",
        "limits",
        "limits_lifted",
        "masked_secrets",
        "last_use_time",
        "last_use_address",
        "expire_time",
        "create_time",
        "update_time",
        "etag",
    ];
}

impl From<pb::Application> for ApplicationView {
    fn from(application: pb::Application) -> Self {
        let state = match application.state() {
            State::Active => "active",
            State::Disabled => "disabled",
            State::Expired => "expired",
            State::Unspecified => "unknown",
        };
        Self {
            state,
            last_use_time: names::moment(application.last_use_time.as_ref()),
            expire_time: names::moment(application.expire_time.as_ref()),
            create_time: names::moment(application.create_time.as_ref()),
            update_time: names::moment(application.update_time.as_ref()),
            name: application.name,
            display_name: application.display_name,
            description: application.description,
            contact_email: application.contact_email,
            owner: application.owner,
            protected: application.protected,
            disabled_by_platform: application.disabled_by_platform,
            scopes: application.scopes,
            roles: application.roles,
            effective_scopes: application.effective_scopes,
            limits: application.limits.map(LimitsView::from),
            limits_lifted: application.limits_lifted,
            masked_secrets: application.masked_secrets,
            last_use_address: application.last_use_address,
            etag: application.etag,
        }
    }
}

/// What became of one of several that were to be deleted.
#[derive(Serialize)]
pub(super) struct DeletedView {
    name: String,
    /// Whether it was deleted.
    pub(super) deleted: bool,
    reason: Option<&'static str>,
    message: String,
}

impl View for DeletedView {
    const COLUMNS: &'static [&'static str] = &["name", "deleted", "reason", "message"];
    const MEMBERS: &'static [&'static str] = Self::COLUMNS;
}

impl From<Deleted> for DeletedView {
    fn from(result: Deleted) -> Self {
        let reason = Some(result.reason()).filter(|why| *why != ErrorReason::Unspecified);
        Self {
            deleted: reason.is_none(),
            reason: reason.map(|why| why.as_str_name().trim_start_matches("ERROR_REASON_")),
            name: result.name,
            message: result.message,
        }
    }
}
