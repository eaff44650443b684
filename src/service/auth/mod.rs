//! Who calls. One file for each way to authenticate; [`Auth`] is the way in for every interface.

mod accepted_tokens;
mod access_tokens;
mod caller;
mod lock_outs;
mod rehash;
mod rehash_queue;
mod secret_cache;
mod secrets;
mod single_flight;
mod throttle;
mod token_cache;

use std::net::IpAddr;
use std::sync::Arc;

use jiff::Timestamp;
use prometheus_client::metrics::counter::Counter;
use tokio_util::sync::CancellationToken;

use crate::domain::{Audience, Client, CredentialId, UseKind};
use crate::error::{Error, Result};
use crate::incidents::{Incident, IncidentKind, Incidents};
use crate::secrets::{Prefixes, Secret};
use crate::service::context::RequestContext;
use crate::service::lookups::CacheLookups;
use crate::service::usage::UsageCounter;
use caller::REFUSED;
use secrets::SecretOrigin;

pub(in crate::service) use accepted_tokens::AcceptedToken;
pub(in crate::service) use access_tokens::{TokenState, TokenVerifier};
pub use caller::Caller;
pub(in crate::service) use caller::ClientState;
pub(in crate::service) use lock_outs::{LockOut, LockOuts};
pub(in crate::service) use rehash_queue::RehashQueue;
pub(in crate::service) use secret_cache::SecretCache;
pub(in crate::service) use secrets::SecretVerifier;
pub use secrets::SharedSecret;
pub(in crate::service) use throttle::Throttle;
pub(in crate::service) use token_cache::VerifiedToken;

/// What a caller authenticates with.
#[derive(Clone, Debug)]
pub enum CallerCredential {
    /// A bearer string: an API key, or an access token that is for Keyward itself.
    Bearer(Secret),
    /// The credential of a client.
    Client(ClientCredential),
}

/// What a client authenticates with.
#[derive(Clone, Debug)]
pub enum ClientCredential {
    Secret(SharedSecret),
    /// A JWT that the client signed, or that its platform gave it (RFC 7521).
    Assertion {
        /// Empty: the assertion names it.
        client_id: String,
        assertion: Secret,
    },
    /// The certificate of the connection (RFC 8705).
    Certificate {
        client_id: String,
    },
}

impl ClientCredential {
    pub fn client_secret(client_id: String, secret: Secret) -> Self {
        Self::Secret(SharedSecret::ClientSecret { client_id, secret })
    }

    pub fn api_key(key: Secret) -> Self {
        Self::Secret(SharedSecret::ApiKey(key))
    }
}

/// Authenticates clients and callers.
#[derive(Debug)]
pub struct Auth {
    secrets: SecretVerifier,
    tokens: TokenVerifier,
    prefixes: Prefixes,
    usage: Arc<UsageCounter>,
    incidents: Arc<Incidents>,
}

impl Auth {
    pub(super) fn new(
        secrets: SecretVerifier,
        tokens: TokenVerifier,
        usage: Arc<UsageCounter>,
    ) -> Self {
        let (prefixes, incidents) = (secrets.prefixes.clone(), Arc::clone(&secrets.incidents));
        Self { secrets, tokens, prefixes, usage, incidents }
    }

    /// Authenticates the caller of a request. A caller that names a user must be one that may act
    /// for users.
    pub async fn caller(
        &self,
        context: &RequestContext<'_>,
        credential: CallerCredential,
    ) -> Result<Caller> {
        let caller = match credential {
            CallerCredential::Client(credential) => {
                self.calling_client(context, credential).await?
            }
            CallerCredential::Bearer(key) if self.is_api_key(&key) => {
                let key = ClientCredential::api_key(key);
                self.calling_client(context, key).await.map_err(|error| match error {
                    Error::InvalidClient => REFUSED,
                    error => error,
                })?
            }
            CallerCredential::Bearer(token) => self.token_bearer(context, &token).await?,
        };
        if let Some(client) = caller.client() {
            context.identified(client);
        }
        let caller = caller.acting_for(context.user.clone());
        if caller.user().is_some() {
            caller.require_manager()?;
        }
        Ok(caller)
    }

    async fn calling_client(
        &self,
        context: &RequestContext<'_>,
        credential: ClientCredential,
    ) -> Result<Caller> {
        let address = context.address();
        let client = self.verified_client(context, credential).await?;
        self.usage.count(&client, UseKind::Check, context.now, address);
        Ok(Caller::client_with_credential(client, address))
    }

    async fn token_bearer(&self, context: &RequestContext<'_>, token: &Secret) -> Result<Caller> {
        let address = context.address();
        let state = self.tokens.state(token.expose(), context.now).await?;
        let TokenState::Live(token, client) = state else {
            let (kind, detail) = (IncidentKind::InvalidToken, "a bearer token");
            let incident = Incident { kind, client: "", source: address, detail };
            self.incidents.note(incident, context.now);
            return Err(REFUSED);
        };
        if !token.claims.aud.as_slice().iter().any(|aud| aud == Audience::KEYWARD) {
            return Err(Error::Unauthenticated(
                "the access token is for another audience: ask for the audience `keyward`",
            ));
        }
        if let Err(fault) = context.require_possession(token.claims.cnf.as_deref()) {
            let (kind, detail) = (IncidentKind::InvalidToken, "a bound token");
            let incident = Incident { kind, client: "", source: address, detail };
            self.incidents.note(incident, context.now);
            return Err(Error::Unauthenticated(fault.into_str()));
        }
        self.usage.count(&client, UseKind::Check, context.now, address);
        Ok(Caller::client_with_token(client, token, address))
    }

    /// Authenticates a client that asks for a token.
    pub(super) async fn client(
        &self,
        context: &RequestContext<'_>,
        credential: ClientCredential,
    ) -> Result<Arc<Client>> {
        let client = self.verified_client(context, credential).await?;
        context.identified(&client);
        Ok(client)
    }

    async fn verified_client(
        &self,
        context: &RequestContext<'_>,
        credential: ClientCredential,
    ) -> Result<Arc<Client>> {
        let (source, now) = (context.address(), context.now);
        match credential {
            ClientCredential::Secret(secret) => {
                let origin = SecretOrigin { source, asked_by: None, now };
                self.secrets.authenticate(secret, origin).await
            }
            // No credential of these kinds can be registered.
            ClientCredential::Assertion { .. } | ClientCredential::Certificate { .. } => {
                Err(Error::InvalidClient)
            }
        }
    }

    /// The client of an API key that a caller asks about, which was presented to the caller from
    /// this address.
    pub(super) async fn key(
        &self,
        caller: &Caller,
        key: &Secret,
        source: Option<IpAddr>,
        now: Timestamp,
    ) -> Result<Arc<Client>> {
        let origin = SecretOrigin { source, asked_by: Some(caller), now };
        self.secrets.authenticate(SharedSecret::ApiKey(key.clone()), origin).await
    }

    /// Whether a bearer string claims to be an API key, well-formed or not.
    pub(super) fn is_api_key(&self, bearer: &Secret) -> bool {
        self.prefixes.looks_like_api_key(bearer.expose())
    }

    /// The credential that an API key names, if the key is well-formed.
    pub(super) fn credential_of_key(&self, key: &Secret) -> Option<CredentialId> {
        self.prefixes.credential_of_api_key(key.expose())
    }

    /// What verifies access tokens.
    pub(super) fn tokens(&self) -> &TokenVerifier {
        &self.tokens
    }

    /// Forgets budgets that no longer refuse anything, and tokens of keys that are gone.
    pub(super) fn sweep(&self, now: Timestamp) {
        self.secrets.throttle.sweep();
        self.tokens.sweep(now);
    }

    /// Moves hashes of secrets to the primary master key as they are used, until `stop` is
    /// cancelled.
    pub async fn move_hashes(&self, stop: CancellationToken) {
        self.secrets.move_hashes(&stop).await;
    }

    /// Counts the hashes that were moved to the primary master key.
    pub(super) fn moved_hashes(&self) -> &Counter {
        &self.secrets.rehash.moved
    }

    /// The lookups of verified secrets in this process, and in Redis.
    pub(super) fn secret_lookups(&self) -> [&CacheLookups; 2] {
        self.secrets.verified.lookups()
    }

    /// How many verified secrets are cached.
    pub(super) fn cached_secrets(&self) -> usize {
        self.secrets.verified.len()
    }
}
