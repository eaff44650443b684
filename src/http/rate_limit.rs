//! The headers `RateLimit-Policy` and `RateLimit` of draft-ietf-httpapi-ratelimit-headers-10.

use std::time::Duration;

use axum::http::{HeaderMap, HeaderName, HeaderValue};

use crate::domain::{LimitHeaders, LimitStatus};

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
        let state = (0, self.retry_after);
        set(headers, LimitHeaders::of_one(self.policy, (self.limit, self.window), state));
    }
}

/// Sets the headers for the state of limits, innermost first. Sets none without limits.
pub(super) fn set_status(headers: &mut HeaderMap, limits: &[LimitStatus]) {
    if let Some(values) = LimitHeaders::of(limits) {
        set(headers, values);
    }
}

fn set(headers: &mut HeaderMap, LimitHeaders { policy, state }: LimitHeaders) {
    for (name, value) in [(POLICY, policy), (LIMIT, state)] {
        if let Ok(value) = HeaderValue::try_from(value) {
            headers.insert(name, value);
        }
    }
}
