//! Names as people write them: `acme/crm` for `tenants/acme/applications/crm`. A full
//! resource name is taken as it is.

use jiff::Timestamp;

use crate::config::duration;

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

fn expand(name: &str, collections: &[&str]) -> String {
    if name.starts_with("tenants/") {
        return name.to_owned();
    }
    // The last part may contain slashes itself.
    let parts = name.splitn(collections.len(), '/');
    let pairs: Vec<_> = collections.iter().zip(parts).map(|(c, id)| format!("{c}/{id}")).collect();
    pairs.join("/")
}

/// A moment as people write it: RFC 3339, a span from now (`90d`), or `never`.
pub(super) fn expiry(text: &str) -> Result<Expiry, String> {
    if text == "never" {
        return Ok(Expiry::Never);
    }
    if let Ok(moment) = text.parse::<Timestamp>() {
        return Ok(Expiry::At(moment));
    }
    duration(text)
        .map(|span| Expiry::At(crate::clock::later(crate::clock::Clock::system().now(), span)))
        .map_err(|_| "must be a moment as 2027-01-31T00:00:00Z, a span as 90d, or never".to_owned())
}

/// When something ends.
#[derive(Clone, Copy, Debug)]
pub(super) enum Expiry {
    /// It does not.
    Never,
    /// Then.
    At(Timestamp),
}

impl Expiry {
    /// As a message.
    pub(super) fn message(self) -> Option<prost_types::Timestamp> {
        match self {
            Self::Never => None,
            Self::At(moment) => Some(prost_types::Timestamp {
                seconds: moment.as_second(),
                nanos: moment.subsec_nanosecond(),
            }),
        }
    }
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

/// A moment from a message, to the second.
pub(super) fn moment(message: Option<&prost_types::Timestamp>) -> Option<String> {
    let moment = Timestamp::from_second(message?.seconds).ok()?;
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
    }
}
