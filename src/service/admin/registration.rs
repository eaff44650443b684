//! Checks what a client without a shared secret is registered with.

use crate::certificates::{CertificateMatcher, RuleFault};
use crate::domain::{CertificateRule, CredentialKind, Fault, Registration};
use crate::error::{Error, Result};

/// The registration of a new credential of this kind, in the form that is stored.
pub(super) fn of_new(
    kind: CredentialKind,
    registration: Option<Registration>,
) -> Result<Option<Registration>> {
    match registration {
        None if kind.secret().is_some() => Ok(None),
        None => {
            let field = format!("credential.{}", kind.into_str());
            Err(Fault::new("must be set for this kind of credential").of(&field))
        }
        Some(registration) => checked(kind, registration).map(Some),
    }
}

/// A registration for a credential of this kind, in the form that is stored.
pub(super) fn checked(kind: CredentialKind, registration: Registration) -> Result<Registration> {
    let field = format!("credential.{}", registration.field());
    if registration.kind() != kind {
        let fault =
            Fault::new(format!("does not fit a credential of the kind {}", kind.into_str()));
        return Err(fault.of(&field));
    }
    match registration {
        Registration::Certificate(rule) => certificate(&rule),
        Registration::PublicKey(_) | Registration::Federated(_) => {
            Err(Error::invalid(&field, "cannot be registered with this version"))
        }
    }
}

fn certificate(rule: &CertificateRule) -> Result<Registration> {
    match CertificateMatcher::new(rule) {
        Ok(matcher) => Ok(Registration::Certificate(matcher.into_rule())),
        Err(RuleFault { field, fault }) => {
            let separator = if field.is_empty() { "" } else { "." };
            Err(fault.of(format!("credential.certificate{separator}{field}")))
        }
    }
}
