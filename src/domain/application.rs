//! Applications: what gets access.

use jiff::Timestamp;

use super::{ApplicationName, Record, ScopeSet, State, ends_earlier};

/// Something that gets access.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Application {
    /// Its name, with the tenant's.
    pub name: ApplicationName,
    /// What can be changed of it.
    pub settings: ApplicationSettings,
    /// The scopes it can use now: its own that the catalogue has enabled.
    pub effective_scopes: ScopeSet,
    /// Raised to revoke every token of the application.
    pub epoch: i64,
    /// Version and times.
    pub record: Record,
}

/// What can be changed of an application.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ApplicationSettings {
    /// A name for people.
    pub display_name: String,
    /// What it is for.
    pub description: String,
    /// Whom to ask about it.
    pub contact_email: String,
    /// The scopes it was given.
    pub scopes: ScopeSet,
    /// From then on it is refused.
    pub expires_at: Option<Timestamp>,
    /// Whether it is refused.
    pub disabled: bool,
}

/// A change of an application: the fields that are set.
#[derive(Clone, Debug, Default)]
pub struct ApplicationPatch {
    /// New name.
    pub display_name: Option<String>,
    /// New description.
    pub description: Option<String>,
    /// New contact.
    pub contact_email: Option<String>,
    /// New scopes, in place of the old ones.
    pub scopes: Option<ScopeSet>,
    /// New expiry; `Some(None)` is never.
    pub expires_at: Option<Option<Timestamp>>,
    /// New state.
    pub disabled: Option<bool>,
}

impl Application {
    /// Whether it works at `now`.
    pub fn state(&self, now: Timestamp) -> State {
        State::at(now, self.settings.disabled, self.settings.expires_at)
    }
}

impl ApplicationSettings {
    /// These settings with a change made to them.
    #[must_use]
    pub fn with(&self, patch: ApplicationPatch) -> Self {
        Self {
            display_name: patch.display_name.unwrap_or_else(|| self.display_name.clone()),
            description: patch.description.unwrap_or_else(|| self.description.clone()),
            contact_email: patch.contact_email.unwrap_or_else(|| self.contact_email.clone()),
            scopes: patch.scopes.unwrap_or_else(|| self.scopes.clone()),
            expires_at: patch.expires_at.unwrap_or(self.expires_at),
            disabled: patch.disabled.unwrap_or(self.disabled),
        }
    }

    /// Whether going from these settings to `after` must revoke the tokens there are:
    /// they would allow more, or last longer, than the application now may.
    pub fn revokes(&self, after: &Self) -> bool {
        (after.disabled && !self.disabled)
            || ends_earlier(self.expires_at, after.expires_at)
            || !self.scopes.without(&after.scopes).is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn settings() -> ApplicationSettings {
        ApplicationSettings {
            scopes: ScopeSet::parse("a b").unwrap(),
            expires_at: Some(Timestamp::from_second(1000).unwrap()),
            ..Default::default()
        }
    }

    #[test]
    fn what_narrows_revokes_and_what_widens_does_not() {
        let before = settings();
        let at = |second| Some(Timestamp::from_second(second).unwrap());
        let cases = [
            (ApplicationPatch { disabled: Some(true), ..Default::default() }, true),
            (ApplicationPatch { disabled: Some(false), ..Default::default() }, false),
            (ApplicationPatch { scopes: ScopeSet::parse("a").ok(), ..Default::default() }, true),
            (ApplicationPatch { scopes: ScopeSet::parse("a c").ok(), ..Default::default() }, true),
            (
                ApplicationPatch { scopes: ScopeSet::parse("a b c").ok(), ..Default::default() },
                false,
            ),
            (ApplicationPatch { expires_at: Some(at(999)), ..Default::default() }, true),
            (ApplicationPatch { expires_at: Some(at(1001)), ..Default::default() }, false),
            (ApplicationPatch { expires_at: Some(None), ..Default::default() }, false),
            (ApplicationPatch { display_name: Some("x".to_owned()), ..Default::default() }, false),
        ];
        for (patch, revokes) in cases {
            let after = before.with(patch.clone());
            assert_eq!(before.revokes(&after), revokes, "{patch:?}");
        }
    }
}
