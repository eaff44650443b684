//! The files of one listener: read, parsed and checked as a whole.

use std::fs::File;
use std::io::Read;
use std::path::Path;
use std::sync::Arc;

use aws_lc_rs::digest::{SHA256, digest};
use jiff::Timestamp;
use tokio_rustls::rustls::RootCertStore;
use tokio_rustls::rustls::crypto::CryptoProvider;
use tokio_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer};
use tokio_rustls::rustls::sign::CertifiedKey;
use zeroize::Zeroizing;

use super::clients::Clients;
use crate::certificates::{Validity, pem};
use crate::config::{ClientCertificates, SettingFile, TlsFiles};

/// A chain or a bundle of authorities is some kilobytes.
const MAX_FILE: u64 = 1 << 20;

/// What is wrong with a file.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{setting}: {path} {cause}")]
pub struct TlsFileError {
    setting: &'static str,
    path: String,
    /// The cause, as a predicate.
    cause: String,
}

/// A hash of the content of all files. Any changed byte changes it.
pub(super) type Fingerprint = Vec<u8>;

/// The content of the files, not yet parsed.
pub(super) struct FileContents {
    certificate: Vec<u8>,
    key: Zeroizing<Vec<u8>>,
    client_ca: Option<Vec<u8>>,
}

/// A certificate with its key, and the authorities of client certificates.
pub(super) struct Bundle {
    pub(super) identity: Arc<CertifiedKey>,
    pub(super) clients: Clients,
    pub(super) expiries: Expiries,
    pub(super) fingerprint: Fingerprint,
    /// A hash of the client authorities alone.
    pub(super) clients_fingerprint: Fingerprint,
}

/// When the certificates of a listener end: of each kind the first one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Expiries {
    pub(super) leaf: Timestamp,
    pub(super) chain: Option<Timestamp>,
    pub(super) client_ca: Option<Timestamp>,
}

impl Expiries {
    /// Each kind with its name.
    pub(super) fn named(&self) -> [(&'static str, Option<Timestamp>); 3] {
        [("leaf", Some(self.leaf)), ("chain", self.chain), ("client_ca", self.client_ca)]
    }
}

impl TlsFileError {
    fn new(file: &SettingFile, cause: impl Into<String>) -> Self {
        let path = file.path.display().to_string();
        Self { setting: file.setting, path, cause: cause.into() }
    }
}

impl FileContents {
    pub(super) fn read(files: &TlsFiles) -> Result<Self, TlsFileError> {
        let read =
            |file: &SettingFile| read(&file.path).map_err(|cause| TlsFileError::new(file, cause));
        Ok(Self {
            certificate: read(&files.certificate)?,
            key: Zeroizing::new(read(&files.key)?),
            client_ca: match &files.clients {
                ClientCertificates::Verified(file, _) => Some(read(file)?),
                ClientCertificates::NotAsked | ClientCertificates::Any => None,
            },
        })
    }

    pub(super) fn fingerprint(&self) -> Fingerprint {
        let none = Vec::new();
        let all = [&self.certificate, &*self.key, self.client_ca.as_ref().unwrap_or(&none)];
        all.into_iter().flat_map(|bytes| hash(bytes)).collect()
    }

    /// Parses everything. Refuses a key of another certificate, and certificates that clients would
    /// refuse because of the time.
    pub(super) fn parse(
        &self,
        files: &TlsFiles,
        provider: &CryptoProvider,
        now: Timestamp,
    ) -> Result<Bundle, TlsFileError> {
        let wrong = |cause: String| TlsFileError::new(&files.certificate, cause);
        let chain = pem::certificates(&self.certificate).map_err(wrong)?;
        let mut ends = Vec::with_capacity(chain.len());
        for (certificate, name) in &chain {
            let validity =
                Validity::of(certificate).map_err(|fault| wrong(format!("{name}{}", fault.0)))?;
            let Validity { starts_at, ends_at } = validity;
            if validity.has_ended(now) {
                return Err(wrong(format!("{name}has expired at {ends_at:.0}")));
            }
            if !validity.has_started(now) {
                let advice = "check the clock of this machine";
                return Err(wrong(format!("{name}is not valid before {starts_at:.0}; {advice}")));
            }
            ends.push(ends_at);
        }
        let key =
            pem::private_key(&self.key).map_err(|cause| TlsFileError::new(&files.key, cause))?;
        let chain = chain.into_iter().map(|(certificate, _)| certificate).collect();
        let identity = identity(files, chain, key, provider)?;
        let (clients, client_ca) = match (&files.clients, &self.client_ca) {
            (ClientCertificates::Verified(file, auth), Some(bytes)) => {
                let (roots, ends) =
                    authorities(bytes).map_err(|cause| TlsFileError::new(file, cause))?;
                (Clients::Verified(Arc::new(roots), *auth), Some(ends))
            }
            (ClientCertificates::Any, _) => (Clients::Any, None),
            _ => (Clients::NotAsked, None),
        };
        let leaf = ends.remove(0);
        Ok(Bundle {
            identity: Arc::new(identity),
            clients,
            expiries: Expiries { leaf, chain: ends.into_iter().min(), client_ca },
            fingerprint: self.fingerprint(),
            clients_fingerprint: self.client_ca.as_deref().map(hash).unwrap_or_default(),
        })
    }
}

fn read(path: &Path) -> Result<Vec<u8>, String> {
    let mut bytes = Vec::new();
    let read = File::open(path).and_then(|file| file.take(MAX_FILE + 1).read_to_end(&mut bytes));
    match read {
        Err(error) => Err(format!("cannot be read: {error}")),
        Ok(_) if bytes.len() as u64 > MAX_FILE => Err("is larger than 1 MiB".to_owned()),
        Ok(_) => Ok(bytes),
    }
}

fn hash(bytes: &[u8]) -> Fingerprint {
    digest(&SHA256, bytes).as_ref().to_vec()
}

/// The certificate and its key, which must belong together.
fn identity(
    files: &TlsFiles,
    chain: Vec<CertificateDer<'static>>,
    key: PrivateKeyDer<'static>,
    provider: &CryptoProvider,
) -> Result<CertifiedKey, TlsFileError> {
    use tokio_rustls::rustls::Error::InconsistentKeys;
    let key = provider
        .key_provider
        .load_private_key(key)
        .map_err(|error| TlsFileError::new(&files.key, format!("cannot be used: {error}")))?;
    let identity = CertifiedKey::new(chain, key);
    identity.keys_match().map_err(|error| match error {
        InconsistentKeys(_) => {
            let (setting, path) = (files.certificate.setting, files.certificate.path.display());
            let cause = format!("is not the key of the first certificate in {path} ({setting})");
            TlsFileError::new(&files.key, cause)
        }
        error => TlsFileError::new(&files.certificate, format!("cannot be used: {error}")),
    })?;
    Ok(identity)
}

/// The authorities of client certificates, and when the first of them ends. One that has expired
/// is not an error: a bundle can have old and new ones.
fn authorities(bytes: &[u8]) -> Result<(RootCertStore, Timestamp), String> {
    let mut roots = RootCertStore::empty();
    let mut first = Timestamp::MAX;
    for (certificate, name) in pem::certificates(bytes)? {
        let validity = Validity::of(&certificate).map_err(|fault| format!("{name}{}", fault.0))?;
        first = first.min(validity.ends_at);
        roots.add(certificate).map_err(|error| format!("{name}cannot be used: {error}"))?;
    }
    Ok((roots, first))
}
