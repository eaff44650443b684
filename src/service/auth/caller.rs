//! Callers. Internal services are applications too, of the built-in tenant. They act for the
//! platform, or for a user of a tenant.

use std::net::IpAddr;
use std::sync::Arc;

use jiff::Timestamp;

use super::token_cache::VerifiedToken;
use crate::domain::{Actor, ApplicationName, Client, ScopeName, ScopeSet, TenantId, UserName};
use crate::error::{Error, Need, Result};
use crate::revocation::Index;
use crate::secrets::Lane;

/// An authenticated caller, and what it may do.
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
    /// A gateway that the configuration names. It may check tokens, and nothing else.
    Gateway,
    /// An application, with these scopes.
    Application { scopes: ScopeSet, state: ClientState },
}

/// What the right of an application to call rests on. It can end while the application reads a
/// stream.
#[derive(Clone, Debug)]
pub(in crate::service) struct ClientState {
    client: Arc<Client>,
    /// The token that it authenticated with. `None`: its credential.
    token: Option<Arc<VerifiedToken>>,
}

impl ClientState {
    fn name(&self) -> &ApplicationName {
        &self.client.name.application
    }

    /// Refuses a client whose right to call has ended.
    pub(in crate::service) fn require(&self, index: &Index, now: Timestamp) -> Result<()> {
        let (revocation_keys, ended) = match &self.token {
            Some(token) => (token.revocation_keys(), token.claims.check_time(now).is_err()),
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

pub(super) const REFUSED: Error = Error::Unauthenticated("the bearer token is not valid");

impl Caller {
    /// Keyward itself: what an operator does on the machine.
    pub fn keyward() -> Self {
        Self { identity: Identity::Keyward, user: None, address: None }
    }

    /// A gateway at this address, which the configuration names.
    pub fn gateway(address: IpAddr) -> Self {
        Self { identity: Identity::Gateway, user: None, address: Some(address) }
    }

    /// A client that authenticated with its credential has all of its scopes.
    pub(super) fn client_with_credential(client: Arc<Client>, address: Option<IpAddr>) -> Self {
        let scopes = client.scopes.clone();
        Self::application(scopes, ClientState { client, token: None }, address)
    }

    /// A client that authenticated with an access token has those of the token.
    pub(super) fn client_with_token(
        client: Arc<Client>,
        token: Arc<VerifiedToken>,
        address: Option<IpAddr>,
    ) -> Self {
        let scopes = token.scopes.clone();
        Self::application(scopes, ClientState { client, token: Some(token) }, address)
    }

    fn application(scopes: ScopeSet, state: ClientState, address: Option<IpAddr>) -> Self {
        Self { identity: Identity::Application { scopes, state }, user: None, address }
    }

    /// The caller, acting for a user.
    #[must_use]
    pub(super) fn acting_for(self, user: Option<UserName>) -> Self {
        Self { user, ..self }
    }

    /// The user that the caller acts for.
    pub(in crate::service) fn user(&self) -> Option<&UserName> {
        self.user.as_ref()
    }

    /// What the right to call rests on. Keyward itself and gateways need nothing.
    pub(in crate::service) fn state(&self) -> Option<&ClientState> {
        match &self.identity {
            Identity::Keyward | Identity::Gateway => None,
            Identity::Application { state, .. } => Some(state),
        }
    }

    /// The client that calls. Keyward itself and gateways are none.
    pub fn client(&self) -> Option<&Arc<Client>> {
        self.state().map(|state| &state.client)
    }

    /// Refuses a caller that may not check the tokens of every tenant.
    pub fn require_verifier(&self) -> Result<()> {
        if self.has_built_in(ScopeName::VERIFY) || self.has_built_in(ScopeName::ADMIN) {
            Ok(())
        } else {
            Err(Error::PermissionDenied(Need::Scope(ScopeName::VERIFY)))
        }
    }

    /// Refuses a caller that may not manage: it needs `keyward.admin`, or `keyward.manage` and a
    /// user to act for.
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

    /// Refuses a caller that acts for a user: only the platform may do this.
    pub(in crate::service) fn require_platform(&self) -> Result<()> {
        self.require_manager()?;
        match &self.user {
            None => Ok(()),
            Some(_) => Err(Error::PermissionDenied(Need::Platform)),
        }
    }

    /// Refuses a user of another tenant: for them this tenant does not exist.
    pub(in crate::service) fn require_tenant(&self, tenant: &TenantId) -> Result<()> {
        match &self.user {
            Some(user) if user.tenant != *tenant => Err(Error::NotFound(tenant.name())),
            _ => Ok(()),
        }
    }

    /// The error for an acting user who may not act.
    pub(in crate::service) fn no_such_user(&self) -> Error {
        let name = self.user.as_ref().map(ToString::to_string).unwrap_or_default();
        Error::PermissionDenied(Need::EnabledUser(name))
    }

    /// The calling application's name, or that of Keyward or a gateway.
    pub(in crate::service) fn service(&self) -> String {
        match &self.identity {
            Identity::Keyward => "keyward".to_owned(),
            Identity::Gateway => "gateway".to_owned(),
            Identity::Application { state, .. } => state.client.subject.to_string(),
        }
    }

    /// The queue for the hashes of secrets that this caller creates: one for each user that a
    /// service acts for.
    pub(in crate::service) fn lane(&self) -> Lane {
        Lane::Caller(match &self.user {
            None => self.service(),
            Some(user) => format!("{} for {user}", self.service()),
        })
    }

    /// The caller, as the audit log names it.
    pub(in crate::service) fn actor(&self) -> Actor {
        Actor {
            service: self.service(),
            // Any caller can name a user. The name counts only from those that may act for users.
            user: self.user.clone().filter(|_| self.is_manager()),
            address: self.address.map(|address| address.to_string()),
        }
    }

    /// Whether this caller may ask about tokens of that application.
    pub(in crate::service) fn may_introspect(&self, application: &str) -> bool {
        self.is(application)
            || self.has_built_in(ScopeName::VERIFY)
            || self.has_built_in(ScopeName::ADMIN)
    }

    /// Whether this caller may revoke tokens of that application.
    pub(in crate::service) fn may_revoke(&self, application: &str) -> bool {
        self.is(application) || self.has_built_in(ScopeName::ADMIN)
    }

    /// Whether the caller may learn that this application exists: one of its own tenant, one of the
    /// tenant of the user that it acts for, or any that it may ask about.
    pub(in crate::service) fn may_know_of(
        &self,
        application: &ApplicationName,
        for_user: bool,
    ) -> bool {
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
        self.state().is_some_and(|state| &*state.client.subject == application)
    }

    /// The tenant of the calling application. Keyward itself and gateways have none.
    fn tenant(&self) -> Option<&TenantId> {
        self.state().map(|state| &state.name().tenant)
    }

    /// Whether this caller may act for the platform or for users.
    fn is_manager(&self) -> bool {
        self.has_built_in(ScopeName::ADMIN) || self.has_built_in(ScopeName::MANAGE)
    }

    /// The tenant whose audit log has the refused attempts of this caller, whatever they were about:
    /// that of the acting user, or of an application that may not manage at all. `None` for the
    /// platform: then the log of the tenant that the attempt was about has them.
    pub(in crate::service) fn noted_in(&self) -> Option<&TenantId> {
        match &self.user {
            Some(user) if self.is_manager() => Some(&user.tenant),
            None if self.is_manager() => None,
            _ => self.tenant(),
        }
    }

    /// A built-in scope counts only in the built-in tenant: any tenant can have a scope of the same
    /// name.
    fn has_built_in(&self, scope: &str) -> bool {
        match &self.identity {
            Identity::Keyward => true,
            Identity::Gateway => scope == ScopeName::VERIFY,
            Identity::Application { scopes, state } => {
                state.name().tenant.is_system() && scopes.contains(scope)
            }
        }
    }
}
