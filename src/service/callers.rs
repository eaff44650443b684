//! Who calls: internal services are applications too, of the built-in tenant. They act for
//! the platform, or for a user of a tenant.

use std::net::IpAddr;
use std::sync::Arc;

use jiff::Timestamp;

use super::believed::Believed;
use super::{Proof, Service};
use crate::domain::{
    Actor, ApplicationName, Audience, Client, ScopeName, ScopeSet, TenantId, UseKind, UserName,
};
use crate::error::{Error, Need, Result};
use crate::incidents::IncidentKind;
use crate::revocation::Index;
use crate::secrets::{Lane, Secret};

/// An authenticated caller and what he may do.
#[derive(Clone, Debug)]
pub struct Caller {
    identity: Identity,
    user: Option<UserName>,
    address: Option<IpAddr>,
}

#[derive(Clone, Debug)]
enum Identity {
    /// Keyward itself: an operator on the machine.
    Keyward,
    /// An application, with these scopes.
    Application { scopes: ScopeSet, standing: Standing },
}

/// What an application's right to call rests on: it can end while the application listens.
#[derive(Clone, Debug)]
pub(super) struct Standing {
    client: Arc<Client>,
    /// What it proved itself with, unless that was a secret.
    token: Option<Arc<Believed>>,
}

impl Standing {
    fn name(&self) -> &ApplicationName {
        &self.client.name.application
    }

    /// Refuses when it has ended.
    pub(super) fn require(&self, index: &Index, now: Timestamp) -> Result<()> {
        let (revocation_keys, ended) = match &self.token {
            Some(token) => (token.claims.revocation_keys(), token.claims.check_time(now).is_err()),
            None => (
                self.client.revocation_keys(),
                self.client.expires_at().is_some_and(|end| end <= now),
            ),
        };
        if ended || index.revokes(&revocation_keys) {
            return Err(REFUSED);
        }
        Ok(())
    }
}

const REFUSED: Error = Error::Unauthenticated("the bearer token is not valid");

impl Caller {
    /// Keyward itself: what an operator does on the machine.
    pub fn keyward() -> Self {
        Self { identity: Identity::Keyward, user: None, address: None }
    }

    fn application(scopes: ScopeSet, standing: Standing, address: Option<IpAddr>) -> Self {
        Self { identity: Identity::Application { scopes, standing }, user: None, address }
    }

    /// The caller, acting for a user.
    #[must_use]
    pub fn acting_for(self, user: Option<UserName>) -> Self {
        Self { user, ..self }
    }

    /// The user that the caller acts for.
    pub(super) fn user(&self) -> Option<&UserName> {
        self.user.as_ref()
    }

    /// What the right to call rests on; Keyward itself needs none.
    pub(super) fn standing(&self) -> Option<&Standing> {
        match &self.identity {
            Identity::Keyward => None,
            Identity::Application { standing, .. } => Some(standing),
        }
    }

    /// The client that calls; Keyward itself is none.
    pub fn client(&self) -> Option<&Arc<Client>> {
        self.standing().map(|standing| &standing.client)
    }

    /// Refuses a caller who may not check every tenant's tokens.
    pub fn require_verifier(&self) -> Result<()> {
        if self.has_built_in(ScopeName::VERIFY) || self.has_built_in(ScopeName::ADMIN) {
            Ok(())
        } else {
            Err(Error::PermissionDenied(Need::Scope(ScopeName::VERIFY)))
        }
    }

    /// Refuses a caller who may not manage: he needs `keyward.admin`, or `keyward.manage` and
    /// a user to act for.
    pub fn require_manager(&self) -> Result<()> {
        if self.has_built_in(ScopeName::ADMIN) {
            return Ok(());
        }
        if !self.has_built_in(ScopeName::MANAGE) {
            return Err(Error::PermissionDenied(Need::Scope(ScopeName::ADMIN)));
        }
        match &self.user {
            Some(_) => Ok(()),
            None => Err(Error::PermissionDenied(Need::ActingUser)),
        }
    }

    /// Refuses a caller who acts for a user: this is for the platform alone.
    pub(super) fn require_platform(&self) -> Result<()> {
        self.require_manager()?;
        match &self.user {
            None => Ok(()),
            Some(_) => Err(Error::PermissionDenied(Need::Platform)),
        }
    }

    /// Refuses a user of another tenant: for them there is none.
    pub(super) fn require_tenant(&self, tenant: &TenantId) -> Result<()> {
        match &self.user {
            Some(user) if user.tenant != *tenant => Err(Error::NotFound(tenant.name())),
            _ => Ok(()),
        }
    }

    /// The error for an acting user who may not act.
    pub(super) fn no_such_user(&self) -> Error {
        let name = self.user.as_ref().map(ToString::to_string).unwrap_or_default();
        Error::PermissionDenied(Need::EnabledUser(name))
    }

    /// The calling application's name, or Keyward's.
    pub(super) fn service(&self) -> String {
        match &self.identity {
            Identity::Keyward => "keyward".to_owned(),
            Identity::Application { standing, .. } => standing.client.subject.to_string(),
        }
    }

    /// Where the hashes of secrets that this caller creates wait: apart for each user that a
    /// service acts for.
    pub(super) fn lane(&self) -> Lane {
        Lane::Caller(match &self.user {
            None => self.service(),
            Some(user) => format!("{} for {user}", self.service()),
        })
    }

    /// As the audit log tells it.
    pub(super) fn actor(&self) -> Actor {
        Actor {
            service: self.service(),
            // Anyone can name a user; that it is this one is known of those who may act for users.
            user: self.user.clone().filter(|_| self.is_manager()),
            address: self.address.map(|address| address.to_string()),
        }
    }

    /// Whether this caller may ask about tokens of that application.
    pub(super) fn may_introspect(&self, application: &str) -> bool {
        self.is(application)
            || self.has_built_in(ScopeName::VERIFY)
            || self.has_built_in(ScopeName::ADMIN)
    }

    /// Whether this caller may revoke tokens of that application.
    pub(super) fn may_revoke(&self, application: &str) -> bool {
        self.is(application) || self.has_built_in(ScopeName::ADMIN)
    }

    /// Whether the caller may learn that there is this application: one of its own tenant, or
    /// of the tenant of the user that it acts for, or any that it may ask about.
    pub(super) fn may_know_of(&self, application: &ApplicationName, for_user: bool) -> bool {
        if for_user {
            return self.require_tenant(&application.tenant).is_ok();
        }
        let name = application.to_string();
        self.tenant() == Some(&application.tenant)
            || self.may_introspect(&name)
            || self.may_revoke(&name)
    }

    /// Whether this is the application of that resource name.
    fn is(&self, application: &str) -> bool {
        self.standing().is_some_and(|standing| &*standing.client.subject == application)
    }

    /// The tenant of the calling application; Keyward itself has none.
    pub(super) fn tenant(&self) -> Option<&TenantId> {
        self.standing().map(|standing| &standing.name().tenant)
    }

    /// Whether this caller may act for the platform or for users.
    fn is_manager(&self) -> bool {
        self.has_built_in(ScopeName::ADMIN) || self.has_built_in(ScopeName::MANAGE)
    }

    /// The tenant whose log has what this caller was refused, whatever it was about: that of the
    /// acting user, or of an application that may not manage at all. For the platform it is the
    /// tenant that it was about.
    pub(super) fn noted_in(&self) -> Option<&TenantId> {
        match &self.user {
            Some(user) if self.is_manager() => Some(&user.tenant),
            None if self.is_manager() => None,
            _ => self.tenant(),
        }
    }

    /// A built-in scope counts in the built-in tenant alone: any tenant may call a
    /// scope of its own the same.
    fn has_built_in(&self, scope: &str) -> bool {
        match &self.identity {
            Identity::Keyward => true,
            Identity::Application { scopes, standing } => {
                standing.name().tenant.is_system() && scopes.contains(scope)
            }
        }
    }
}

impl Service {
    /// A caller who proved himself as a client has all of its scopes.
    pub fn client_calls(&self, client: Arc<Client>, address: Option<IpAddr>) -> Caller {
        self.used(&client, UseKind::Check, address);
        let scopes = client.scopes.clone();
        Caller::application(scopes, Standing { client, token: None }, address)
    }

    /// The caller that a bearer string proves: an API key, or an access token that is
    /// for Keyward itself.
    pub async fn authenticate_bearer(
        &self,
        bearer: &Secret,
        address: Option<IpAddr>,
    ) -> Result<Caller> {
        if self.prefixes.looks_like_api_key(bearer.expose()) {
            return match self.authenticate_client(Proof::ApiKey(bearer.clone()), address).await {
                Ok(client) => Ok(self.client_calls(client, address)),
                Err(Error::InvalidClient) => Err(REFUSED),
                Err(error) => Err(error),
            };
        }
        let Some((token, client)) = self.live_token(bearer.expose()).await? else {
            self.note_incident(IncidentKind::InvalidToken, "", address, "a bearer token");
            return Err(REFUSED);
        };
        if !token.claims.aud.as_slice().iter().any(|aud| aud == Audience::KEYWARD) {
            return Err(Error::Unauthenticated(
                "the access token is for another audience: ask for the audience `keyward`",
            ));
        }
        self.used(&client, UseKind::Check, address);
        let scopes = token.scopes.clone();
        Ok(Caller::application(scopes, Standing { client, token: Some(token) }, address))
    }
}
