//! A tower layer for HTTP services. Errors have OAuth's form (RFC 6750): a challenge in the header,
//! and a JSON object like those of Keyward's own endpoints.

use std::future::{Ready, ready};
use std::sync::Arc;
use std::task::{Context, Poll};

use futures_util::future::Either;
use http::{HeaderValue, Request, Response, StatusCode, header};
use serde_json::json;
use tower::{Layer, Service};

use super::gate::{Denied, Gate};
use super::{Refusal, Verifier};
use crate::domain::error_description;
use crate::jose::JwsAlgorithm;

/// Refuses requests without a valid token; created by [`Verifier::layer`]. 401: the token is
/// missing or invalid. 403: scopes are missing. 503: revocations are unknown.
///
/// The response body must implement `From<String>`, like the bodies of axum and
/// `http_body_util::Full`.
#[derive(Clone, Debug)]
pub struct VerifierLayer(Arc<LayerState>);

/// A service behind a [`VerifierLayer`].
#[derive(Clone, Debug)]
pub struct VerifierService<S> {
    door: Arc<LayerState>,
    inner: S,
}

/// A gate with its challenges.
#[derive(Debug)]
struct LayerState {
    gate: Gate,
    no_token: HeaderValue,
    invalid_token: HeaderValue,
    dpop: HeaderValue,
    insufficient_scope: HeaderValue,
}

impl Verifier {
    /// Admits requests whose token is valid and has all `scopes`; an empty list requires only a
    /// valid token. Handlers find a [`Verified`](super::Verified) in the request's extensions. Bound
    /// tokens need a [`SenderProof`](super::SenderProof) there.
    ///
    /// Preflight requests of browsers carry no token, so a CORS layer must be outside of this one.
    pub fn layer(&self, scopes: &[&str]) -> VerifierLayer {
        // The realm names the audience, so that clients know which token to request.
        let realm = format!("Bearer realm=\"{}\"", escaped(&self.0.audience));
        let needed = escaped(&scopes.join(" "));
        VerifierLayer(Arc::new(LayerState {
            gate: Gate::new(self, scopes),
            invalid_token: challenge(&format!("{realm}, error=\"invalid_token\"")),
            insufficient_scope: challenge(&format!(
                "{realm}, error=\"insufficient_scope\", scope=\"{needed}\""
            )),
            no_token: challenge(&realm),
            dpop: challenge(&format!(
                "DPoP realm=\"{}\", error=\"invalid_token\", algs=\"{}\"",
                escaped(&self.0.audience),
                JwsAlgorithm::NAMES.join(" ")
            )),
        }))
    }
}

/// Escapes text for a quoted string (RFC 9110, section 5.6.4).
fn escaped(text: &str) -> String {
    text.replace('\\', "\\\\").replace('"', "\\\"")
}

fn challenge(text: &str) -> HeaderValue {
    // Neither audiences nor scopes can contain characters that headers cannot.
    HeaderValue::from_str(text).unwrap_or_else(|_| HeaderValue::from_static("Bearer"))
}

impl<S> Layer<S> for VerifierLayer {
    type Service = VerifierService<S>;

    fn layer(&self, inner: S) -> Self::Service {
        VerifierService { door: Arc::clone(&self.0), inner }
    }
}

impl<S, B, R> Service<Request<B>> for VerifierService<S>
where
    S: Service<Request<B>, Response = Response<R>>,
    R: From<String>,
{
    type Response = Response<R>;
    type Error = S::Error;
    type Future = Either<Ready<Result<Response<R>, S::Error>>, S::Future>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        self.inner.poll_ready(context)
    }

    fn call(&mut self, mut request: Request<B>) -> Self::Future {
        match self.door.gate.admit(request.headers(), request.extensions()) {
            Ok(verified) => {
                request.extensions_mut().insert(verified);
                Either::Right(self.inner.call(request))
            }
            Err(denied) => Either::Left(ready(Ok(self.door.answer(&denied)))),
        }
    }
}

impl LayerState {
    fn answer<R: From<String>>(&self, denied: &Denied) -> Response<R> {
        let (status, error, challenge) = match denied {
            Denied::Refused(Refusal::FeedLost { .. } | Refusal::NotReady) => {
                (StatusCode::SERVICE_UNAVAILABLE, "temporarily_unavailable", None)
            }
            // Without a token, the challenge contains no error (RFC 6750, section 3.1).
            Denied::NoToken => (StatusCode::UNAUTHORIZED, "invalid_token", Some(&self.no_token)),
            Denied::Refused(_) => {
                (StatusCode::UNAUTHORIZED, "invalid_token", Some(&self.invalid_token))
            }
            Denied::InsufficientScope(_) => {
                (StatusCode::FORBIDDEN, "insufficient_scope", Some(&self.insufficient_scope))
            }
        };
        let body =
            json!({ "error": error, "error_description": error_description(&denied.to_string()) });
        let mut response = Response::new(R::from(body.to_string()));
        *response.status_mut() = status;
        let headers = response.headers_mut();
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
        headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
        match challenge {
            Some(challenge) => headers.insert(header::WWW_AUTHENTICATE, challenge.clone()),
            None => headers.insert(header::RETRY_AFTER, HeaderValue::from_static("1")),
        };
        if let Denied::Refused(refusal) = denied
            && refusal.is_about_dpop()
        {
            // With a proof, the token may be accepted (RFC 9449, section 7.1).
            headers.append(header::WWW_AUTHENTICATE, self.dpop.clone());
        }
        response
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quoted_text_cannot_end_the_quotes() {
        assert_eq!(escaped(r#"a"b\c"#), r#"a\"b\\c"#);
        assert_eq!(challenge("Bearer a\nb"), "Bearer", "no header can be injected");
    }

    #[test]
    fn error_description_is_printable_ascii() {
        assert_eq!(
            error_description(&Denied::NoToken.to_string()),
            "an access token is required: send 'authorization: Bearer TOKEN'"
        );
    }
}
