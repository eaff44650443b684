//! Flags of credentials of the kind certificate.

use clap::Args;
use serde_json::{Value, json};

use super::MaskBuilder;
use crate::cli::tls::{Thumbprint, thumbprint};
use crate::proto::admin as pb;
use crate::proto::admin::credential::certificate::Name;
use crate::proto::admin::credential::{Certificate, Registration};

const HEADING: &str = "Certificate";

/// How the certificate of a client is recognised: by an authority and a name, or by itself. An
/// update replaces all of it.
#[derive(Debug, Args)]
pub(super) struct CertificateFlags {
    /// A file with the authorities (PEM) that may issue the client's certificate, with one name
    #[arg(
        long,
        value_name = "FILE",
        value_parser = text,
        group = "whose_subject",
        help_heading = HEADING
    )]
    ca_file: Option<String>,
    #[command(flatten)]
    name: CertificateNameFlags,
    /// A file whose first certificate (PEM) is the client's own, without an authority; repeat it for
    /// more
    #[arg(
        long,
        value_name = "FILE",
        value_parser = thumbprint,
        conflicts_with = "ca_file",
        help_heading = HEADING
    )]
    certificate: Vec<Thumbprint>,
    /// Whether each token is bound to the client certificate of the connection (RFC 8705)
    #[arg(long, value_name = "BOOL", help_heading = HEADING)]
    certificate_bound_tokens: Option<bool>,
}

/// The name in a certificate that an authority issued: one of them.
#[derive(Debug, Args)]
#[group(id = "certificate_name", multiple = false, requires = "whose_subject")]
struct CertificateNameFlags {
    /// The name: its subject, as CN=crm,O=Acme (RFC 4514; see `openssl x509 -nameopt RFC2253`). With
    /// --issuer: the subject of the token (sub), which must be exactly this
    #[arg(long, value_name = "DN|SUB", help_heading = HEADING)]
    subject: Option<String>,
    /// The name: a DNS name among its subject alternative names
    #[arg(long, value_name = "HOST", help_heading = HEADING)]
    san_dns: Option<String>,
    /// The name: a URI among them, such as a SPIFFE id
    #[arg(long, value_name = "URI", help_heading = HEADING)]
    san_uri: Option<String>,
    /// The name: an IP address among them
    #[arg(long, value_name = "ADDRESS", help_heading = HEADING)]
    san_ip: Option<String>,
    /// The name: an email address among them
    #[arg(long, value_name = "ADDRESS", help_heading = HEADING)]
    san_email: Option<String>,
}

impl CertificateNameFlags {
    fn given(&self) -> Option<Name> {
        let names = [
            self.subject.clone().map(Name::SubjectDn),
            self.san_dns.clone().map(Name::SanDns),
            self.san_uri.clone().map(Name::SanUri),
            self.san_ip.clone().map(Name::SanIp),
            self.san_email.clone().map(Name::SanEmail),
        ];
        names.into_iter().flatten().next()
    }
}

fn text(path: &str) -> Result<String, String> {
    std::fs::read_to_string(path).map_err(|error| error.to_string())
}

impl CertificateFlags {
    /// The subject, of a certificate or of a token.
    pub(super) fn subject(&self) -> Option<&str> {
        self.name.subject.as_deref()
    }

    pub(super) fn apply(&self, credential: &mut pb::Credential, mask: &mut MaskBuilder) {
        let bound = self.certificate_bound_tokens.as_ref();
        mask.set("certificate_bound_tokens", bound, &mut credential.certificate_bound_tokens);
        if self.ca_file.is_none() && self.certificate.is_empty() {
            return;
        }
        credential.registration = Some(Registration::Certificate(Certificate {
            authorities: self.ca_file.clone().unwrap_or_default(),
            name: self.name.given(),
            thumbprints: self.certificate.iter().map(|thumbprint| thumbprint.0.clone()).collect(),
        }));
        mask.add("certificate");
    }
}

/// What a credential is registered with, as JSON.
pub(super) fn view(credential: &pb::Credential) -> Value {
    let Some(Registration::Certificate(certificate)) = &credential.registration else {
        return Value::Null;
    };
    let (kind, name) = match &certificate.name {
        None => return json!({ "thumbprints": certificate.thumbprints }),
        Some(Name::SubjectDn(name)) => ("subject_dn", name),
        Some(Name::SanDns(name)) => ("san_dns", name),
        Some(Name::SanUri(name)) => ("san_uri", name),
        Some(Name::SanIp(name)) => ("san_ip", name),
        Some(Name::SanEmail(name)) => ("san_email", name),
    };
    json!({ "authorities": certificate.authorities, kind: name })
}
