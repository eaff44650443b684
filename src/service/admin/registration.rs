//! Checks what a client without a shared secret is registered with.

use crate::certificates::{CertificateMatcher, RuleFault};
use crate::domain::{CertificateRule, CredentialKind, Fault, KeySource, Registration};
use crate::error::{Error, Result};
use crate::jose::{KeySet, KeySetFaults};
use crate::outbound::Fetcher;

/// The registration of a new credential of this kind, in the form that is stored.
pub(super) fn of_new(
    fetcher: &Fetcher,
    kind: CredentialKind,
    registration: Option<Registration>,
) -> Result<Option<Registration>> {
    match registration {
        None if kind.secret().is_some() => Ok(None),
        None => {
            let field = format!("credential.{}", kind.into_str());
            Err(Fault::new("must be set for this kind of credential").of(&field))
        }
        Some(registration) => checked(fetcher, kind, registration).map(Some),
    }
}

/// A registration for a credential of this kind, in the form that is stored.
pub(super) fn checked(
    fetcher: &Fetcher,
    kind: CredentialKind,
    registration: Registration,
) -> Result<Registration> {
    let field = format!("credential.{}", registration.field());
    if registration.kind() != kind {
        let fault =
            Fault::new(format!("does not fit a credential of the kind {}", kind.into_str()));
        return Err(fault.of(&field));
    }
    match registration {
        Registration::Certificate(rule) => certificate(&rule),
        Registration::PublicKey(keys) => public_key(fetcher, keys).map(Registration::PublicKey),
        Registration::Federated(_) => {
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

/// The keys of a client as they are stored: as a JWK Set, or its address.
fn public_key(fetcher: &Fetcher, keys: KeySource) -> Result<KeySource> {
    let stored = |keys: Result<KeySet, KeySetFaults>, member: &str| match keys {
        Ok(keys) => Ok(KeySource::Jwks(keys.to_jwks())),
        Err(faults) => Err(faults.of(&format!("credential.public_key.{member}"))),
    };
    match keys {
        KeySource::Jwks(jwks) => stored(KeySet::parse_jwks(jwks.as_bytes()), "jwks"),
        KeySource::Pem(pem) => stored(KeySet::parse_pem(&pem), "pem"),
        KeySource::JwksUri(url) => match fetcher.check_url(&url) {
            Ok(()) => Ok(KeySource::JwksUri(url)),
            Err(fault) => Err(fault.of("credential.public_key.jwks_uri")),
        },
    }
}
