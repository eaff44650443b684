//! What a certificate says: whom it names, and between which times it is valid.

use std::net::IpAddr;

use jiff::Timestamp;
use tokio_rustls::rustls::pki_types::CertificateDer;
use x509_cert::Certificate;
use x509_cert::der::Decode;
use x509_cert::ext::pkix::name::GeneralName;
use x509_cert::ext::pkix::{BasicConstraints, KeyUsage, SubjectAltName};
use x509_cert::time::Time;

use super::name::DistinguishedName;
use crate::domain::Fault;
use crate::domain::client_certificate::thumbprint;

/// The fields of a certificate that rules read.
#[derive(Clone, Debug)]
pub struct ParsedCertificate {
    subject: DistinguishedName,
    /// Empty, if it has no such extension.
    alternative_names: Vec<AlternativeName>,
    validity: Validity,
    is_authority: bool,
    thumbprint: String,
}

/// The times between which a certificate is valid, both included (RFC 5280, section 4.1.2.5).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Validity {
    pub starts_at: Timestamp,
    pub ends_at: Timestamp,
}

/// A name of the extension `subjectAltName`. Other types than these are left out.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum AlternativeName {
    Dns(String),
    Uri(String),
    Ip(IpAddr),
    Email(String),
}

impl Validity {
    /// That of a certificate in DER.
    pub fn of(der: &CertificateDer<'_>) -> Result<Self, Fault> {
        Ok(Self::read(&parse(der)?))
    }

    fn read(certificate: &Certificate) -> Self {
        let validity = certificate.tbs_certificate().validity();
        // The time of certificates that never expire is beyond the last timestamp.
        let time = |time: Time| {
            let seconds = i64::try_from(time.to_unix_duration().as_secs()).unwrap_or(i64::MAX);
            Timestamp::from_second(seconds).unwrap_or(Timestamp::MAX)
        };
        Self { starts_at: time(validity.not_before), ends_at: time(validity.not_after) }
    }

    pub fn has_started(self, now: Timestamp) -> bool {
        self.starts_at <= now
    }

    pub fn has_ended(self, now: Timestamp) -> bool {
        self.ends_at < now
    }
}

fn parse(der: &[u8]) -> Result<Certificate, Fault> {
    Certificate::from_der(der).map_err(|error| Fault::new(format!("is not a certificate: {error}")))
}

impl ParsedCertificate {
    pub fn parse(der: &[u8]) -> Result<Self, Fault> {
        let certificate = parse(der)?;
        let fields = certificate.tbs_certificate();
        let unreadable = |what: &str| Fault::new(format!("has {what} that cannot be read"));
        let names = fields.get_extension::<SubjectAltName>();
        let (_, names) = names.map_err(|_| unreadable("a subjectAltName"))?.unwrap_or_default();
        let constraints = fields.get_extension::<BasicConstraints>();
        let constraints = constraints.map_err(|_| unreadable("basicConstraints"))?;
        let usage = fields.get_extension::<KeyUsage>();
        let usage = usage.map_err(|_| unreadable("a keyUsage"))?;
        Ok(Self {
            subject: DistinguishedName::of(fields.subject())
                .map_err(|fault| Fault::new(format!("has a subject that {}", fault.0)))?,
            alternative_names: names.0.iter().filter_map(AlternativeName::of).collect(),
            validity: Validity::read(&certificate),
            is_authority: constraints.is_some_and(|(_, constraints)| constraints.ca)
                && usage.is_none_or(|(_, usage)| usage.key_cert_sign()),
            thumbprint: thumbprint(der),
        })
    }

    pub fn subject(&self) -> &DistinguishedName {
        &self.subject
    }

    pub(super) fn alternative_names(&self) -> &[AlternativeName] {
        &self.alternative_names
    }

    pub fn validity(&self) -> Validity {
        self.validity
    }

    /// Whether its key may sign certificates.
    pub(super) fn is_authority(&self) -> bool {
        self.is_authority
    }

    /// The SHA-256 hash of the certificate in base64url.
    pub fn thumbprint(&self) -> &str {
        &self.thumbprint
    }
}

impl AlternativeName {
    fn of(name: &GeneralName) -> Option<Self> {
        match name {
            GeneralName::DnsName(name) => Some(Self::Dns(name.to_string())),
            GeneralName::UniformResourceIdentifier(uri) => Some(Self::Uri(uri.to_string())),
            GeneralName::Rfc822Name(address) => Some(Self::Email(address.to_string())),
            GeneralName::IpAddress(bytes) => ip(bytes.as_bytes()).map(Self::Ip),
            _ => None,
        }
    }
}

/// An address of 4 or 16 bytes. No form is converted to the other: they are different names.
fn ip(bytes: &[u8]) -> Option<IpAddr> {
    match bytes.len() {
        4 => <[u8; 4]>::try_from(bytes).ok().map(IpAddr::from),
        16 => <[u8; 16]>::try_from(bytes).ok().map(IpAddr::from),
        _ => None,
    }
}
