//! Tokens and API keys that a client presents besides its own credential: what it wants to exchange.

use std::sync::Arc;

use jiff::Timestamp;

use super::access_tokens::TokenState;
use super::federated::Workload;
use super::token_cache::VerifiedToken;
use super::{Auth, Caller};
use crate::domain::{Client, PresentedKind};
use crate::error::{Error, Result};
use crate::incidents::{Incident, IncidentKind};
use crate::jose::SignedJwt;
use crate::secrets::Secret;
use crate::service::context::RequestContext;

/// A token or API key that is accepted now, with the client whose access it is.
#[derive(Debug)]
pub(in crate::service) enum AcceptedToken {
    Token(Arc<VerifiedToken>, Arc<Client>),
    Key(Arc<Client>),
    /// A token of a platform. It ends then.
    Federated(Arc<Client>, Timestamp),
}

impl Auth {
    /// What a presented token is. Its issuer decides, before anything of it is verified: a token that
    /// names this server is checked as one of this server, whatever else it has.
    pub(in crate::service) fn kind_of(&self, token: &Secret) -> PresentedKind {
        if self.is_api_key(token) {
            return PresentedKind::ApiKey;
        }
        let jwt = SignedJwt::parse(token.expose());
        let issuer = jwt.as_ref().ok().and_then(|jwt| jwt.unverified_claims().issuer().ok());
        match issuer {
            Some(issuer) if issuer != self.federated.issuer => PresentedKind::Federated,
            _ => PresentedKind::AccessToken,
        }
    }

    /// What `by` presents, if it is of its own tenant and accepted now. One of another tenant is
    /// answered like one that does not exist, and costs no more: only its signature, or nothing.
    pub(in crate::service) async fn presented(
        &self,
        context: &RequestContext<'_>,
        by: &Arc<Client>,
        token: &Secret,
        now: Timestamp,
    ) -> Result<Option<AcceptedToken>> {
        let found = match self.kind_of(token) {
            PresentedKind::ApiKey => {
                self.presented_key(context, by, token, now).await?.map(AcceptedToken::Key)
            }
            PresentedKind::AccessToken => self.presented_token(by, token, now).await?,
            PresentedKind::Federated => Box::pin(self.presented_workload(by, token)).await?,
        };
        if found.is_none() {
            let (kind, detail) = (IncidentKind::InvalidToken, "a token to exchange");
            let (client, source) = (by.name.credential.as_str(), context.address());
            self.incidents.note(Incident { kind, client, source, detail }, now);
        }
        Ok(found)
    }

    async fn presented_key(
        &self,
        context: &RequestContext<'_>,
        by: &Arc<Client>,
        key: &Secret,
        now: Timestamp,
    ) -> Result<Option<Arc<Client>>> {
        let Some(id) = self.credential_of_key(key) else { return Ok(None) };
        let named = self.secrets.clients.client(&id).await?;
        if named.is_none_or(|client| client.tenant.id != by.tenant.id) {
            return Ok(None);
        }
        // The key may come from anywhere: its wrong guesses are not those of the client's address.
        let caller = Caller::client_with_credential(Arc::clone(by), context.address());
        match self.key(&caller, key, None, now).await {
            Ok(client) if client.tenant.id == by.tenant.id => Ok(Some(client)),
            Ok(_) | Err(Error::InvalidClient) => Ok(None),
            Err(error) => Err(error),
        }
    }

    async fn presented_workload(
        &self,
        by: &Arc<Client>,
        token: &Secret,
    ) -> Result<Option<AcceptedToken>> {
        let Ok(jwt) = SignedJwt::parse(token.expose()) else { return Ok(None) };
        let found = self.federated.workload(by, &jwt).await?;
        Ok(found
            .map(|Workload { client, expires_at }| AcceptedToken::Federated(client, expires_at)))
    }

    async fn presented_token(
        &self,
        by: &Arc<Client>,
        token: &Secret,
        now: Timestamp,
    ) -> Result<Option<AcceptedToken>> {
        let Ok(token) = self.tokens.signed(token.expose(), now) else { return Ok(None) };
        if token.claims.tenant != by.tenant.id.as_str() {
            return Ok(None);
        }
        match self.tokens.state_of(token, now).await? {
            TokenState::Live(token, client) => Ok(Some(AcceptedToken::Token(token, client))),
            TokenState::Expired | TokenState::Revoked | TokenState::Invalid => Ok(None),
        }
    }
}
