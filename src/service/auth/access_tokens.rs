//! Access tokens of ours, as a way to authenticate and as what callers ask about.

use std::sync::Arc;

use jiff::Timestamp;

use super::token_cache::{VerifiedToken, VerifiedTokenCache};
use crate::domain::Client;
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
    /// The token is accepted now.
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
        let mut client = self.clients.client(&token.credential).await?;
        if !client.as_ref().is_some_and(|client| is_backed(&token, client, now)) {
            // Another replica may have issued it to a client that is newer than the cached one.
            client = self.clients.load_client(&token.credential).await?;
        }
        // The read may have taken longer than the list may be old: what counts is what is known
        // after it.
        if self.revocations.revokes(&revocation_keys).await? {
            return Ok(TokenState::Revoked);
        }
        Ok(match client {
            Some(client) if is_backed(&token, &client, now) => TokenState::Live(token, client),
            _ => TokenState::Invalid,
        })
    }
}

/// Whether a token's client may act, no epoch was raised since the token was issued, and the
/// application has every scope that the token carries.
fn is_backed(token: &VerifiedToken, client: &Client, now: Timestamp) -> bool {
    let (claims, epochs) = (&token.claims, client.epochs);
    client.is_active(now)
        && claims.epochs == [epochs.tenant, epochs.application, epochs.credential]
        && claims.tenant == client.tenant.id.as_str()
        && claims.sub == *client.subject
        && token.scopes.is_within(&client.scopes)
}
