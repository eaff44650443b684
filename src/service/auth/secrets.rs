//! Client secrets and API keys, as a way to authenticate.

use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use jiff::Timestamp;

use super::caller::Caller;
use super::lock_outs::{LockOut, LockOuts};
use super::rehash_queue::RehashQueue;
use super::secret_cache::{SecretCache, SharedProof};
use super::throttle::{Blame, Throttle};
use crate::clock::Clock;
use crate::domain::{Client, CredentialId, SecretKind, Source};
use crate::error::{Error, Result};
use crate::incidents::{Incident, IncidentKind, Incidents};
use crate::secrets::{Hasher, Lane, Prefixes, Secret, Turn};
use crate::service::clients::ClientCache;
use crate::service::master_keys::KeyAnnouncements;
use crate::store::Store;

/// A secret that a client shares with the server.
#[derive(Clone, Debug)]
pub enum SharedSecret {
    /// A client id and a secret.
    ClientSecret { client_id: String, secret: Secret },
    /// A string that is both.
    ApiKey(Secret),
}

impl SharedSecret {
    /// The client that it names, if that could be one.
    fn named(&self) -> Option<CredentialId> {
        match self {
            Self::ClientSecret { client_id, .. } => CredentialId::parse(client_id.trim()).ok(),
            Self::ApiKey(_) => None,
        }
    }
}

/// Where a secret was presented, and when.
#[derive(Clone, Copy)]
pub(super) struct SecretOrigin<'a> {
    /// The address of the sender, if that is known.
    pub(super) source: Option<IpAddr>,
    /// The caller that asks about the secret, unless it is the caller's own.
    pub(super) asked_by: Option<&'a Caller>,
    /// When the request was received.
    pub(super) now: Timestamp,
}

impl SecretOrigin<'_> {
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

/// Verifies client secrets and API keys.
#[derive(Debug)]
pub(in crate::service) struct SecretVerifier {
    pub(in crate::service) store: Store,
    pub(in crate::service) clock: Clock,
    pub(in crate::service) clients: Arc<ClientCache>,
    pub(in crate::service) prefixes: Prefixes,
    pub(in crate::service) hasher: Arc<Hasher>,
    pub(in crate::service) verified: SecretCache,
    pub(in crate::service) throttle: Throttle,
    pub(in crate::service) incidents: Arc<Incidents>,
    pub(in crate::service) lock_outs: Arc<LockOuts>,
    pub(in crate::service) keys: Arc<KeyAnnouncements>,
    pub(in crate::service) rehash: RehashQueue,
}

impl SecretVerifier {
    /// The client that this proves, if it may do anything now. Unknown, wrong, disabled, expired:
    /// the error is the same, and so is the work, except that a string that does not have the form
    /// of a secret costs nothing. Too many wrong secrets from one source, of one client or of all,
    /// are refused without a look. A secret that was verified a while ago is not a guess, and
    /// costs no hash.
    pub(super) async fn authenticate(
        &self,
        credential: SharedSecret,
        origin: SecretOrigin<'_>,
    ) -> Result<Arc<Client>> {
        let named = credential.named();
        let Some((id, secret)) = self.plausible(credential) else {
            let client = named.as_ref().map_or("", CredentialId::as_str);
            let (kind, source) = (IncidentKind::WrongSecret, origin.source);
            let incident = Incident { kind, client, source, detail: "malformed" };
            self.incidents.note(incident, origin.now);
            return Err(Error::InvalidClient);
        };
        let proven = match self.cached(&id, &secret, origin.now).await? {
            Some(client) => return Ok(client),
            None => Box::pin(self.verify(&id, &secret, origin)).await,
        };
        if let Err(error) = &proven {
            let detail = if origin.asked_by.is_some() { "asked about by a service" } else { "" };
            self.note_failure(&id, IncidentKind::WrongSecret, origin.source, error, detail);
        }
        proven
    }

    /// Notes a failure in the log of the server, and a lock-out for the tenant's audit log too.
    pub(super) fn note_failure(
        &self,
        id: &CredentialId,
        kind: IncidentKind,
        source: Option<IpAddr>,
        error: &Error,
        detail: &str,
    ) {
        let client = id.as_str();
        match error {
            Error::InvalidClient => {
                self.incidents.note(Incident { kind, client, source, detail }, self.clock.now());
            }
            Error::RateLimited { name, limit, window, .. } => {
                let detail = format!("{limit} {name} within {} s", window.as_secs());
                let kind = IncidentKind::LockedOut;
                let incident = Incident { kind, client, source, detail: &detail };
                if self.incidents.note(incident, self.clock.now()) {
                    self.lock_outs.add(LockOut { client: *id, source, detail });
                }
            }
            _ => {}
        }
    }

    /// The client, if this server has already verified that this is one of its secrets.
    async fn cached(
        &self,
        id: &CredentialId,
        secret: &Secret,
        now: Timestamp,
    ) -> Result<Option<Arc<Client>>> {
        // For a guess, nothing is read before its turn.
        if !self.clients.contains(id) {
            self.verified.count_miss();
            return Ok(None);
        }
        let Some(client) = self.clients.current_client(id).await? else {
            return Ok(None);
        };
        let known = match accepted(&client, secret, now) {
            Some(version) => self.verified.contains(&client, version, secret)?,
            None => false,
        };
        Ok(known.then_some(client))
    }

    /// The client, if this turns out to be one of its secrets.
    async fn verify(
        &self,
        id: &CredentialId,
        secret: &Secret,
        origin: SecretOrigin<'_>,
    ) -> Result<Arc<Client>> {
        let blame = self.throttle.require_source(origin.source)?;
        let slot = self.hasher.reserve(origin.lane())?;
        let guess = self.throttle.begin_guess(id, origin.source).await?;
        let turn = self.hasher.turn(slot).await?;
        let read = self.clients.load_client(id).await?;
        let version = read.as_ref().and_then(|client| accepted(client, secret, self.clock.now()));
        if !self.is_right((turn, blame), id, read.as_deref().zip(version), secret).await? {
            guess.failed().await;
            return Err(Error::InvalidClient);
        }
        // The hash may have waited for seconds: what counts is the state after it.
        let client = self.clients.current_client(id).await?.ok_or(Error::InvalidClient)?;
        let still = accepted(&client, secret, self.clock.now()) == version;
        if still { Ok(client) } else { Err(Error::InvalidClient) }
    }

    /// Whether this is the wanted secret of the client; it is not, if none is wanted. The work is
    /// the same.
    async fn is_right(
        &self,
        (turn, blame): (Turn, Blame),
        id: &CredentialId,
        wanted: Option<(&Client, i64)>,
        secret: &Secret,
    ) -> Result<bool> {
        let is_outdated = AtomicBool::new(false);
        // Boxed: each future that holds it would grow by its size.
        let compute = Box::pin(async {
            let shared = self.verified.shared_proof(id, wanted, secret).await?;
            if shared != SharedProof::None {
                is_outdated.store(shared == SharedProof::ByOtherKey, Ordering::Relaxed);
                return Ok(true);
            }
            let hash = self.hash_of(id, wanted.map(|(_, version)| version)).await?;
            let is_current = hash.as_deref().is_none_or(|hash| self.hasher.is_current(hash));
            let matches = self.hasher.verify(turn, secret.clone(), hash, || blame.count()).await?;
            if let (true, Some((client, version))) = (matches, wanted) {
                is_outdated.store(!is_current, Ordering::Relaxed);
                if is_current {
                    self.verified.share(client, version, secret).await?;
                }
            }
            Ok(matches)
        });
        let Some((client, version)) = wanted else { return compute.await };
        let is_right = self.verified.verify(client, version, secret, compute).await?;
        if is_right && is_outdated.load(Ordering::Relaxed) {
            self.note_outdated(client, version, secret)?;
        }
        Ok(is_right)
    }

    /// The hash that a secret has to match. The statement is the same if there is none.
    async fn hash_of(&self, id: &CredentialId, version: Option<i64>) -> Result<Option<String>> {
        let version = version.unwrap_or_default();
        let read = async { self.store.read().await?.find_secret_hash(id, version).await };
        self.clients.with_read_timeout(read).await
    }

    /// The id and secret, if the secret has the form of one of that client.
    fn plausible(&self, credential: SharedSecret) -> Option<(CredentialId, Secret)> {
        match credential {
            SharedSecret::ApiKey(key) => {
                let id = self.prefixes.credential_of_api_key(key.expose())?;
                Some((id, key))
            }
            SharedSecret::ClientSecret { client_id, secret } => {
                let id = CredentialId::parse(client_id.trim()).ok()?;
                [SecretKind::ClientSecret, SecretKind::ApiKey]
                    .into_iter()
                    .any(|kind| self.prefixes.is_plausible(&secret, kind, &id))
                    .then_some((id, secret))
            }
        }
    }
}

/// The version of the secret that this would be, if the client may do anything.
fn accepted(client: &Client, secret: &Secret, now: Timestamp) -> Option<i64> {
    if client.is_active(now) { client.secret_ending(&secret.last_four(), now) } else { None }
}
