//! Tokens that the platform of a workload signed, as a way to authenticate and as what is exchanged:
//! those of Kubernetes, of a CI system or of a cloud.
//!
//! A credential of the kind `federated` says whose tokens it accepts. A token counts only for a
//! credential whose own keys verify it: two clusters can have one issuer and equal subjects. All that
//! the token claims is compared before keys are fetched, so a token that could not be accepted causes
//! no request to another host.
//!
//! A token is accepted until it expires, as often as it is presented: platforms give a workload one
//! token for minutes or hours, as a file or a variable, and not one for each request. Many have no
//! `jti`.

use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;

use super::assertion_refusal::AssertionRefusal;
use super::client_keys::ClientKeys;
use crate::clock::Clock;
use crate::domain::{Client, Federation, KeySource, Registration};
use crate::error::{Error, Result};
use crate::jose::{SignedJwt, TimeRule};
use crate::outbound::KeyLocation;
use crate::service::clients::ClientCache;
use crate::store::Store;

/// `typ` of a token: none, or one of these. SPIFFE permits `JOSE`. An access token of RFC 9068
/// (`at+jwt`) is for a resource server, and does not say who its sender is.
const TYPES: [&str; 2] = ["JWT", "JOSE"];
/// Tokens of Azure's managed identities live for a day and some minutes.
const TIMES: TimeRule =
    TimeRule { requires_expiry: true, max_age: None, max_lifetime: Some(Duration::from_hours(48)) };
/// The number of credentials that are tried for one token to exchange. Administrators register them,
/// so more of them with one issuer and subject are a mistake.
const MAX_CANDIDATES: usize = 32;

/// Verifies tokens of platforms.
#[derive(Debug)]
pub(in crate::service) struct FederatedVerifier {
    /// The issuer of this server.
    pub(in crate::service) issuer: String,
    pub(in crate::service) clock: Clock,
    pub(in crate::service) store: Store,
    pub(in crate::service) clients: Arc<ClientCache>,
    pub(in crate::service) keys: Arc<ClientKeys>,
}

/// The client that a token stands for.
#[derive(Debug)]
pub(super) struct Workload {
    pub(super) client: Arc<Client>,
    /// When the token ends.
    pub(super) expires_at: Timestamp,
}

impl FederatedVerifier {
    /// The client as it is now, if the token is one of its workload and it may do anything now.
    pub(super) async fn verify(
        &self,
        client: &Arc<Client>,
        jwt: &SignedJwt<'_>,
    ) -> Result<Arc<Client>, AssertionRefusal> {
        let registration = self.registered(client)?;
        let trust = trust(registration)?;
        self.check(trust, jwt)?;
        let id = &client.name.credential;
        let location = match &trust.keys {
            Some(KeySource::Jwks(jwks)) => {
                let keys = self.keys.stored(id, registration, jwks)?;
                jwt.verify_with(&keys)?;
                return Ok(Arc::clone(client));
            }
            Some(KeySource::JwksUri(url)) => KeyLocation::JwksUri(url.clone()),
            None => KeyLocation::Issuer(trust.issuer.clone()),
            Some(KeySource::Pem(_)) => {
                return Err(Error::internal("keys are stored as PEM").into());
            }
        };
        self.keys.verify_remote(&location, jwt).await??;
        // The fetch may have taken seconds.
        TIMES.check(jwt.unverified_claims(), self.clock.now())?;
        let client = self.clients.current_client(id).await?;
        let client = client.ok_or(AssertionRefusal::Wrong("deleted meanwhile"))?;
        if **self.registered(&client)? == **registration {
            Ok(client)
        } else {
            Err(AssertionRefusal::Wrong("its credential was changed meanwhile"))
        }
    }

    /// The only client of the tenant of `by` whose workload the token is one of. `None`: there is none,
    /// or there are several.
    pub(super) async fn workload(
        &self,
        by: &Client,
        jwt: &SignedJwt<'_>,
    ) -> Result<Option<Workload>> {
        let claims = jwt.unverified_claims();
        let (Ok(issuer), Ok(subject)) = (claims.issuer(), claims.subject()) else {
            return Ok(None);
        };
        let Some(expires_at) = claims.expiry() else { return Ok(None) };
        let tenant = &by.tenant.id;
        let read = async {
            let mut session = self.store.read().await?;
            session.federated_credentials(tenant, (issuer, subject), MAX_CANDIDATES + 1).await
        };
        let candidates = Box::pin(self.clients.with_read_timeout(read)).await?;
        if candidates.len() > MAX_CANDIDATES {
            return Ok(None);
        }
        let mut found = None;
        for id in &candidates {
            let candidate = self.clients.current_client(id).await?;
            let Some(candidate) = candidate.filter(|it| it.tenant.id == *tenant) else { continue };
            match Box::pin(self.verify(&candidate, jwt)).await {
                Ok(_) if found.is_some() => return Ok(None),
                Ok(client) => found = Some(Workload { client, expires_at }),
                Err(AssertionRefusal::Undecided(error)) => return Err(error),
                Err(AssertionRefusal::Wrong(_) | AssertionRefusal::Jwt(_)) => {}
            }
        }
        Ok(found)
    }

    /// What the client is registered with, if it may do anything now.
    fn registered<'a>(
        &self,
        client: &'a Client,
    ) -> Result<&'a Arc<Registration>, AssertionRefusal> {
        if !client.is_active(self.clock.now()) {
            return Err(AssertionRefusal::Wrong("disabled or expired"));
        }
        client.registration.as_ref().ok_or(AssertionRefusal::Wrong("another kind of credential"))
    }

    /// Checks everything but the signature.
    fn check(&self, trust: &Federation, jwt: &SignedJwt<'_>) -> Result<(), AssertionRefusal> {
        let claims = jwt.unverified_claims();
        jwt.header().check_type(&TYPES, true)?;
        claims.subject()?;
        trust
            .require(claims.members(), claims.audiences()?, &self.issuer)
            .map_err(AssertionRefusal::Wrong)?;
        TIMES.check(claims, self.clock.now())?;
        Ok(())
    }
}

fn trust(registration: &Registration) -> Result<&Federation, AssertionRefusal> {
    match registration {
        Registration::Federated(trust) => Ok(trust),
        _ => Err(AssertionRefusal::Wrong("another kind of credential")),
    }
}
