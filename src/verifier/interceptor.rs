//! A gRPC interceptor. Errors have the same form as Keyward's own (AIP-193), so that callers need
//! to handle only one.

use std::collections::HashMap;
use std::time::Duration;

use tonic::service::Interceptor;
use tonic::{Code, Request, Status};
use tonic_types::{ErrorDetails, StatusExt};

use super::gate::{Denied, Gate};
use super::{Refusal, Verifier};
use crate::proto::errors::ErrorReason;

/// The `domain` of `ErrorInfo`.
const DOMAIN: &str = "keyward";
/// The retry delay of temporary errors.
const RETRY_AFTER: Duration = Duration::from_secs(1);

/// Refuses calls without a valid token; created by [`Verifier::interceptor`]. `UNAUTHENTICATED`:
/// the token is missing or invalid. `PERMISSION_DENIED`: scopes are missing; `ErrorInfo` lists them
/// under `scope`. `UNAVAILABLE`: revocations are unknown.
#[derive(Clone, Debug)]
pub struct VerifierInterceptor(Gate);

impl Verifier {
    /// Admits calls whose token is valid and has all `scopes`; an empty list requires only a valid
    /// token. Handlers find a [`Verified`](super::Verified) in the request's extensions. Bound
    /// tokens need a [`SenderProof`](super::SenderProof) there.
    pub fn interceptor(&self, scopes: &[&str]) -> VerifierInterceptor {
        VerifierInterceptor(Gate::new(self, scopes))
    }
}

impl Interceptor for VerifierInterceptor {
    fn call(&mut self, mut request: Request<()>) -> Result<Request<()>, Status> {
        let verified = self.0.admit(request.metadata().as_ref(), request.extensions())?;
        request.extensions_mut().insert(verified);
        Ok(request)
    }
}

impl From<Denied> for Status {
    fn from(denied: Denied) -> Self {
        let mut details = ErrorDetails::new();
        let (code, reason) = match &denied {
            Denied::Refused(Refusal::FeedLost { .. } | Refusal::NotReady) => {
                details.set_retry_info(Some(RETRY_AFTER));
                (Code::Unavailable, ErrorReason::Unavailable)
            }
            Denied::NoToken | Denied::Refused(_) => {
                (Code::Unauthenticated, ErrorReason::Unauthenticated)
            }
            Denied::InsufficientScope(_) => (Code::PermissionDenied, ErrorReason::PermissionDenied),
        };
        let metadata = match &denied {
            Denied::InsufficientScope(lacking) => {
                HashMap::from([("scope".to_owned(), lacking.missing.join(" "))])
            }
            Denied::NoToken | Denied::Refused(_) => HashMap::new(),
        };
        let reason = reason.as_str_name().trim_start_matches("ERROR_REASON_");
        details.set_error_info(reason, DOMAIN, metadata);
        Self::with_error_details(code, denied.to_string(), details)
    }
}
