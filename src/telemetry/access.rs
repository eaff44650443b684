//! The access log: if enabled, one line per request with the caller, the method, the address and
//! the result. It never contains secrets, tokens, bodies or queries.

use std::net::IpAddr;
use std::time::Duration;

use axum::http::{HeaderMap, HeaderValue};

use super::logs::ACCESS;
use crate::domain::Client;

/// The maximum length of a client-chosen id in a line.
const MAX_ID: usize = 64;

/// Ids sent by the client, which connect a line to lines of other systems. Its trace id is written
/// as on all lines of the request.
#[derive(Debug, Default)]
pub(super) struct Ids {
    request: Option<String>,
}

/// An answered request.
pub(super) struct AccessLine<'a> {
    pub(super) face: &'static str,
    pub(super) method: &'a str,
    pub(super) status: &'a str,
    pub(super) client: Option<&'a Client>,
    pub(super) source: Option<IpAddr>,
    pub(super) took: Duration,
    pub(super) ids: Ids,
}

impl Ids {
    pub(super) fn of(headers: &HeaderMap) -> Self {
        let text = |name: &str| headers.get(name).map(HeaderValue::to_str)?.ok();
        Self { request: text("x-request-id").map(|id| id.chars().take(MAX_ID).collect()) }
    }
}

impl AccessLine<'_> {
    pub(super) fn log(self) {
        let Self { face, method, status, client, source, took, ids } = self;
        tracing::info!(
            target: ACCESS,
            face,
            method,
            status,
            tenant = client.map(|client| client.tenant.id.as_str()),
            client_id = client.map(|client| client.name.credential.as_str()),
            source = source.map(tracing::field::display),
            ms = took.as_secs_f64() * 1000.0,
            request_id = ids.request,
            "request"
        );
    }
}
