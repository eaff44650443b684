//! Names and times as people write them: `acme/crm` for `tenants/acme/applications/crm`. A
//! full resource name is taken as it is.

use jiff::Timestamp;
use jiff::civil::Date;
use jiff::tz::TimeZone;

use super::Failure;
use crate::clock::{Clock, later};
use crate::config::duration;
use crate::domain::Moment;

/// `acme` or `tenants/acme`.
pub(super) fn tenant(name: &str) -> String {
    expand(name, &["tenants"])
}

/// `acme/crm` or `tenants/acme/applications/crm`.
pub(super) fn application(name: &str) -> String {
    expand(name, &["tenants", "applications"])
}

/// `acme/crm/ID` or `tenants/acme/applications/crm/credentials/ID`.
pub(super) fn credential(name: &str) -> String {
    expand(name, &["tenants", "applications", "credentials"])
}

/// `acme/acl:read` or `tenants/acme/scopes/acl:read`.
pub(super) fn scope(name: &str) -> String {
    expand(name, &["tenants", "scopes"])
}

/// `acme/sam` or `tenants/acme/users/sam`.
pub(super) fn user(name: &str) -> String {
    expand(name, &["tenants", "users"])
}

/// `acme/admin` or `tenants/acme/roles/admin`.
pub(super) fn role(name: &str) -> String {
    expand(name, &["tenants", "roles"])
}

/// Roles of a tenant that is known: `admin` will do. An empty one is none.
pub(super) fn roles(names: Vec<String>) -> Vec<String> {
    let each = given_words(names).into_iter();
    each.map(|name| if name.contains('/') { role(&name) } else { name }).collect()
}

/// `account`, or a user: `acme/sam`. The account is the tenant itself.
pub(super) fn owner(name: &str, tenant: &str) -> String {
    if name == "account" { tenant.to_owned() } else { user(name) }
}

/// Whose credentials: those of `acme/crm`, or all of `acme`.
pub(super) fn parent_of_credentials(name: &str) -> String {
    match application(name) {
        tenant if tenant.matches('/').count() == 1 => format!("{tenant}/applications/-"),
        application => application,
    }
}

/// What an event is about: `acme`, `acme/crm` or `acme/crm/ID`; others by their full name.
pub(super) fn resource(name: &str) -> String {
    credential(name)
}

/// Who brought an event about: a user (`acme/sam`), a service (`system/admin`), or
/// `keyward`. The built-in tenant has no users, and others no services.
pub(super) fn actor(name: &str) -> String {
    match name.split_once('/') {
        None => name.to_owned(),
        Some(("system", _)) => application(name),
        Some(_) => user(name),
    }
}

/// A name without the words between its ids: `acme/crm` of `tenants/acme/applications/crm`.
pub(super) fn short(name: &str) -> String {
    let ids: Vec<_> = name.split('/').skip(1).step_by(2).collect();
    if name.starts_with("tenants/") { ids.join("/") } else { name.to_owned() }
}

/// The short form that [`resource`] takes.
pub(super) fn short_resource(name: &str) -> String {
    let taken = short(name);
    if resource(&taken) == name { taken } else { name.to_owned() }
}

/// The short form that [`actor`] takes.
pub(super) fn short_actor(name: &str) -> String {
    let taken = short(name);
    if actor(&taken) == name { taken } else { name.to_owned() }
}

/// The name of what something is in, and its own id: `acme/admin` is `admin` in
/// `tenants/acme`.
pub(super) fn split<'a>(name: &'a str, collection: &str) -> Result<(&'a str, &'a str), Failure> {
    let (parent, rest) = name.split_at(name.find(collection).unwrap_or(name.len()));
    rest.strip_prefix(collection).map(|id| (parent, id)).ok_or_else(|| {
        let what = collection.trim_matches('/').trim_end_matches('s');
        Failure::usage(format!("{name} names no {what}; write it as {}/ID", short(name)))
    })
}

fn expand(name: &str, collections: &[&str]) -> String {
    if name.starts_with("tenants/") {
        return name.to_owned();
    }
    // The last part may contain slashes itself.
    let parts = name.splitn(collections.len(), '/');
    let pairs: Vec<_> = collections.iter().zip(parts).map(|(c, id)| format!("{c}/{id}")).collect();
    pairs.join("/")
}

/// A moment, or a span from now (`90d`).
pub(super) fn ahead(text: &str) -> Result<Moment, String> {
    moment_or(text, later)
}

/// A moment, or a span before now.
pub(super) fn ago(text: &str) -> Result<Moment, String> {
    moment_or(text, |now, span| now.saturating_sub(span).unwrap_or(Timestamp::MIN))
}

/// A moment of RFC 3339 or the beginning of a day (UTC), or where a span leads to from now.
fn moment_or(
    text: &str,
    reach: impl FnOnce(Timestamp, std::time::Duration) -> Timestamp,
) -> Result<Moment, String> {
    if let Ok(moment) = text.parse::<Moment>() {
        return Ok(moment);
    }
    if let Some(moment) = midnight(text) {
        return Ok(moment.into());
    }
    duration(text)
        .map(|span| reach(Clock::system().now(), span).into())
        .map_err(|_| "must be a moment as 2027-01-31T00:00:00Z, or a span as 90d".to_owned())
}

fn midnight(text: &str) -> Option<Timestamp> {
    // A longer text that begins with a day says more than the day.
    let day: Date = text.parse().ok().filter(|_| text.len() == 10)?;
    Some(day.to_zoned(TimeZone::UTC).ok()?.timestamp())
}

/// The day (UTC) of a moment.
pub(super) fn day(moment: Moment) -> String {
    moment.timestamp().to_zoned(TimeZone::UTC).date().to_string()
}

/// [`ahead`], or `never`.
pub(super) fn expiry(text: &str) -> Result<Expiry, String> {
    match text {
        "never" => Ok(Expiry::Never),
        text => ahead(text).map(Expiry::At).map_err(|fault| format!("{fault}, or never")),
    }
}

/// When something ends.
#[derive(Clone, Copy, Debug)]
pub(super) enum Expiry {
    /// It does not.
    Never,
    /// Then.
    At(Moment),
}

impl Expiry {
    /// As a message.
    pub(super) fn message(self) -> Option<prost_types::Timestamp> {
        match self {
            Self::Never => None,
            Self::At(moment) => Some(timestamp(moment)),
        }
    }
}

/// A moment as a message.
pub(super) fn timestamp(moment: Moment) -> prost_types::Timestamp {
    prost_types::Timestamp { seconds: moment.as_second(), nanos: moment.subsec_nanos() }
}

/// The words of an option that can be given again; an empty one stands for none.
pub(super) fn given_words(words: Vec<String>) -> Vec<String> {
    words.into_iter().filter(|word| !word.is_empty()).collect()
}

/// A span of time, or `never`.
pub(super) fn lifetime(text: &str) -> Result<Lifetime, String> {
    match text {
        "never" => Ok(Lifetime::Unlimited),
        text => span(text).map(Lifetime::Span).map_err(|fault| format!("{fault}, or never")),
    }
}

/// How long something works.
#[derive(Clone, Copy, Debug)]
pub(super) enum Lifetime {
    /// For ever.
    Unlimited,
    /// So long.
    Span(prost_types::Duration),
}

/// The names of the fields that were given: what an update changes.
pub(super) fn given<const N: usize>(fields: [(&str, bool); N]) -> Vec<String> {
    let given = fields.into_iter().filter(|(_, given)| *given);
    given.map(|(field, _)| field.to_owned()).collect()
}

/// A span of time as a message.
pub(super) fn span(text: &str) -> Result<prost_types::Duration, String> {
    let span = duration(text).map_err(|fault| fault.0)?;
    prost_types::Duration::try_from(span).map_err(|error| error.to_string())
}

/// A span of time in a file, if one is given; `key` says where.
pub(super) fn keyed_span(
    key: &str,
    text: Option<&str>,
) -> Result<Option<prost_types::Duration>, Failure> {
    let span = text.map(span).transpose();
    span.map_err(|what| Failure::usage(format!("{key} {what}")))
}

/// A span from a message.
pub(super) fn seconds(message: Option<&prost_types::Duration>) -> Option<String> {
    Some(format!("{}s", message?.seconds))
}

/// How long to wait, in whole seconds: not less than that.
pub(super) fn wait(message: Option<&prost_types::Duration>) -> Option<String> {
    let span = message?;
    Some(format!("{}s", span.seconds + i64::from(span.nanos > 0)))
}

/// A moment from a message, to the second.
pub(super) fn moment(message: Option<&prost_types::Timestamp>) -> Option<String> {
    let moment = Moment::new(message?.seconds, 0).ok()?;
    Some(moment.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn short_names_are_expanded_and_full_ones_kept() {
        assert_eq!(tenant("acme"), "tenants/acme");
        assert_eq!(application("acme/crm"), "tenants/acme/applications/crm");
        assert_eq!(credential("a/b/c"), "tenants/a/applications/b/credentials/c");
        assert_eq!(scope("acme/https://x/y"), "tenants/acme/scopes/https://x/y");
        assert_eq!(application("tenants/a/applications/b"), "tenants/a/applications/b");
        assert_eq!(user("acme/sam@acme.example"), "tenants/acme/users/sam@acme.example");
        assert_eq!(parent_of_credentials("acme"), "tenants/acme/applications/-");
        assert_eq!(parent_of_credentials("tenants/acme"), "tenants/acme/applications/-");
        assert_eq!(parent_of_credentials("acme/crm"), "tenants/acme/applications/crm");
        let words = ["admin".to_owned(), "acme/viewer".to_owned(), String::new()];
        assert_eq!(roles(words.to_vec()), ["admin", "tenants/acme/roles/viewer"]);
    }

    #[test]
    fn a_short_form_that_is_shown_can_be_given_back() {
        for name in ["tenants/a", "tenants/a/applications/b/credentials/c", "tenants/a/users/u"] {
            assert_eq!(resource(&short_resource(name)), name);
        }
        assert_eq!(short_resource("tenants/a/applications/b"), "a/b");
        assert_eq!(short_resource("tenants/a/roles/b"), "tenants/a/roles/b");
        for name in ["keyward", "tenants/system/applications/admin", "tenants/a/users/u"] {
            assert_eq!(actor(&short_actor(name)), name);
        }
        assert_eq!(short_actor("tenants/system/applications/admin"), "system/admin");
        assert_eq!(short_actor("tenants/a/applications/b"), "tenants/a/applications/b");
    }

    #[test]
    fn an_id_is_split_off_its_parent() {
        assert_eq!(split("tenants/a/roles/r", "/roles/").unwrap(), ("tenants/a", "r"));
        assert_eq!(split("tenants/a/scopes/x/scopes/y", "/scopes/").unwrap().1, "x/scopes/y");
        assert!(split("tenants/a", "/roles/").is_err());
    }

    #[test]
    fn a_moment_can_be_a_day_or_a_span_from_now() {
        assert_eq!(ago("2026-01-31").unwrap().to_string(), "2026-01-31T00:00:00Z");
        assert!(ago("2026-01-31T10:00").is_err(), "a time without a zone says too little");
        assert!(ago("1d").unwrap() < ahead("0s").unwrap());
        assert_eq!(day("2026-01-31T23:59:59Z".parse().unwrap()), "2026-01-31");
        assert!(expiry("soon").unwrap_err().ends_with("never"));
    }
}
