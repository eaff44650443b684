//! Access tokens of ours, as a way to authenticate and as what callers ask about.

use std::sync::Arc;

use jiff::Timestamp;

use super::token_cache::{VerifiedToken, VerifiedTokenCache};
use crate::domain::{Client, CredentialId};
use crate::error::Result;
use crate::keys::Rejection;
use crate::revocation::Live;
use crate::service::clients::ClientCache;
use crate::service::lookups::CacheLookups;
use crate::service::signing::Signing;

/// Verifies access tokens: their signature, and everything that they depend on.
#[derive(Debug)]
pub(in crate::service) struct TokenVerifier {
    issuer: String,
    signing: Arc<Signing>,
    clients: Arc<ClientCache>,
    revocations: Arc<Live>,
    cache: VerifiedTokenCache,
}

/// The state of a token.
#[derive(Debug)]
pub(in crate::service) enum TokenState {
    /// The token is accepted now. The client is the one whose access it is: not the one that
    /// exchanged it.
    Live(Arc<VerifiedToken>, Arc<Client>),
    /// The token has expired.
    Expired,
    /// The token was revoked.
    Revoked,
    /// The token is not from this server, or its client may do nothing now.
    Invalid,
}

impl TokenVerifier {
    pub(in crate::service) fn new(
        issuer: String,
        signing: Arc<Signing>,
        clients: Arc<ClientCache>,
        revocations: Arc<Live>,
    ) -> Self {
        Self { issuer, signing, clients, revocations, cache: VerifiedTokenCache::new() }
    }

    pub(in crate::service) fn lookups(&self) -> &CacheLookups {
        self.cache.lookups()
    }

    /// How many tokens are cached.
    pub(in crate::service) fn cached(&self) -> usize {
        self.cache.len()
    }

    /// Removes cached tokens of keys that are no longer published.
    pub(in crate::service) fn sweep(&self, now: Timestamp) {
        self.cache.sweep(&self.signing.keys(), now);
    }

    /// The state of a token: by itself, and by everything that it depends on.
    pub(in crate::service) async fn state(
        &self,
        token: &str,
        now: Timestamp,
    ) -> Result<TokenState> {
        match self.signed(token, now) {
            Ok(verified) => self.state_of(verified, now).await,
            Err(Rejection::Expired) => Ok(TokenState::Expired),
            Err(_) => Ok(TokenState::Invalid),
        }
    }

    /// A token that one of our keys has signed and that is valid at this time.
    pub(in crate::service) fn signed(
        &self,
        token: &str,
        at: Timestamp,
    ) -> Result<Arc<VerifiedToken>, Rejection> {
        let verified = self.cache.verify(token, &self.signing.keys(), &self.issuer, at);
        verified.inspect_err(|rejection| tracing::debug!(%rejection, "token refused"))
    }

    /// The state of a signed token, by everything that it depends on.
    pub(in crate::service) async fn state_of(
        &self,
        token: Arc<VerifiedToken>,
        now: Timestamp,
    ) -> Result<TokenState> {
        let revocation_keys = token.revocation_keys();
        if self.revocations.revokes(&revocation_keys).await? {
            return Ok(TokenState::Revoked);
        }
        let client = self.backing_client(&token, now).await?;
        // The read may have taken longer than the list may be old: what counts is what is known
        // after it.
        if self.revocations.revokes(&revocation_keys).await? {
            return Ok(TokenState::Revoked);
        }
        Ok(match client {
            Some(client) => TokenState::Live(token, client),
            None => TokenState::Invalid,
        })
    }

    /// The client whose access the token is, if all clients that it rests on back it: one, and more
    /// for an exchanged token.
    async fn backing_client(
        &self,
        token: &VerifiedToken,
        now: Timestamp,
    ) -> Result<Option<Arc<Client>>> {
        let claims = &token.claims;
        let allows = |client: &Client| {
            claims.tenant == client.tenant.id.as_str() && token.scopes.is_within(&client.scopes)
        };
        let Some((subject, others)) = claims.parents().split_first() else {
            let epochs = claims.epochs.unwrap_or_default();
            let backs = |client: &Client| backs(client, &claims.sub, epochs, now) && allows(client);
            return self.client_that(&token.credential, backs).await;
        };
        // The clients that passed it on need not have its scopes.
        for parent in others {
            let backs = |client: &Client| {
                backs(client, &parent.sub, parent.epochs, now)
                    && claims.tenant == client.tenant.id.as_str()
            };
            let Ok(id) = CredentialId::parse(&parent.client_id) else { return Ok(None) };
            if self.client_that(&id, backs).await?.is_none() {
                return Ok(None);
            }
        }
        let Ok(id) = CredentialId::parse(&subject.client_id) else { return Ok(None) };
        let backs =
            |client: &Client| backs(client, &subject.sub, subject.epochs, now) && allows(client);
        self.client_that(&id, backs).await
    }

    /// The client with this id, if it backs a token. It is read again if the cached one does not:
    /// another replica may have issued the token to a client that is newer.
    async fn client_that(
        &self,
        id: &CredentialId,
        backs: impl Fn(&Client) -> bool,
    ) -> Result<Option<Arc<Client>>> {
        let client = self.clients.client(id).await?;
        if client.as_ref().is_some_and(|client| backs(client)) {
            return Ok(client);
        }
        Ok(self.clients.load_client(id).await?.filter(|client| backs(client)))
    }
}

/// Whether a client of this application may act, and no epoch was raised since a token was issued.
fn backs(client: &Client, application: &str, issued: [i64; 3], now: Timestamp) -> bool {
    let epochs = client.epochs;
    client.is_active(now)
        && issued == [epochs.tenant, epochs.application, epochs.credential]
        && application == &*client.subject
}
