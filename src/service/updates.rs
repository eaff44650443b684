//! What an update changes, as far as rights look at it, and what is shown of it afterwards.

use std::collections::BTreeSet;

use super::grants::Grants;
use crate::domain::{
    Application, ApplicationPatch, ApplicationSettings, Authority, Call, Field, Policy, ScopeSet,
};
use crate::error::Result;

/// What is shown to a caller of something that the caller changed.
#[derive(Clone, Debug)]
pub enum Shown<T> {
    /// All of it.
    Whole(Box<T>),
    /// The resource name alone: the caller may change it, and may not view it.
    Name(String),
}

impl<T> Shown<T> {
    pub(super) fn new(whole: T, name: &impl ToString, sees: bool) -> Self {
        if sees { Self::Whole(Box::new(whole)) } else { Self::Name(name.to_string()) }
    }
}

/// An update of an application, as far as rights look at it.
pub(super) struct Update<'a> {
    pub(super) after: ApplicationSettings,
    pub(super) unchanged: bool,
    /// What it is given.
    pub(super) grants: Grants<'a>,
    pub(super) changed: Vec<Field>,
    /// Whether it may let secrets work again.
    pub(super) revives: bool,
}

impl<'a> Update<'a> {
    /// To those who may not view the application, all that the update names counts as changed
    /// and given: else they could find out what it is by guessing.
    pub(super) fn of(
        authority: &Authority,
        policy: &Policy,
        before: &'a Application,
        patch: ApplicationPatch,
    ) -> Result<Self> {
        let settings = &before.settings;
        let sees = authority.sees(&before.owner);
        let (named, may_revive) = (patch.fields(), patch.may_revive());
        let (scopes, roles) = (patch.scopes.is_some(), patch.roles.is_some());
        let (wanted, limits) = (patch.disabled, patch.limits.is_some());
        let mut after = settings.with(patch);
        if limits {
            let had = settings.limits.filter(|_| sees);
            let had = had.map(|had| (had, settings.limits_lifted));
            after.limits_lifted =
                policy.lifts(authority, Call::UpdateApplication, had, after.limits)?;
        }
        let by_platform = settings.disabled_by_platform;
        after.disabled_by_platform = authority.switch(&before.name, by_platform, wanted)?;
        // What it was given already it keeps, disabled or beyond the ceiling as it may be.
        let grants = if sees {
            Grants {
                owner: &before.owner,
                scopes: after.scopes.minus(&settings.scopes),
                roles: after.roles.difference(&settings.roles).cloned().collect(),
            }
        } else {
            Grants {
                owner: &before.owner,
                scopes: if scopes { after.scopes.clone() } else { ScopeSet::default() },
                roles: if roles { after.roles.clone() } else { BTreeSet::new() },
            }
        };
        Ok(Self {
            unchanged: after == *settings,
            grants,
            changed: if sees { settings.changed(&after).collect() } else { named },
            revives: if sees { settings.revives(&after) } else { may_revive },
            after,
        })
    }
}
