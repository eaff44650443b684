//! The verifier in front of an HTTP service, as a tower layer. Errors are told as OAuth tells
//! them (RFC 6750): a challenge in the header, and a JSON object as at Keyward's own endpoints.

use std::future::{Ready, ready};
use std::sync::Arc;
use std::task::{Context, Poll};

use http::{HeaderValue, Request, Response, StatusCode, header};
use futures_util::future::Either;
use serde_json::json;
use tower::{Layer, Service};

use super::gate::{Denied, Gate};
use super::{Refusal, Verifier};

/// Refuses requests without a good token; made by [`Verifier::layer`]. 401: no token, or a bad
/// one; 403: scopes are missing; 503: it is not known what was revoked.
///
/// The response body must be one that a `String` can become, as those of axum and
/// `http_body_util::Full` are.
#[derive(Clone, Debug)]
pub struct VerifierLayer(Arc<Door>);

/// A service behind a [`VerifierLayer`].
#[derive(Clone, Debug)]
pub struct VerifierService<S> {
    door: Arc<Door>,
    inner: S,
}

/// A gate, and what is said at it.
#[derive(Debug)]
struct Door {
    gate: Gate,
    no_token: HeaderValue,
    invalid_token: HeaderValue,
    insufficient_scope: HeaderValue,
}

impl Verifier {
    /// Lets in requests whose token is good and has all of these scopes; none: any good token.
    /// The handler finds a [`Verified`](super::Verified) in the request's extensions.
    ///
    /// A browser's preflight requests carry no token: what answers those belongs outside of it.
    pub fn layer(&self, scopes: &[&str]) -> VerifierLayer {
        // The audience is what tokens are for, so it tells clients which ones are wanted here.
        let realm = format!("Bearer realm=\"{}\"", escaped(&self.0.audience));
        let needed = escaped(&scopes.join(" "));
        VerifierLayer(Arc::new(Door {
            gate: Gate::new(self, scopes),
            invalid_token: challenge(&format!("{realm}, error=\"invalid_token\"")),
            insufficient_scope: challenge(&format!(
                "{realm}, error=\"insufficient_scope\", scope=\"{needed}\""
            )),
            no_token: challenge(&realm),
        }))
    }
}

/// As it stands between double quotes (RFC 9110, section 5.6.4).
fn escaped(text: &str) -> String {
    text.replace('\\', "\\\\").replace('"', "\\\"")
}

fn challenge(text: &str) -> HeaderValue {
    // Audiences have no characters that a header cannot have, and no scope of a token has any.
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
        match self.door.gate.admit(request.headers()) {
            Ok(verified) => {
                request.extensions_mut().insert(verified);
                Either::Right(self.inner.call(request))
            }
            Err(denied) => Either::Left(ready(Ok(self.door.answer(&denied)))),
        }
    }
}

impl Door {
    fn answer<R: From<String>>(&self, denied: &Denied) -> Response<R> {
        let (status, error, challenge) = match denied {
            Denied::Refused(Refusal::FeedLost { .. } | Refusal::NotReady) => {
                (StatusCode::SERVICE_UNAVAILABLE, "temporarily_unavailable", None)
            }
            // Who brought no token is told of no error in the challenge (RFC 6750, section 3.1).
            Denied::NoToken => (StatusCode::UNAUTHORIZED, "invalid_token", Some(&self.no_token)),
            Denied::Refused(_) => {
                (StatusCode::UNAUTHORIZED, "invalid_token", Some(&self.invalid_token))
            }
            Denied::InsufficientScope(_) => {
                (StatusCode::FORBIDDEN, "insufficient_scope", Some(&self.insufficient_scope))
            }
        };
        let body = json!({ "error": error, "error_description": described(denied) });
        let mut response = Response::new(R::from(body.to_string()));
        *response.status_mut() = status;
        let headers = response.headers_mut();
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
        headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
        match challenge {
            Some(challenge) => headers.insert(header::WWW_AUTHENTICATE, challenge.clone()),
            None => headers.insert(header::RETRY_AFTER, HeaderValue::from_static("1")),
        };
        response
    }
}

/// RFC 6749 keeps the description to printable ASCII without `"` and `\`.
fn described(denied: &Denied) -> String {
    let plain = |c| match c {
        '"' | '`' => '\'',
        ' '..='~' if c != '\\' => c,
        _ => '?',
    };
    denied.to_string().chars().map(plain).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_stands_between_quotes_cannot_end_them() {
        assert_eq!(escaped(r#"a"b\c"#), r#"a\"b\\c"#);
        assert_eq!(challenge("Bearer a\nb"), "Bearer", "no header can be smuggled in");
    }

    #[test]
    fn a_description_is_plain() {
        assert_eq!(
            described(&Denied::NoToken),
            "this needs an access token behind 'authorization: Bearer'"
        );
    }
}
