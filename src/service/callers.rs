//! Who calls: internal services are applications too, of the built-in tenant.

use super::{Proof, Service};
use crate::domain::{ApplicationName, Audience, Client, ScopeName, ScopeSet};
use crate::error::{Error, Result};
use crate::secrets::Secret;

/// An authenticated caller and what he may do.
#[derive(Clone, Debug)]
pub struct Caller {
    application: ApplicationName,
    scopes: ScopeSet,
}

impl Caller {
    /// A caller who proved himself as a client has all of its scopes.
    pub fn client(client: &Client) -> Self {
        Self {
            application: client.application.name.clone(),
            scopes: client.application.effective_scopes.clone(),
        }
    }

    /// The application that calls.
    pub fn application(&self) -> &ApplicationName {
        &self.application
    }

    /// Refuses a caller who may not manage.
    pub fn require_admin(&self) -> Result<()> {
        if self.has_built_in(ScopeName::ADMIN) {
            Ok(())
        } else {
            Err(Error::PermissionDenied(ScopeName::ADMIN))
        }
    }

    /// Whether this caller may ask about tokens of that application.
    pub(super) fn may_introspect(&self, application: &ApplicationName) -> bool {
        self.application == *application
            || self.has_built_in(ScopeName::VERIFY)
            || self.has_built_in(ScopeName::ADMIN)
    }

    /// Whether this caller may revoke tokens of that application.
    pub(super) fn may_revoke(&self, application: &ApplicationName) -> bool {
        self.application == *application || self.has_built_in(ScopeName::ADMIN)
    }

    /// A built-in scope counts in the built-in tenant alone: any tenant may call a
    /// scope of its own the same.
    fn has_built_in(&self, scope: &str) -> bool {
        self.application.tenant.is_system() && self.scopes.contains(scope)
    }
}

impl Service {
    /// The caller that a bearer string proves: an API key, or an access token that is
    /// for Keyward itself.
    pub async fn authenticate_bearer(&self, bearer: &Secret) -> Result<Caller> {
        const REFUSED: Error = Error::Unauthenticated("the bearer token is not valid");
        if self.prefixes.looks_like_api_key(bearer.expose()) {
            return match self.authenticate_client(Proof::ApiKey(bearer.clone())).await {
                Ok(client) => Ok(Caller::client(&client)),
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
        Ok(Caller {
            application: client.application.name,
            scopes: ScopeSet::parse(&claims.scope)
                .map_err(|fault| Error::internal(format!("the scope claim {}", fault.0)))?,
        })
    }
}
