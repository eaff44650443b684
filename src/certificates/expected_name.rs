//! The name that the certificate of a client must have.

use std::net::IpAddr;

use super::name::DistinguishedName;
use super::parsed::{AlternativeName, ParsedCertificate};
use crate::domain::{CertificateName, Fault};

const MAX_SAN_BYTES: usize = 512;

/// The one name that a certificate of a client must have (RFC 8705, section 2.1.2).
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum ExpectedName {
    Subject(DistinguishedName),
    SanDns(String),
    SanUri(String),
    SanIp(IpAddr),
    SanEmail(String),
}

/// The field of a name in the API.
pub(super) fn field(name: &CertificateName) -> &'static str {
    match name {
        CertificateName::SubjectDn(_) => "subject_dn",
        CertificateName::SanDns(_) => "san_dns",
        CertificateName::SanUri(_) => "san_uri",
        CertificateName::SanIp(_) => "san_ip",
        CertificateName::SanEmail(_) => "san_email",
    }
}

impl ExpectedName {
    pub(super) fn new(name: &CertificateName) -> Result<Self, Fault> {
        match name {
            CertificateName::SubjectDn(text) => Self::subject(text),
            CertificateName::SanDns(text) => Self::san_dns(text),
            CertificateName::SanUri(text) => Self::san_uri(text),
            CertificateName::SanIp(text) => Self::san_ip(text),
            CertificateName::SanEmail(text) => Self::san_email(text),
        }
    }

    pub(super) fn into_domain(self) -> CertificateName {
        match self {
            Self::Subject(name) => CertificateName::SubjectDn(name.to_string()),
            Self::SanDns(text) => CertificateName::SanDns(text),
            Self::SanUri(text) => CertificateName::SanUri(text),
            Self::SanIp(address) => CertificateName::SanIp(address.to_string()),
            Self::SanEmail(text) => CertificateName::SanEmail(text),
        }
    }

    pub(super) fn subject(text: &str) -> Result<Self, Fault> {
        DistinguishedName::parse(text).map(Self::Subject)
    }

    /// A host name, without wildcards: a certificate can have many hosts, but a client is one.
    pub(super) fn san_dns(text: &str) -> Result<Self, Fault> {
        let is_label = |label: &str| {
            let allowed = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'_';
            (1..=63).contains(&label.len()) && label.bytes().all(allowed)
        };
        if text.len() > 253 || !text.split('.').all(is_label) {
            return Err(Fault::new(
                "must be a host name in ASCII without wildcards, such as app.example.com",
            ));
        }
        Ok(Self::SanDns(text.to_owned()))
    }

    pub(super) fn san_uri(text: &str) -> Result<Self, Fault> {
        let scheme = text.split_once(':').map_or("", |(scheme, _)| scheme);
        let is_scheme = scheme.starts_with(|c: char| c.is_ascii_alphabetic())
            && scheme.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"+-.".contains(&byte));
        if !is_scheme || !is_san(text) {
            return Err(Fault::new("must be a URI in ASCII, such as spiffe://example.com/app"));
        }
        Ok(Self::SanUri(text.to_owned()))
    }

    pub(super) fn san_ip(text: &str) -> Result<Self, Fault> {
        let address = text.parse();
        address.map(Self::SanIp).map_err(|_| Fault::new("must be an IP address"))
    }

    pub(super) fn san_email(text: &str) -> Result<Self, Fault> {
        match text.rsplit_once('@') {
            Some((local, host)) if !local.is_empty() && !host.is_empty() && is_san(text) => {
                Ok(Self::SanEmail(text.to_owned()))
            }
            _ => Err(Fault::new("must be an email address in ASCII")),
        }
    }

    pub(super) fn is_name_of(&self, certificate: &ParsedCertificate) -> bool {
        let mut names = certificate.alternative_names().iter();
        match self {
            Self::Subject(wanted) => wanted == certificate.subject(),
            Self::SanDns(wanted) => names.any(
                |name| matches!(name, AlternativeName::Dns(dns) if dns.eq_ignore_ascii_case(wanted)),
            ),
            Self::SanUri(wanted) => {
                names.any(|name| matches!(name, AlternativeName::Uri(uri) if uri == wanted))
            }
            Self::SanIp(wanted) => {
                names.any(|name| matches!(name, AlternativeName::Ip(ip) if ip == wanted))
            }
            Self::SanEmail(wanted) => names.any(
                |name| matches!(name, AlternativeName::Email(email) if is_same_email(email, wanted)),
            ),
        }
    }
}

/// Whether a text can be an `IA5String` that people see completely.
fn is_san(text: &str) -> bool {
    (1..=MAX_SAN_BYTES).contains(&text.len()) && text.bytes().all(|byte| byte.is_ascii_graphic())
}

/// Compares the part before the `@` exactly, and the host without regard to case (RFC 5280, section
/// 7.5).
fn is_same_email(one: &str, other: &str) -> bool {
    match (one.rsplit_once('@'), other.rsplit_once('@')) {
        (Some((one, one_host)), Some((other, other_host))) => {
            one == other && one_host.eq_ignore_ascii_case(other_host)
        }
        _ => false,
    }
}
