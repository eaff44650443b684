//! Converts errors to OAuth error answers (RFC 6749, section 5.2): a JSON object with `error` and
//! `error_description`, on every status.

use std::time::Duration;

use axum::http::{HeaderName, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde::Serialize;

use super::rate_limit::ReachedLimit;
use crate::domain::error_description;
use crate::error::{AnswerReason, Error, whole_seconds};
use crate::service::DPOP_ALGORITHMS;

const INVALID_TOKEN: &str = "invalid_token";
const INVALID_DPOP_PROOF: &str = "invalid_dpop_proof";
const USE_DPOP_NONCE: &str = "use_dpop_nonce";

/// The header with a nonce for the next `DPoP` proof (RFC 9449, section 8).
pub(super) const DPOP_NONCE: HeaderName = HeaderName::from_static("dpop-nonce");

/// The challenge of every 401 (RFC 9110, section 15.5.2), also for clients that authenticate in the
/// body: some clients fail on a 401 without a challenge.
const BASIC: HeaderValue = HeaderValue::from_static("Basic realm=\"keyward\", charset=\"UTF-8\"");

/// An OAuth error answer.
#[derive(Clone, Debug)]
pub(super) struct OAuthError {
    status: StatusCode,
    body: Body,
    retry_after: Option<Duration>,
    reached: Option<Box<ReachedLimit>>,
    accept_encoding: Option<&'static str>,
    resource_metadata: Option<Box<str>>,
    /// A nonce for the next `DPoP` proof.
    dpop_nonce: Option<Box<str>>,
}

#[derive(Clone, Debug, Serialize)]
struct Body {
    error: &'static str,
    error_description: String,
}

impl OAuthError {
    pub(super) fn new(status: StatusCode, error: &'static str) -> Self {
        Self {
            status,
            body: Body { error, error_description: String::new() },
            retry_after: None,
            reached: None,
            accept_encoding: None,
            resource_metadata: None,
            dpop_nonce: None,
        }
    }

    /// The error `invalid_request` with status 400.
    pub(super) fn invalid_request(description: impl AsRef<str>) -> Self {
        Self::new(StatusCode::BAD_REQUEST, "invalid_request").describe(description)
    }

    /// Adds an `Accept-Encoding` header.
    pub(super) fn accept_encoding(mut self, codings: &'static str) -> Self {
        self.accept_encoding = Some(codings);
        self
    }

    /// Adds the URL of the metadata of the resource that refused (RFC 9728, section 5.1).
    pub(super) fn of_resource(mut self, metadata: &str) -> Self {
        self.resource_metadata = Some(metadata.into());
        self
    }

    /// Adds a description for the developer of the client.
    pub(super) fn describe(mut self, description: impl AsRef<str>) -> Self {
        self.body.error_description = error_description(description.as_ref());
        self
    }
}

impl From<Error> for OAuthError {
    /// Logs the cause of internal and dependency errors, which clients do not see. This is the
    /// only place in this interface that logs them.
    fn from(error: Error) -> Self {
        error.log_fault();
        let (status, code) = table(&error);
        let mut answer = Self::new(status, code).describe(error.to_string());
        answer.retry_after = match error {
            Error::Overloaded { retry_after, .. } | Error::RateLimited { retry_after, .. } => {
                Some(retry_after)
            }
            Error::Unavailable(_) => Some(Duration::from_secs(1)),
            _ => None,
        };
        if let Error::RateLimited { policy, limit, window, retry_after, .. } = error {
            answer.reached = Some(Box::new(ReachedLimit { policy, limit, window, retry_after }));
        } else if let Error::UseDpopNonce { nonce, .. } = error {
            answer.dpop_nonce = Some(nonce.into());
        }
        answer
    }
}

/// The status and code of each error.
pub(super) fn table(error: &Error) -> (StatusCode, &'static str) {
    match error {
        Error::InvalidClient => (StatusCode::UNAUTHORIZED, "invalid_client"),
        Error::Unauthenticated(_) => (StatusCode::UNAUTHORIZED, INVALID_TOKEN),
        Error::InvalidDpopProof { with_token, .. } => {
            (status_of_proof(*with_token), INVALID_DPOP_PROOF)
        }
        Error::UseDpopNonce { with_token, .. } => (status_of_proof(*with_token), USE_DPOP_NONCE),
        Error::ScopeNotAllowed(_) | Error::TokenTooLong(_) => {
            (StatusCode::BAD_REQUEST, "invalid_scope")
        }
        Error::AudienceNotAllowed(_) | Error::ExchangeTargetMissing => {
            (StatusCode::BAD_REQUEST, "invalid_target")
        }
        Error::NotYourToken | Error::ExchangeNotAllowed => {
            (StatusCode::BAD_REQUEST, "unauthorized_client")
        }
        Error::UnsupportedTokenType => (StatusCode::BAD_REQUEST, "unsupported_token_type"),
        Error::PermissionDenied(_) => (StatusCode::FORBIDDEN, "access_denied"),
        Error::QuotaExceeded { .. } => (StatusCode::TOO_MANY_REQUESTS, "access_denied"),
        Error::RequestTooLarge { .. } => (StatusCode::PAYLOAD_TOO_LARGE, "invalid_request"),
        Error::Overloaded { .. } | Error::RateLimited { .. } => {
            (StatusCode::TOO_MANY_REQUESTS, "temporarily_unavailable")
        }
        Error::DeadlineExceeded | Error::Unavailable(_) | Error::Stopping => {
            (StatusCode::SERVICE_UNAVAILABLE, "temporarily_unavailable")
        }
        Error::Internal(_) => (StatusCode::INTERNAL_SERVER_ERROR, "server_error"),
        Error::InvalidFields(_)
        | Error::InvalidPageToken
        | Error::NotFound(_)
        | Error::AlreadyExists(_)
        | Error::EtagMismatch(_)
        | Error::BuiltIn(_)
        | Error::InUse { .. }
        | Error::Policy { .. }
        | Error::Protected(_)
        | Error::NotViewable(..)
        | Error::CursorTooOld
        | Error::TooSlow
        | Error::RotationInProgress { .. }
        | Error::RotationPending { .. }
        | Error::NoSuccessor { .. }
        | Error::KeyEnded { .. }
        | Error::MasterKeysDiffer { .. }
        | Error::Expired { .. } => (StatusCode::BAD_REQUEST, "invalid_request"),
    }
}

/// A wrong proof with a token is a failed authentication (RFC 9449, sections 5 and 7.1).
fn status_of_proof(with_token: bool) -> StatusCode {
    if with_token { StatusCode::UNAUTHORIZED } else { StatusCode::BAD_REQUEST }
}

/// The challenges of a 401. A client that sends a token can send it with a proof. The challenge for
/// a refused token says where the metadata of the resource is; its URL is the configured one.
fn challenges(error: &'static str, metadata: Option<&str>) -> Vec<HeaderValue> {
    let resource = metadata.map(|url| format!(", resource_metadata=\"{url}\"")).unwrap_or_default();
    let bearer = || {
        let text = format!("Bearer realm=\"keyward\", error=\"{error}\"{resource}");
        HeaderValue::try_from(text).ok()
    };
    let dpop = || {
        let algorithms = DPOP_ALGORITHMS.join(" ");
        let text =
            format!("DPoP realm=\"keyward\", error=\"{error}\", algs=\"{algorithms}\"{resource}");
        HeaderValue::try_from(text).ok()
    };
    let challenges = match error {
        INVALID_TOKEN => [bearer(), dpop()],
        INVALID_DPOP_PROOF | USE_DPOP_NONCE => [None, dpop()],
        _ => [Some(BASIC), None],
    };
    challenges.into_iter().flatten().collect()
}

impl IntoResponse for OAuthError {
    fn into_response(self) -> Response {
        let mut response = json(self.status, "no-store", &self.body);
        response.extensions_mut().insert(AnswerReason(self.body.error));
        let headers = response.headers_mut();
        if self.status == StatusCode::UNAUTHORIZED {
            for challenge in challenges(self.body.error, self.resource_metadata.as_deref()) {
                headers.append(header::WWW_AUTHENTICATE, challenge);
            }
        }
        if let Some(nonce) = self.dpop_nonce.and_then(|nonce| HeaderValue::from_str(&nonce).ok()) {
            headers.insert(DPOP_NONCE, nonce);
        }
        if let Some(wait) = self.retry_after {
            headers.insert(header::RETRY_AFTER, HeaderValue::from(whole_seconds(wait).max(1)));
        }
        if let Some(reached) = self.reached {
            reached.set(headers);
        }
        if let Some(codings) = self.accept_encoding {
            headers.insert(header::ACCEPT_ENCODING, HeaderValue::from_static(codings));
        }
        response
    }
}

/// A JSON answer with a `Cache-Control` header.
pub(super) fn json(
    status: StatusCode,
    cache_control: &'static str,
    body: &impl Serialize,
) -> Response {
    match serde_json::to_vec(body) {
        Ok(body) => (
            status,
            [(header::CONTENT_TYPE, "application/json"), (header::CACHE_CONTROL, cache_control)],
            axum::body::Body::from(body),
        )
            .into_response(),
        Err(error) => OAuthError::from(Error::Internal(Box::new(error))).into_response(),
    }
}

#[cfg(test)]
mod tests {
    use std::fmt::Write;

    use super::*;
    use crate::error::samples::samples;

    #[tokio::test]
    async fn answer_of_every_error_matches_snapshot() {
        let mut text = String::new();
        for error in samples() {
            let response = OAuthError::from(error).into_response();
            writeln!(text, "{}", response.status()).unwrap();
            for (name, value) in response.headers() {
                writeln!(text, "{name}: {}", value.to_str().unwrap()).unwrap();
            }
            let body = axum::body::to_bytes(response.into_body(), 10_000).await.unwrap();
            writeln!(text, "{}\n", String::from_utf8_lossy(&body)).unwrap();
        }
        insta::assert_snapshot!("errors", text);
    }
}
