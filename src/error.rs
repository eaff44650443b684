//! The one error of Keyward, in its own terms: the faces translate it (`grpc::status`,
//! `http::error`). Its text is for the caller and names no secret and no driver; the
//! causes of [`Error::Unavailable`] and [`Error::Internal`] are for the log alone.

use std::fmt::{self, Display};
use std::time::Duration;

use jiff::Timestamp;

/// What everything that can fail returns.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// The cause of a fault, for the log.
pub type Cause = Box<dyn std::error::Error + Send + Sync>;

/// One field of a request and what is wrong with it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Violation {
    /// Path of the field, `application.scopes[2]` for instance.
    pub field: String,
    /// What is wrong, as a sentence that follows the field: `must not be empty`.
    pub description: String,
}

/// Why something could not be done.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Fields of the request are malformed: all of those that are.
    #[error("{}", summary(.0))]
    InvalidFields(Vec<Violation>),
    /// Scopes that were asked for and cannot be had.
    #[error("{}", scope_not_allowed(.0))]
    ScopeNotAllowed(Vec<String>),
    /// So many scopes and audiences were asked for that nobody could send the token.
    #[error("the token would have more than {0} bytes: ask for fewer scopes or audiences")]
    TokenTooLong(usize),
    /// An audience that was asked for and is not one of the tenant's.
    #[error("audience not allowed: {0}")]
    AudienceNotAllowed(String),
    /// The page token is not one of ours, or of another call.
    #[error("page_token was not made for this list")]
    InvalidPageToken,
    /// There is no caller, or he cannot be believed.
    #[error("{0}")]
    Unauthenticated(&'static str),
    /// Client authentication failed; nobody is told why.
    #[error("client authentication failed")]
    InvalidClient,
    /// The caller, or the user it acts for, is known and may not do this.
    #[error("this needs {0}")]
    PermissionDenied(Need),
    /// The tenant's policy does not allow it.
    #[error("{message}: so says the tenant's policy ({rule})")]
    Policy {
        /// The field of the policy.
        rule: &'static str,
        /// What it does not allow.
        message: String,
    },
    /// There are as many credentials as there may be.
    #[error(
        "the tenant has all of the {limit} credentials that its policy allows (max_credentials)"
    )]
    QuotaExceeded {
        /// How many may be.
        limit: i64,
    },
    /// The application can be neither edited nor deleted.
    #[error("{0} is protected: neither it nor its credentials can be edited or deleted")]
    Protected(String),
    /// What has expired gets no new secret and shows none: it could not work.
    #[error("{name} has expired, so a secret could not work: {what_to_do}")]
    Expired {
        /// What has.
        name: String,
        /// What helps.
        what_to_do: &'static str,
    },
    /// The secret cannot be told again.
    #[error("the secret of {0} cannot be seen again: {1}")]
    NotViewable(String, &'static str),
    /// The token belongs to somebody else.
    #[error("the token was not issued to this client")]
    NotYourToken,
    /// The token is of a kind that cannot be revoked so.
    #[error("an API key is revoked by deleting its credential")]
    UnsupportedTokenType,
    /// No such resource, or none that the caller may know of.
    #[error("{0} does not exist")]
    NotFound(String),
    /// The resource, or one made by the same request, exists.
    #[error("{0} already exists")]
    AlreadyExists(String),
    /// The resource changed since the caller read it.
    #[error("{0} has changed: its etag is another one now")]
    EtagMismatch(String),
    /// The resource is Keyward's own.
    #[error("{0} belongs to Keyward and cannot be changed so")]
    BuiltIn(String),
    /// Other resources stand on this one.
    #[error("{resource} is in use by {}: {remedy}", listing(.by, *.total))]
    InUse {
        /// What was to go.
        resource: String,
        /// The first few that stand on it.
        by: Vec<String>,
        /// How many there are in all.
        total: i64,
        /// What can be done about it.
        remedy: &'static str,
    },
    /// Two secrets live already.
    #[error(
        "the credential has two live secrets until {older_ends}; rotate with an overlap of 0 to end both at once"
    )]
    RotationInProgress {
        /// When the older of the two ends.
        older_ends: Timestamp,
    },
    /// A bounded queue is full.
    #[error("too many {what} at once, try again in {} s", whole_seconds(*.retry_after))]
    Overloaded {
        /// What there is too much of.
        what: &'static str,
        /// How long to wait.
        retry_after: Duration,
    },
    /// The request is larger than what the method takes.
    #[error("the request has more than {max_bytes} bytes{form}")]
    RequestTooLarge {
        /// The most that there may be.
        max_bytes: usize,
        /// Of which form of it, where that is not the one in which it came.
        form: &'static str,
    },
    /// A limit is reached.
    #[error(
        "the limit of {name} is reached, {limit} in {} s: try again in {} s",
        .window.as_secs(), whole_seconds(*.retry_after)
    )]
    RateLimited {
        /// A word for it.
        policy: &'static str,
        /// Whose limit it is, and of what.
        name: String,
        /// Most in any window.
        limit: u64,
        /// The window.
        window: Duration,
        /// How long to wait.
        retry_after: Duration,
    },
    /// What followed the cursor is gone, or it is of another list.
    #[error("the cursor is too old, or of another list: begin without one")]
    CursorTooOld,
    /// Somebody who watches does not read what he is told.
    #[error("messages were not read in time: begin again from the last cursor")]
    TooSlow,
    /// The server stops.
    #[error("the server stops: another one will answer")]
    Stopping,
    /// The request took longer than the caller or the server allows.
    #[error("the deadline passed")]
    DeadlineExceeded,
    /// A dependency did not answer.
    #[error("a dependency did not answer; try again")]
    Unavailable(#[source] Cause),
    /// A fault of our own.
    #[error("internal error")]
    Internal(#[source] Cause),
}

/// What a caller lacks.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Need {
    /// A scope of the calling application.
    Scope(&'static str),
    /// The scope `keyward.admin`, and to act for no user.
    Platform,
    /// A caller that may only act for users must name one.
    ActingUser,
    /// A user who may act.
    EnabledUser(String),
    /// A permission of the user's roles.
    Permission(String),
    /// A role with all scopes, to give one.
    AllScopes,
    /// The same, to give an application this one or to get a secret of one that has it.
    AllScopesFor(String),
    /// To hold this role, to give it to an application or to get a secret of one that has it.
    Role(String),
    /// Roles that may give all that an application was given.
    AllThatWasGiven,
    /// One of these permissions, for what this name is; or there is none of this name.
    Unseen(Vec<String>, String),
    /// Roles that allow all that this user's allow; or there is no such user.
    RolesOf(String),
    /// Another name: this one is taken by what may not be viewed.
    OtherId(String),
    /// The platform, which disabled this.
    PlatformToEnable(String),
}

impl Display for Need {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Scope(scope) => write!(f, "the scope {scope}"),
            Self::Platform => f.write_str("the scope keyward.admin, acting for no user"),
            Self::ActingUser => f.write_str("the acting user, in the metadata keyward-user"),
            Self::EnabledUser(name) => {
                write!(f, "a user who may act: {name} does not exist, or is disabled")
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
                write!(f, "the acting user to hold the role {role}, or the permission users.edit")
            }
            Self::AllThatWasGiven => f.write_str(
                "roles that may give all that the application was given, its disabled scopes and \
                 its roles included",
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
                "roles that allow all that those of {user} allow, or {user} does not exist"
            ),
            Self::OtherId(name) => {
                write!(f, "another id: the acting user cannot have {name}")
            }
            Self::PlatformToEnable(name) => write!(
                f,
                "the platform, acting for no user: {name} was disabled by the platform, and only \
                 the platform can undo that"
            ),
        }
    }
}

impl Error {
    /// One malformed field.
    pub fn invalid(field: impl Into<String>, description: impl Into<String>) -> Self {
        Self::InvalidFields(vec![Violation {
            field: field.into(),
            description: description.into(),
        }])
    }

    /// Something on which others stand, and which goes with `force`: how many, and the first few.
    pub fn in_use(resource: impl Display, by: Vec<String>, total: i64) -> Self {
        Self::in_use_unless(resource, by, total, "set `force` to do it all the same")
    }

    /// The same where something else than `force` helps.
    pub fn in_use_unless(
        resource: impl Display,
        by: Vec<String>,
        total: i64,
        remedy: &'static str,
    ) -> Self {
        // Errors travel in headers, which are small.
        let by = by.into_iter().take(MOST_TOLD).collect();
        Self::InUse { resource: resource.to_string(), by, total, remedy }
    }

    /// Logs a fault of ours or of a dependency with its cause, which callers are not told.
    /// Called by the faces, once for each answer.
    pub fn log_fault(&self) {
        match self {
            Self::Internal(cause) => tracing::error!(cause, "internal error"),
            Self::Unavailable(cause) => tracing::warn!(cause, "dependency unavailable"),
            _ => {}
        }
    }

    /// Whether this refuses something that somebody may have wanted to get away with: such
    /// attempts stand in the audit log. Malformed requests and stale ones do not.
    pub fn is_refusal(&self) -> bool {
        match self {
            Self::PermissionDenied(_)
            | Self::ScopeNotAllowed(_)
            | Self::Policy { .. }
            | Self::QuotaExceeded { .. }
            | Self::Protected(_)
            | Self::NotViewable(..)
            | Self::NotYourToken
            | Self::BuiltIn(_)
            | Self::InUse { .. } => true,
            Self::InvalidFields(_)
            | Self::TokenTooLong(_)
            | Self::AudienceNotAllowed(_)
            | Self::InvalidPageToken
            | Self::Unauthenticated(_)
            | Self::InvalidClient
            | Self::UnsupportedTokenType
            | Self::NotFound(_)
            | Self::AlreadyExists(_)
            | Self::EtagMismatch(_)
            | Self::RotationInProgress { .. }
            | Self::Expired { .. }
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

    /// A fault of our own, told in words.
    pub fn internal(what: impl Display) -> Self {
        Self::Internal(what.to_string().into())
    }
}

/// Something that is done again and again. That it fails is told when that begins and when it
/// ends, and not each time.
#[derive(Debug, Default)]
pub struct Repeated {
    failing: bool,
}

impl Repeated {
    /// Takes note of how it went: tells that it `fails`, or that it does `again`.
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

/// A span in whole seconds, not less: who waits that long waits long enough.
pub fn whole_seconds(span: Duration) -> u64 {
    span.as_secs().saturating_add(u64::from(span.subsec_nanos() > 0))
}

/// How many scopes or resources an error names.
const MOST_TOLD: usize = 10;

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
        // Errors travel in headers, which are small.
        let told = &scopes[..scopes.len().min(MOST_TOLD)];
        format!("scope not allowed: {}{}", told.join(" "), and_more(scopes.len() - told.len()))
    }
}

fn summary(violations: &[Violation]) -> String {
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
