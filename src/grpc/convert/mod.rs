//! Converts messages to domain values and back.

pub(super) mod access;
pub(super) mod application;
pub(super) mod audit;
mod claims;
pub(super) mod credential;
pub(super) mod endpoint;
pub(super) mod limits;
pub(super) mod master_key;
pub(super) mod policy;
pub(super) mod profile;
mod registration;
pub(super) mod revocation;
pub(super) mod role;
pub(super) mod scope;
pub(super) mod signing_key;
pub(super) mod tenant;
pub(super) mod token;
pub(super) mod user;

use std::time::Duration;

use prost::Message;
use prost_types::FieldMask;

use crate::domain::{Fault, FieldErrors, FieldPatch, Moment};
use crate::error::Result;
use crate::service::{List, ListRequest};

/// The maximum of protobuf's `Duration` in seconds: about 10,000 years.
const MAX_SPAN: u64 = 315_576_000_000;

/// The update mask of a request: the fields that it sets (AIP-134).
#[derive(Debug)]
pub(super) struct Mask<'a> {
    /// `None` means all fields.
    paths: Option<&'a [String]>,
}

impl<'a> Mask<'a> {
    /// All fields, for a creation.
    pub(super) fn all() -> Self {
        Self { paths: None }
    }

    /// The fields that an update names. Each must be one of `changeable`.
    pub(super) fn of_update(
        mask: Option<&'a FieldMask>,
        changeable: &[&str],
        fields: &mut FieldErrors,
    ) -> Self {
        let paths = mask.map_or(&[][..], |mask| &mask.paths);
        if paths == ["*"] {
            return Self::all();
        }
        if paths.is_empty() {
            fields.fault("update_mask", "must name the fields to change, or `*`");
        }
        for path in paths.iter().filter(|path| !changeable.contains(&path.as_str())) {
            let known = changeable.join(", ");
            fields.fault("update_mask", format!("has {path:?}, which is not one of {known}"));
        }
        Self { paths: Some(paths) }
    }

    /// Whether the request names this field explicitly. False for a mask of all fields.
    pub(super) fn names(&self, field: &str) -> bool {
        self.paths.is_some_and(|paths| paths.iter().any(|path| path == field))
    }

    fn contains(&self, field: &str) -> bool {
        self.paths.is_none_or(|paths| paths.iter().any(|path| path == field))
    }

    /// `value()` if the mask contains this field.
    fn then<T>(&self, field: &str, value: impl FnOnce() -> Option<T>) -> Option<T> {
        self.contains(field).then(value).flatten()
    }

    /// The change to a field that can be empty. `read` returns `None` for a value that it recorded
    /// as a fault.
    fn patch<M, T>(
        &self,
        field: &str,
        value: Option<M>,
        read: impl FnOnce(M) -> Option<T>,
    ) -> FieldPatch<T> {
        match value {
            _ if !self.contains(field) => FieldPatch::Keep,
            None => FieldPatch::Clear,
            // Nothing is changed after a fault: the request is refused.
            Some(value) => read(value).map_or(FieldPatch::Keep, FieldPatch::Set),
        }
    }
}

/// The page of a list that a request asks for.
pub(super) fn list_request(page_size: i32, page_token: String) -> ListRequest {
    ListRequest { page_size, page_token }
}

/// The maximum size of the list in one answer. gRPC clients accept 4 MiB by default; the other
/// fields of the answer need some of it.
pub(super) const MAX_ANSWER: usize = 3 * 1024 * 1024;

/// The size of a message as an element of a repeated field.
pub(super) fn element_len(message: &impl Message) -> usize {
    // The field's tag and the length come first.
    let length = message.encoded_len();
    1 + prost::length_delimiter_len(length) + length
}

/// Converts as many items of a list as fit in an answer. Also returns the token of the next page.
pub(super) fn list<T, M: Message>(list: List<T>, message: impl Fn(T) -> M) -> (Vec<M>, String) {
    let mut messages = Vec::with_capacity(list.items.len());
    let mut left = MAX_ANSWER;
    for item in list.items {
        let message = message(item);
        match left.checked_sub(element_len(&message)) {
            Some(less) => left = less,
            None if messages.is_empty() => {}
            None => break,
        }
        messages.push(message);
    }
    let next_page_token = list.rest.token_after(messages.len());
    (messages, next_page_token)
}

/// A message field that must be set.
fn required<'a, T>(fields: &mut FieldErrors, field: &str, message: Option<&'a T>) -> Option<&'a T> {
    fields.read(field, message.ok_or_else(|| Fault::new("must be set")))
}

/// The value of an enum. Refuses an unknown value from a newer client: it may be a restriction, and
/// ignoring it would allow too much.
fn known<E: TryFrom<i32>>(number: i32) -> Result<E, Fault> {
    E::try_from(number).map_err(|_| {
        Fault::new(format!("has the value {number}, which this version of Keyward does not know"))
    })
}

/// An optional time, in microseconds.
fn moment(message: Option<&prost_types::Timestamp>) -> Result<Option<Moment>, Fault> {
    message.map(required_moment).transpose()
}

fn required_moment(message: &prost_types::Timestamp) -> Result<Moment, Fault> {
    Moment::new(message.seconds, message.nanos)
}

/// A duration that is not negative.
fn span(message: &prost_types::Duration) -> Result<Duration, Fault> {
    let (Ok(seconds), Ok(nanos)) = (u64::try_from(message.seconds), u32::try_from(message.nanos))
    else {
        return Err(Fault::new("must not be negative"));
    };
    if seconds > MAX_SPAN || nanos > 999_999_999 {
        return Err(Fault::new("must be at most 315576000000 s, with 0 to 999999999 nanos"));
    }
    Ok(Duration::new(seconds, nanos))
}

/// A duration in whole seconds that is not negative.
fn required_span(message: &prost_types::Duration) -> Result<i64, Fault> {
    if message.nanos == 0 && message.seconds >= 0 {
        Ok(message.seconds)
    } else {
        Err(Fault::new("must be whole seconds, and not negative"))
    }
}

pub(super) fn timestamp(moment: impl Into<Moment>) -> prost_types::Timestamp {
    let moment: Moment = moment.into();
    moment.into()
}

/// A duration without its fraction of a second.
pub(super) fn seconds(span: Duration) -> prost_types::Duration {
    prost_types::Duration { seconds: i64::try_from(span.as_secs()).unwrap_or(i64::MAX), nanos: 0 }
}

/// A duration in nanoseconds.
fn precise(span: Duration) -> prost_types::Duration {
    prost_types::Duration {
        nanos: i32::try_from(span.subsec_nanos()).unwrap_or_default(),
        ..seconds(span)
    }
}
