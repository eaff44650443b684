//! The verifier in front of a gRPC service. Errors are told as Keyward tells its own
//! (AIP-193): callers need to know one kind.

use std::collections::HashMap;
use std::time::Duration;

use tonic::service::Interceptor;
use tonic::{Code, Request, Status};
use tonic_types::{ErrorDetails, StatusExt};

use super::gate::{Denied, Gate};
use super::{Refusal, Verifier};
use crate::proto::errors::ErrorReason;

/// The `domain` of every `ErrorInfo`.
const DOMAIN: &str = "keyward";
/// When to try again what was not the caller's fault.
const RETRY_AFTER: Duration = Duration::from_secs(1);

/// Refuses calls without a good token; made by [`Verifier::interceptor`]. `UNAUTHENTICATED`: no
/// token, or a bad one; `PERMISSION_DENIED`: scopes are missing, which `ErrorInfo` names under
/// `scope`; `UNAVAILABLE`: it is not known what was revoked.
#[derive(Clone, Debug)]
pub struct VerifierInterceptor(Gate);

impl Verifier {
    /// Lets in calls whose token is good and has all of these scopes; none: any good token. The
    /// handler finds a [`Verified`](super::Verified) in the request's extensions.
    pub fn interceptor(&self, scopes: &[&str]) -> VerifierInterceptor {
        VerifierInterceptor(Gate::new(self, scopes))
    }
}

impl Interceptor for VerifierInterceptor {
    fn call(&mut self, mut request: Request<()>) -> Result<Request<()>, Status> {
        let verified = self.0.admit(request.metadata().as_ref())?;
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
