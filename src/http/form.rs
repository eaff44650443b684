//! The parameters of a request: a form in the body (RFC 6749, appendix B), each
//! parameter once.

use std::collections::HashMap;
use std::net::{IpAddr, SocketAddr};

use axum::body::{Body, to_bytes};
use axum::extract::{FromRequest, Request};
use axum::http::{HeaderMap, StatusCode, header};

use super::error::OAuthError;

/// The largest body that is read.
const MAX_BODY: usize = 64 * 1024;

/// The parameters that may be repeated (RFC 8707, RFC 8693).
const REPEATABLE: [&str; 2] = ["resource", "audience"];

/// Parameters that must never stand in a URI, where logs and caches see them.
const NEVER_IN_URI: [&str; 4] = ["client_id", "client_secret", "client_assertion", "token"];

/// The parameters of a form with the headers of its request. It has no Debug: secrets
/// are in it.
pub(super) struct Form {
    pub(super) headers: HeaderMap,
    /// The address that the request came from: the server puts it there.
    pub(super) source: Option<IpAddr>,
    parameters: HashMap<String, Vec<String>>,
}

impl Form {
    /// The value of a parameter. One without a value counts as absent (RFC 6749,
    /// section 3.2).
    pub(super) fn get(&self, name: &str) -> Option<&str> {
        self.all(name).next()
    }

    /// The values of a parameter that may be repeated.
    pub(super) fn all(&self, name: &str) -> impl Iterator<Item = &str> {
        let values = self.parameters.get(name).into_iter().flatten();
        values.map(String::as_str).filter(|value| !value.is_empty())
    }

    /// The value of a parameter that must be there.
    pub(super) fn required(&self, name: &str) -> Result<&str, OAuthError> {
        self.get(name)
            .ok_or_else(|| OAuthError::invalid_request(format!("the parameter {name} is missing")))
    }
}

impl<S: Sync> FromRequest<S> for Form {
    type Rejection = OAuthError;

    async fn from_request(request: Request, _: &S) -> Result<Self, OAuthError> {
        let (parts, body) = request.into_parts();
        refuse_credentials_in_uri(parts.uri.query().unwrap_or_default())?;
        require_form(&parts.headers)?;
        let body = read(body).await?;
        let mut parameters: HashMap<String, Vec<String>> = HashMap::new();
        for (name, value) in form_urlencoded::parse(&body) {
            parameters.entry(name.into_owned()).or_default().push(value.into_owned());
        }
        let repeated = parameters
            .iter()
            .find(|(name, values)| values.len() > 1 && !REPEATABLE.contains(&name.as_str()));
        if let Some((name, _)) = repeated {
            return Err(OAuthError::invalid_request(format!("the parameter {name} is repeated")));
        }
        let source = parts.extensions.get::<SocketAddr>().map(SocketAddr::ip);
        Ok(Self { headers: parts.headers, source, parameters })
    }
}

fn refuse_credentials_in_uri(query: &str) -> Result<(), OAuthError> {
    let found = form_urlencoded::parse(query.as_bytes())
        .find(|(name, _)| NEVER_IN_URI.contains(&name.as_ref()));
    match found {
        Some((name, _)) => Err(OAuthError::invalid_request(format!(
            "{name} must not stand in the URI; send it in the body"
        ))),
        None => Ok(()),
    }
}

fn require_form(headers: &HeaderMap) -> Result<(), OAuthError> {
    let media_type = headers
        .get(header::CONTENT_TYPE)
        .and_then(|value| value.to_str().ok())
        .and_then(|value| value.split(';').next())
        .unwrap_or_default()
        .trim();
    if media_type.eq_ignore_ascii_case("application/x-www-form-urlencoded") {
        return Ok(());
    }
    Err(OAuthError::new(StatusCode::UNSUPPORTED_MEDIA_TYPE, "invalid_request")
        .describe("the Content-Type must be application/x-www-form-urlencoded"))
}

async fn read(body: Body) -> Result<Vec<u8>, OAuthError> {
    match to_bytes(body, MAX_BODY).await {
        Ok(bytes) => Ok(bytes.into()),
        Err(error) if is_too_long(&error) => {
            Err(OAuthError::new(StatusCode::PAYLOAD_TOO_LARGE, "invalid_request")
                .describe(format!("the body is larger than {MAX_BODY} bytes")))
        }
        Err(_) => Err(OAuthError::invalid_request("the body could not be read")),
    }
}

fn is_too_long(error: &axum::Error) -> bool {
    std::error::Error::source(error)
        .is_some_and(<dyn std::error::Error>::is::<http_body_util::LengthLimitError>)
}
