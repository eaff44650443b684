//! Enforces the table of [`rights`](super::rights): the checks that calls make, and the errors of
//! callers that may not make them.

use std::fmt::Display;

use jiff::Timestamp;
use strum::VariantArray;

use super::authority::GivenAccess;
use super::rights::{Needs, PolicyRule, Secrets};
use super::{
    ApplicationName, Authority, Call, CredentialKind, CredentialName, Field, Moment, Owner,
    Permission, Policy, Reach, UserDeletion, UserId, Verb,
};
use crate::error::{Error, Need, Result};

/// The state that decides about a call on an application, besides the user's permissions.
#[derive(Clone, Copy, Debug)]
pub struct ApplicationCall<'a> {
    pub application: &'a ApplicationName,
    /// The credential, if the call is about one.
    pub credential: Option<&'a CredentialName>,
    pub owner: &'a Owner,
    /// Whether the protection of the application affects this call.
    pub protected: bool,
    /// The number of credentials in the tenant, for `max_credentials`.
    pub credentials: i64,
    /// The fields that the call changes.
    pub changed: &'a [Field],
    /// The requested expiry of a credential, and the credential's creation time.
    pub end: Option<(Option<Moment>, Timestamp)>,
    /// The kind of the credential that is created, or gets a secret or other keys.
    pub kind: Option<CredentialKind>,
    /// Everything that the application was given. `None` if the call neither returns nor revives a
    /// secret.
    pub given: Option<&'a GivenAccess>,
}

impl<'a> ApplicationCall<'a> {
    /// A call that changes no fields and does not touch secrets.
    pub fn of(application: &'a ApplicationName, owner: &'a Owner) -> Self {
        Self {
            application,
            credential: None,
            owner,
            protected: false,
            credentials: 0,
            changed: &[],
            end: None,
            kind: None,
            given: None,
        }
    }
}

impl Authority {
    /// Returns an error if the call requires a permission that is missing, or is reserved for the
    /// platform.
    pub fn require(&self, call: Call) -> Result<()> {
        match call.rule().needs {
            Needs::Membership => Ok(()),
            Needs::Permission(permission) | Needs::PermissionOrSelf(permission) => {
                self.require_permission(permission)
            }
            Needs::Platform => self.require_platform(),
            Needs::Applications(_) => {
                Err(Error::internal(format!("{call} depends on the application's owner")))
            }
        }
    }

    /// Returns an error if the caller may not set limits above the policy's.
    pub(super) fn require_lift(&self, call: Call) -> Result<()> {
        match call.rule().lifts_limits {
            Some(permission) => self.require_permission(permission),
            None => self.require_platform(),
        }
    }

    /// Like [`require`](Self::require), for a call about a user, who can be the caller.
    pub fn require_about(&self, call: Call, user: &UserId) -> Result<()> {
        let is_self = self.user() == Some(user);
        match call.rule().needs {
            Needs::PermissionOrSelf(_) if is_self => Ok(()),
            _ => self.require(call),
        }
    }

    /// Returns an error if the caller may not make this call for applications of `owner`.
    pub fn require_of(&self, call: Call, owner: &Owner) -> Result<()> {
        let Some(user) = self.user() else { return Ok(()) };
        self.require_permission(Permission::Applications(call.verb()?, Reach::to(owner, user)))
    }

    /// Returns an error if the caller may not make this call for applications of all users.
    pub fn require_of_all_users(&self, call: Call) -> Result<()> {
        self.require_permission(Permission::Applications(call.verb()?, Reach::Users))
    }

    /// Returns an error if the caller may not make this call for the named application. `owner` is
    /// `None` if it does not exist. If the user may not view it, the error is the same as if it did
    /// not exist.
    pub fn require_on(&self, call: Call, name: &dyn Display, owner: Option<&Owner>) -> Result<()> {
        let verb = call.verb()?;
        let missing = || Error::NotFound(name.to_string());
        let Some(user) = self.user() else {
            return owner.map(drop).ok_or_else(missing);
        };
        let knows = |reach| self.has_on(verb, reach) || self.has_on(Verb::View, reach);
        match owner.map(|owner| Reach::to(owner, user)) {
            Some(reach) if self.has_on(verb, reach) => return Ok(()),
            Some(reach) if knows(reach) => {
                return self.require_permission(Permission::Applications(verb, reach));
            }
            // The user may view every application, so it can be said that this one does not exist.
            None if knows(Reach::Account) && knows(Reach::Users) => return Err(missing()),
            _ => {}
        }
        let unknown = Reach::VARIANTS.iter().copied().filter(|reach| !knows(*reach));
        let permissions = unknown.map(|reach| Permission::Applications(verb, reach).to_string());
        Err(Error::PermissionDenied(Need::Unseen(permissions.collect(), name.to_string())))
    }

    /// Returns an error if the application's state, the policy, or what the application was given
    /// forbids the call. Call after [`Authority::require_on`].
    pub fn require_state(
        &self,
        call: Call,
        policy: &Policy,
        details: &ApplicationCall<'_>,
    ) -> Result<()> {
        let rule = call.rule();
        if rule.stopped_by_protection && details.protected {
            return Err(Error::Protected(details.application.to_string()));
        }
        for field in rule.policy {
            match field {
                PolicyRule::ApiCredentialsDisabled => policy.require_enabled()?,
                PolicyRule::AllowedCredentialKinds => {
                    if let Some(kind) = details.kind {
                        policy.require_kind(kind)?;
                    }
                }
                PolicyRule::AllowedOwners => policy.require_owner(details.owner)?,
                PolicyRule::FixedFields => {
                    policy.require_changeable(details.changed.iter().copied())?;
                }
                PolicyRule::MaxCredentials => policy.require_room(details.credentials)?,
                PolicyRule::SecretsViewable if !policy.secrets_viewable => {
                    let why = "the tenant's policy shows secrets once (secrets_viewable)";
                    let name = details.credential.map(ToString::to_string);
                    return Err(Error::NotViewable(name.unwrap_or_default(), why));
                }
                PolicyRule::MaxCredentialLifetime => {
                    if let Some((wanted, created)) = details.end {
                        policy.require_end(wanted, created)?;
                    }
                }
                // Deleting users is decided by `require_disposal`, limits by `Policy::lifts`.
                PolicyRule::SecretsViewable | PolicyRule::UserDeletion | PolicyRule::MaxLimits => {}
            }
        }
        match details.given {
            Some(given) if rule.secrets != Secrets::Untouched => {
                self.require_given(given, self.may_view(details.owner))
            }
            _ => Ok(()),
        }
    }

    /// Returns an error if the caller may not do to a deleted user's applications what the policy
    /// requires. Handing them over requires the rights to edit them, to create them for the new
    /// owner, and to get their secrets.
    pub fn require_disposal(
        &self,
        deletion: UserDeletion,
        owner: &Owner,
        heir: Option<&UserId>,
        given: &GivenAccess,
    ) -> Result<()> {
        match deletion {
            UserDeletion::Refuse => Ok(()),
            UserDeletion::Delete => self.require_of(Call::DeleteApplication, owner),
            UserDeletion::HandOver => {
                self.require_of(Call::UpdateApplication, owner)?;
                if let Some(heir) = heir {
                    self.require_of(Call::CreateApplication, &Owner::User(heir.clone()))?;
                }
                self.require_given(given, self.may_view(owner))
            }
        }
    }

    /// The new value of `disabled_by_platform` after a change that enables or disables `name`.
    /// Users cannot enable what the platform disabled. The platform can take over what a user
    /// disabled.
    pub fn switch(
        &self,
        name: &dyn Display,
        by_platform: bool,
        wanted: Option<bool>,
    ) -> Result<bool> {
        match (wanted, self.user()) {
            (None, _) | (Some(true), Some(_)) => Ok(by_platform),
            (Some(true), None) => Ok(true),
            (Some(false), _) => self.require_undo(name, by_platform).map(|()| false),
        }
    }

    /// Returns an error if a user would undo what the platform did: enable `name`, or delete it so
    /// that it can be created again.
    pub fn require_undo(&self, name: &dyn Display, by_platform: bool) -> Result<()> {
        if by_platform && self.user().is_some() {
            return Err(Error::PermissionDenied(Need::PlatformToEnable(name.to_string())));
        }
        Ok(())
    }
}
