//! Parses names and times on the command line. `acme/crm` is short for
//! `tenants/acme/applications/crm`; full resource names are accepted too.

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

/// `acme/sam` or `tenants/acme/users/sam`.
pub(super) fn user(name: &str) -> String {
    expand(name, &["tenants", "users"])
}

/// Roles of a known tenant, such as `admin`. Keeps an empty name, which stands for the empty list.
pub(super) fn roles(names: &[String]) -> Vec<String> {
    let expanded = |name: &String| {
        if name.contains('/') { expand(name, &["tenants", "roles"]) } else { name.clone() }
    };
    names.iter().map(expanded).collect()
}

/// `account`, which is the tenant itself, or a user such as `acme/sam`.
pub(super) fn owner(name: &str, tenant: &str) -> String {
    if name == "account" { tenant.to_owned() } else { user(name) }
}

/// The parent of credentials: `acme/crm`, or all applications of `acme`.
pub(super) fn parent_of_credentials(name: &str) -> String {
    match application(name) {
        tenant if tenant.matches('/').count() == 1 => format!("{tenant}/applications/-"),
        application => application,
    }
}

/// The resource of an event: `acme`, `acme/crm`, `acme/crm/ID`, or any full name.
pub(super) fn resource(name: &str) -> String {
    expand(name, &["tenants", "applications", "credentials"])
}

/// The actor of an event: a user (`acme/sam`), a service (`system/admin`), or `keyward`. Services
/// are in the built-in tenant, users in the others.
pub(super) fn actor(name: &str) -> String {
    match name.split_once('/') {
        None => name.to_owned(),
        Some(("system", _)) => application(name),
        Some(_) => user(name),
    }
}

/// A name without its collections: `acme/crm` for `tenants/acme/applications/crm`.
pub(super) fn short(name: &str) -> String {
    let ids: Vec<_> = name.split('/').skip(1).step_by(2).collect();
    if name.starts_with("tenants/") { ids.join("/") } else { name.to_owned() }
}

/// The short form, if [`resource`] can expand it.
pub(super) fn short_resource(name: &str) -> String {
    let taken = short(name);
    if resource(&taken) == name { taken } else { name.to_owned() }
}

/// The short form, if [`actor`] can expand it.
pub(super) fn short_actor(name: &str) -> String {
    let taken = short(name);
    if actor(&taken) == name { taken } else { name.to_owned() }
}

/// Splits a full name into its parent and its id: `tenants/acme/roles/admin` into `tenants/acme`
/// and `admin`. The parent of a tenant is empty.
pub(super) fn split<'a>(
    name: &'a str,
    collections: &[&str],
) -> Result<(&'a str, &'a str), Failure> {
    let last = collections.last().copied().unwrap_or_default();
    let found = if collections.len() == 1 {
        name.strip_prefix(last).and_then(|rest| rest.strip_prefix('/')).map(|id| ("", id))
    } else {
        name.split_once(&format!("/{last}/"))
    };
    found.filter(|(_, id)| !id.is_empty()).ok_or_else(|| {
        let (kind, given) = (last.trim_end_matches('s'), short(name));
        let hint = match collections.len().saturating_sub(given.split('/').count()) {
            0 => String::new(),
            1 => format!(": write {given}/ID"),
            _ => format!(": write {given}/APPLICATION/ID"),
        };
        Failure::usage(format!("{name} is not the name of a {kind}{hint}"))
    })
}

/// Inserts collections into a name: `a/b` with the collections `x` and `y` becomes `x/a/y/b`.
pub(super) fn expand(name: &str, collections: &[&str]) -> String {
    if name.starts_with("tenants/") {
        return name.to_owned();
    }
    // The last id can contain slashes.
    let parts = name.splitn(collections.len(), '/');
    let pairs: Vec<_> = collections.iter().zip(parts).map(|(c, id)| format!("{c}/{id}")).collect();
    pairs.join("/")
}

/// A time, or a duration from now (`90d`).
pub(super) fn ahead(text: &str) -> Result<Moment, String> {
    moment_or(text, later)
}

/// A time, or a duration before now.
pub(super) fn ago(text: &str) -> Result<Moment, String> {
    moment_or(text, |now, span| now.saturating_sub(span).unwrap_or(Timestamp::MIN))
}

/// A time of RFC 3339, a day (its start in UTC), or a duration relative to now.
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
        .map_err(|_| "must be a time like 2027-01-31T00:00:00Z, or a span like 90d".to_owned())
}

fn midnight(text: &str) -> Option<Timestamp> {
    // The parser accepts a longer text and ignores the time in it.
    let day: Date = text.parse().ok().filter(|_| text.len() == 10)?;
    Some(day.to_zoned_datetime(TimeZone::UTC).ok()?.timestamp())
}

/// The day (UTC) of a time.
pub(super) fn day(moment: Moment) -> String {
    moment.timestamp().to_zoned_datetime(TimeZone::UTC).date().to_string()
}

/// [`ahead`], or `never`.
pub(super) fn expiry(text: &str) -> Result<Expiry, String> {
    match text {
        "never" => Ok(Expiry::Never),
        text => ahead(text).map(Expiry::At).map_err(|fault| format!("{fault}, or never")),
    }
}

/// When something expires.
#[derive(Clone, Copy, Debug)]
pub(super) enum Expiry {
    Never,
    At(Moment),
}

impl Expiry {
    pub(super) fn message(self) -> Option<prost_types::Timestamp> {
        match self {
            Self::Never => None,
            Self::At(moment) => Some(moment.into()),
        }
    }
}

/// The values of a repeated option. An empty value stands for the empty list.
pub(super) fn given_words(words: &[String]) -> Vec<String> {
    words.iter().filter(|word| !word.is_empty()).cloned().collect()
}

/// A duration, or `never`.
pub(super) fn lifetime(text: &str) -> Result<LifetimeArg, String> {
    match text {
        "never" => Ok(LifetimeArg::Unlimited),
        text => span(text).map(LifetimeArg::Span).map_err(|fault| format!("{fault}, or never")),
    }
}

#[derive(Clone, Copy, Debug)]
pub(super) enum LifetimeArg {
    Unlimited,
    Span(prost_types::Duration),
}

/// A duration, or `tenant`.
pub(super) fn token_lifetime(text: &str) -> Result<TokenLifetimeArg, String> {
    match text {
        "tenant" => Ok(TokenLifetimeArg::OfTenant),
        text => {
            span(text).map(TokenLifetimeArg::Own).map_err(|fault| format!("{fault}, or tenant"))
        }
    }
}

/// How long the tokens of an application live.
#[derive(Clone, Copy, Debug)]
pub(super) enum TokenLifetimeArg {
    OfTenant,
    Own(prost_types::Duration),
}

impl TokenLifetimeArg {
    pub(super) fn message(self) -> Option<prost_types::Duration> {
        match self {
            Self::OfTenant => None,
            Self::Own(span) => Some(span),
        }
    }
}

/// A duration as a message.
pub(super) fn span(text: &str) -> Result<prost_types::Duration, String> {
    let span = duration(text).map_err(|fault| fault.0)?;
    prost_types::Duration::try_from(span).map_err(|error| error.to_string())
}

/// A duration in a file. `key` is its path in the file.
pub(super) fn keyed_span(
    key: &str,
    text: Option<&str>,
) -> Result<Option<prost_types::Duration>, Failure> {
    let span = text.map(span).transpose();
    span.map_err(|what| Failure::usage(format!("{key} {what}")))
}

/// A duration from a message.
pub(super) fn seconds(message: Option<&prost_types::Duration>) -> Option<String> {
    Some(format!("{}s", message?.seconds))
}

/// A duration from a message, rounded up to seconds.
pub(super) fn wait(message: Option<&prost_types::Duration>) -> Option<String> {
    let span = message?;
    Some(format!("{}s", span.seconds + i64::from(span.nanos > 0)))
}

/// A time from a message, to the second.
pub(super) fn moment(message: Option<&prost_types::Timestamp>) -> Option<String> {
    let moment = Moment::new(message?.seconds, 0).ok()?;
    Some(moment.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn short_names_are_expanded_and_full_names_kept() {
        assert_eq!(tenant("acme"), "tenants/acme");
        assert_eq!(application("acme/crm"), "tenants/acme/applications/crm");
        assert_eq!(resource("a/b/c"), "tenants/a/applications/b/credentials/c");
        let scopes = ["tenants", "scopes"];
        assert_eq!(expand("acme/https://x/y", &scopes), "tenants/acme/scopes/https://x/y");
        assert_eq!(application("tenants/a/applications/b"), "tenants/a/applications/b");
        assert_eq!(user("acme/sam@acme.example"), "tenants/acme/users/sam@acme.example");
        assert_eq!(parent_of_credentials("acme"), "tenants/acme/applications/-");
        assert_eq!(parent_of_credentials("tenants/acme"), "tenants/acme/applications/-");
        assert_eq!(parent_of_credentials("acme/crm"), "tenants/acme/applications/crm");
        let words = ["admin".to_owned(), "acme/viewer".to_owned(), String::new()];
        assert_eq!(roles(&words), ["admin", "tenants/acme/roles/viewer", ""]);
    }

    #[test]
    fn printed_short_names_are_accepted_as_input() {
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
    fn id_is_split_from_its_parent() {
        let (roles, scopes) = (["tenants", "roles"], ["tenants", "scopes"]);
        assert_eq!(split("tenants/a/roles/r", &roles).unwrap(), ("tenants/a", "r"));
        assert_eq!(split("tenants/a/scopes/x/scopes/y", &scopes).unwrap().1, "x/scopes/y");
        assert_eq!(split("tenants/a", &["tenants"]).unwrap(), ("", "a"));
        assert!(split("tenants/a", &roles).is_err());
        assert!(split("tenants/a/roles/", &roles).is_err());
    }

    #[test]
    fn time_is_parsed_from_day_or_duration() {
        assert_eq!(ago("2026-01-31").unwrap().to_string(), "2026-01-31T00:00:00Z");
        assert!(ago("2026-01-31T10:00").is_err(), "a time without a zone is ambiguous");
        assert!(ago("1d").unwrap() < ahead("0s").unwrap());
        assert_eq!(day("2026-01-31T23:59:59Z".parse().unwrap()), "2026-01-31");
        assert!(expiry("soon").unwrap_err().ends_with("never"));
    }
}
