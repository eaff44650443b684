//! The values of the headers `RateLimit-Policy` and `RateLimit`
//! (draft-ietf-httpapi-ratelimit-headers-10).

use std::fmt::Write;
use std::time::Duration;

use super::LimitStatus;
use crate::error::whole_seconds;

/// The state of limits, as headers say it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LimitHeaders {
    /// The value of `RateLimit-Policy`.
    pub policy: String,
    /// The value of `RateLimit`.
    pub state: String,
}

impl LimitHeaders {
    /// For these limits, innermost first. `None` without limits.
    pub fn of(limits: &[LimitStatus]) -> Option<Self> {
        let mut headers: Option<Self> = None;
        for limit in limits {
            let one = Self::of_one(
                limit.level.into_str(),
                (limit.limit, limit.window),
                (limit.remaining, limit.reset),
            );
            match &mut headers {
                None => headers = Some(one),
                Some(all) => {
                    // Writing to a string does not fail.
                    write!(all.policy, ", {}", one.policy).ok();
                    write!(all.state, ", {}", one.state).ok();
                }
            }
        }
        headers
    }

    /// For one limit with this name: its maximum and window, what is left and when more is.
    pub fn of_one(
        name: &str,
        (limit, window): (u64, Duration),
        (remaining, reset): (u64, Duration),
    ) -> Self {
        Self {
            policy: format!("\"{name}\";q={limit};w={}", whole_seconds(window)),
            state: format!("\"{name}\";r={remaining};t={}", whole_seconds(reset)),
        }
    }
}
