//! The failure of a command: a message for people, and an exit code and a JSON object for scripts.

use std::collections::BTreeMap;
use std::fmt;
use std::process::ExitCode;

use serde::Serialize;
use tonic::{Code, Status};
use tonic_types::StatusExt;

use super::print::{json_escaped, note};
use crate::config::Faults;
use crate::proto::errors::ErrorReason;
use crate::server::ServerError;

/// A failed command.
#[derive(Debug)]
pub(super) struct Failure(Box<Details>);

#[derive(Debug)]
struct Details {
    code: u8,
    reason: String,
    message: String,
    faults: Vec<FieldFault>,
    metadata: BTreeMap<String, String>,
    unknown: Option<Unknown>,
    /// Whether the reason is from the server. Then the message for people has it too.
    is_from_server: bool,
}

/// A name that does not exist. There may be a similar one.
#[derive(Clone, Debug)]
pub(super) enum Unknown {
    /// A resource, by its full name.
    Resource(String),
    /// Scopes of a tenant.
    Scopes(Vec<String>),
}

/// A field and what is wrong with it.
#[derive(Debug, Serialize)]
struct FieldFault {
    field: String,
    description: String,
}

/// A failure in JSON.
#[derive(Serialize)]
struct ErrorReport<'a> {
    reason: &'a str,
    message: &'a str,
    violations: &'a [FieldFault],
    metadata: &'a BTreeMap<String, String>,
    exit_code: u8,
}

const FAILED: u8 = 1;
const USAGE: u8 = 2;
const NOT_FOUND: u8 = 3;
const NOT_PERMITTED: u8 = 4;
const UNREACHABLE: u8 = 5;
const WARNINGS: u8 = 6;
const WRONG_MASTER_KEY: u8 = 7;
const SCHEMA_UNSUPPORTED: u8 = 8;
const SCHEMA_BEHIND: u8 = 9;

impl Failure {
    fn with_code(code: u8, reason: &str, message: impl fmt::Display) -> Self {
        Self(Box::new(Details {
            code,
            reason: reason.to_owned(),
            message: message.to_string(),
            faults: Vec::new(),
            metadata: BTreeMap::new(),
            unknown: None,
            is_from_server: false,
        }))
    }

    /// An audit log does not verify: each kind of fault has its own code.
    pub(super) fn audit(code: u8, reason: &str, message: impl fmt::Display) -> Self {
        Self::with_code(code, reason, message)
    }

    /// A failure without a code of its own.
    pub(super) fn new(message: impl fmt::Display) -> Self {
        Self::with_code(FAILED, "FAILED", message)
    }

    /// The command line or the configuration is wrong.
    pub(super) fn usage(message: impl fmt::Display) -> Self {
        Self::with_code(USAGE, "USAGE", message)
    }

    /// Nothing matches what the command should act on.
    pub(super) fn not_found(message: impl fmt::Display) -> Self {
        Self::with_code(NOT_FOUND, "NOT_FOUND", message)
    }

    /// The server cannot be reached.
    pub(super) fn unreachable(message: impl fmt::Display) -> Self {
        Self::with_code(UNREACHABLE, "UNREACHABLE", message)
    }

    /// `doctor` found nothing worse than warnings.
    pub(super) fn warnings(message: impl fmt::Display) -> Self {
        Self::with_code(WARNINGS, "WARNINGS", message)
    }

    /// Migrations are missing.
    pub(super) fn schema_behind(message: impl fmt::Display) -> Self {
        Self::with_code(SCHEMA_BEHIND, "SCHEMA_BEHIND", message)
    }

    /// A part of a request failed with this reason of the server.
    pub(super) fn with_reason(reason: &str, message: impl fmt::Display) -> Self {
        Self::with_code(FAILED, reason, message)
    }

    pub(super) fn into_parts(self) -> (String, String) {
        (self.0.reason, self.0.message)
    }

    /// The name that does not exist, if that is the failure.
    pub(super) fn unknown(&self) -> Option<&Unknown> {
        self.0.unknown.as_ref()
    }

    /// Appends a hint to the message.
    pub(super) fn with_hint(mut self, hint: &str) -> Self {
        self.0.message.push_str(hint);
        self
    }

    /// Prints the failure, and returns the exit code.
    pub(super) fn report(self, as_json: bool) -> ExitCode {
        let Details { code, reason, message, faults, metadata, is_from_server, .. } = &*self.0;
        let report =
            ErrorReport { reason, message, violations: faults, metadata, exit_code: *code };
        match serde_json::to_string(&report) {
            Ok(json) if as_json => note(&json_escaped(&json)),
            _ if *is_from_server => note(&format!("keyward: {message} ({reason})")),
            _ => note(&format!("keyward: {message}")),
        }
        ExitCode::from(*code)
    }
}

/// A reason without its prefix: `SCOPE_NOT_ALLOWED`.
pub(super) fn reason_word(reason: ErrorReason) -> Option<&'static str> {
    let reason = Some(reason).filter(|reason| *reason != ErrorReason::Unspecified)?;
    Some(reason.as_str_name().trim_start_matches("ERROR_REASON_"))
}

impl From<Status> for Failure {
    fn from(status: Status) -> Self {
        let code = match status.code() {
            Code::NotFound => NOT_FOUND,
            Code::Unauthenticated | Code::PermissionDenied => NOT_PERMITTED,
            Code::Unavailable => UNREACHABLE,
            Code::InvalidArgument => USAGE,
            _ => FAILED,
        };
        let details = status.get_error_details();
        let info = details.error_info();
        let reason =
            info.map_or_else(|| format!("{:?}", status.code()), |info| info.reason.clone());
        // The server's message names the field; users know the flag.
        let message = status.message().replace("`force`", "--force");
        let violations = details.bad_request().into_iter().flat_map(|bad| &bad.field_violations);
        let unknown = match reason.as_str() {
            "NOT_FOUND" => {
                details.resource_info().map(|info| Unknown::Resource(info.resource_name.clone()))
            }
            "SCOPE_NOT_ALLOWED" => Some(Unknown::Scopes(scopes_of(&message))),
            _ => None,
        };
        Self(Box::new(Details {
            faults: violations
                .map(|violation| FieldFault {
                    field: violation.field.clone(),
                    description: violation.description.clone(),
                })
                .collect(),
            metadata: info
                .map(|info| info.metadata.clone().into_iter().collect())
                .unwrap_or_default(),
            code,
            reason,
            message,
            unknown,
            is_from_server: true,
        }))
    }
}

/// The scopes in an error message: `scope not allowed: a b and 3 more`.
fn scopes_of(message: &str) -> Vec<String> {
    let (_, scopes) = message.split_once(": ").unwrap_or_default();
    let scopes = scopes.split_once(" and ").map_or(scopes, |(named, _)| named);
    scopes.split(' ').filter(|scope| !scope.is_empty()).map(ToOwned::to_owned).collect()
}

impl From<Faults> for Failure {
    fn from(faults: Faults) -> Self {
        Self::usage(faults)
    }
}

impl From<ServerError> for Failure {
    fn from(error: ServerError) -> Self {
        match error {
            ServerError::WrongMasterKey(_) => {
                Self::with_code(WRONG_MASTER_KEY, "WRONG_MASTER_KEY", error)
            }
            ServerError::Schema { .. } => {
                Self::with_code(SCHEMA_UNSUPPORTED, "SCHEMA_UNSUPPORTED", error)
            }
            error => Self::new(error),
        }
    }
}
