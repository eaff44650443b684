//! Scopes: the entries of a tenant's catalogue, and sets of them.

use std::borrow::Borrow;
use std::collections::BTreeSet;
use std::fmt;
use std::sync::Arc;

use super::fields::Fault;
use super::{Record, ScopeId};
use crate::error::{Error, Result};

/// A scope name: an RFC 6749 scope-token of at most 128 characters.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ScopeName(Arc<str>);

impl ScopeName {
    /// Allows everything. Only in the built-in tenant.
    pub const ADMIN: &'static str = "keyward.admin";
    /// Allows acting for a user. Only in the built-in tenant.
    pub const MANAGE: &'static str = "keyward.manage";
    /// Allows checking all tokens. Only in the built-in tenant.
    pub const VERIFY: &'static str = "keyward.verify";

    /// Validates a scope-token (RFC 6749, section 3.3).
    pub fn parse(value: &str) -> Result<Self, Fault> {
        let allowed = |b: u8| matches!(b, 0x21 | 0x23..=0x5b | 0x5d..=0x7e);
        if value.is_empty() || value.len() > 128 || !value.bytes().all(allowed) {
            return Err(Fault::new(
                "must be 1 to 128 printable ASCII characters without spaces, double quotes or backslashes",
            ));
        }
        Ok(Self(value.into()))
    }

    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl Borrow<str> for ScopeName {
    fn borrow(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for ScopeName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// A sorted set of scopes. Cheap to clone, because many clients share the same set.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct ScopeSet(Arc<BTreeSet<ScopeName>>);

impl ScopeSet {
    /// Parses the OAuth `scope` parameter: scopes separated by single spaces.
    pub fn parse(value: &str) -> Result<Self, Fault> {
        value.split(' ').filter(|scope| !scope.is_empty()).map(ScopeName::parse).collect()
    }

    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub fn contains(&self, scope: &str) -> bool {
        self.0.contains(scope)
    }

    pub fn iter(&self) -> impl Iterator<Item = &ScopeName> {
        self.0.iter()
    }

    /// The scopes that are missing in `other`, sorted.
    pub fn without(&self, other: &Self) -> Vec<String> {
        self.0.difference(&other.0).map(ToString::to_string).collect()
    }

    /// The set of scopes that are missing in `other`.
    #[must_use]
    pub fn minus(&self, other: &Self) -> Self {
        self.0.difference(&other.0).cloned().collect()
    }

    #[must_use]
    pub fn union(mut self, other: &Self) -> Self {
        if !other.is_empty() {
            Arc::make_mut(&mut self.0).extend(other.0.iter().cloned());
        }
        self
    }

    /// The scopes that are also in `other`.
    #[must_use]
    pub fn within(&self, other: &Self) -> Self {
        self.0.intersection(&other.0).cloned().collect()
    }

    /// Whether `other` contains all of them.
    pub fn is_within(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.0, &other.0) || self.0.is_subset(&other.0)
    }

    /// Returns an error that lists the scopes missing in `allowed`.
    pub fn require_within(&self, allowed: &Self) -> Result<(), Error> {
        let beyond = self.without(allowed);
        if beyond.is_empty() { Ok(()) } else { Err(Error::ScopeNotAllowed(beyond)) }
    }

    /// The scopes as strings, sorted.
    pub fn to_strings(&self) -> Vec<String> {
        self.0.iter().map(ToString::to_string).collect()
    }
}

impl FromIterator<ScopeName> for ScopeSet {
    fn from_iter<I: IntoIterator<Item = ScopeName>>(scopes: I) -> Self {
        Self(Arc::new(scopes.into_iter().collect()))
    }
}

impl fmt::Display for ScopeSet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (n, scope) in self.0.iter().enumerate() {
            write!(f, "{}{scope}", if n == 0 { "" } else { " " })?;
        }
        Ok(())
    }
}

/// A catalogue entry.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Scope {
    pub id: ScopeId,
    pub settings: ScopeSettings,
    pub record: Record,
}

/// The fields of a catalogue entry that can be changed.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ScopeSettings {
    /// Empty: the scope name is displayed.
    pub display_name: String,
    /// What the scope allows.
    pub description: String,
    /// The part of the platform that the scope belongs to.
    pub domain: String,
    /// The group in which consoles show the scope.
    pub family: String,
    /// If true, no application can use the scope.
    pub disabled: bool,
    /// Whether the platform disabled it. If so, users cannot enable it.
    pub disabled_by_platform: bool,
}

/// Changes to a catalogue entry. `None` leaves a field as it is.
#[derive(Clone, Debug, Default)]
pub struct ScopePatch {
    pub display_name: Option<String>,
    pub description: Option<String>,
    pub domain: Option<String>,
    pub family: Option<String>,
    pub disabled: Option<bool>,
}

impl ScopeSettings {
    /// Applies a patch.
    #[must_use]
    pub fn with(&self, patch: ScopePatch) -> Self {
        Self {
            display_name: patch.display_name.unwrap_or_else(|| self.display_name.clone()),
            description: patch.description.unwrap_or_else(|| self.description.clone()),
            domain: patch.domain.unwrap_or_else(|| self.domain.clone()),
            family: patch.family.unwrap_or_else(|| self.family.clone()),
            disabled: patch.disabled.unwrap_or(self.disabled),
            disabled_by_platform: self.disabled_by_platform,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn scope_is_an_rfc_6749_scope_token() {
        for good in ["acl:read", "messaging.sms.send", "https://x/y", "!", "~"] {
            assert!(ScopeName::parse(good).is_ok(), "{good}");
        }
        for bad in ["", "a b", "a\"b", "a\\b", "ä", "a\n", &"a".repeat(129)] {
            assert!(ScopeName::parse(bad).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn scope_set_is_sorted_and_deduplicated() {
        let set = ScopeSet::parse("b  a b").unwrap();
        assert_eq!(set.to_string(), "a b");
        assert_eq!(set.without(&ScopeSet::parse("a").unwrap()), ["b"]);
    }
}
