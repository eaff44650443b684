//! Who calls: internal services are applications too, of the built-in tenant. They act for
//! the platform, or for a user of a tenant.

use std::net::IpAddr;

use jiff::Timestamp;

use super::{Proof, Service};
use crate::domain::{
    Actor, Application, ApplicationName, Audience, Client, Epochs, Minted, ScopeName, ScopeSet,
    TenantId, UseKind, UserName,
};
use crate::error::{Error, Need, Result};
use crate::keys::Claims;
use crate::revocation::Index;
use crate::secrets::Secret;

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
    Application { name: ApplicationName, scopes: ScopeSet, standing: Box<Standing> },
}

/// What an application's right to call rests on: it can end while the application listens.
#[derive(Clone, Debug)]
pub(super) struct Standing {
    tenant: String,
    application: String,
    credential: String,
    token: Option<String>,
    epochs: Epochs,
    expires_at: Option<Timestamp>,
}

impl Standing {
    fn of_client(client: &Client) -> Self {
        Self {
            tenant: client.tenant.id.to_string(),
            application: client.application.name.to_string(),
            credential: client.credential.name.credential.to_string(),
            token: None,
            epochs: client.epochs(),
            expires_at: client.expires_at(),
        }
    }

    fn of_token(claims: Claims) -> Self {
        Self {
            epochs: claims.minted().epochs,
            expires_at: Timestamp::from_second(claims.exp).ok(),
            tenant: claims.tenant,
            application: claims.sub,
            credential: claims.client_id,
            token: Some(claims.jti),
        }
    }

    /// Refuses when it has ended.
    pub(super) fn require(&self, index: &Index, now: Timestamp) -> Result<()> {
        let minted = Minted {
            tenant: &self.tenant,
            application: &self.application,
            credential: &self.credential,
            token: self.token.as_deref(),
            epochs: self.epochs,
        };
        if self.expires_at.is_some_and(|end| end <= now) || index.revokes(&minted) {
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

    fn application(
        name: ApplicationName,
        scopes: ScopeSet,
        standing: Standing,
        address: Option<IpAddr>,
    ) -> Self {
        let standing = Box::new(standing);
        Self { identity: Identity::Application { name, scopes, standing }, user: None, address }
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

    /// Refuses a user of another tenant: for him there is none.
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

    /// As the audit log tells it.
    pub(super) fn actor(&self) -> Actor {
        Actor {
            service: match &self.identity {
                Identity::Keyward => "keyward".to_owned(),
                Identity::Application { name, .. } => name.to_string(),
            },
            user: self.user.clone(),
            address: self.address.map(|address| address.to_string()),
        }
    }

    /// Whether this caller may ask about tokens of that application.
    pub(super) fn may_introspect(&self, application: &ApplicationName) -> bool {
        self.is(application)
            || self.has_built_in(ScopeName::VERIFY)
            || self.has_built_in(ScopeName::ADMIN)
    }

    /// Whether this caller may revoke tokens of that application.
    pub(super) fn may_revoke(&self, application: &ApplicationName) -> bool {
        self.is(application) || self.has_built_in(ScopeName::ADMIN)
    }

    fn is(&self, application: &ApplicationName) -> bool {
        matches!(&self.identity, Identity::Application { name, .. } if name == application)
    }

    /// A built-in scope counts in the built-in tenant alone: any tenant may call a
    /// scope of its own the same.
    fn has_built_in(&self, scope: &str) -> bool {
        match &self.identity {
            Identity::Keyward => true,
            Identity::Application { name, scopes, .. } => {
                name.tenant.is_system() && scopes.contains(scope)
            }
        }
    }
}

impl Service {
    /// A caller who proved himself as a client has all of its scopes.
    pub fn client_calls(&self, client: Client, address: Option<IpAddr>) -> Caller {
        self.used(&client, UseKind::Check, address);
        let standing = Standing::of_client(&client);
        let Application { name, effective_scopes, .. } = client.application;
        Caller::application(name, effective_scopes, standing, address)
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
        let (claims, client) = self.live_token(bearer.expose()).await?.ok_or(REFUSED)?;
        if !claims.aud.as_slice().iter().any(|aud| aud == Audience::KEYWARD) {
            return Err(Error::Unauthenticated(
                "the access token is for another audience: ask for the audience `keyward`",
            ));
        }
        self.used(&client, UseKind::Check, address);
        let scopes = ScopeSet::parse(&claims.scope)
            .map_err(|fault| Error::internal(format!("the scope claim {}", fault.0)))?;
        let standing = Standing::of_token(claims);
        Ok(Caller::application(client.application.name.clone(), scopes, standing, address))
    }
}
