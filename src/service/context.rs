//! What an interface knows of a request besides what it asks for.

use std::net::IpAddr;
use std::sync::Arc;

use jiff::Timestamp;

use crate::admission::RequestPermit;
use crate::certificates;
use crate::domain::{
    BindingFault, Client, ClientCertificate, Confirmation, Possession, PresentedProof, UserName,
};

/// A request, as the interface that received it describes it.
#[derive(Clone, Debug)]
pub struct RequestContext<'a> {
    /// The memory that the request holds, and the address of its sender. `None` where no listener
    /// received it.
    pub permit: Option<&'a RequestPermit>,
    /// The certificate that the client proved to have in its TLS handshake. Never from a header.
    pub certificate: Option<&'a ClientCertificate>,
    /// The `DPoP` proof that came with the request.
    pub proof: Option<&'a PresentedProof>,
    /// The thumbprint of the key of that proof, once it is checked.
    key: Option<String>,
    /// The user that the caller says it acts for.
    pub user: Option<UserName>,
    /// When the request was received. Work that has waited since then reads the clock again.
    pub now: Timestamp,
}

impl<'a> RequestContext<'a> {
    /// A request that acts for no user.
    pub fn new(permit: Option<&'a RequestPermit>, now: Timestamp) -> Self {
        Self { permit, certificate: None, proof: None, key: None, user: None, now }
    }

    /// The same request, from a client with this certificate.
    #[must_use]
    pub fn with_certificate(self, certificate: Option<&'a ClientCertificate>) -> Self {
        Self { certificate, ..self }
    }

    /// The same request, for this user.
    #[must_use]
    pub fn with_user(self, user: Option<UserName>) -> Self {
        Self { user, ..self }
    }

    /// The same request, with this `DPoP` proof.
    #[must_use]
    pub fn with_proof(self, proof: Option<&'a PresentedProof>) -> Self {
        Self { proof, ..self }
    }

    /// The same request, whose proof was checked and has the key with this thumbprint.
    #[must_use]
    pub(super) fn with_key(self, key: String) -> Self {
        Self { key: Some(key), ..self }
    }

    /// What the sender proved to have besides a credential or a token. Hashes the certificate.
    pub(super) fn possession(&self) -> Possession {
        Possession {
            key: self.key.clone(),
            certificate: self.current_certificate().map(ClientCertificate::thumbprint),
        }
    }

    /// The thumbprint of the key of the proof, if one came.
    pub(super) fn key(&self) -> Option<&str> {
        self.key.as_deref()
    }

    /// The certificate of the connection. A connection can live for longer than its certificate,
    /// which counts between its times only.
    pub(super) fn current_certificate(&self) -> Option<&'a ClientCertificate> {
        self.certificate.filter(|it| certificates::current(it, self.now).is_ok())
    }

    /// Refuses a sender that did not prove to have what its token is bound to.
    pub(super) fn require_possession(
        &self,
        bound: Option<&Confirmation>,
    ) -> Result<(), BindingFault> {
        // Most tokens are bound to nothing: then nothing is hashed.
        let shown = if bound.is_some() { self.possession() } else { Possession::default() };
        Confirmation::require(bound, &shown)
    }

    /// The address of the sender, if that is known.
    pub fn address(&self) -> Option<IpAddr> {
        self.permit.map(RequestPermit::address)
    }

    /// Marks the sender as a known client: admission favours those.
    pub(super) fn identified(&self, client: &Arc<Client>) {
        if let Some(permit) = self.permit {
            permit.identified(client);
        }
        if let Some(certificate) = self.certificate {
            tracing::debug!(
                client_id = client.name.credential.as_str(),
                certificate = certificate.thumbprint(),
                "a client with a certificate"
            );
        }
    }
}
