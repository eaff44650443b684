//! Who calls. One file for each way to authenticate; [`Auth`] is the way in for every interface.

mod accepted_tokens;
mod access_tokens;
mod assertion_refusal;
mod assertions;
mod caller;
mod certificates;
mod client_keys;
mod dpop;
mod dpop_nonces;
mod federated;
mod lock_outs;
mod rehash;
mod rehash_queue;
mod replay;
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

use crate::domain::{Audience, BindingFault, Client, Confirmation, CredentialId, UseKind};
use crate::error::{Error, Result};
use crate::incidents::{Incident, IncidentKind, Incidents};
use crate::jose::DpopProof;
use crate::secrets::{Prefixes, Secret};
use crate::service::context::RequestContext;
use crate::service::lookups::CacheLookups;
use crate::service::usage::UsageCounter;
use assertions::{PresentedAssertion, UnspentAssertion};
use caller::REFUSED;
use secrets::SecretOrigin;

pub(in crate::service) use accepted_tokens::AcceptedToken;
pub(in crate::service) use access_tokens::{TokenState, TokenVerifier};
pub use assertions::ASSERTION_ALGORITHMS;
pub(in crate::service) use assertions::AssertionVerifier;
pub use caller::Caller;
pub(in crate::service) use caller::ClientState;
pub(in crate::service) use certificates::CertificateVerifier;
pub(in crate::service) use client_keys::ClientKeys;
pub use dpop::DPOP_ALGORITHMS;
pub(in crate::service) use dpop::DpopVerifier;
pub(in crate::service) use dpop_nonces::DpopNonces;
pub(in crate::service) use federated::FederatedVerifier;
pub(in crate::service) use lock_outs::{LockOut, LockOuts};
pub(in crate::service) use rehash_queue::RehashQueue;
pub use replay::Replay;
#[cfg(feature = "internals")]
pub use replay::Spent;
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
    /// An access token that is for Keyward itself, with a `DPoP` proof.
    Dpop(Secret),
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

/// A client that has authenticated.
#[derive(Debug)]
#[must_use]
pub(in crate::service) struct AuthenticatedClient {
    pub(in crate::service) client: Arc<Client>,
    /// What it authenticated with, if that can be used once.
    pub(in crate::service) assertion: Option<UnspentAssertion>,
}

/// What came with a request for a token, was checked, and can be used once: [`Auth::spend`] it last,
/// before the request has an effect.
#[derive(Debug, Default)]
#[must_use]
pub(in crate::service) struct Unspent {
    pub(in crate::service) assertion: Option<UnspentAssertion>,
    pub(in crate::service) proof: Option<DpopProof>,
}

impl Unspent {
    pub(in crate::service) fn is_empty(&self) -> bool {
        self.assertion.is_none() && self.proof.is_none()
    }
}

/// Authenticates clients and callers.
#[derive(Debug)]
pub struct Auth {
    secrets: SecretVerifier,
    assertions: AssertionVerifier,
    federated: Arc<FederatedVerifier>,
    certificates: CertificateVerifier,
    tokens: TokenVerifier,
    dpop: DpopVerifier,
    prefixes: Prefixes,
    usage: Arc<UsageCounter>,
    incidents: Arc<Incidents>,
}

impl Auth {
    pub(super) fn new(
        secrets: SecretVerifier,
        assertions: AssertionVerifier,
        certificates: CertificateVerifier,
        tokens: TokenVerifier,
        dpop: DpopVerifier,
        usage: Arc<UsageCounter>,
    ) -> Self {
        let (prefixes, incidents) = (secrets.prefixes.clone(), Arc::clone(&secrets.incidents));
        let federated = Arc::clone(assertions.federated());
        Self {
            secrets,
            assertions,
            federated,
            certificates,
            tokens,
            dpop,
            prefixes,
            usage,
            incidents,
        }
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
            CallerCredential::Dpop(token) => self.token_prover(context, &token).await?,
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
        let AuthenticatedClient { client, assertion } =
            self.verified_client(context, credential).await?;
        if let Some(assertion) = assertion {
            self.spend_assertion(context, assertion).await?;
        }
        self.usage.count(&client, UseKind::Check, context.now, address);
        Ok(Caller::client_with_credential(client, address))
    }

    async fn token_bearer(&self, context: &RequestContext<'_>, token: &Secret) -> Result<Caller> {
        let (token, client) = self.live_token(context, token).await?;
        if let Err(fault) = context.require_possession(token.claims.cnf.as_deref()) {
            return Err(self.unbound(context, fault));
        }
        Ok(self.token_holder(context, token, client))
    }

    /// The holder of a token that came with a `DPoP` proof (RFC 9449, section 7.1).
    async fn token_prover(&self, context: &RequestContext<'_>, token: &Secret) -> Result<Caller> {
        if self.is_api_key(token) {
            return Err(Error::Unauthenticated("an API key is bound to no key: send it as Bearer"));
        }
        let presented =
            context.proof.ok_or(Error::Unauthenticated(BindingFault::NoProof.into_str()))?;
        let proof = self.dpop.check(presented, Some(token), context.now);
        let proof = proof.inspect_err(|error| self.note_proof(context, error))?;
        let (token, client) = self.live_token(context, token).await?;
        let shown = context.clone().with_key(proof.key.clone()).possession();
        if let Err(fault) = Confirmation::require(token.claims.cnf.as_deref(), &shown) {
            return Err(self.unbound(context, fault));
        }
        let spent = self.dpop.spend(proof, true).await;
        spent.inspect_err(|error| self.note_proof(context, error))?;
        Ok(self.token_holder(context, token, client))
    }

    fn token_holder(
        &self,
        context: &RequestContext<'_>,
        token: Arc<VerifiedToken>,
        client: Arc<Client>,
    ) -> Caller {
        let address = context.address();
        self.usage.count(&client, UseKind::Check, context.now, address);
        Caller::client_with_token(client, token, address)
    }

    /// The error for a sender that did not prove to have what its token is bound to.
    fn unbound(&self, context: &RequestContext<'_>, fault: BindingFault) -> Error {
        self.note(context, "a bound token");
        Error::Unauthenticated(fault.into_str())
    }

    fn note_proof(&self, context: &RequestContext<'_>, error: &Error) {
        if matches!(error, Error::InvalidDpopProof { .. }) {
            self.note(context, "a DPoP proof");
        }
    }

    fn note(&self, context: &RequestContext<'_>, detail: &'static str) {
        let (kind, source) = (IncidentKind::InvalidToken, context.address());
        let incident = Incident { kind, client: "", source, detail };
        self.incidents.note(incident, context.now);
    }

    /// A token that is accepted now and is for Keyward itself. What it is bound to is not checked.
    async fn live_token(
        &self,
        context: &RequestContext<'_>,
        token: &Secret,
    ) -> Result<(Arc<VerifiedToken>, Arc<Client>)> {
        let state = self.tokens.state(token.expose(), context.now).await?;
        let TokenState::Live(token, client) = state else {
            self.note(context, "a bearer token");
            return Err(REFUSED);
        };
        if !token.claims.aud.as_slice().iter().any(|aud| aud == Audience::KEYWARD) {
            return Err(Error::Unauthenticated(
                "the access token is for another audience: ask for the audience `keyward`",
            ));
        }
        Ok((token, client))
    }

    /// The `DPoP` proof of a request for a token, checked but not spent. Call it before anything of
    /// the request is spent: a client repeats the request if its proof needs a nonce (RFC 9449,
    /// section 8).
    pub(super) fn proof(&self, context: &RequestContext<'_>) -> Result<Option<DpopProof>> {
        let Some(presented) = context.proof else { return Ok(None) };
        let proof = self.dpop.check(presented, None, context.now);
        proof.inspect_err(|error| self.note_proof(context, error)).map(Some)
    }

    /// What checks `DPoP` proofs.
    pub(super) fn dpop(&self) -> &DpopVerifier {
        &self.dpop
    }

    /// The nonce for the next proof of a client that sent one, if this server asks for nonces.
    pub fn next_dpop_nonce(&self, context: &RequestContext<'_>) -> Option<String> {
        context.proof.and_then(|_| self.dpop.next_nonce(context.now))
    }

    /// Authenticates a client that asks for a token.
    pub(super) async fn client(
        &self,
        context: &RequestContext<'_>,
        credential: ClientCredential,
    ) -> Result<AuthenticatedClient> {
        let authenticated = self.verified_client(context, credential).await?;
        if authenticated.assertion.is_none() {
            context.identified(&authenticated.client);
        }
        Ok(authenticated)
    }

    /// Spends what a request for a token can be made with once, or refuses it if some of it was
    /// spent before. First the proof: a client that repeats a request with a new proof can send the
    /// same assertion.
    pub(super) async fn spend(&self, context: &RequestContext<'_>, unspent: Unspent) -> Result<()> {
        let Unspent { assertion, proof } = unspent;
        if let Some(proof) = proof {
            let spent = self.dpop.spend(proof, false).await;
            spent.inspect_err(|error| self.note_proof(context, error))?;
        }
        match assertion {
            Some(assertion) => self.spend_assertion(context, assertion).await,
            None => Ok(()),
        }
    }

    /// Spends the assertion that a client authenticated with, or refuses it if it was spent before.
    async fn spend_assertion(
        &self,
        context: &RequestContext<'_>,
        assertion: UnspentAssertion,
    ) -> Result<()> {
        let client = self.assertions.spend(&self.secrets, assertion).await?;
        context.identified(&client);
        Ok(())
    }

    async fn verified_client(
        &self,
        context: &RequestContext<'_>,
        credential: ClientCredential,
    ) -> Result<AuthenticatedClient> {
        let (source, now) = (context.address(), context.now);
        match credential {
            ClientCredential::Secret(secret) => {
                let origin = SecretOrigin { source, asked_by: None, now };
                let client = self.secrets.authenticate(secret, origin).await?;
                Ok(AuthenticatedClient { client, assertion: None })
            }
            ClientCredential::Assertion { client_id, assertion } => {
                let presented = PresentedAssertion { client_id, assertion, source };
                let verified = self.assertions.authenticate(&self.secrets, presented).await;
                let (client, assertion) = verified?;
                Ok(AuthenticatedClient { client, assertion })
            }
            ClientCredential::Certificate { client_id } => {
                let (secrets, certificate) = (&self.secrets, context.certificate);
                let client = self
                    .certificates
                    .authenticate(secrets, &client_id, certificate, source)
                    .await?;
                Ok(AuthenticatedClient { client, assertion: None })
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
