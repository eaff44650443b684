//! Messages to domain values and back, both directions in one place.

pub(super) mod access;
pub(super) mod application;
pub(super) mod audit;
pub(super) mod credential;
pub(super) mod endpoint;
pub(super) mod limits;
pub(super) mod policy;
pub(super) mod profile;
pub(super) mod revocation;
pub(super) mod role;
pub(super) mod scope;
pub(super) mod tenant;
pub(super) mod token;
pub(super) mod user;

use std::time::Duration;

use prost::Message;
use prost_types::FieldMask;

use crate::domain::{Fault, Fields, Moment};
use crate::error::Result;
use crate::service::{List, ListRequest};

/// The longest span that protobuf's `Duration` can hold, in seconds: some 10,000 years.
const LONGEST_SPAN: u64 = 315_576_000_000;

/// Which fields of a resource a request speaks of (AIP-134).
#[derive(Debug)]
pub(super) struct Mask<'a> {
    /// `None`: all of them.
    paths: Option<&'a [String]>,
}

impl<'a> Mask<'a> {
    /// All fields: what a creation speaks of.
    pub(super) fn all() -> Self {
        Self { paths: None }
    }

    /// The fields that an update names; each must be one that can be changed.
    pub(super) fn of_update(
        mask: Option<&'a FieldMask>,
        changeable: &[&str],
        fields: &mut Fields,
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

    /// Whether the request names this field, and does not merely mean all of them.
    pub(super) fn names(&self, field: &str) -> bool {
        self.paths.is_some_and(|paths| paths.iter().any(|path| path == field))
    }

    /// `value()` if the request speaks of this field.
    fn then<T>(&self, field: &str, value: impl FnOnce() -> Option<T>) -> Option<T> {
        let spoken_of = self.paths.is_none_or(|paths| paths.iter().any(|path| path == field));
        spoken_of.then(value).flatten()
    }
}

/// The part of a list that a request wants.
pub(super) fn list_request(page_size: i32, page_token: String) -> ListRequest {
    ListRequest { page_size, page_token }
}

/// The largest size of the messages in one answer. By default clients of gRPC take 4 MiB, of which
/// the rest of the answer needs a part.
pub(super) const MAX_ANSWER: usize = 3 * 1024 * 1024;

/// How many bytes a message takes as an element of an answer.
pub(super) fn element_len(message: &impl Message) -> usize {
    // The tag of the field and the length precede it.
    let length = message.encoded_len();
    1 + prost::length_delimiter_len(length) + length
}

/// The items of a list as messages, as many as there is room for, and the token of the part that
/// follows the last of them.
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

/// The message of a request that must have one.
fn required<'a, T>(fields: &mut Fields, field: &str, message: Option<&'a T>) -> Option<&'a T> {
    fields.read(field, message.ok_or_else(|| Fault::new("must be set")))
}

/// The value of an enum. One that a newer client has and this version does not know is refused:
/// it may narrow something, and left out or taken for another value it would not.
fn known<E: TryFrom<i32>>(number: i32) -> Result<E, Fault> {
    E::try_from(number).map_err(|_| {
        Fault::new(format!("has the value {number}, which this version of Keyward does not know"))
    })
}

/// A moment that may be unset, to the microsecond.
fn moment(message: Option<&prost_types::Timestamp>) -> Result<Option<Moment>, Fault> {
    message.map(|message| Moment::new(message.seconds, message.nanos)).transpose()
}

/// A span of time that is not negative.
fn span(message: &prost_types::Duration) -> Result<Duration, Fault> {
    let (Ok(seconds), Ok(nanos)) = (u64::try_from(message.seconds), u32::try_from(message.nanos))
    else {
        return Err(Fault::new("must not be negative"));
    };
    if seconds > LONGEST_SPAN || nanos > 999_999_999 {
        return Err(Fault::new("must be at most 315576000000 s, with 0 to 999999999 nanos"));
    }
    Ok(Duration::new(seconds, nanos))
}

/// A span of time in whole seconds.
fn required_span(message: &prost_types::Duration) -> Result<i64, Fault> {
    if message.nanos == 0 && message.seconds >= 0 {
        Ok(message.seconds)
    } else {
        Err(Fault::new("must be whole seconds, and not negative"))
    }
}

/// A moment as a message.
pub(super) fn timestamp(moment: impl Into<Moment>) -> prost_types::Timestamp {
    let moment = moment.into();
    prost_types::Timestamp { seconds: moment.as_second(), nanos: moment.subsec_nanos() }
}

/// Whole seconds as a message.
pub(super) fn seconds(span: Duration) -> prost_types::Duration {
    prost_types::Duration { seconds: i64::try_from(span.as_secs()).unwrap_or(i64::MAX), nanos: 0 }
}

/// A span as a message, to the nanosecond.
fn precise(span: Duration) -> prost_types::Duration {
    prost_types::Duration {
        nanos: i32::try_from(span.subsec_nanos()).unwrap_or_default(),
        ..seconds(span)
    }
}
