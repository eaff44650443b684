//! Verifies the certificates of clients in handshakes.

use std::sync::Arc;

use tokio_rustls::rustls::client::danger::HandshakeSignatureValid;
use tokio_rustls::rustls::crypto::{
    CryptoProvider, WebPkiSupportedAlgorithms, verify_tls12_signature, verify_tls13_signature,
};
use tokio_rustls::rustls::pki_types::{CertificateDer, UnixTime};
use tokio_rustls::rustls::server::WebPkiClientVerifier;
use tokio_rustls::rustls::server::danger::{ClientCertVerified, ClientCertVerifier};
use tokio_rustls::rustls::{
    self, CertificateError, DigitallySignedStruct, DistinguishedName, OtherError, RootCertStore,
    SignatureScheme,
};

use super::LoadError;
use crate::config::ClientAuth;
use crate::domain::ClientCertificate;

/// What a listener verifies of its clients.
#[derive(Clone, Debug)]
pub(super) enum Clients {
    /// Clients are not asked for a certificate.
    NotAsked,
    /// A certificate needs a path to one of these authorities.
    Verified(Arc<RootCertStore>, ClientAuth),
    /// A client can have any certificate, or none.
    Any,
}

/// Bounds what clients send, and requires a path to an authority, if there are authorities. That a
/// client has the key of its certificate is always verified.
#[derive(Debug)]
struct HandshakeVerifier {
    authorities: Option<Arc<dyn ClientCertVerifier>>,
    algorithms: WebPkiSupportedAlgorithms,
}

#[derive(Debug, thiserror::Error)]
#[error(
    "the client sent more than {} bytes of certificates, or more than {} after its own",
    ClientCertificate::MAX_BYTES,
    ClientCertificate::MAX_INTERMEDIATES
)]
struct TooMuch;

impl Clients {
    /// The verifier for handshakes, if clients are asked for a certificate.
    pub(super) fn verifier(
        &self,
        provider: &Arc<CryptoProvider>,
    ) -> Result<Option<Arc<dyn ClientCertVerifier>>, LoadError> {
        let authorities = match self {
            Self::NotAsked => return Ok(None),
            Self::Any => None,
            Self::Verified(roots, auth) => {
                let (roots, provider) = (Arc::clone(roots), Arc::clone(provider));
                let builder = WebPkiClientVerifier::builder_with_provider(roots, provider);
                Some(match auth {
                    ClientAuth::Required => builder.build()?,
                    ClientAuth::Optional => builder.allow_unauthenticated().build()?,
                })
            }
        };
        let algorithms = provider.signature_verification_algorithms;
        Ok(Some(Arc::new(HandshakeVerifier { authorities, algorithms })))
    }
}

impl ClientCertVerifier for HandshakeVerifier {
    fn client_auth_mandatory(&self) -> bool {
        self.authorities.as_ref().is_some_and(|verifier| verifier.client_auth_mandatory())
    }

    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        self.authorities.as_ref().map_or(&[], |verifier| verifier.root_hint_subjects())
    }

    fn verify_client_cert(
        &self,
        leaf: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        now: UnixTime,
    ) -> Result<ClientCertVerified, rustls::Error> {
        let sent = std::iter::once(leaf).chain(intermediates).map(AsRef::as_ref);
        if ClientCertificate::presented(sent).is_none() {
            return Err(CertificateError::Other(OtherError(Arc::new(TooMuch))).into());
        }
        match &self.authorities {
            Some(verifier) => verifier.verify_client_cert(leaf, intermediates, now),
            None => Ok(ClientCertVerified::assertion()),
        }
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls12_signature(message, certificate, signature, &self.algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls13_signature(message, certificate, signature, &self.algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.algorithms.supported_schemes()
    }
}
