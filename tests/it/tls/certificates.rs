//! Certificates of tests, and the files with them.

use std::fs;
use std::path::Path;

use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, DistinguishedName, DnType, IsCa, KeyPair,
    KeyUsagePurpose, date_time_ymd,
};
use tempfile::TempDir;

/// A certificate authority.
pub(super) struct Authority(CertifiedIssuer<'static, KeyPair>);

/// A certificate and its key, in PEM.
#[derive(Clone)]
pub(super) struct Pair {
    pub(super) certificate: String,
    pub(super) key: String,
    pub(super) der: Vec<u8>,
    /// What a client sends after its own certificate.
    pub(super) intermediates: Vec<Vec<u8>>,
}

/// A day: year, month, day.
type Day = (i32, u8, u8);

impl Authority {
    pub(super) fn new(name: &str) -> Self {
        let mut params = CertificateParams::default();
        params.distinguished_name.push(DnType::CommonName, name);
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign];
        Self(CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap())
    }

    pub(super) fn pem(&self) -> String {
        self.0.pem()
    }

    pub(super) fn der(&self) -> Vec<u8> {
        self.0.der().to_vec()
    }

    /// The certificate of a server on loopback.
    pub(super) fn server(&self) -> Pair {
        self.issue(None)
    }

    /// The certificate of a client.
    pub(super) fn client(&self) -> Pair {
        self.issue(None)
    }

    /// A certificate that is valid between these days.
    pub(super) fn between(&self, begin: Day, end: Day) -> Pair {
        self.issue(Some((begin, end)))
    }

    /// A certificate with this common name.
    pub(super) fn named(&self, name: &str) -> Pair {
        self.custom(name, |_| ())
    }

    /// A certificate with this common name that a test changes.
    pub(super) fn custom(&self, name: &str, change: impl FnOnce(&mut CertificateParams)) -> Pair {
        let mut params = CertificateParams::default();
        params.distinguished_name = DistinguishedName::new();
        params.distinguished_name.push(DnType::CommonName, name);
        change(&mut params);
        self.sign(&params)
    }

    /// A certificate with this common name, of an authority between this one and the client.
    pub(super) fn through_intermediate(&self, name: &str) -> Pair {
        let mut params = CertificateParams::default();
        params.distinguished_name.push(DnType::CommonName, "intermediate");
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let key = KeyPair::generate().unwrap();
        let between = CertifiedIssuer::signed_by(params, key, &self.0).unwrap();
        let (pem, der) = (between.pem(), between.der().to_vec());
        let mut params = CertificateParams::default();
        params.distinguished_name = DistinguishedName::new();
        params.distinguished_name.push(DnType::CommonName, name);
        let key = KeyPair::generate().unwrap();
        let certificate = params.signed_by(&key, &between).unwrap();
        Pair {
            certificate: [certificate.pem(), pem].concat(),
            key: key.serialize_pem(),
            der: certificate.der().to_vec(),
            intermediates: vec![der],
        }
    }

    fn issue(&self, times: Option<(Day, Day)>) -> Pair {
        let names = ["127.0.0.1".to_owned(), "localhost".to_owned()];
        let mut params = CertificateParams::new(names).unwrap();
        if let Some((begin, end)) = times {
            params.not_before = date_time_ymd(begin.0, begin.1, begin.2);
            params.not_after = date_time_ymd(end.0, end.1, end.2);
        }
        self.sign(&params)
    }

    fn sign(&self, params: &CertificateParams) -> Pair {
        let key = KeyPair::generate().unwrap();
        let certificate = params.signed_by(&key, &self.0).unwrap();
        Pair {
            certificate: certificate.pem(),
            key: key.serialize_pem(),
            der: certificate.der().to_vec(),
            intermediates: Vec::new(),
        }
    }
}

/// A folder with `tls.crt` and `tls.key`.
pub(super) struct Files(TempDir);

impl Files {
    pub(super) fn new() -> Self {
        Self(tempfile::Builder::new().prefix("keyward-tls-").tempdir().unwrap())
    }

    pub(super) fn with(pair: &Pair) -> Self {
        let files = Self::new();
        files.put(pair);
        files
    }

    pub(super) fn folder(&self) -> &Path {
        self.0.path()
    }

    /// Replaces the certificate and the key.
    pub(super) fn put(&self, pair: &Pair) {
        self.write("tls.key", &pair.key);
        self.write("tls.crt", &pair.certificate);
    }

    pub(super) fn write(&self, name: &str, text: &str) {
        fs::write(self.0.path().join(name), text).unwrap();
    }

    pub(super) fn path(&self, name: &str) -> String {
        self.0.path().join(name).display().to_string()
    }
}
