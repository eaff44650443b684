//! TLS of clients: the command line and the verifier.

use std::net::IpAddr;
use std::path::{Path, PathBuf};

use http::Uri;
use tonic::transport::{Certificate, ClientTlsConfig, Endpoint, Identity};

use super::innermost;

/// A certificate and its key, in PEM files.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CertificateFiles {
    /// The certificate, followed by the certificates between it and its authority.
    pub certificate: PathBuf,
    /// The key, not encrypted.
    pub key: PathBuf,
}

/// The TLS files of a client.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct ClientTls {
    /// The authorities of the server's certificate. `None`: those that this machine trusts.
    pub(crate) ca: Option<PathBuf>,
    pub(crate) identity: Option<CertificateFiles>,
}

impl ClientTls {
    /// Configures an endpoint with an `https` address. Reads the files, so that a connection uses
    /// what they contain now.
    pub(crate) fn apply(&self, endpoint: Endpoint) -> Result<Endpoint, String> {
        if endpoint.uri().scheme_str() != Some("https") {
            return Ok(endpoint);
        }
        let config = match &self.ca {
            Some(path) => {
                let pem = read(path, "CERTIFICATE")?;
                ClientTlsConfig::new().ca_certificate(Certificate::from_pem(pem))
            }
            None => ClientTlsConfig::new().with_native_roots(),
        };
        let config = match &self.identity {
            Some(CertificateFiles { certificate, key }) => {
                let certificate = read(certificate, "CERTIFICATE")?;
                config.identity(Identity::from_pem(certificate, read(key, "PRIVATE KEY")?))
            }
            None => config,
        };
        endpoint.tls_config(config).map_err(|error| {
            let cause = innermost(&error);
            if self.identity.is_none() {
                return cause;
            }
            format!("the client certificate and its key cannot be used: {cause}")
        })
    }
}

/// Reads a PEM file that must have a block of this kind.
fn read(path: &Path, label: &str) -> Result<Vec<u8>, String> {
    let shown = path.display();
    let bytes = std::fs::read(path).map_err(|error| format!("{shown} cannot be read: {error}"))?;
    let end = format!("{label}-----");
    if bytes.windows(end.len()).any(|part| part == end.as_bytes()) {
        return Ok(bytes);
    }
    Err(format!("{shown} has no {label} in PEM format"))
}

/// Whether secrets would be sent to another machine without TLS.
pub(crate) fn exposes_secrets(uri: &Uri) -> bool {
    if uri.scheme_str() != Some("http") {
        return false;
    }
    let host = uri.host().unwrap_or_default().trim_matches(['[', ']']);
    if let Ok(address) = host.parse::<IpAddr>() {
        let address = address.to_canonical();
        // The unspecified address connects to this machine.
        return !address.is_loopback() && !address.is_unspecified();
    }
    let host = host.trim_end_matches('.').to_ascii_lowercase();
    host != "localhost" && !host.ends_with(".localhost")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn plaintext_to_other_machines_exposes_secrets() {
        for url in [
            "http://keyward.internal:50051",
            "HTTP://192.0.2.1",
            "http://[2001:db8::1]:1",
            "http://[::ffff:192.0.2.1]:1",
            "http://localhost.example.com",
            "http://127.0.0.1.example.com",
        ] {
            assert!(exposes_secrets(&url.parse().unwrap()), "{url}");
        }
        for url in [
            "https://keyward.internal:50051",
            "http://127.0.0.1:50051",
            "http://127.9.9.9",
            "http://[::1]:1",
            "http://[::ffff:127.0.0.1]:1",
            "http://0.0.0.0:1",
            "http://LocalHost:1",
            "http://keyward.localhost",
        ] {
            assert!(!exposes_secrets(&url.parse().unwrap()), "{url}");
        }
    }
}
