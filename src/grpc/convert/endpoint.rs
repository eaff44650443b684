//! Rules for endpoints.

use std::collections::BTreeMap;

use super::limits;
use crate::domain::text::long_text;
use crate::domain::{
    Endpoint, Endpoints, Fault, FieldErrors, HttpMethod, NeededScopes, PathTemplate, ScopeName,
    ScopeSet, ScopeSettings,
};
use crate::proto::admin as pb;

/// A set of endpoint rules, which may use the scopes of this catalogue. `field` is the path of the
/// list.
pub(super) fn endpoints(
    fields: &mut FieldErrors,
    field: &str,
    set: &pb::EndpointSet,
    catalogue: &BTreeMap<ScopeName, ScopeSettings>,
) -> Endpoints {
    if set.endpoints.len() > Endpoints::MAX {
        fields.fault(field, format!("must have at most {} entries", Endpoints::MAX));
    }
    let mut endpoints = Endpoints::default();
    for (n, message) in set.endpoints.iter().enumerate() {
        let field = format!("{field}[{n}]");
        if let Some(rule) = endpoint(fields, &field, message, catalogue) {
            fields.read(format!("{field}.path"), endpoints.insert(rule));
        }
    }
    endpoints
}

fn endpoint(
    fields: &mut FieldErrors,
    field: &str,
    message: &pb::Endpoint,
    catalogue: &BTreeMap<ScopeName, ScopeSettings>,
) -> Option<Endpoint> {
    let at = |name: &str| format!("{field}.{name}");
    let method = fields.read(at("method"), HttpMethod::parse(&message.method));
    let path = fields.read(at("path"), PathTemplate::parse(&message.path));
    let all_of = scopes(fields, &at("all_of"), &message.all_of, catalogue);
    let any_of = scopes(fields, &at("any_of"), &message.any_of, catalogue);
    let limits =
        message.limits.as_ref().and_then(|message| limits::limits(fields, &at("limits"), message));
    if message.limits.is_some_and(|limits| limits.tokens > 0) {
        fields.fault(at("limits.tokens"), "must be 0: no tokens are issued at an endpoint");
    }
    let description = fields.read(at("description"), long_text(&message.description, 1000));
    Some(Endpoint {
        method: method?,
        path: path?,
        needs: NeededScopes { all_of: all_of?, any_of: any_of? },
        limits,
        description: description?,
    })
}

fn scopes(
    fields: &mut FieldErrors,
    field: &str,
    values: &[String],
    catalogue: &BTreeMap<ScopeName, ScopeSettings>,
) -> Option<ScopeSet> {
    fields.read_list(field, values, Endpoint::MAX_SCOPES, |value| {
        let scope = ScopeName::parse(value)?;
        if catalogue.contains_key(&scope) {
            Ok(scope)
        } else {
            Err(Fault::new("must be one of the profile's scopes"))
        }
    })
}

pub(in crate::grpc) fn message(endpoint: Endpoint) -> pb::Endpoint {
    pb::Endpoint {
        method: endpoint.method.to_string(),
        path: endpoint.path.to_string(),
        all_of: endpoint.needs.all_of.to_strings(),
        any_of: endpoint.needs.any_of.to_strings(),
        limits: endpoint.limits.map(limits::message),
        description: endpoint.description,
    }
}
