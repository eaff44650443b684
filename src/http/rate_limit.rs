//! The headers `RateLimit-Policy` and `RateLimit` of draft-ietf-httpapi-ratelimit-headers-10.

use std::time::Duration;

use axum::http::{HeaderMap, HeaderName, HeaderValue};

use crate::domain::LimitStatus;
use crate::error::whole_seconds;

const POLICY: HeaderName = HeaderName::from_static("ratelimit-policy");
const LIMIT: HeaderName = HeaderName::from_static("ratelimit");

#[derive(Clone, Debug)]
pub(super) struct ReachedLimit {
    pub(super) policy: &'static str,
    pub(super) limit: u64,
    pub(super) window: Duration,
    pub(super) retry_after: Duration,
}

impl ReachedLimit {
    /// Sets the headers for this limit.
    pub(super) fn set(&self, headers: &mut HeaderMap) {
        let name = self.policy;
        set(headers, POLICY, policy(name, self.limit, self.window));
        set(headers, LIMIT, format!("\"{name}\";r=0;t={}", whole_seconds(self.retry_after)));
    }
}

/// Sets the headers for the state of limits, innermost first. Sets none without limits.
pub(super) fn set_status(headers: &mut HeaderMap, limits: &[LimitStatus]) {
    if limits.is_empty() {
        return;
    }
    let each = |item: &dyn Fn(&str, &LimitStatus) -> String| {
        let items: Vec<_> =
            limits.iter().map(|limit| item(limit.level.into_str(), limit)).collect();
        items.join(", ")
    };
    let policies = each(&|name, limit| policy(name, limit.limit, limit.window));
    let states = each(&|name, limit| {
        format!("\"{name}\";r={};t={}", limit.remaining, whole_seconds(limit.reset))
    });
    set(headers, POLICY, policies);
    set(headers, LIMIT, states);
}

fn policy(name: &str, limit: u64, window: Duration) -> String {
    format!("\"{name}\";q={limit};w={}", whole_seconds(window))
}

fn set(headers: &mut HeaderMap, name: HeaderName, value: String) {
    if let Ok(value) = HeaderValue::try_from(value) {
        headers.insert(name, value);
    }
}
