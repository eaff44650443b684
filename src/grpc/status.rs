//! Converts errors to gRPC statuses (AIP-193): a code, a reason from the documented enum, and
//! machine-readable details.

use std::collections::HashMap;
use std::time::Duration;

use axum::http::Response;
use tonic::{Code, Status};
use tonic_types::{ErrorDetails, FieldViolation, StatusExt};

use crate::domain::ScopeName;
use crate::error::{AnswerReason, Error, Need};
use crate::proto::errors::ErrorReason;

/// The `domain` of every `ErrorInfo`.
const DOMAIN: &str = "keyward";

/// What the names of reasons begin with in the proto.
const PREFIX: &str = "ERROR_REASON_";

/// The metadata with a nonce for the next `DPoP` proof, and its key in `ErrorInfo`.
pub(super) const DPOP_NONCE: &str = "dpop-nonce";

/// The maximum size of the percent-encoded message, and of the details before base64. Both are sent
/// in headers, and several clients accept at most 8 KiB of headers.
const MAX_MESSAGE: usize = 2 * 1024;
const MAX_DETAILS: usize = 3 * 1024;
const ELLIPSIS: &str = "...";

impl From<Error> for Status {
    /// Logs the cause of internal and dependency errors, which callers do not see. This is the
    /// only place in this interface that logs them.
    fn from(error: Error) -> Self {
        error.log_fault();
        let (code, reason) = table(&error);
        let with_info = |mut details: ErrorDetails| {
            details.set_error_info(name(reason), DOMAIN, metadata(&error));
            details
        };
        let message = truncated(error.to_string());
        let details = with_info(details(&error));
        let mut status = Status::with_error_details(code, message.as_str(), details);
        if let Error::UseDpopNonce { nonce, .. } = &error
            && let Ok(nonce) = nonce.parse()
        {
            status.metadata_mut().insert(DPOP_NONCE, nonce);
        }
        if status.details().len() <= MAX_DETAILS {
            return status;
        }
        // Too large: keep the reason and the first violations.
        let few = with_info(first_violations(&error));
        Status::with_error_details(code, message, few)
    }
}

/// Attaches the reason of an error to the response, for metrics. An error of a library has none.
pub(super) fn with_reason<B>(mut response: Response<B>) -> Response<B> {
    let is_error =
        response.headers().get("grpc-status").is_some_and(|status| status.as_bytes() != b"0");
    if is_error
        && let Some(status) = Status::from_header_map(response.headers())
        && let Some(info) = status.get_details_error_info()
        && let Some(reason) = ErrorReason::from_str_name(&format!("{PREFIX}{}", info.reason))
    {
        response.extensions_mut().insert(AnswerReason(name(reason)));
    }
    response
}

fn name(reason: ErrorReason) -> &'static str {
    reason.as_str_name().trim_start_matches(PREFIX)
}

/// Truncates a message so that it fits in a header.
fn truncated(mut message: String) -> String {
    // An upper bound of the length that tonic's encoding needs.
    let sent = |c: char| {
        if c.is_ascii_alphanumeric() || ".,:;-_/()[]'=".contains(c) { 1 } else { 3 * c.len_utf8() }
    };
    let mut left = MAX_MESSAGE - ELLIPSIS.len();
    let end = message.char_indices().find(|(_, c)| match left.checked_sub(sent(*c)) {
        Some(less) => {
            left = less;
            false
        }
        None => true,
    });
    if let Some((end, _)) = end {
        message.truncate(end);
        message.push_str(ELLIPSIS);
    }
    message
}

/// As many field violations as fit.
fn first_violations(error: &Error) -> ErrorDetails {
    let Error::InvalidFields(violations) = error else { return ErrorDetails::new() };
    let mut left = MAX_DETAILS / 2;
    let fitting = violations.iter().map_while(|violation| {
        // Plus the protobuf tags and lengths.
        left = left.checked_sub(violation.field.len() + violation.description.len() + 16)?;
        Some(FieldViolation::new(&violation.field, &violation.description))
    });
    ErrorDetails::with_bad_request(fitting.collect::<Vec<_>>())
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
        Error::AudienceNotAllowed(_) | Error::ExchangeTargetMissing => {
            (Code::InvalidArgument, ErrorReason::AudienceNotAllowed)
        }
        Error::ExchangeNotAllowed => (Code::PermissionDenied, ErrorReason::ExchangeNotAllowed),
        Error::InvalidPageToken => (Code::InvalidArgument, ErrorReason::InvalidPageToken),
        Error::UnsupportedTokenType => (Code::InvalidArgument, ErrorReason::UnsupportedTokenType),
        Error::Unauthenticated(_) => (Code::Unauthenticated, ErrorReason::Unauthenticated),
        Error::InvalidClient => (Code::Unauthenticated, ErrorReason::InvalidClient),
        Error::InvalidDpopProof { with_token: false, .. } => {
            (Code::InvalidArgument, ErrorReason::InvalidDpopProof)
        }
        Error::InvalidDpopProof { with_token: true, .. } => {
            (Code::Unauthenticated, ErrorReason::InvalidDpopProof)
        }
        Error::UseDpopNonce { .. } => (Code::FailedPrecondition, ErrorReason::UseDpopNonce),
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
        Error::RotationPending { .. } => (Code::FailedPrecondition, ErrorReason::RotationPending),
        Error::NoSuccessor { .. } => (Code::FailedPrecondition, ErrorReason::NoSuccessor),
        Error::KeyEnded { .. } => (Code::FailedPrecondition, ErrorReason::KeyEnded),
        Error::MasterKeysDiffer { .. } => (Code::FailedPrecondition, ErrorReason::MasterKeysDiffer),
        Error::Overloaded { .. } => (Code::ResourceExhausted, ErrorReason::Overloaded),
        Error::RateLimited { .. } => (Code::ResourceExhausted, ErrorReason::RateLimited),
        Error::RequestTooLarge { .. } => (Code::ResourceExhausted, ErrorReason::RequestTooLarge),
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
        Error::AudienceNotAllowed(_) | Error::ExchangeTargetMissing => {
            ErrorDetails::with_bad_request_violation("audiences", message)
        }
        Error::InvalidPageToken => ErrorDetails::with_bad_request_violation("page_token", message),
        Error::UnsupportedTokenType => ErrorDetails::with_bad_request_violation("token", message),
        Error::InvalidDpopProof { .. } => ErrorDetails::with_bad_request_violation("dpop", message),
        Error::UseDpopNonce { .. } => {
            ErrorDetails::with_precondition_failure_violation("USE_DPOP_NONCE", "dpop", message)
        }
        Error::NotFound(name) | Error::AlreadyExists(name) | Error::EtagMismatch(name) => {
            ErrorDetails::with_resource_info("", name, "", message)
        }
        Error::BuiltIn(name) => {
            ErrorDetails::with_precondition_failure_violation("BUILT_IN", name, message)
        }
        Error::InUse { by, .. } => {
            let mut details = ErrorDetails::new();
            for user in by {
                details.add_precondition_failure_violation("IN_USE", user, "uses the resource");
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
        Error::RotationPending { key, .. } => {
            ErrorDetails::with_precondition_failure_violation("ROTATION_PENDING", key, message)
        }
        Error::NoSuccessor { key, .. } => {
            ErrorDetails::with_precondition_failure_violation("NO_SUCCESSOR", key, message)
        }
        Error::KeyEnded { key, .. } => {
            ErrorDetails::with_precondition_failure_violation("KEY_ENDED", key, message)
        }
        Error::MasterKeysDiffer { server, .. } => {
            ErrorDetails::with_precondition_failure_violation("MASTER_KEYS_DIFFER", server, message)
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
        | Error::ExchangeNotAllowed
        | Error::RequestTooLarge { .. }
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
                Need::Platform | Need::ExchangeRight => ("scope", ScopeName::ADMIN.to_owned()),
                Need::Permission(permission) => ("permission", permission.clone()),
                Need::AllScopes | Need::AllScopesFor(_) => ("permission", "all_scopes".to_owned()),
                Need::Unseen(permissions, _) => ("permission", permissions.join(" ")),
                Need::Role(role) => ("role", role.clone()),
                Need::AllThatWasGiven => ("permission", "scopes".to_owned()),
                Need::OtherId(name) => ("name", name.clone()),
                Need::PlatformToEnable(name) => ("disabled_by_platform", name.clone()),
                Need::ActingUser => ("metadata", "keyward-user".to_owned()),
                Need::EnabledUser(name) | Need::RolesOf(name) => ("user", name.clone()),
            };
            HashMap::from([(key.to_owned(), missing)])
        }
        Error::RequestTooLarge { max_bytes, .. } => {
            HashMap::from([("max_bytes".to_owned(), max_bytes.to_string())])
        }
        Error::UseDpopNonce { nonce, .. } => {
            HashMap::from([(DPOP_NONCE.to_owned(), nonce.clone())])
        }
        _ => HashMap::new(),
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;
    use std::fmt::Write;

    use super::*;
    use crate::error::samples::samples;

    /// A status as clients see it, a line for each detail.
    fn shown(status: &Status) -> String {
        let mut text = format!("{:?}: {}\n", status.code(), status.message());
        let details = status.get_error_details();
        if let Some(info) = details.error_info() {
            writeln!(text, "  info: {} {} {:?}", info.domain, info.reason, info.metadata).unwrap();
        }
        for violation in details.bad_request().iter().flat_map(|d| &d.field_violations) {
            writeln!(text, "  field: {}: {}", violation.field, violation.description).unwrap();
        }
        for violation in details.precondition_failure().iter().flat_map(|d| &d.violations) {
            let (kind, subject) = (&violation.r#type, &violation.subject);
            writeln!(text, "  precondition: {kind} {subject}: {}", violation.description).unwrap();
        }
        for violation in details.quota_failure().iter().flat_map(|d| &d.violations) {
            writeln!(text, "  quota: {}: {}", violation.subject, violation.description).unwrap();
        }
        if let Some(resource) = details.resource_info() {
            writeln!(text, "  resource: {}", resource.resource_name).unwrap();
        }
        if let Some(retry) = details.retry_info() {
            writeln!(text, "  retry after: {:?}", retry.retry_delay.unwrap_or_default()).unwrap();
        }
        text
    }

    #[test]
    fn status_of_every_error_matches_snapshot() {
        let statuses = samples().into_iter().map(|error| shown(&Status::from(error)));
        insta::assert_snapshot!("errors", statuses.collect::<Vec<_>>().join("\n"));
    }

    #[test]
    fn every_documented_reason_has_an_error() {
        let reasons: BTreeSet<_> = samples().iter().map(|error| reason(error) as i32).collect();
        let documented = (1..100).filter(|number| ErrorReason::try_from(*number).is_ok());
        assert_eq!(reasons, documented.collect());
    }
}
