//! TLS flags of commands that call a server.

use std::path::{Path, PathBuf};

use clap::Args;
use clap::builder::FalseyValueParser;

use super::Failure;
use super::servers::SavedTls;
use crate::certificates;
use crate::transport::{CertificateFiles, ClientTls};

#[derive(Clone, Debug, Default, Args)]
pub(super) struct TlsFlags {
    /// A file with the authorities (PEM) of the server's certificate, in place of those that this
    /// machine trusts
    #[arg(global = true, long, value_name = "FILE", env = "KEYWARD_CA")]
    ca: Option<PathBuf>,
    /// The client certificate (PEM), for servers that require one, and in place of a secret
    #[arg(global = true, long, value_name = "FILE", env = "KEYWARD_CLIENT_CERTIFICATE")]
    client_certificate: Option<PathBuf>,
    /// The key of the client certificate (PEM)
    #[arg(global = true, long, value_name = "FILE", env = "KEYWARD_CLIENT_KEY")]
    client_key: Option<PathBuf>,
    /// Permit http:// to other machines: others on the network can then read secrets and tokens
    #[arg(
        global = true,
        long,
        env = "KEYWARD_PLAINTEXT",
        value_parser = FalseyValueParser::new()
    )]
    plaintext: bool,
}

/// How to connect to a server.
#[derive(Clone, Debug, Default)]
pub(super) struct ConnectionSecurity {
    pub(super) tls: ClientTls,
    pub(super) plaintext: bool,
}

impl TlsFlags {
    /// Whether the flags or the environment give a client certificate.
    pub(super) fn has_certificate(&self) -> bool {
        self.client_certificate.is_some()
    }

    /// The flags, and what was saved where a flag is not given.
    pub(super) fn with_saved(&self, saved: SavedTls) -> Result<ConnectionSecurity, Failure> {
        let Self { ca, client_certificate, client_key, plaintext } = self;
        // A certificate of the flags never goes with a saved key.
        let given = match (client_certificate, client_key) {
            (None, None) => (saved.client_certificate, saved.client_key),
            given => (given.0.clone(), given.1.clone()),
        };
        let identity = match given {
            (Some(certificate), Some(key)) => Some(CertificateFiles { certificate, key }),
            (None, None) => None,
            _ => {
                return Err(Failure::usage(
                    "--client-certificate and --client-key belong together: give both",
                ));
            }
        };
        Ok(ConnectionSecurity {
            tls: ClientTls { ca: ca.clone().or(saved.ca), identity },
            plaintext: *plaintext || saved.plaintext,
        })
    }
}

impl ConnectionSecurity {
    /// What `keyward login` saves. The paths work in any directory.
    pub(super) fn saved(&self) -> SavedTls {
        let absolute = |path: &PathBuf| absolute(path);
        let identity = self.tls.identity.as_ref();
        SavedTls {
            ca: self.tls.ca.as_ref().map(absolute),
            client_certificate: identity.map(|files| absolute(&files.certificate)),
            client_key: identity.map(|files| absolute(&files.key)),
            plaintext: self.plaintext,
        }
    }
}

fn absolute(path: &Path) -> PathBuf {
    std::path::absolute(path).unwrap_or_else(|_| path.to_owned())
}

/// A flag's value: the thumbprint of the first certificate in a file (PEM).
pub(super) fn thumbprint(path: &str) -> Result<Thumbprint, String> {
    let text = std::fs::read_to_string(path).map_err(|error| error.to_string())?;
    let thumbprint = certificates::first_thumbprint(&text);
    thumbprint.map(Thumbprint).map_err(|fault| format!("the file {}", fault.0))
}

/// The thumbprint of a certificate in a file.
#[derive(Clone, Debug)]
pub(super) struct Thumbprint(pub(super) String);
