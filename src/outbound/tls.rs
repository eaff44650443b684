//! TLS to other hosts.

use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use tokio::sync::OnceCell;
use tokio_rustls::TlsConnector;
use tokio_rustls::rustls::crypto::aws_lc_rs;
use tokio_rustls::rustls::pki_types::CertificateDer;
use tokio_rustls::rustls::pki_types::pem::PemObject;
use tokio_rustls::rustls::{ClientConfig, RootCertStore};

/// A bundle of authorities is some hundred kilobytes.
const MAX_FILE: u64 = 4 << 20;

/// The authorities of other hosts. Those of this machine are read at the first connection, because
/// most servers make none.
pub(super) struct OutboundTls {
    ca_file: Option<PathBuf>,
    connector: OnceCell<TlsConnector>,
}

impl fmt::Debug for OutboundTls {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("OutboundTls").field("ca_file", &self.ca_file).finish_non_exhaustive()
    }
}

impl OutboundTls {
    /// Checks the file of authorities.
    pub(super) fn new(ca_file: Option<PathBuf>) -> Result<Self, String> {
        if let Some(path) = &ca_file {
            authorities(path)?;
        }
        Ok(Self { ca_file, connector: OnceCell::new() })
    }

    pub(super) async fn connector(&self) -> Result<&TlsConnector, String> {
        let make = || async {
            let ca_file = self.ca_file.clone();
            let made = tokio::task::spawn_blocking(move || connector(ca_file.as_deref())).await;
            made.map_err(|error| error.to_string())?
        };
        self.connector.get_or_try_init(make).await
    }
}

fn connector(ca_file: Option<&Path>) -> Result<TlsConnector, String> {
    let mut roots = RootCertStore::empty();
    roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
    if let Some(path) = ca_file {
        for certificate in authorities(path)? {
            roots.add(certificate).map_err(|error| fault(path, &error))?;
        }
    }
    let mut config = ClientConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()))
        .with_safe_default_protocol_versions()
        .map_err(|error| error.to_string())?
        .with_root_certificates(roots)
        .with_no_client_auth();
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    Ok(TlsConnector::from(Arc::new(config)))
}

fn authorities(path: &Path) -> Result<Vec<CertificateDer<'static>>, String> {
    let size = std::fs::metadata(path).map_err(|error| fault(path, &error))?.len();
    if size > MAX_FILE {
        return Err(fault(path, &"is larger than 4 MiB"));
    }
    let pem = std::fs::read(path).map_err(|error| fault(path, &error))?;
    let certificates: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(&pem).collect();
    let certificates = certificates.map_err(|error| fault(path, &error))?;
    let mut roots = RootCertStore::empty();
    for certificate in &certificates {
        roots.add(certificate.clone()).map_err(|error| fault(path, &error))?;
    }
    if certificates.is_empty() {
        return Err(fault(path, &"has no CERTIFICATE block in PEM format"));
    }
    Ok(certificates)
}

fn fault(path: &Path, cause: &dyn fmt::Display) -> String {
    format!("outbound.ca_file: {} cannot be used: {cause}", path.display())
}
