//! Revocations: they end tokens before their expiry.

use jiff::Timestamp;

use super::{
    ApplicationName, CredentialId, CredentialName, Epochs, Fault, SigningKeyName, TenantId,
    TokenLifetime, TokenParent,
};
use crate::clock::later;
use crate::error::Result;

/// The maximum lead of a token's `iat`, in seconds. Clocks of replicas differ by less. A larger
/// lead means that the issuing clock was wrong, and such a token is refused so that it does not
/// outlive its revocation.
pub const MAX_CLOCK_LEAD: u64 = 60;

/// The subject of a revocation: whose tokens it ends.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Subject {
    /// One token, by its `jti`.
    Token(String),
    /// Tokens issued for a credential.
    Credential(CredentialName),
    /// Tokens issued for a credential of which only the id is known. Verifiers receive this form,
    /// because tokens carry only the id. It is never stored.
    Client(CredentialId),
    /// Tokens issued for an application's credentials.
    Application(ApplicationName),
    /// All tokens of a tenant.
    Tenant(TenantId),
    /// All tokens that a signing key signed, by its `kid`.
    SigningKey(SigningKeyName),
}

impl Subject {
    /// The maximum number of characters of a token's `jti`.
    pub const MAX_TOKEN_ID: usize = 64;

    /// Parses a subject from its kind and name.
    pub fn parse(kind: &str, name: &str) -> Result<Self, Fault> {
        match kind {
            "token" => Ok(Self::Token(name.to_owned())),
            "credential" => CredentialName::parse(name).map(Self::Credential),
            "application" => ApplicationName::parse(name).map(Self::Application),
            "tenant" => TenantId::from_name(name).map(Self::Tenant),
            "signing_key" => SigningKeyName::parse(name).map(Self::SigningKey),
            _ => Err(Fault::new("must be token, credential, application, tenant or signing_key")),
        }
    }

    /// The name of the kind in the database and on the wire.
    pub fn kind(&self) -> &'static str {
        match self {
            Self::Token(_) => "token",
            Self::Credential(_) | Self::Client(_) => "credential",
            Self::Application(_) => "application",
            Self::Tenant(_) => "tenant",
            Self::SigningKey(_) => "signing_key",
        }
    }

    /// The id of a token or [`Client`](Self::Client); otherwise the resource name.
    pub fn name(&self) -> String {
        match self {
            Self::Token(id) => id.clone(),
            Self::Credential(name) => name.to_string(),
            Self::Client(id) => id.to_string(),
            Self::Application(name) => name.to_string(),
            Self::Tenant(id) => id.name(),
            Self::SigningKey(name) => name.to_string(),
        }
    }
}

/// A revocation before it is stored.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NewRevocation {
    pub subject: Subject,
    /// Revokes tokens whose epoch of the subject is lower. 0 for a single token or a signing key.
    pub epoch: i64,
    /// By this time all affected tokens have expired.
    pub expires_at: Timestamp,
}

impl NewRevocation {
    /// The maximum number of characters of the reason that the audit log gets.
    pub const MAX_REASON: usize = 256;

    /// Revokes all tokens of the subject with a lower epoch. That includes tokens which a replica
    /// issues with the old epoch before it receives the revocation.
    pub fn older_than(subject: Subject, epoch: i64, now: Timestamp) -> Self {
        Self { subject, epoch, expires_at: Self::end(now) }
    }

    /// The time by which every token that exists at `now` has expired.
    pub fn end(now: Timestamp) -> Timestamp {
        later(now, TokenLifetime::MAX.duration())
    }
}

/// An entry of the revocation list.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Revocation {
    /// The position in the list, starting at 1, without gaps, in commit order.
    pub number: i64,
    pub subject: Subject,
    /// Revokes tokens whose epoch of the subject is lower. 0 for a single token or a signing key.
    pub epoch: i64,
    pub revoked_at: Timestamp,
    /// By this time all affected tokens have expired, so the entry can be removed.
    pub expires_at: Timestamp,
}

/// The claims of a token that revocations are matched against.
#[derive(Clone, Copy, Debug)]
pub struct RevocationKeys<'a> {
    /// The tenant's id.
    pub tenant: &'a str,
    /// The application's resource name.
    pub application: &'a str,
    pub credential: &'a str,
    /// The token's `jti`. `None` for an API key.
    pub token: Option<&'a str>,
    /// The `kid` of the key that signed the token. `None` for an API key.
    pub signing_key: Option<&'a str>,
    /// The epochs at the time of issue.
    pub epochs: Epochs,
    /// What an exchanged token rests on besides. Empty for all others.
    pub parents: &'a [TokenParent],
}

impl<'a> RevocationKeys<'a> {
    /// The same, for a token that this key signed.
    #[must_use]
    pub fn signed_by(self, kid: &'a str) -> Self {
        Self { signing_key: Some(kid), ..self }
    }

    /// The same values of each parent.
    pub fn of_parents(&self) -> impl Iterator<Item = RevocationKeys<'a>> + use<'a> {
        let (tenant, parents) = (self.tenant, self.parents);
        parents.iter().map(move |parent| parent.revocation_keys(tenant))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn subjects_round_trip_through_text() {
        let credential =
            "tenants/acme/applications/crm/credentials/0123456789abcdef0123456789abcdef";
        for (kind, name) in [
            ("token", "0198c0de"),
            ("credential", credential),
            ("application", "tenants/acme/applications/crm"),
            ("tenant", "tenants/acme"),
            ("signing_key", "signingKeys/NzbLsXh8uDCcd-6MNwXF4W_7noWXFZAfHkxZsRGC9Xs"),
        ] {
            let subject = Subject::parse(kind, name).unwrap();
            assert_eq!((subject.kind(), subject.name().as_str()), (kind, name));
        }
        assert!(Subject::parse("user", "tenants/acme/users/ann").is_err());
        assert!(Subject::parse("tenant", "acme").is_err());
        assert!(Subject::parse("signing_key", "acme").is_err());
    }
}
