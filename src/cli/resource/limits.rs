//! Limits: the flags, the entries in profile files, and the output.

use prost_types::Duration;
use serde::{Deserialize, Serialize};

use super::MaskBuilder;
use crate::cli::{Failure, names};
use crate::proto::admin as pb;

/// Defines flags for limits. It is a macro because a command can have several limits, and clap has
/// no prefix for flattened flags.
macro_rules! limit_flags {
    ($name:ident, $prefix:literal, $of:literal, $none:literal: $none_help:literal) => {
        #[doc = concat!("Flags for limits", $of, ".")]
        #[derive(Debug, clap::Args)]
        pub(in crate::cli) struct $name {
            #[arg(
                        long = concat!($prefix, "-requests"),
                        id = concat!($prefix, "-requests"),
                        value_name = "N",
                        help = concat!("The maximum of requests in a window", $of, "; 0: no limit")
                    )]
            requests: Option<i64>,
            #[arg(
                        long = concat!($prefix, "-window"),
                        id = concat!($prefix, "-window"),
                        value_name = "SPAN",
                        value_parser = $crate::cli::names::span,
                        help = "The window: 1s to 1d [default: 60s]"
                    )]
            window: Option<prost_types::Duration>,
            #[arg(
                        long = concat!($prefix, "-items"),
                        id = concat!($prefix, "-items"),
                        value_name = "N",
                        help = "The maximum of items in one request; 0: no limit"
                    )]
            items: Option<i64>,
            #[arg(
                        long = concat!($prefix, "-tokens"),
                        id = concat!($prefix, "-tokens"),
                        value_name = "N",
                        help = "The maximum of access tokens issued in a window; 0: no limit"
                    )]
            tokens: Option<i64>,
            #[arg(
                        long = concat!($prefix, "-token-window"),
                        id = concat!($prefix, "-token-window"),
                        value_name = "SPAN",
                        value_parser = $crate::cli::names::span,
                        help = "The window for tokens: 1s to 1d [default: 60s]"
                    )]
            token_window: Option<prost_types::Duration>,
            #[arg(
                        long = concat!($prefix, "-observe-only"),
                        id = concat!($prefix, "-observe-only"),
                        value_name = "BOOL",
                        help = "Count and report what exceeds these limits, but refuse nothing"
                    )]
            observe_only: Option<bool>,
            #[arg(long = $none, id = $none, help = $none_help)]
            none: bool,
        }

        impl $name {
            /// The given values.
            pub(in crate::cli) fn given(&self) -> $crate::cli::resource::limits::Given {
                $crate::cli::resource::limits::Given {
                    requests: self.requests,
                    window: self.window,
                    items: self.items,
                    tokens: self.tokens,
                    token_window: self.token_window,
                    observe_only: self.observe_only,
                    none: self.none,
                }
            }
        }
    };
}
pub(super) use limit_flags;

/// The values of limit flags.
#[derive(Clone, Copy, Debug)]
pub(in crate::cli) struct Given {
    pub(in crate::cli) requests: Option<i64>,
    pub(in crate::cli) window: Option<Duration>,
    pub(in crate::cli) items: Option<i64>,
    pub(in crate::cli) tokens: Option<i64>,
    pub(in crate::cli) token_window: Option<Duration>,
    pub(in crate::cli) observe_only: Option<bool>,
    pub(in crate::cli) none: bool,
}

impl Given {
    /// Whether any flag is given.
    pub(in crate::cli) fn is_any(&self) -> bool {
        self.none || self.has_limits()
    }

    fn has_limits(&self) -> bool {
        self.requests.is_some()
            || self.window.is_some()
            || self.items.is_some()
            || self.tokens.is_some()
            || self.token_window.is_some()
            || self.observe_only.is_some()
    }

    /// Sets the limits if any are given, and names the field.
    pub(in crate::cli) fn apply(&self, limits: &mut Option<pb::Limits>, mask: &mut MaskBuilder) {
        if self.is_any() {
            *limits = self.onto(limits.take());
            mask.add("limits");
        }
    }

    /// Applies the given values to the present limits, or to no limits with `none`.
    pub(in crate::cli) fn onto(&self, before: Option<pb::Limits>) -> Option<pb::Limits> {
        let before = before.filter(|_| !self.none);
        if !self.has_limits() {
            return before;
        }
        let before = before.unwrap_or_default();
        Some(pb::Limits {
            requests: self.requests.unwrap_or(before.requests),
            request_window: self.window.or(before.request_window),
            items_per_request: self.items.unwrap_or(before.items_per_request),
            tokens: self.tokens.unwrap_or(before.tokens),
            token_window: self.token_window.or(before.token_window),
            observe_only: self.observe_only.unwrap_or(before.observe_only),
        })
    }
}

/// Limits in a profile file.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(in crate::cli) struct LimitsEntry {
    requests: i64,
    request_window: Option<String>,
    items_per_request: i64,
    tokens: i64,
    token_window: Option<String>,
    observe_only: bool,
}

impl LimitsEntry {
    /// Converts the entry to a message. `key` is the path of the table in the file.
    pub(in crate::cli) fn message(self, key: &str) -> Result<pb::Limits, Failure> {
        let window = |name: &str, text: Option<String>| {
            names::keyed_span(&format!("{key}.{name}"), text.as_deref())
        };
        Ok(pb::Limits {
            requests: self.requests,
            request_window: window("request_window", self.request_window)?,
            items_per_request: self.items_per_request,
            tokens: self.tokens,
            token_window: window("token_window", self.token_window)?,
            observe_only: self.observe_only,
        })
    }
}

/// Limits in the output. An absent member is unlimited.
#[derive(Serialize)]
pub(in crate::cli) struct LimitsView {
    requests: Option<i64>,
    request_window: Option<String>,
    items_per_request: Option<i64>,
    tokens: Option<i64>,
    token_window: Option<String>,
    observe_only: bool,
}

impl From<pb::Limits> for LimitsView {
    fn from(limits: pb::Limits) -> Self {
        let unless_zero = |number| Some(number).filter(|number| *number != 0);
        Self {
            requests: unless_zero(limits.requests),
            request_window: names::seconds(limits.request_window.as_ref()),
            items_per_request: unless_zero(limits.items_per_request),
            tokens: unless_zero(limits.tokens),
            token_window: names::seconds(limits.token_window.as_ref()),
            observe_only: limits.observe_only,
        }
    }
}
