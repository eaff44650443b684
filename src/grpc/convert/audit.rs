//! Audit events.

use super::{moment, timestamp};
use crate::domain::listing::direction;
use crate::domain::text::search_text;
use crate::domain::{
    Action, AuditEvent, AuditFilter, Fault, FieldChange, FieldErrors, Outcome, TenantId,
};
use crate::error::Result;
use crate::proto::admin as pb;
use crate::proto::admin::audit_event::{Change, Outcome as OutcomeMessage};

pub(in crate::grpc) fn list(
    request: &pb::ListAuditEventsRequest,
) -> Result<(TenantId, AuditFilter)> {
    let mut fields = FieldErrors::default();
    let tenant = fields.read("parent", TenantId::from_name(&request.parent));
    let resource =
        fields.read("resource", search_text(&request.resource, AuditFilter::MAX_CHARACTERS));
    let actor = fields.read("actor", search_text(&request.actor, AuditFilter::MAX_CHARACTERS));
    let action = match request.action.as_str() {
        "" => None,
        action => fields.read("action", self::action(action)),
    };
    let start = fields.read("start_time", moment(request.start_time.as_ref()));
    let end = fields.read("end_time", moment(request.end_time.as_ref()));
    let oldest_first = fields.read("order_by", oldest_first(&request.order_by));
    let whole = (|| {
        let filter = AuditFilter {
            resource: resource.filter(|name| !name.is_empty()),
            actor: actor.filter(|name| !name.is_empty()),
            action,
            start: start?,
            end: end?,
            oldest_first: oldest_first?,
        };
        Some((tenant?, filter))
    })();
    fields.finish(whole)
}

fn action(name: &str) -> Result<Action, Fault> {
    name.parse()
        .map_err(|_| Fault::new("must be the name of an RPC that changes something, as DeleteUser"))
}

fn oldest_first(order_by: &str) -> Result<bool, Fault> {
    match direction(order_by)? {
        ("", _) => Ok(false),
        ("time", descending) => Ok(!descending),
        _ => Err(Fault::new("must be `time` or `time desc`")),
    }
}

pub(in crate::grpc) fn message(event: AuditEvent) -> pb::AuditEvent {
    let outcome = match event.outcome {
        Outcome::Done => OutcomeMessage::Done,
        Outcome::Refused => OutcomeMessage::Refused,
    };
    pb::AuditEvent {
        name: format!("{}/auditEvents/{}", event.tenant.name(), event.number),
        time: Some(timestamp(event.at)),
        service: event.actor.service,
        user: event.actor.user.map(|user| user.to_string()).unwrap_or_default(),
        source_address: event.actor.address.unwrap_or_default(),
        action: event.action,
        resource: event.resource,
        outcome: outcome.into(),
        detail: event.detail,
        changes: event.changes.into_iter().map(change).collect(),
    }
}

fn change(change: FieldChange) -> Change {
    Change {
        field: change.field,
        before: change.before.unwrap_or_default(),
        after: change.after.unwrap_or_default(),
    }
}
