//! What an update changes, as far as rights depend on it, and what the caller sees afterwards.

use std::collections::BTreeSet;

use super::grants::AddedAccess;
use crate::domain::{
    Application, ApplicationPatch, ApplicationSettings, Authority, Call, Field, Policy, ScopeSet,
};
use crate::error::Result;

/// What a caller sees of a resource that it changed.
#[derive(Clone, Debug)]
pub enum Shown<T> {
    /// The whole resource.
    Whole(Box<T>),
    /// Only the resource name: the caller may change it, but not view it.
    Name(String),
}

impl<T> Shown<T> {
    pub(super) fn new(whole: T, name: &impl ToString, may_view: bool) -> Self {
        if may_view { Self::Whole(Box::new(whole)) } else { Self::Name(name.to_string()) }
    }
}

/// An update of an application, as far as rights depend on it.
pub(super) struct ApplicationChange<'a> {
    pub(super) after: ApplicationSettings,
    pub(super) unchanged: bool,
    /// The scopes and roles that the update adds.
    pub(super) grants: AddedAccess<'a>,
    pub(super) changed: Vec<Field>,
    /// Whether it may make secrets work again.
    pub(super) revives: bool,
}

impl<'a> ApplicationChange<'a> {
    /// For a caller that may not view the application, everything that the update names counts as
    /// changed and given: otherwise the caller could find out its settings by guessing.
    pub(super) fn of(
        authority: &Authority,
        policy: &Policy,
        before: &'a Application,
        patch: ApplicationPatch,
    ) -> Result<Self> {
        let settings = &before.settings;
        let may_view = authority.may_view(&before.owner);
        let (named, may_revive) = (patch.fields(), patch.may_revive());
        let (scopes, roles) = (patch.scopes.is_some(), patch.roles.is_some());
        let (wanted, limits) = (patch.disabled, patch.limits.is_named());
        let mut after = settings.with(patch);
        if limits {
            let had = settings.limits.filter(|_| may_view);
            let had = had.map(|had| (had, settings.limits_lifted));
            after.limits_lifted =
                policy.lifts(authority, Call::UpdateApplication, had, after.limits)?;
        }
        let by_platform = settings.disabled_by_platform;
        after.disabled_by_platform = authority.switch(&before.name, by_platform, wanted)?;
        // It keeps what it was given already, even if that is disabled or above the ceiling.
        let grants = if may_view {
            AddedAccess {
                owner: &before.owner,
                scopes: after.scopes.minus(&settings.scopes),
                roles: after.roles.difference(&settings.roles).cloned().collect(),
            }
        } else {
            AddedAccess {
                owner: &before.owner,
                scopes: if scopes { after.scopes.clone() } else { ScopeSet::default() },
                roles: if roles { after.roles.clone() } else { BTreeSet::new() },
            }
        };
        Ok(Self {
            unchanged: after == *settings,
            grants,
            changed: if may_view { settings.changed(&after).collect() } else { named },
            revives: if may_view { settings.revives(&after) } else { may_revive },
            after,
        })
    }
}
