//! Revocations: what makes tokens void before they end by themselves.

use jiff::Timestamp;

use super::{
    ApplicationName, CredentialId, CredentialName, Epochs, Fault, TenantId, TokenLifetime,
};
use crate::clock::later;
use crate::error::Result;

/// How far ahead of ours a clock may be that a token was made by, in seconds. Those of replicas
/// differ by less. One that was further ahead was wrong, and what it wrote is not trusted for as
/// long as it was.
pub const MAX_CLOCK_LEAD: u64 = 60;

/// Whose tokens are revoked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Subject {
    /// One token, by its id (`jti`).
    Token(String),
    /// Those that were made with a credential.
    Credential(CredentialName),
    /// The same, of a credential of which no more than its id is known: verifiers are told no
    /// more, since tokens say no more. It is never stored.
    Client(CredentialId),
    /// Those of an application.
    Application(ApplicationName),
    /// Those of a tenant.
    Tenant(TenantId),
}

impl Subject {
    /// Reads a subject from the word for its kind and its name.
    pub fn parse(kind: &str, name: &str) -> Result<Self, Fault> {
        match kind {
            "token" => Ok(Self::Token(name.to_owned())),
            "credential" => CredentialName::parse(name).map(Self::Credential),
            "application" => ApplicationName::parse(name).map(Self::Application),
            "tenant" => TenantId::from_name(name).map(Self::Tenant),
            _ => Err(Fault::new("must be token, credential, application or tenant")),
        }
    }

    /// The word for its kind.
    pub fn kind(&self) -> &'static str {
        match self {
            Self::Token(_) => "token",
            Self::Credential(_) | Self::Client(_) => "credential",
            Self::Application(_) => "application",
            Self::Tenant(_) => "tenant",
        }
    }

    /// The id of a token, and of a credential that has no name here; the resource name of
    /// anything else.
    pub fn name(&self) -> String {
        match self {
            Self::Token(id) => id.clone(),
            Self::Credential(name) => name.to_string(),
            Self::Client(id) => id.to_string(),
            Self::Application(name) => name.to_string(),
            Self::Tenant(id) => id.name(),
        }
    }
}

/// What is about to be revoked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NewRevocation {
    /// Whose tokens.
    pub subject: Subject,
    /// Tokens that carry less than this epoch of the subject; nought for a single token.
    pub epoch: i64,
    /// By then every token that it is about has ended by itself.
    pub expires_at: Timestamp,
}

impl NewRevocation {
    /// Every token of the subject that is older than this epoch. A replica that has not
    /// heard of it yet may still mint one, with the old epoch: it is revoked too.
    pub fn older_than(subject: Subject, epoch: i64, now: Timestamp) -> Self {
        Self { subject, epoch, expires_at: Self::end(now) }
    }

    /// When what is revoked now has ended by itself.
    pub fn end(now: Timestamp) -> Timestamp {
        later(now, TokenLifetime::MAX.duration())
    }
}

/// An entry of the list of revocations.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Revocation {
    /// Its place in the list, from 1, without gaps: the order in which they became durable.
    pub number: i64,
    /// Whose tokens are revoked.
    pub subject: Subject,
    /// Tokens that carry less than this epoch of the subject; nought for a single token.
    pub epoch: i64,
    /// When it was decided.
    pub revoked_at: Timestamp,
    /// By then every token that it is about has ended by itself: it says nothing any more.
    pub expires_at: Timestamp,
}

/// What a token says of its making, as its claims have it.
#[derive(Clone, Copy, Debug)]
pub struct Minted<'a> {
    /// The id of the tenant.
    pub tenant: &'a str,
    /// The resource name of the application.
    pub application: &'a str,
    /// The client id.
    pub credential: &'a str,
    /// The id of the token; what is no token has none.
    pub token: Option<&'a str>,
    /// The epochs it was made from.
    pub epochs: Epochs,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_subject_is_read_as_it_is_written() {
        let credential =
            "tenants/acme/applications/crm/credentials/0123456789abcdef0123456789abcdef";
        for (kind, name) in [
            ("token", "0198c0de"),
            ("credential", credential),
            ("application", "tenants/acme/applications/crm"),
            ("tenant", "tenants/acme"),
        ] {
            let subject = Subject::parse(kind, name).unwrap();
            assert_eq!((subject.kind(), subject.name().as_str()), (kind, name));
        }
        assert!(Subject::parse("user", "tenants/acme/users/ann").is_err());
        assert!(Subject::parse("tenant", "acme").is_err());
    }
}
