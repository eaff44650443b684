//! Errors as gRPC tells them (AIP-193): a code, a reason from the documented enum, and
//! details that a program can read.

use std::collections::HashMap;
use std::time::Duration;

use tonic::{Code, Status};
use tonic_types::{ErrorDetails, FieldViolation, StatusExt};

use crate::domain::ScopeName;
use crate::error::{Error, Need};
use crate::proto::errors::ErrorReason;

/// The `domain` of every `ErrorInfo`.
const DOMAIN: &str = "keyward";

impl From<Error> for Status {
    /// Faults of ours and of dependencies are logged here, once; the caller is told
    /// nothing of their cause.
    fn from(error: Error) -> Self {
        error.log_fault();
        let (code, reason) = table(&error);
        let reason = reason.as_str_name().trim_start_matches("ERROR_REASON_");
        let mut details = details(&error);
        details.set_error_info(reason, DOMAIN, metadata(&error));
        Status::with_error_details(code, error.to_string(), details)
    }
}

/// The documented reason of an error.
pub(super) fn reason(error: &Error) -> ErrorReason {
    table(error).1
}

/// The code and reason of each error.
fn table(error: &Error) -> (Code, ErrorReason) {
    match error {
        Error::InvalidFields(_) => (Code::InvalidArgument, ErrorReason::InvalidField),
        Error::ScopeNotAllowed(_) | Error::TokenTooLong(_) => {
            (Code::InvalidArgument, ErrorReason::ScopeNotAllowed)
        }
        Error::AudienceNotAllowed(_) => (Code::InvalidArgument, ErrorReason::AudienceNotAllowed),
        Error::InvalidPageToken => (Code::InvalidArgument, ErrorReason::InvalidPageToken),
        Error::UnsupportedTokenType => (Code::InvalidArgument, ErrorReason::UnsupportedTokenType),
        Error::Unauthenticated(_) => (Code::Unauthenticated, ErrorReason::Unauthenticated),
        Error::InvalidClient => (Code::Unauthenticated, ErrorReason::InvalidClient),
        Error::PermissionDenied(_) => (Code::PermissionDenied, ErrorReason::PermissionDenied),
        Error::Policy { .. } => (Code::FailedPrecondition, ErrorReason::Policy),
        Error::Protected(_) => (Code::FailedPrecondition, ErrorReason::Protected),
        Error::NotViewable(..) => (Code::FailedPrecondition, ErrorReason::NotViewable),
        Error::Expired { .. } => (Code::FailedPrecondition, ErrorReason::Expired),
        Error::QuotaExceeded { .. } => (Code::ResourceExhausted, ErrorReason::QuotaExceeded),
        Error::NotYourToken => (Code::PermissionDenied, ErrorReason::NotYourToken),
        Error::NotFound(_) => (Code::NotFound, ErrorReason::NotFound),
        Error::AlreadyExists(_) => (Code::AlreadyExists, ErrorReason::AlreadyExists),
        Error::EtagMismatch(_) => (Code::Aborted, ErrorReason::EtagMismatch),
        Error::BuiltIn(_) => (Code::FailedPrecondition, ErrorReason::BuiltIn),
        Error::InUse { .. } => (Code::FailedPrecondition, ErrorReason::InUse),
        Error::RotationInProgress { .. } => {
            (Code::FailedPrecondition, ErrorReason::RotationInProgress)
        }
        Error::Overloaded { .. } => (Code::ResourceExhausted, ErrorReason::Overloaded),
        Error::RateLimited { .. } => (Code::ResourceExhausted, ErrorReason::RateLimited),
        Error::CursorTooOld => (Code::OutOfRange, ErrorReason::CursorTooOld),
        Error::TooSlow => (Code::Aborted, ErrorReason::TooSlow),
        Error::DeadlineExceeded => (Code::DeadlineExceeded, ErrorReason::DeadlineExceeded),
        Error::Unavailable(_) | Error::Stopping => (Code::Unavailable, ErrorReason::Unavailable),
        Error::Internal(_) => (Code::Internal, ErrorReason::Internal),
    }
}

fn details(error: &Error) -> ErrorDetails {
    let message = error.to_string();
    match error {
        Error::InvalidFields(violations) => {
            let each = violations.iter().map(|v| FieldViolation::new(&v.field, &v.description));
            ErrorDetails::with_bad_request(each.collect::<Vec<_>>())
        }
        Error::ScopeNotAllowed(_) | Error::TokenTooLong(_) => {
            ErrorDetails::with_bad_request_violation("scopes", message)
        }
        Error::AudienceNotAllowed(_) => {
            ErrorDetails::with_bad_request_violation("audiences", message)
        }
        Error::InvalidPageToken => ErrorDetails::with_bad_request_violation("page_token", message),
        Error::UnsupportedTokenType => ErrorDetails::with_bad_request_violation("token", message),
        Error::NotFound(name) | Error::AlreadyExists(name) | Error::EtagMismatch(name) => {
            ErrorDetails::with_resource_info("", name, "", message)
        }
        Error::BuiltIn(name) => {
            ErrorDetails::with_precondition_failure_violation("BUILT_IN", name, message)
        }
        Error::InUse { by, .. } => {
            let mut details = ErrorDetails::new();
            for user in by {
                details.add_precondition_failure_violation("IN_USE", user, "stands in the way");
            }
            details
        }
        Error::Policy { rule, .. } => {
            ErrorDetails::with_precondition_failure_violation(*rule, "policy", message)
        }
        Error::Protected(name) => {
            ErrorDetails::with_precondition_failure_violation("PROTECTED", name, message)
        }
        Error::NotViewable(name, _) => {
            ErrorDetails::with_precondition_failure_violation("NOT_VIEWABLE", name, message)
        }
        Error::Expired { name, .. } => {
            ErrorDetails::with_precondition_failure_violation("EXPIRED", name, message)
        }
        Error::QuotaExceeded { .. } => {
            ErrorDetails::with_quota_failure_violation("credentials", message)
        }
        Error::RotationInProgress { .. } => {
            ErrorDetails::with_precondition_failure_violation("ROTATION_IN_PROGRESS", "", message)
        }
        Error::Overloaded { what, retry_after } => {
            let mut details = ErrorDetails::with_retry_info(Some(*retry_after));
            details.add_quota_failure_violation(format!("{what} at once"), message);
            details
        }
        Error::RateLimited { name, retry_after, .. } => {
            let mut details = ErrorDetails::with_retry_info(Some(*retry_after));
            details.add_quota_failure_violation(name, message);
            details
        }
        Error::Unavailable(_) | Error::Stopping => {
            ErrorDetails::with_retry_info(Some(Duration::from_secs(1)))
        }
        Error::Unauthenticated(_)
        | Error::InvalidClient
        | Error::PermissionDenied(_)
        | Error::NotYourToken
        | Error::CursorTooOld
        | Error::TooSlow
        | Error::DeadlineExceeded
        | Error::Internal(_) => ErrorDetails::new(),
    }
}

fn metadata(error: &Error) -> HashMap<String, String> {
    match error {
        Error::PermissionDenied(need) => {
            let (key, missing) = match need {
                Need::Scope(scope) => ("scope", (*scope).to_owned()),
                Need::Platform => ("scope", ScopeName::ADMIN.to_owned()),
                Need::Permission(permission) => ("permission", permission.clone()),
                Need::AllScopes => ("permission", "all_scopes".to_owned()),
                Need::ActingUser => ("metadata", "keyward-user".to_owned()),
                Need::EnabledUser(name) => ("user", name.clone()),
            };
            HashMap::from([(key.to_owned(), missing)])
        }
        _ => HashMap::new(),
    }
}
