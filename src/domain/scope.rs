//! Scopes: the entries of a tenant's catalogue, and sets of them.

use std::borrow::Borrow;
use std::collections::BTreeSet;
use std::fmt;
use std::sync::Arc;

use super::fields::Fault;
use super::{Record, ScopeId};
use crate::error::{Error, Result};

/// One scope as it stands in tokens: an RFC 6749 scope-token of at most 128 characters.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ScopeName(Arc<str>);

impl ScopeName {
    /// The scope that allows everything, in the built-in tenant.
    pub const ADMIN: &'static str = "keyward.admin";
    /// The scope that allows acting for a user, in the built-in tenant.
    pub const MANAGE: &'static str = "keyward.manage";
    /// The scope that allows checking every token, in the built-in tenant.
    pub const VERIFY: &'static str = "keyward.verify";

    /// Checks a scope-token (RFC 6749, section 3.3).
    pub fn parse(value: &str) -> Result<Self, Fault> {
        let allowed = |b: u8| matches!(b, 0x21 | 0x23..=0x5b | 0x5d..=0x7e);
        if value.is_empty() || value.len() > 128 || !value.bytes().all(allowed) {
            return Err(Fault::new(
                "must be 1 to 128 printable ASCII characters without spaces, double quotes and backslashes",
            ));
        }
        Ok(Self(value.into()))
    }

    /// The scope as it is written.
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

/// A set of scopes, in order. Cheap to clone: many have the same.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct ScopeSet(Arc<BTreeSet<ScopeName>>);

impl ScopeSet {
    /// Reads the `scope` parameter of OAuth: scopes with one space between them.
    pub fn parse(value: &str) -> Result<Self, Fault> {
        value.split(' ').filter(|scope| !scope.is_empty()).map(ScopeName::parse).collect()
    }

    /// Whether it has no scope.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// How many scopes it has.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether it has this scope.
    pub fn contains(&self, scope: &str) -> bool {
        self.0.contains(scope)
    }

    /// The scopes, in order.
    pub fn iter(&self) -> impl Iterator<Item = &ScopeName> {
        self.0.iter()
    }

    /// The scopes of this set that `other` lacks, in order.
    pub fn without(&self, other: &Self) -> Vec<String> {
        self.0.difference(&other.0).map(ToString::to_string).collect()
    }

    /// The scopes of this set that `other` lacks.
    #[must_use]
    pub fn minus(&self, other: &Self) -> Self {
        self.0.difference(&other.0).cloned().collect()
    }

    /// The scopes of both.
    #[must_use]
    pub fn union(mut self, other: &Self) -> Self {
        if !other.is_empty() {
            Arc::make_mut(&mut self.0).extend(other.0.iter().cloned());
        }
        self
    }

    /// The scopes of this set that `other` has too.
    #[must_use]
    pub fn within(&self, other: &Self) -> Self {
        self.0.intersection(&other.0).cloned().collect()
    }

    /// Whether `other` has all of them.
    pub fn is_within(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.0, &other.0) || self.0.is_subset(&other.0)
    }

    /// Refuses, by name, the scopes that `allowed` lacks.
    pub fn require_within(&self, allowed: &Self) -> Result<(), Error> {
        let beyond = self.without(allowed);
        if beyond.is_empty() { Ok(()) } else { Err(Error::ScopeNotAllowed(beyond)) }
    }

    /// The scopes, in order, as strings.
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

/// An entry of a catalogue.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Scope {
    /// Its name, with the tenant's.
    pub id: ScopeId,
    /// What can be changed of it.
    pub settings: ScopeSettings,
    /// Version and times.
    pub record: Record,
}

/// What can be changed of a catalogue entry.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ScopeSettings {
    /// A name for people; empty: the scope itself.
    pub display_name: String,
    /// What holding it allows.
    pub description: String,
    /// The part of the platform it belongs to.
    pub domain: String,
    /// The group it is offered with.
    pub family: String,
    /// Whether it is out of every application's reach.
    pub disabled: bool,
    /// Whether the platform disabled it: then no user enables it.
    pub disabled_by_platform: bool,
}

/// A change of a catalogue entry: the fields that are set.
#[derive(Clone, Debug, Default)]
pub struct ScopePatch {
    /// New name.
    pub display_name: Option<String>,
    /// New description.
    pub description: Option<String>,
    /// New domain.
    pub domain: Option<String>,
    /// New family.
    pub family: Option<String>,
    /// New state.
    pub disabled: Option<bool>,
}

impl ScopeSettings {
    /// These settings with a change made to them.
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
    fn a_scope_holds_to_rfc_6749() {
        for good in ["acl:read", "messaging.sms.send", "https://x/y", "!", "~"] {
            assert!(ScopeName::parse(good).is_ok(), "{good}");
        }
        for bad in ["", "a b", "a\"b", "a\\b", "ä", "a\n", &"a".repeat(129)] {
            assert!(ScopeName::parse(bad).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn a_set_is_written_in_order_and_without_repetition() {
        let set = ScopeSet::parse("b  a b").unwrap();
        assert_eq!(set.to_string(), "a b");
        assert_eq!(set.without(&ScopeSet::parse("a").unwrap()), ["b"]);
    }
}
