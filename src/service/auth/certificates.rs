//! Client certificates, as a way to authenticate (RFC 8705, section 2).

use std::net::IpAddr;
use std::sync::Arc;

use aws_lc_rs::digest::{Context, SHA256};
use jiff::Timestamp;
use quick_cache::Weighter;
use quick_cache::sync::Cache;

use super::secrets::SecretVerifier;
use crate::certificates::{self, CertificateMatcher};
use crate::clock::Clock;
use crate::domain::{
    CertificateRule, Client, ClientCertificate, CredentialId, CredentialKind, Registration,
};
use crate::error::{Error, Result};
use crate::incidents::{Incident, IncidentKind};
use crate::service::clients::ClientCache;

/// The memory for proofs. One takes as much as the certificates of the authorities of its
/// credential, which clients share until they are loaded again.
const MAX_BYTES: u64 = 32 * 1024 * 1024;
/// The number of proofs that usually fit into [`MAX_BYTES`].
const EXPECTED_PROOFS: usize = 10_000;

/// Verifies client certificates.
#[derive(Debug)]
pub(in crate::service) struct CertificateVerifier {
    clock: Clock,
    clients: Arc<ClientCache>,
    /// Certificates that were accepted before.
    proofs: Cache<PresentedBy, Proof, ProofWeighter>,
}

/// A client, and a hash of all certificates that it sent: what a [`Proof`] is found by.
type PresentedBy = (CredentialId, Vec<u8>);

/// Certificates that a rule has accepted.
#[derive(Clone, Debug)]
struct Proof {
    registration: Arc<Registration>,
    /// When the first of the certificates ends.
    ends_at: Timestamp,
}

#[derive(Clone, Debug)]
struct ProofWeighter;

impl Weighter<PresentedBy, Proof> for ProofWeighter {
    fn weight(&self, _key: &PresentedBy, proof: &Proof) -> u64 {
        const ENTRY: usize = 128;
        (ENTRY + proof.registration.memory()) as u64
    }
}

impl CertificateVerifier {
    pub(in crate::service) fn new(clock: Clock, clients: Arc<ClientCache>) -> Self {
        let proofs = Cache::with_weighter(EXPECTED_PROOFS, MAX_BYTES, ProofWeighter);
        Self { clock, clients, proofs }
    }

    /// The client of this id, if its credential takes the certificate of the connection, and it may
    /// do anything now. Unknown, another kind, wrong, disabled, expired: the error is the same.
    /// Wrong certificates count against the same budgets as wrong secrets. A certificate that was
    /// accepted a while ago is not a guess, and costs no validation of its path.
    pub(super) async fn authenticate(
        &self,
        secrets: &SecretVerifier,
        client_id: &str,
        certificate: Option<&ClientCertificate>,
        source: Option<IpAddr>,
    ) -> Result<Arc<Client>> {
        let id = CredentialId::parse(client_id.trim()).ok();
        let (Some(id), Some(certificate)) = (id, certificate) else {
            let client = id.as_ref().map_or("", CredentialId::as_str);
            let detail = if certificate.is_none() { "no certificate" } else { "malformed" };
            let incident =
                Incident { kind: IncidentKind::WrongCertificate, client, source, detail };
            secrets.incidents.note(incident, self.clock.now());
            return Err(Error::InvalidClient);
        };
        if let Some(client) = self.known(&id, certificate).await? {
            return Ok(client);
        }
        let verified = Box::pin(self.verify(secrets, &id, certificate, source)).await;
        verified.map_err(|(error, detail)| {
            secrets.note_failure(&id, IncidentKind::WrongCertificate, source, &error, &detail);
            error
        })
    }

    /// The client, if the same certificates were accepted before, and still are.
    async fn known(
        &self,
        id: &CredentialId,
        certificate: &ClientCertificate,
    ) -> Result<Option<Arc<Client>>> {
        let Some(proof) = self.proofs.get(&(*id, hash(certificate))) else { return Ok(None) };
        let client = self.clients.current_client(id).await?;
        let now = self.clock.now();
        Ok(client.filter(|client| {
            proof.ends_at >= now
                && client.is_active(now)
                && client.registration.as_ref().is_some_and(|registration| {
                    Arc::ptr_eq(registration, &proof.registration)
                        || **registration == *proof.registration
                })
        }))
    }

    /// The client, if its credential takes this certificate, or the error with its cause for the
    /// log.
    async fn verify(
        &self,
        secrets: &SecretVerifier,
        id: &CredentialId,
        certificate: &ClientCertificate,
        source: Option<IpAddr>,
    ) -> Result<Arc<Client>, (Error, String)> {
        let plain = |error| (error, String::new());
        let blame = secrets.throttle.require_source(source).map_err(plain)?;
        let guess = secrets.throttle.begin_guess(id, source).await.map_err(plain)?;
        let client = self.clients.current_client(id).await.map_err(plain)?;
        let now = self.clock.now();
        match client.as_ref().map_or_else(
            || Err("unknown".to_owned()),
            |client| Self::check(client, certificate, now),
        ) {
            Ok(proof) => {
                if proof.ends_at >= now {
                    self.proofs.insert((*id, hash(certificate)), proof);
                }
                client.ok_or_else(|| plain(Error::InvalidClient))
            }
            Err(detail) => {
                blame.count();
                guess.failed().await;
                Err((Error::InvalidClient, detail))
            }
        }
    }

    /// Whether the client may authenticate with this certificate, or why not.
    fn check(
        client: &Client,
        certificate: &ClientCertificate,
        now: Timestamp,
    ) -> Result<Proof, String> {
        if !client.is_active(now) {
            return Err("disabled or expired".to_owned());
        }
        let (registration, rule) = rule(client).ok_or("another kind of credential")?;
        let matcher = CertificateMatcher::new(rule)
            .map_err(|fault| format!("the credential's {} {}", fault.field, fault.fault.0))?;
        matcher.check(certificate, now).map_err(|refusal| refusal.to_string())?;
        let ends_at = certificates::first_end(certificate);
        Ok(Proof { registration: Arc::clone(registration), ends_at })
    }
}

/// What a client of the kind `certificate` is registered with.
fn rule(client: &Client) -> Option<(&Arc<Registration>, &CertificateRule)> {
    let registration = client.registration.as_ref()?;
    match &**registration {
        Registration::Certificate(rule) if client.kind == CredentialKind::Certificate => {
            Some((registration, rule))
        }
        _ => None,
    }
}

fn hash(certificate: &ClientCertificate) -> Vec<u8> {
    let mut hash = Context::new(&SHA256);
    for der in std::iter::once(certificate.leaf()).chain(certificate.intermediates()) {
        hash.update(&(der.len() as u64).to_be_bytes());
        hash.update(der);
    }
    hash.finish().as_ref().to_vec()
}
