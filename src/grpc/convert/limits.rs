//! Limits.

use super::required_span;
use crate::domain::{FieldErrors, Limits, Rate};
use crate::proto::admin as pb;

/// Limits from a message. `field` is its path.
pub(super) fn limits(
    fields: &mut FieldErrors,
    field: &str,
    message: &pb::Limits,
) -> Option<Limits> {
    let at = |name: &str| format!("{field}.{name}");
    let requests = fields.read(at("requests"), Limits::number(message.requests));
    let request_window = window(fields, at("request_window"), message.request_window.as_ref());
    let items = fields.read(at("items_per_request"), Limits::number(message.items_per_request));
    let tokens = fields.read(at("tokens"), Limits::number(message.tokens));
    let token_window = window(fields, at("token_window"), message.token_window.as_ref());
    let rate = |max: Option<i64>, window_seconds| max.map(|max| Rate { max, window_seconds });
    Some(Limits {
        requests: rate(requests?, request_window?),
        tokens: rate(tokens?, token_window?),
        items_per_request: items?,
        observe_only: message.observe_only,
    })
}

fn window(
    fields: &mut FieldErrors,
    field: String,
    message: Option<&prost_types::Duration>,
) -> Option<i64> {
    match message {
        None => Some(Rate::DEFAULT_WINDOW),
        Some(span) => fields.read(field, required_span(span).and_then(Rate::window)),
    }
}

pub(super) fn message(limits: Limits) -> pb::Limits {
    let max = |rate: Option<Rate>| rate.map_or(0, |rate| rate.max);
    let window = |rate: Option<Rate>| {
        rate.map(|rate| prost_types::Duration { seconds: rate.window_seconds, nanos: 0 })
    };
    pb::Limits {
        requests: max(limits.requests),
        request_window: window(limits.requests),
        items_per_request: limits.items_per_request.unwrap_or_default(),
        tokens: max(limits.tokens),
        token_window: window(limits.tokens),
        observe_only: limits.observe_only,
    }
}
