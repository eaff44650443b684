//! The domain model and its rules: pure functions without I/O and without a clock. Values are
//! validated when they are constructed, so functions need not validate them again.

pub mod access;
pub mod application;
#[cfg(feature = "server")]
pub mod audit;
#[cfg(feature = "server")]
pub mod audit_chain;
#[cfg(feature = "server")]
pub mod audit_check;
pub mod authority;
pub mod characters;
pub mod client;
pub mod client_certificate;
pub mod confirmation;
pub mod credential;
#[cfg(feature = "server")]
pub mod endpoint;
pub mod enforcement;
mod exchange;
pub mod federation;
#[cfg(feature = "server")]
mod federation_check;
pub mod fields;
#[cfg(feature = "server")]
pub mod folding;
pub mod limit_headers;
pub mod limits;
#[cfg(feature = "server")]
pub mod listing;
pub mod moment;
pub mod name;
#[cfg(feature = "server")]
pub mod networks;
pub mod oauth;
#[cfg(feature = "server")]
pub mod page;
pub mod patch;
pub mod permission;
pub mod policy;
pub mod presented_proof;
#[cfg(feature = "server")]
pub mod profile;
pub mod registered_claims;
pub mod registration;
#[cfg(feature = "server")]
mod registration_digest;
pub mod request_path;
pub mod revocation;
pub mod rights;
pub mod role;
pub mod scope;
#[cfg(feature = "server")]
pub mod server_keys;
pub mod signing_key;
pub mod source;
#[cfg(feature = "server")]
pub mod spent_token;
pub mod tenant;
#[cfg(feature = "server")]
pub mod text;
pub mod token_claims;
pub mod usage;
pub mod user;

pub use access::{
    AccessAnswer, AccessOutcome, AccessQuestion, AppliedLimits, Counted, LimitLevel, LimitStatus,
    NeededScopes, Principal, Requirement, max_items,
};
pub use application::{
    Application, ApplicationPatch, ApplicationSettings, Owner, OwnerKind, SecretEnd,
    effective_scopes,
};
#[cfg(feature = "server")]
pub use audit::{Action, Actor, AuditEvent, AuditFilter, FieldChange, Outcome};
#[cfg(feature = "server")]
pub use audit_chain::{AuditCursor, AuditLog, ChainHash, PlaceKind, SignedPlace, StoredEvent};
#[cfg(feature = "server")]
pub use audit_check::{ChainCheck, ChainFault, ChainedRecord};
pub use authority::{Authority, GivenAccess, Owners};
pub use characters::{is_hidden, pasted};
pub use client::{Client, Epochs, ExchangeCeiling, Grant, GrantRequest, SecretMark};
pub use client_certificate::ClientCertificate;
pub use confirmation::{BindingFault, Confirmation, Possession};
pub use credential::{
    Credential, CredentialKind, CredentialPatch, CredentialSettings, SecretKind, SecretRecord,
};
#[cfg(feature = "server")]
pub use endpoint::{Endpoint, Endpoints, HttpMethod, PathTemplate};
pub use enforcement::ApplicationCall;
pub use exchange::{PresentedKind, TokenActor, TokenParent, TokenType};
pub use federation::{ClaimCondition, ClaimRule, Federation};
pub use fields::{Fault, FieldErrors};
pub use limit_headers::LimitHeaders;
pub use limits::{CountedWindow, Limits, Rate};
#[cfg(feature = "server")]
pub use listing::{ApplicationFilter, ApplicationKey, ApplicationOrder, CredentialFilter};
pub use moment::Moment;
pub use name::{
    ApplicationId, ApplicationName, CredentialId, CredentialName, RoleId, RoleName, ScopeId,
    TenantId, UserId, UserName,
};
#[cfg(feature = "server")]
pub use networks::Networks;
pub use oauth::{Authorization, error_description};
#[cfg(feature = "server")]
pub use page::{Page, PageRequest};
pub use patch::FieldPatch;
pub use permission::{Permission, Permissions, Reach, Verb};
pub use policy::{Field, Lifetime, Policy, UserDeletion};
pub use presented_proof::PresentedProof;
#[cfg(feature = "server")]
pub use profile::{Change, DefaultApplication, Profile};
pub use registration::{CertificateName, CertificateRule, KeySource, Registration};
pub use request_path::RequestPath;
pub use revocation::{MAX_CLOCK_LEAD, NewRevocation, Revocation, RevocationKeys, Subject};
pub use rights::Call;
pub use role::{Role, RolePatch, RoleSettings};
pub use scope::{Scope, ScopeName, ScopePatch, ScopeSet, ScopeSettings};
#[cfg(feature = "server")]
pub use server_keys::ServerKeys;
pub use signing_key::SigningKeyName;
pub use source::{Source, parse_address};
#[cfg(feature = "server")]
pub use spent_token::{OneTimeKey, OneTimePurpose, SpentToken};
pub use tenant::{Audience, Tenant, TenantPatch, TenantSettings, TokenLifetime};
pub use token_claims::{ClaimValue, TokenClaims};
pub use usage::{LastUse, Life, UsageDay, UseKind};
pub use user::{User, UserPatch, UserSettings};

use jiff::Timestamp;
use strum::IntoStaticStr;

/// The metadata of every stored resource.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Record {
    /// Incremented by every change. Part of the etag.
    pub revision: i64,
    pub created_at: Timestamp,
    pub updated_at: Timestamp,
}

impl Record {
    /// The record of a new resource.
    pub fn new(now: Timestamp) -> Self {
        Self { revision: 1, created_at: now, updated_at: now }
    }

    #[must_use]
    pub fn changed(&self, now: Timestamp) -> Self {
        Self { revision: self.revision + 1, created_at: self.created_at, updated_at: now }
    }

    /// The etag: an opaque version of the resource (AIP-154).
    pub fn etag(&self) -> String {
        // The creation time distinguishes a new resource from a deleted one with the same name.
        format!("{:x}-{}", self.created_at.as_microsecond(), self.revision)
    }
}

/// The state of a resource that can be disabled and can expire.
#[derive(Clone, Copy, Debug, PartialEq, Eq, IntoStaticStr)]
#[strum(serialize_all = "snake_case", const_into_str)]
pub enum State {
    Active,
    Disabled,
    Expired,
}

impl State {
    pub fn at(now: Timestamp, disabled: bool, expires_at: Option<Moment>) -> Self {
        if disabled {
            Self::Disabled
        } else if expires_at.is_some_and(|end| end <= now) {
            Self::Expired
        } else {
            Self::Active
        }
    }
}

/// Whether the end moves forward. If so, existing tokens could outlive it.
fn ends_earlier(before: Option<Moment>, after: Option<Moment>) -> bool {
    match (before, after) {
        (_, None) => false,
        (None, Some(_)) => true,
        (Some(before), Some(after)) => after < before,
    }
}
