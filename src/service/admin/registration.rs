//! Checks what a client without a shared secret is registered with.

use crate::certificates::{CertificateMatcher, RuleFault};
use crate::domain::{
    CertificateRule, CredentialKind, Fault, Federation, FieldErrors, KeySource, Registration,
};
use crate::error::Result;
use crate::jose::{KeySet, KeySetFaults};
use crate::outbound::Fetcher;

/// What a registration is checked with.
#[derive(Debug)]
pub(in crate::service) struct RegistrationRules {
    /// The issuer of this server.
    pub(in crate::service) issuer: String,
    /// Checks addresses of key sets.
    pub(in crate::service) fetcher: Fetcher,
}

impl RegistrationRules {
    /// The registration of a new credential of this kind, in the form that is stored.
    pub(super) fn of_new(
        &self,
        kind: CredentialKind,
        registration: Option<Registration>,
    ) -> Result<Option<Registration>> {
        match registration {
            None if kind.secret().is_some() => Ok(None),
            None => {
                let field = format!("credential.{}", kind.into_str());
                Err(Fault::new("must be set for this kind of credential").of(&field))
            }
            Some(registration) => self.checked(kind, registration).map(Some),
        }
    }

    /// A registration for a credential of this kind, in the form that is stored.
    pub(super) fn checked(
        &self,
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
            Registration::PublicKey(keys) => self.keys(&field, keys).map(Registration::PublicKey),
            Registration::Federated(trust) => {
                self.federated(&field, trust).map(Registration::Federated)
            }
        }
    }

    fn federated(&self, field: &str, trust: Federation) -> Result<Federation> {
        let mut fields = FieldErrors::default();
        trust.check(&self.issuer, field, &mut fields);
        fields.finish(Some(()))?;
        // An issuer whose keys are elsewhere is only compared: it may be one that cannot be reached.
        let issuer = match &trust.keys {
            None => self.fetcher.check_url(&trust.issuer),
            Some(_) => self.fetcher.check_form(&trust.issuer),
        };
        issuer.map_err(|fault| fault.of(format!("{field}.issuer")))?;
        let keys = trust.keys.map(|keys| self.keys(field, keys)).transpose()?;
        Ok(Federation { keys, ..trust })
    }

    /// The keys of a signer as they are stored: as a JWK Set, or its address.
    fn keys(&self, field: &str, keys: KeySource) -> Result<KeySource> {
        let stored = |keys: Result<KeySet, KeySetFaults>, member: &str| match keys {
            Ok(keys) => Ok(KeySource::Jwks(keys.to_jwks())),
            Err(faults) => Err(faults.of(&format!("{field}.{member}"))),
        };
        match keys {
            KeySource::Jwks(jwks) => stored(KeySet::parse_jwks(jwks.as_bytes()), "jwks"),
            KeySource::Pem(pem) => stored(KeySet::parse_pem(&pem), "pem"),
            KeySource::JwksUri(url) => match self.fetcher.check_url(&url) {
                Ok(()) => Ok(KeySource::JwksUri(url)),
                Err(fault) => Err(fault.of(format!("{field}.jwks_uri"))),
            },
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
