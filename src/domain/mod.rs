//! The words of Keyward and its rules: pure, without I/O, without a clock. Values are
//! valid by construction, so what a function is given it need not check again.

pub mod access;
pub mod application;
#[cfg(feature = "server")]
pub mod audit;
pub mod authority;
pub mod characters;
pub mod client;
pub mod credential;
#[cfg(feature = "server")]
pub mod endpoint;
pub mod fields;
#[cfg(feature = "server")]
pub mod folding;
pub mod limits;
#[cfg(feature = "server")]
pub mod listing;
pub mod moment;
pub mod name;
#[cfg(feature = "server")]
pub mod page;
pub mod permission;
pub mod policy;
#[cfg(feature = "server")]
pub mod profile;
pub mod request_path;
pub mod revocation;
pub mod rights;
pub mod role;
pub mod scope;
pub mod source;
pub mod tenant;
#[cfg(feature = "server")]
pub mod text;
pub mod usage;
pub mod user;

pub use access::{
    Access, AccessQuestion, Counted, LimitLevel, LimitStatus, LimitsOf, NeededScopes,
    Outcome as AccessOutcome, Principal, Requirement, most_items,
};
pub use application::{
    Application, ApplicationPatch, ApplicationSettings, Owner, OwnerKind, SecretEnd,
    effective_scopes,
};
#[cfg(feature = "server")]
pub use audit::{Action, Actor, AuditEvent, AuditFilter, Described, FieldChange, Outcome};
pub use authority::{Authority, Given, Owners};
pub use characters::{is_hidden, pasted};
pub use client::{Client, Epochs, Grant, GrantRequest, SecretMark};
pub use credential::{
    Credential, CredentialKind, CredentialPatch, CredentialSettings, SecretRecord,
};
#[cfg(feature = "server")]
pub use endpoint::{Endpoint, Endpoints, Method, PathTemplate};
pub use fields::{Fault, Fields};
pub use limits::{CountedWindow, Limits, Rate};
#[cfg(feature = "server")]
pub use listing::{ApplicationFilter, ApplicationKey, ApplicationOrder, CredentialFilter};
pub use moment::Moment;
pub use name::{
    ApplicationId, ApplicationName, CredentialId, CredentialName, RoleId, RoleName, ScopeId,
    TenantId, UserId, UserName,
};
#[cfg(feature = "server")]
pub use page::{Page, PageRequest};
pub use permission::{Permission, Permissions, Reach, Verb};
pub use policy::{Field, Lifetime, Policy, UserDeletion};
#[cfg(feature = "server")]
pub use profile::{Change, DefaultApplication, Profile};
pub use request_path::{PathFault, RequestPath};
pub use revocation::{MAX_CLOCK_LEAD, Minted, NewRevocation, Revocation, Subject};
pub use rights::{Call, Case};
pub use role::{Role, RolePatch, RoleSettings};
pub use scope::{Scope, ScopeName, ScopePatch, ScopeSet, ScopeSettings};
pub use source::{Source, parse_address};
pub use tenant::{Audience, Tenant, TenantPatch, TenantSettings, TokenLifetime};
pub use usage::{LastUse, Life, UsageDay, UseKind};
pub use user::{User, UserPatch, UserSettings};

use jiff::Timestamp;

/// What every stored resource has besides its content.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Record {
    /// Grows by one with every change; the etag is made of it.
    pub revision: i64,
    /// When the resource was created.
    pub created_at: Timestamp,
    /// When it was last changed.
    pub updated_at: Timestamp,
}

impl Record {
    /// The record of something that is created now.
    pub fn new(now: Timestamp) -> Self {
        Self { revision: 1, created_at: now, updated_at: now }
    }

    /// The record after a change made now.
    #[must_use]
    pub fn changed(&self, now: Timestamp) -> Self {
        Self { revision: self.revision + 1, created_at: self.created_at, updated_at: now }
    }

    /// The opaque version of the resource (AIP-154).
    pub fn etag(&self) -> String {
        // One that was deleted and made again is another one.
        format!("{:x}-{}", self.created_at.as_microsecond(), self.revision)
    }
}

/// Whether something that can be disabled and can expire works at a given moment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum State {
    /// It works.
    Active,
    /// Somebody disabled it.
    Disabled,
    /// Its time is over.
    Expired,
}

impl State {
    /// The state at `now`.
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

/// Whether `after` ends before `before` did, so that tokens made meanwhile could outlive it.
fn ends_earlier(before: Option<Moment>, after: Option<Moment>) -> bool {
    match (before, after) {
        (_, None) => false,
        (None, Some(_)) => true,
        (Some(before), Some(after)) => after < before,
    }
}
