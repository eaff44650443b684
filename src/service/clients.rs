//! Client authentication: one way in, whatever face it comes through.

use std::net::IpAddr;
use std::sync::Arc;

use jiff::Timestamp;

use super::failures::Blame;
use super::refusals::LockOut;
use super::{Caller, Service};
use crate::domain::{Client, CredentialId, CredentialKind, Source};
use crate::error::{Error, Result};
use crate::incidents::IncidentKind;
use crate::secrets::{Lane, Secret, Turn};

/// How a client proves itself.
#[derive(Clone, Debug)]
pub enum Proof {
    /// A client id and a secret.
    ClientSecret {
        /// The client id.
        client_id: String,
        /// The secret.
        secret: Secret,
    },
    /// A string that is both.
    ApiKey(Secret),
}

impl Proof {
    /// The client that it names, if that could be one.
    fn named(&self) -> Option<CredentialId> {
        match self {
            Self::ClientSecret { client_id, .. } => CredentialId::parse(client_id.trim()).ok(),
            Self::ApiKey(_) => None,
        }
    }
}

/// Where a secret was presented.
#[derive(Clone, Copy)]
struct Origin<'a> {
    /// From where, if that is known.
    source: Option<IpAddr>,
    /// The caller who asks about the secret, unless it is their own.
    asked_by: Option<&'a Caller>,
}

impl Origin<'_> {
    /// A secret waits with others from the same source, even if a known caller passes it on.
    /// Without a source, it waits with others that the same application asks about.
    fn lane(self) -> Lane {
        match (self.source, self.asked_by) {
            (Some(source), _) => Lane::Source(Source::of(source)),
            (None, Some(caller)) => Lane::AskedBy(caller.service()),
            (None, None) => Lane::Unknown,
        }
    }
}

impl Service {
    /// The client that this proves, if it is one that may do anything now. Unknown,
    /// wrong, disabled, expired: the error is the same, and so is the work, except that
    /// what cannot be a secret at all (its form is no secret) costs nothing. Too many wrong
    /// ones from one source, of one client or of all, are refused unread. A secret that was
    /// right a while ago is no guess, and costs no hash.
    pub async fn authenticate_client(
        &self,
        proof: Proof,
        source: Option<IpAddr>,
    ) -> Result<Arc<Client>> {
        self.authenticate(proof, Origin { source, asked_by: None }).await
    }

    /// The same for an API key that a caller asks about: of another, who is at this address.
    pub(super) async fn authenticate_key(
        &self,
        caller: &Caller,
        key: &Secret,
        source: Option<IpAddr>,
    ) -> Result<Arc<Client>> {
        let origin = Origin { source, asked_by: Some(caller) };
        self.authenticate(Proof::ApiKey(key.clone()), origin).await
    }

    async fn authenticate(&self, proof: Proof, origin: Origin<'_>) -> Result<Arc<Client>> {
        let named = proof.named();
        let Some((id, secret)) = self.plausible(proof) else {
            let named = named.as_ref().map_or("", CredentialId::as_str);
            self.note_incident(IncidentKind::WrongSecret, named, origin.source, "malformed");
            return Err(Error::InvalidClient);
        };
        let proven = match self.proven(&id, &secret).await? {
            Some(client) => return Ok(client),
            None => Box::pin(self.prove(&id, &secret, origin)).await,
        };
        if let Err(error) = &proven {
            self.note_failure(&id, origin, error);
        }
        proven
    }

    /// Tells the log, and where a client is locked out its tenant's audit log too.
    fn note_failure(&self, id: &CredentialId, origin: Origin<'_>, error: &Error) {
        let (id_text, source) = (id.as_str(), origin.source);
        match error {
            Error::InvalidClient => {
                let detail =
                    if origin.asked_by.is_some() { "asked about by a service" } else { "" };
                self.note_incident(IncidentKind::WrongSecret, id_text, source, detail);
            }
            Error::RateLimited { name, limit, window, .. } => {
                let detail = format!("{limit} {name} within {} s", window.as_secs());
                if self.note_incident(IncidentKind::LockedOut, id_text, source, &detail) {
                    self.note_lock_out(LockOut { client: *id, source, detail });
                }
            }
            _ => {}
        }
    }

    /// The client, if it is known here that this is one of its secrets.
    async fn proven(&self, id: &CredentialId, secret: &Secret) -> Result<Option<Arc<Client>>> {
        // Nothing is read for a guess before its turn.
        if !self.snapshots.holds(id) {
            return Ok(None);
        }
        let Some(client) = self.current_client(id).await? else {
            return Ok(None);
        };
        let known = match accepted(&client, secret, self.now()) {
            Some(version) => self.proofs.knows(&client, version, secret)?,
            None => false,
        };
        Ok(known.then_some(client))
    }

    /// The client, if this turns out to be one of its secrets.
    async fn prove(
        &self,
        id: &CredentialId,
        secret: &Secret,
        origin: Origin<'_>,
    ) -> Result<Arc<Client>> {
        let blame = self.failures.require_source(origin.source)?;
        let slot = self.hasher.reserve(origin.lane())?;
        let guess = self.begin_guess(id, origin.source).await?;
        let turn = self.hasher.turn(slot).await?;
        let read = self.client_afresh(id).await?;
        let version = read.as_ref().and_then(|client| accepted(client, secret, self.now()));
        if !self.is_right((turn, blame), id, read.as_deref().zip(version), secret).await? {
            guess.failed().await;
            return Err(Error::InvalidClient);
        }
        // The hash may have waited for seconds: what counts is how things stand after it.
        let client = self.current_client(id).await?.ok_or(Error::InvalidClient)?;
        let still = accepted(&client, secret, self.now()) == version;
        if still { Ok(client) } else { Err(Error::InvalidClient) }
    }

    /// Whether this is that secret of the client; it is not, if there is none. The work is the
    /// same.
    async fn is_right(
        &self,
        (turn, blame): (Turn, Blame),
        id: &CredentialId,
        wanted: Option<(&Client, i64)>,
        secret: &Secret,
    ) -> Result<bool> {
        // Apart: what it is handed to would each make room for it once more.
        let compute = Box::pin(async {
            if self.proofs.heard_of(id, wanted, secret).await? {
                return Ok(true);
            }
            let hash = self.hash_of(id, wanted.map(|(_, version)| version)).await?;
            let matches = self.hasher.verify(turn, secret.clone(), hash, || blame.count()).await?;
            if let (true, Some((client, version))) = (matches, wanted) {
                self.proofs.tell(client, version, secret).await?;
            }
            Ok(matches)
        });
        match wanted {
            Some((client, version)) => self.proofs.find_out(client, version, secret, compute).await,
            None => compute.await,
        }
    }

    /// The hash that a secret would have to match. The statement is the same where there is
    /// none.
    async fn hash_of(&self, id: &CredentialId, version: Option<i64>) -> Result<Option<String>> {
        let version = version.unwrap_or_default();
        self.promptly(async { self.store.read().await?.find_secret_hash(id, version).await }).await
    }

    /// The id and secret, if the secret has the form of one of that client.
    fn plausible(&self, proof: Proof) -> Option<(CredentialId, Secret)> {
        match proof {
            Proof::ApiKey(key) => {
                let id = self.prefixes.credential_of_api_key(key.expose())?;
                Some((id, key))
            }
            Proof::ClientSecret { client_id, secret } => {
                let id = CredentialId::parse(client_id.trim()).ok()?;
                [CredentialKind::ClientSecret, CredentialKind::ApiKey]
                    .into_iter()
                    .any(|kind| self.prefixes.is_plausible(&secret, kind, &id))
                    .then_some((id, secret))
            }
        }
    }
}

/// The version of the secret that this would be, if the client is one that may do anything.
fn accepted(client: &Client, secret: &Secret, now: Timestamp) -> Option<i64> {
    if client.is_active(now) { client.secret_ending(&secret.last_four(), now) } else { None }
}
