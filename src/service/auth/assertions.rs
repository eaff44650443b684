//! Client assertions, as a way to authenticate: JWTs that clients sign with a key of their own
//! (`private_key_jwt`, RFC 7523, section 3), or that the platform of a workload signed (see
//! [`super::federated`]). The kind of the credential decides which.
//!
//! An assertion of the first kind is accepted once. It is spent last, when everything else about its
//! request is known to be right: see [`UnspentAssertion`]. So a request that is refused can be sent
//! again, and a forged assertion with the id of a right one spends nothing.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use tokio::sync::Semaphore;
use tokio::time::timeout;

use super::assertion_refusal::AssertionRefusal;
use super::client_keys::ClientKeys;
use super::federated::FederatedVerifier;
use super::replay::{Replay, Spent};
use super::secrets::SecretVerifier;
use super::throttle::Blame;
use crate::clock::Clock;
use crate::domain::{
    Client, CredentialId, CredentialKind, KeySource, OneTimePurpose, Registration,
};
use crate::error::{Error, Result};
use crate::incidents::{Incident, IncidentKind};
use crate::jose::{JwsAlgorithm, JwtRefusal, SignedJwt, TimeRule};
use crate::outbound::KeyLocation;
use crate::secrets::Secret;
use crate::service::clients::ClientCache;

/// The signature algorithms of assertions, as metadata lists them.
pub const ASSERTION_ALGORITHMS: &[&str] = &JwsAlgorithm::NAMES;

/// `typ` of an assertion: none, or one of these. Libraries send `JWT` or none; the update of RFC
/// 7523 recommends the other one.
const TYPES: [&str; 2] = ["JWT", "client-authentication+jwt"];
/// An assertion is accepted for ten minutes, and remembered for as long. Some libraries let it live
/// for an hour by default (Authlib).
const TIMES: TimeRule = TimeRule {
    requires_expiry: true,
    max_age: Some(Duration::from_mins(10)),
    max_lifetime: Some(Duration::from_hours(1)),
};
/// How many clients that are not cached are loaded at once. Anyone can name one, and known clients
/// must not wait for them.
const LOADS: usize = 8;
const MAX_LOAD_WAIT: Duration = Duration::from_secs(2);

/// An assertion, as it was presented.
pub(super) struct PresentedAssertion {
    /// The client that the request names besides. Empty: none.
    pub(super) client_id: String,
    pub(super) assertion: Secret,
    pub(super) source: Option<IpAddr>,
}

/// An assertion that is right, and is not spent yet. The request may go on when it is.
#[derive(Debug)]
#[must_use]
pub(in crate::service) struct UnspentAssertion {
    client: Arc<Client>,
    id: String,
    /// Until when it passes.
    until: Timestamp,
    source: Option<IpAddr>,
    blame: Blame,
}

/// Verifies client assertions.
#[derive(Debug)]
pub(in crate::service) struct AssertionVerifier {
    /// The only audience.
    issuer: String,
    clock: Clock,
    clients: Arc<ClientCache>,
    keys: Arc<ClientKeys>,
    federated: Arc<FederatedVerifier>,
    loads: Semaphore,
    replay: Arc<Replay>,
}

impl AssertionVerifier {
    pub(in crate::service) fn new(federated: Arc<FederatedVerifier>, replay: Arc<Replay>) -> Self {
        let FederatedVerifier { issuer, clock, clients, keys, .. } = &*federated;
        Self {
            issuer: issuer.clone(),
            clock: clock.clone(),
            clients: Arc::clone(clients),
            keys: Arc::clone(keys),
            federated,
            loads: Semaphore::new(LOADS),
            replay,
        }
    }

    /// What verifies the tokens of workloads.
    pub(super) fn federated(&self) -> &Arc<FederatedVerifier> {
        &self.federated
    }

    /// The client that signed this assertion, or whose workload it is a token of, if it may do
    /// anything now, with what is to be spent: nothing for a workload. Unknown, another kind of
    /// credential, wrong, disabled, expired: the error is the same, and so is the work. Wrong
    /// assertions count against the budget of their source. Signatures cannot be guessed, so this
    /// bounds the processor time that a source can use, and no budget is for one client: it would
    /// be asked for each request of a known client, too.
    pub(super) async fn authenticate(
        &self,
        secrets: &SecretVerifier,
        presented: PresentedAssertion,
    ) -> Result<(Arc<Client>, Option<UnspentAssertion>)> {
        let source = presented.source;
        let mut named = CredentialId::parse(presented.client_id.trim()).ok();
        let verified = match secrets.throttle.require_source(source) {
            Ok(blame) => Box::pin(self.verify(&presented, &mut named, blame)).await,
            Err(error) => Err((AssertionRefusal::Undecided(error), None)),
        };
        verified.map_err(|(refused, blame)| {
            let (error, detail) = match refused {
                AssertionRefusal::Wrong(detail) => (Error::InvalidClient, detail.to_owned()),
                AssertionRefusal::Jwt(refusal) => (Error::InvalidClient, refusal.to_string()),
                AssertionRefusal::Undecided(error) => (error, String::new()),
            };
            if let (Error::InvalidClient, Some(blame)) = (&error, blame) {
                blame.count();
            }
            self.note(secrets, named.as_ref(), source, &error, &detail);
            error
        })
    }

    /// Spends an assertion, or refuses one that was spent before. Returns the client.
    pub(super) async fn spend(
        &self,
        secrets: &SecretVerifier,
        assertion: UnspentAssertion,
    ) -> Result<Arc<Client>> {
        let UnspentAssertion { client, id, until, source, blame } = assertion;
        let (purpose, owner) = (OneTimePurpose::ClientAssertion, client.name.credential);
        match self.replay.spend(purpose, owner.as_str(), &id, until).await? {
            Spent::First => Ok(client),
            Spent::Again => {
                blame.count();
                let (error, detail) = (Error::InvalidClient, "used before");
                self.note(secrets, Some(&owner), source, &error, detail);
                Err(error)
            }
        }
    }

    fn note(
        &self,
        secrets: &SecretVerifier,
        client: Option<&CredentialId>,
        source: Option<IpAddr>,
        error: &Error,
        detail: &str,
    ) {
        let kind = IncidentKind::WrongAssertion;
        match (client, error) {
            (Some(client), _) => secrets.note_failure(client, kind, source, error, detail),
            (None, Error::InvalidClient) => {
                let incident = Incident { kind, client: "", source, detail };
                secrets.incidents.note(incident, self.clock.now());
            }
            (None, _) => {}
        }
    }

    /// The steps in their order. `named` becomes the client that the assertion names.
    async fn verify(
        &self,
        presented: &PresentedAssertion,
        named: &mut Option<CredentialId>,
        blame: Blame,
    ) -> Result<(Arc<Client>, Option<UnspentAssertion>), (AssertionRefusal, Option<Blame>)> {
        let verified: Result<_, AssertionRefusal> = async {
            let jwt = SignedJwt::parse(presented.assertion.expose())?;
            let id = named_client(presented, &jwt)?;
            *named = Some(id);
            let client = self.client(&id).await?;
            if let Some(client) = client.as_ref().filter(|it| it.kind == CredentialKind::Federated)
            {
                return Ok((self.workload(client, &jwt).await?, None));
            }
            let client = self.signer(client, &id, &jwt).await?;
            let claims = jwt.unverified_claims();
            jwt.header().check_type(&TYPES, true)?;
            claims.check_only_audience(&self.issuer)?;
            // Keys may have been fetched meanwhile.
            TIMES.check(claims, self.clock.now())?;
            let (id, until) = (claims.token_id()?.to_owned(), TIMES.passes_until(claims)?);
            Ok((client, Some((id, until))))
        }
        .await;
        match verified {
            Ok((client, once)) => {
                let (source, signer) = (presented.source, Arc::clone(&client));
                let unspent = once.map(|(id, until)| UnspentAssertion {
                    client: signer,
                    id,
                    until,
                    source,
                    blame,
                });
                Ok((client, unspent))
            }
            Err(refused) => Err((refused, Some(blame))),
        }
    }

    /// The client with this id, as it is now.
    async fn client(&self, id: &CredentialId) -> Result<Option<Arc<Client>>> {
        if !self.clients.contains(id) {
            let late = |_| Error::Overloaded {
                what: "client assertions",
                retry_after: Duration::from_secs(1),
            };
            let _place = timeout(MAX_LOAD_WAIT, self.loads.acquire()).await.map_err(late)?;
            if self.clients.load_client(id).await?.is_none() {
                return Ok(None);
            }
        }
        self.clients.current_client(id).await
    }

    /// The client, if the token is one of its workload.
    async fn workload(
        &self,
        client: &Arc<Client>,
        jwt: &SignedJwt<'_>,
    ) -> Result<Arc<Client>, AssertionRefusal> {
        let verified = self.federated.verify(client, jwt).await;
        verified.inspect_err(|refused| {
            if !matches!(refused, AssertionRefusal::Jwt(JwtRefusal::Signature)) {
                self.keys.decoys.verify(jwt);
            }
        })
    }

    /// The client, if it signed the token.
    async fn signer(
        &self,
        client: Option<Arc<Client>>,
        id: &CredentialId,
        jwt: &SignedJwt<'_>,
    ) -> Result<Arc<Client>, AssertionRefusal> {
        let found = self.registered(client, id, jwt);
        let (client, registration) = found.inspect_err(|_| self.keys.decoys.verify(jwt))?;
        let Registration::PublicKey(source) = &*registration else {
            return Err(Error::internal("a client of another kind signs").into());
        };
        let keys = match source {
            KeySource::JwksUri(url) => {
                let verified =
                    self.keys.verify_remote(&KeyLocation::JwksUri(url.clone()), jwt).await?;
                verified.inspect_err(|refusal| self.work_as_for_a_signature(*refusal, jwt))?;
                // The fetch may have taken seconds.
                let client = self.clients.current_client(id).await?;
                let (client, now) = self.registered(client, id, jwt)?;
                return if *now == *registration {
                    Ok(client)
                } else {
                    Err(AssertionRefusal::Wrong("its keys were replaced meanwhile"))
                };
            }
            KeySource::Jwks(jwks) => self.keys.stored(id, &registration, jwks)?,
            KeySource::Pem(_) => return Err(Error::internal("keys are stored as PEM").into()),
        };
        let verified = jwt.verify_with(&keys);
        verified.inspect_err(|refusal| self.work_as_for_a_signature(*refusal, jwt))?;
        Ok(client)
    }

    /// The client with what it is registered with, if it is one that signs assertions and may do
    /// anything now, and the token names it.
    fn registered(
        &self,
        client: Option<Arc<Client>>,
        id: &CredentialId,
        jwt: &SignedJwt<'_>,
    ) -> Result<(Arc<Client>, Arc<Registration>), AssertionRefusal> {
        let client = client.ok_or(AssertionRefusal::Wrong("unknown client"))?;
        let registration = match &client.registration {
            Some(registration) if client.kind == CredentialKind::PublicKey => registration,
            _ => return Err(AssertionRefusal::Wrong("another kind of credential")),
        };
        if !client.is_active(self.clock.now()) {
            return Err(AssertionRefusal::Wrong("disabled or expired"));
        }
        let (claims, id) = (jwt.unverified_claims(), id.as_str());
        // RFC 7523, section 3: the client issues the assertion about itself.
        if claims.issuer()? != id || claims.subject()? != id {
            return Err(AssertionRefusal::Wrong("iss and sub are not the client id"));
        }
        let registration = Arc::clone(registration);
        Ok((client, registration))
    }

    /// If no signature was checked, checks one, so that the time tells nothing about the client.
    fn work_as_for_a_signature(&self, refusal: JwtRefusal, jwt: &SignedJwt<'_>) {
        if refusal != JwtRefusal::Signature {
            self.keys.decoys.verify(jwt);
        }
    }
}

/// The client that the request names, or else the assertion.
fn named_client(
    presented: &PresentedAssertion,
    jwt: &SignedJwt<'_>,
) -> Result<CredentialId, AssertionRefusal> {
    let id = match presented.client_id.trim() {
        "" => jwt.unverified_claims().subject()?,
        id => id,
    };
    CredentialId::parse(id).map_err(|_| AssertionRefusal::Wrong("the client id is malformed"))
}
