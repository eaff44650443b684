//! The error type of all modules. Interfaces translate it (`grpc::status`, `http::error`). Messages
//! are for callers, and contain neither secrets nor driver texts. The causes of
//! [`Error::Unavailable`] and [`Error::Internal`] are only logged.

#[cfg(test)]
pub(crate) mod samples;

use std::fmt::{self, Display};
use std::time::Duration;

use jiff::Timestamp;

pub type Result<T, E = Error> = std::result::Result<T, E>;

/// The cause of an error, for the log.
pub type Cause = Box<dyn std::error::Error + Send + Sync>;

/// An invalid field of a request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FieldViolation {
    /// The path of the field, such as `application.scopes[2]`.
    pub field: String,
    /// A predicate that follows the field: `must not be empty`.
    pub description: String,
}

/// Why a request failed.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// All invalid fields of the request.
    #[error("{}", summary(.0))]
    InvalidFields(Vec<FieldViolation>),
    /// Requested scopes that are not allowed.
    #[error("{}", scope_not_allowed(.0))]
    ScopeNotAllowed(Vec<String>),
    /// The requested scopes and audiences would make the token too long for headers.
    #[error("the token would have more than {0} bytes: request fewer scopes or audiences")]
    TokenTooLong(usize),
    /// A requested audience is not one of the tenant's.
    #[error("audience not allowed: {0}")]
    AudienceNotAllowed(String),
    /// The application may not exchange tokens.
    #[error("the application may not exchange tokens: the platform sets its exchange_audiences")]
    ExchangeNotAllowed,
    /// An exchange names no audience, and the application may exchange for several.
    #[error("name an audience: the application may exchange tokens for several")]
    ExchangeTargetMissing,
    /// The page token was altered, or belongs to another call.
    #[error("page_token does not belong to this list: use the last next_page_token, or none")]
    InvalidPageToken,
    /// The caller is missing or cannot be authenticated.
    #[error("{0}")]
    Unauthenticated(&'static str),
    /// Client authentication failed. The reason is not revealed.
    #[error("client authentication failed")]
    InvalidClient,
    /// The `DPoP` proof is not accepted.
    #[error("{fault}")]
    InvalidDpopProof {
        /// What is wrong with it.
        fault: String,
        /// Whether it came with an access token. If not, it came to get one.
        with_token: bool,
    },
    /// The `DPoP` proof needs a nonce of this server.
    #[error(
        "the DPoP proof needs a nonce of this server: make a new one with this nonce, and retry"
    )]
    UseDpopNonce {
        /// The nonce.
        nonce: String,
        /// Whether the proof came with an access token.
        with_token: bool,
    },
    /// The caller, or the user on whose behalf it acts, lacks a permission.
    #[error("this needs {0}")]
    PermissionDenied(Need),
    /// The tenant's policy forbids it.
    #[error("{message} (tenant policy: {rule})")]
    Policy {
        /// The policy field.
        rule: &'static str,
        /// What the policy forbids.
        message: String,
    },
    /// The tenant has reached its maximum number of credentials.
    #[error(
        "the tenant has reached the maximum of {limit} credentials (tenant policy: max_credentials)"
    )]
    QuotaExceeded {
        /// The maximum.
        limit: i64,
    },
    /// The application is protected against changes.
    #[error("{0} is protected: neither it nor its credentials can be edited or deleted")]
    Protected(String),
    /// An expired credential gets no new secret and shows none, because it could not work.
    #[error("{name} has expired, so a secret would not work: {what_to_do}")]
    Expired {
        /// The credential or application.
        name: String,
        /// Advice for the caller.
        what_to_do: &'static str,
    },
    /// The secret cannot be shown again, with the reason.
    #[error("the secret of {0} cannot be shown again: {1}")]
    NotViewable(String, &'static str),
    /// The token belongs to another application of the tenant.
    #[error("the token was not issued to this client")]
    NotYourToken,
    /// This kind of token cannot be revoked.
    #[error("an API key is not revoked as a token: delete its credential")]
    UnsupportedTokenType,
    /// The resource does not exist, or the caller may not view it.
    #[error("{0} does not exist")]
    NotFound(String),
    /// The resource exists already, or the same request created another one.
    #[error("{0} already exists")]
    AlreadyExists(String),
    /// The resource changed since the caller read it.
    #[error("etag mismatch: {0} has changed; read it again and retry")]
    EtagMismatch(String),
    /// The resource is built in.
    #[error("{0} is built in and cannot be changed")]
    BuiltIn(String),
    /// Other resources depend on this one.
    #[error("{resource} is in use by {}: {remedy}", listing(.by, *.total))]
    InUse {
        /// The resource that would be changed or deleted.
        resource: String,
        /// The first few dependent resources.
        by: Vec<String>,
        /// The number of dependent resources.
        total: i64,
        /// Advice for the caller.
        remedy: &'static str,
    },
    /// The previous rotation is not over: two secrets work.
    #[error(
        "the credential has two live secrets until {older_ends}; rotate with an overlap of 0 to end both at once"
    )]
    RotationInProgress {
        /// When the older secret ends.
        older_ends: Timestamp,
    },
    /// The next signing key waits already, and cannot sign earlier.
    #[error(
        "{key} waits already and signs from {signs_at} on; that is as early as every verifier and \
         server knows it"
    )]
    RotationPending {
        /// The next key.
        key: String,
        /// When it starts to sign.
        signs_at: Timestamp,
    },
    /// No other key can sign in place of this one yet.
    #[error("{key} signs, and no next key is ready to take over: {}", ready(*.ready_at))]
    NoSuccessor {
        /// The active key.
        key: String,
        /// When the next key is ready; `None`: there is none.
        ready_at: Option<Timestamp>,
    },
    /// The signing key no longer signs.
    #[error("{key} is {state}: only a next or active key can be retired")]
    KeyEnded {
        /// The key.
        key: String,
        /// Its state.
        state: &'static str,
    },
    /// Another server has other master keys.
    #[error("the server {server} {difference}")]
    MasterKeysDiffer {
        /// The name of the other server.
        server: String,
        /// How it differs, and what to do.
        difference: String,
    },
    /// A bounded queue is full.
    #[error("too many {what} at once, try again in {} s", whole_seconds(*.retry_after))]
    Overloaded {
        /// What the queue holds.
        what: &'static str,
        /// How long to wait.
        retry_after: Duration,
    },
    /// The request is too large for the method.
    #[error("the request has more than {max_bytes} bytes{form}")]
    RequestTooLarge {
        /// The maximum.
        max_bytes: usize,
        /// The form that the maximum refers to, if it is not the one in which the request was sent.
        form: &'static str,
    },
    /// A rate limit is reached.
    #[error(
        "the limit of {name} is reached, {limit} in {} s: try again in {} s",
        .window.as_secs(), whole_seconds(*.retry_after)
    )]
    RateLimited {
        /// The machine-readable name of the limit.
        policy: &'static str,
        /// The resource whose limit it is, and what it counts.
        name: String,
        /// The maximum count in any window.
        limit: u64,
        window: Duration,
        /// How long to wait.
        retry_after: Duration,
    },
    /// The entries after the cursor were removed, or the cursor belongs to another list.
    #[error("the cursor is too old, or belongs to another list: start without a cursor")]
    CursorTooOld,
    /// The client of a stream does not read its messages.
    #[error("messages were not read in time: resume from the last cursor")]
    TooSlow,
    /// The server is shutting down.
    #[error("the server is shutting down; retry")]
    Stopping,
    /// The request took longer than the caller or the server allows.
    #[error("deadline exceeded")]
    DeadlineExceeded,
    /// A dependency did not answer.
    #[error("a dependency is unavailable; retry")]
    Unavailable(#[source] Cause),
    /// An error in Keyward itself.
    #[error("internal error")]
    Internal(#[source] Cause),
}

/// What a caller lacks: the reason of a refusal, as it is shown to the caller. The rules that refuse
/// are elsewhere: `domain::rights::Needs` for users, the scopes of an access check in `domain::access`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Need {
    /// A scope of the calling application.
    Scope(&'static str),
    /// The scope `keyward.admin`, without an acting user.
    Platform,
    /// An acting user, because the caller may only act for users.
    ActingUser,
    /// An acting user who exists and is enabled.
    EnabledUser(String),
    /// A permission from the user's roles.
    Permission(String),
    /// A role with all scopes, in order to give such a role.
    AllScopes,
    /// A role with all scopes, in order to give this role to an application, or to get a secret of
    /// an application with it.
    AllScopesFor(String),
    /// This role itself, in order to give it to an application, or to get a secret of an
    /// application with it.
    Role(String),
    /// Roles that allow everything that an application was given.
    AllThatWasGiven,
    /// The platform, because the application may exchange tokens.
    ExchangeRight,
    /// One of these permissions for the named resource, unless it does not exist.
    Unseen(Vec<String>, String),
    /// Roles that allow everything that this user's roles allow, unless the user does not exist.
    RolesOf(String),
    /// Another id, because this one belongs to a resource that the user may not view.
    OtherId(String),
    /// The platform, because it disabled this resource.
    PlatformToEnable(String),
}

impl Display for Need {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Scope(scope) => write!(f, "the scope {scope}"),
            Self::Platform => f.write_str("the scope keyward.admin, without an acting user"),
            Self::ActingUser => f.write_str("an acting user in the metadata keyward-user"),
            Self::EnabledUser(name) => {
                write!(f, "an enabled acting user: {name} does not exist or is disabled")
            }
            Self::Permission(permission) => {
                write!(f, "the permission {permission}, which the acting user's roles do not have")
            }
            Self::AllScopes => {
                f.write_str("a role with all_scopes, which the acting user does not have")
            }
            Self::AllScopesFor(role) => write!(
                f,
                "a role with all_scopes, which the acting user does not have, for the role {role}"
            ),
            Self::Role(role) => {
                write!(f, "the acting user to have the role {role}, or the permission users.edit")
            }
            Self::AllThatWasGiven => f.write_str(
                "roles that allow everything that the application was given, including its disabled \
                  scopes and its roles",
            ),
            Self::ExchangeRight => f.write_str(
                "the platform, without an acting user: the application may exchange tokens \
                 (exchange_audiences), and only the platform gives that",
            ),
            Self::Unseen(permissions, name) => {
                let permissions = permissions.join(" or ");
                write!(
                    f,
                    "the permission {permissions}, which the acting user's roles do not have, \
                     or {name} does not exist"
                )
            }
            Self::RolesOf(user) => write!(
                f,
                "roles that allow everything that {user} may do, or {user} does not exist"
            ),
            Self::OtherId(name) => {
                write!(f, "another id: {name} is not available to the acting user")
            }
            Self::PlatformToEnable(name) => write!(
                f,
                "the platform, without an acting user: the platform disabled {name}, and only the \
                  platform can enable it",
            ),
        }
    }
}

impl Error {
    /// An error in one field.
    pub fn invalid(field: impl Into<String>, description: impl Into<String>) -> Self {
        Self::InvalidFields(vec![FieldViolation {
            field: field.into(),
            description: description.into(),
        }])
    }

    /// A dependency that `force` overrides, with the first few dependent resources and their total.
    pub fn in_use(resource: impl Display, by: Vec<String>, total: i64) -> Self {
        Self::in_use_unless(resource, by, total, "set `force` to do it anyway")
    }

    /// Like [`in_use`](Self::in_use), with other advice than `force`.
    pub fn in_use_unless(
        resource: impl Display,
        by: Vec<String>,
        total: i64,
        remedy: &'static str,
    ) -> Self {
        // gRPC sends errors in headers, which are small.
        let by = by.into_iter().take(MAX_LISTED).collect();
        Self::InUse { resource: resource.to_string(), by, total, remedy }
    }

    /// Logs the cause of an internal or dependency error, which callers do not see. Interfaces call
    /// it once per answer.
    pub fn log_fault(&self) {
        match self {
            Self::Internal(cause) => tracing::error!(cause, "internal error"),
            Self::Unavailable(cause) => tracing::warn!(cause, "dependency unavailable"),
            _ => {}
        }
    }

    /// Whether this refuses something that the caller was not allowed to do. Such attempts are
    /// recorded in the audit log; invalid and outdated requests are not.
    pub fn is_refusal(&self) -> bool {
        match self {
            Self::PermissionDenied(_)
            | Self::ScopeNotAllowed(_)
            | Self::Policy { .. }
            | Self::QuotaExceeded { .. }
            | Self::Protected(_)
            | Self::NotViewable(..)
            | Self::NotYourToken
            | Self::ExchangeNotAllowed
            | Self::BuiltIn(_)
            | Self::InUse { .. } => true,
            Self::InvalidFields(_)
            | Self::TokenTooLong(_)
            | Self::AudienceNotAllowed(_)
            | Self::ExchangeTargetMissing
            | Self::InvalidPageToken
            | Self::Unauthenticated(_)
            | Self::InvalidClient
            | Self::InvalidDpopProof { .. }
            | Self::UseDpopNonce { .. }
            | Self::UnsupportedTokenType
            | Self::NotFound(_)
            | Self::AlreadyExists(_)
            | Self::EtagMismatch(_)
            | Self::RotationInProgress { .. }
            | Self::Expired { .. }
            | Self::RotationPending { .. }
            | Self::NoSuccessor { .. }
            | Self::KeyEnded { .. }
            | Self::MasterKeysDiffer { .. }
            | Self::Overloaded { .. }
            | Self::RateLimited { .. }
            | Self::RequestTooLarge { .. }
            | Self::CursorTooOld
            | Self::TooSlow
            | Self::Stopping
            | Self::DeadlineExceeded
            | Self::Unavailable(_)
            | Self::Internal(_) => false,
        }
    }

    /// An internal error with this text.
    pub fn internal(what: impl Display) -> Self {
        Self::Internal(what.to_string().into())
    }
}

/// Why an answer is an error, as a label of metrics: a reason of gRPC, or a code of OAuth. The
/// interfaces attach it to their responses. The set of values is fixed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AnswerReason(pub &'static str);

/// Reports a repeated operation: logs when it starts to fail and when it works again, and not each
/// time.
#[derive(Debug, Default)]
pub struct FailureLog {
    failing: bool,
}

impl FailureLog {
    /// Notes an outcome. Logs `fails` after the first failure, and `again` after the first success.
    pub fn note(&mut self, outcome: &Result<()>, fails: &str, again: &str) {
        match outcome {
            Ok(()) if self.failing => tracing::info!("{again}"),
            Err(error) if !self.failing => {
                error.log_fault();
                tracing::warn!("{fails}");
            }
            _ => {}
        }
        self.failing = outcome.is_err();
    }
}

/// What to do until the next key can take over.
fn ready(ready_at: Option<Timestamp>) -> String {
    match ready_at {
        Some(at) => format!("retire this one after {at}"),
        None => "rotate first, and retire this one when the next key has been published for ten \
                 minutes"
            .to_owned(),
    }
}

/// The number of seconds, rounded up.
pub fn whole_seconds(span: Duration) -> u64 {
    span.as_secs().saturating_add(u64::from(span.subsec_nanos() > 0))
}

/// The maximum number of scopes or resources in an error.
const MAX_LISTED: usize = 10;

fn and_more(count: usize) -> String {
    match count {
        0 => String::new(),
        count => format!(" and {count} more"),
    }
}

fn scope_not_allowed(scopes: &[String]) -> String {
    if scopes.is_empty() {
        "the application has no scopes".to_owned()
    } else {
        // gRPC sends errors in headers, which are small.
        let listed = &scopes[..scopes.len().min(MAX_LISTED)];
        format!("scope not allowed: {}{}", listed.join(" "), and_more(scopes.len() - listed.len()))
    }
}

fn summary(violations: &[FieldViolation]) -> String {
    let each: Vec<_> =
        violations.iter().map(|v| format!("{} {}", v.field, v.description)).collect();
    each.join("; ")
}

fn listing(names: &[String], total: i64) -> String {
    if names.is_empty() {
        return if total > 0 { format!("{total} others") } else { "others".to_owned() };
    }
    let more = usize::try_from(total).unwrap_or_default().saturating_sub(names.len());
    format!("{}{}", names.join(", "), and_more(more))
}
