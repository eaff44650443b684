//! What the server knows of a client that has no shared secret. None of it is secret.

use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::{CredentialKind, Fault, Federation};

/// What a client without a shared secret is recognised by.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Registration {
    PublicKey(KeySource),
    Certificate(CertificateRule),
    Federated(Federation),
}

/// Where the public keys of a client or an issuer are.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum KeySource {
    /// A JWK Set (RFC 7517), as JSON.
    Jwks(String),
    /// The URL of a JWK Set.
    JwksUri(String),
    /// Public keys in PEM, as an administrator gives them. They are stored as a JWK Set.
    Pem(String),
}

/// How the certificate of a client is recognised (RFC 8705, section 2).
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct CertificateRule {
    /// The authorities that may issue it, in PEM. Empty with thumbprints.
    pub authorities: String,
    /// The name that it must have.
    pub name: Option<CertificateName>,
    /// The SHA-256 thumbprints of certificates, in base64url.
    pub thumbprints: Vec<String>,
}

/// A name in a certificate.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum CertificateName {
    /// The subject, as in RFC 4514.
    SubjectDn(String),
    SanDns(String),
    SanUri(String),
    SanIp(String),
    SanEmail(String),
}

impl Registration {
    pub const fn kind(&self) -> CredentialKind {
        match self {
            Self::PublicKey(_) => CredentialKind::PublicKey,
            Self::Certificate(_) => CredentialKind::Certificate,
            Self::Federated(_) => CredentialKind::Federated,
        }
    }

    /// The name of the field that has it, in the API.
    pub const fn field(&self) -> &'static str {
        match self {
            Self::PublicKey(_) => "public_key",
            Self::Certificate(_) => "certificate",
            Self::Federated(_) => "federated",
        }
    }

    /// Whether every client that `before` recognises is still recognised. If not, tokens that were
    /// issued before must be revoked.
    pub fn keeps(&self, before: &Self) -> bool {
        match (self, before) {
            (Self::PublicKey(after), Self::PublicKey(before)) => after.keeps(before),
            (Self::Certificate(after), Self::Certificate(before)) => {
                after.authorities == before.authorities
                    && after.name == before.name
                    && before.thumbprints.iter().all(|one| after.thumbprints.contains(one))
            }
            (Self::Federated(after), Self::Federated(before)) => after.keeps(before),
            (after, before) => after == before,
        }
    }

    /// The memory of its texts in bytes, roughly.
    pub fn memory(&self) -> usize {
        match self {
            Self::PublicKey(keys) => keys.memory(),
            Self::Certificate(rule) => {
                let name = rule.name.as_ref().map_or(0, |_| 64);
                let thumbprints: usize = rule.thumbprints.iter().map(|text| 24 + text.len()).sum();
                rule.authorities.len() + name + thumbprints
            }
            Self::Federated(federation) => federation.memory(),
        }
    }

    /// The form in the database.
    pub fn to_json(&self) -> String {
        // Serialising strings and lists of them cannot fail.
        serde_json::to_string(self).unwrap_or_default()
    }

    pub fn from_json(text: &str) -> Result<Self, Fault> {
        serde_json::from_str(text).map_err(|error| Fault::new(format!("is not readable: {error}")))
    }
}

impl KeySource {
    pub(super) fn memory(&self) -> usize {
        let (Self::Jwks(text) | Self::JwksUri(text) | Self::Pem(text)) = self;
        text.len()
    }

    pub(super) fn keeps(&self, before: &Self) -> bool {
        match (self, before) {
            (Self::Jwks(after), Self::Jwks(before)) => {
                let (after, before) = (keys_of(after), keys_of(before));
                before.iter().all(|key| after.contains(key))
            }
            (after, before) => after == before,
        }
    }
}

/// The keys of a JWK Set that was checked when it was registered.
fn keys_of(jwks: &str) -> Vec<Value> {
    let set: Value = serde_json::from_str(jwks).unwrap_or_default();
    set["keys"].as_array().cloned().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::{ClaimCondition, ClaimRule};

    fn keys(kids: &[&str]) -> Registration {
        let keys: Vec<_> = kids.iter().map(|kid| serde_json::json!({ "kid": kid })).collect();
        let set = serde_json::json!({ "keys": keys });
        Registration::PublicKey(KeySource::Jwks(set.to_string()))
    }

    #[test]
    fn adding_a_key_keeps_the_others_and_removing_one_does_not() {
        assert!(keys(&["a", "b"]).keeps(&keys(&["b"])));
        assert!(keys(&["b", "a"]).keeps(&keys(&["a", "b"])));
        assert!(!keys(&["a"]).keeps(&keys(&["a", "b"])));
        let at = |url: &str| Registration::PublicKey(KeySource::JwksUri(url.to_owned()));
        assert!(!at("https://one.example/jwks").keeps(&at("https://other.example/jwks")));
        assert!(!at("https://one.example/jwks").keeps(&keys(&[])));
    }

    #[test]
    fn stored_form_reads_back() {
        let rule = CertificateRule {
            authorities: "-----BEGIN CERTIFICATE-----".to_owned(),
            name: Some(CertificateName::SanDns("crm.example".to_owned())),
            thumbprints: Vec::new(),
        };
        let federation = Federation {
            issuer: "https://issuer.example".to_owned(),
            keys: None,
            subject: String::new(),
            audiences: vec!["keyward".to_owned()],
            claims: vec![ClaimRule {
                name: "repository_id".to_owned(),
                condition: ClaimCondition::Equals("17".to_owned()),
            }],
        };
        for whole in
            [keys(&["a"]), Registration::Certificate(rule), Registration::Federated(federation)]
        {
            assert_eq!(Registration::from_json(&whole.to_json()).unwrap(), whole);
        }
        assert!(Registration::from_json("{}").is_err());
    }
}
