//! Audit events.

use super::{moment, timestamp};
use crate::clock::from_microsecond;
use crate::domain::listing::direction;
use crate::domain::text::search_text;
use crate::domain::{
    Action, Actor, AuditCursor, AuditEvent, AuditFilter, AuditLog, Fault, FieldChange, FieldErrors,
    Outcome, SignedPlace, StoredEvent, TenantId, UserName,
};
use crate::error::Result;
use crate::proto::admin as pb;
use crate::proto::admin::audit_event::{Change, Outcome as OutcomeMessage};
use crate::service::AuditNews;

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

/// The tenant to watch, and where to continue.
pub(in crate::grpc) fn watch(
    request: &pb::WatchAuditEventsRequest,
) -> Result<(TenantId, Option<AuditCursor>)> {
    let mut fields = FieldErrors::default();
    let tenant = fields.read("parent", TenantId::from_name(&request.parent));
    let cursor = match request.cursor.as_str() {
        "" => Some(None),
        cursor => fields.read("cursor", cursor.parse()).map(Some),
    };
    fields.finish(tenant.zip(cursor))
}

/// The tenant of a log's name.
pub(in crate::grpc) fn log_name(name: &str) -> Result<TenantId> {
    let wrong = || Fault::new("must be tenants/{tenant}/auditLog");
    let parent = name.strip_suffix("/auditLog").ok_or_else(wrong);
    let tenant = parent.and_then(|parent| TenantId::from_name(parent).map_err(|_| wrong()));
    tenant.map_err(|fault| fault.of("name"))
}

pub(in crate::grpc) fn log(log: AuditLog) -> pb::AuditLog {
    pb::AuditLog {
        name: format!("{}/auditLog", log.tenant.name()),
        tenant_exists: log.tenant_exists,
        last_number: log.last_number,
        head: log.head.map(place),
        checkpoint: log.checkpoint.map(place),
    }
}

fn place(place: SignedPlace) -> pb::AuditHead {
    pb::AuditHead {
        tenant: place.tenant.to_string(),
        number: place.number,
        hash: place.hash.0.to_vec(),
        time: Some(timestamp(place.at)),
        public_key: place.public_key,
        signature: place.signature,
    }
}

pub(in crate::grpc) fn news(news: AuditNews) -> Result<pb::WatchAuditEventsResponse> {
    let records = news.events.into_iter().map(|chained| {
        let record = chained.event.record()?;
        let hash = chained.hash.map(|hash| hash.0.to_vec()).unwrap_or_default();
        Ok(pb::AuditRecord { event: event(chained.event).map(message), record, hash })
    });
    Ok(pb::WatchAuditEventsResponse {
        records: records.collect::<Result<_>>()?,
        cursor: news.cursor.to_string(),
        head: news.head.map(place),
        start: news.start.map(|start| pb::AuditStart {
            number: start.number,
            hash: start.hash.0.to_vec(),
            checkpoint: start.checkpoint.map(place),
        }),
    })
}

/// The event, if its stored values are valid. Those of a manipulated event need not be.
fn event(stored: StoredEvent) -> Option<AuditEvent> {
    Some(AuditEvent {
        tenant: TenantId::parse(&stored.tenant).ok()?,
        number: stored.number,
        at: from_microsecond(stored.at),
        actor: Actor {
            service: stored.service,
            user: stored.user.as_deref().map(UserName::parse).transpose().ok()?,
            address: stored.address,
        },
        action: stored.action,
        resource: stored.resource,
        outcome: if stored.refused { Outcome::Refused } else { Outcome::Done },
        detail: stored.detail,
        changes: serde_json::from_str(&stored.changes).ok()?,
    })
}
