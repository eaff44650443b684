//! The HTTP interface: the OAuth 2.0 endpoints, and what gateways ask. Thin adapters, like those of the gRPC interface, on
//! the same methods of the service.

mod authzen;
mod client_auth;
mod discovery;
mod error;
mod form;
mod gateway;
mod grant_types;
mod introspect;
mod openapi;
mod rate_limit;
mod revoke;
mod token;

use std::sync::Arc;
use std::time::Duration;

use axum::body::Bytes;
use axum::extract::Request;
use axum::http::uri::Authority;
use axum::http::{HeaderValue, StatusCode, Version, header};
use axum::middleware::{Next, map_response};
use axum::response::{IntoResponse, Response};
use axum::routing::{MethodRouter, get, post};
use axum::{Extension, Router};

use crate::admission::RequestPermit;
use crate::error::Error;
use crate::gateway::GatewayOptions;
use crate::service::Service;
use error::{OAuthError, json};

const NO_SNIFF: HeaderValue = HeaderValue::from_static("nosniff");

/// All endpoints, at the root and below the issuer's path if it has one. The caller adds [`answer`]
/// as a layer. `certificate_methods` are the ways to authenticate with a client certificate that the
/// listener makes possible.
pub fn router(
    service: Arc<Service>,
    certificate_methods: &'static [&'static str],
    gateways: &Arc<GatewayOptions>,
) -> Router {
    let methods = discovery::ListenerMethods(certificate_methods);
    let description = openapi::document(service.issuer());
    let all = || endpoints(description.clone(), methods);
    let router = |endpoints: Vec<HttpEndpoint>| {
        endpoints.into_iter().fold(Router::new(), |router, (at, methods)| router.route(at, methods))
    };
    let path = issuer_path(service.issuer());
    let mut served = router(all());
    if !path.is_empty() {
        // RFC 8414 inserts the well-known part before the issuer's path; OpenID Connect and
        // older clients append it.
        served = served.nest(&path, router(all()));
        for (at, methods) in all().into_iter().filter(|(at, _)| at.starts_with("/.well-known/")) {
            served = served.route(&format!("{at}{path}"), methods);
        }
    }
    // Gateways know an address, and not the issuer.
    served.merge(gateway::routes(gateways)).fallback(unknown).with_state(service)
}

/// A path below the issuer, and what answers there.
type HttpEndpoint = (&'static str, MethodRouter<Arc<Service>>);

/// The endpoints. `proto/openapi/keyward.json` describes them.
fn endpoints(description: Bytes, methods: discovery::ListenerMethods) -> Vec<HttpEndpoint> {
    let public = |documents| public(documents).layer(Extension(methods));
    vec![
        ("/oauth2/token", only(post(token::token))),
        ("/oauth2/introspect", only(post(introspect::introspect))),
        ("/oauth2/revoke", only(post(revoke::revoke))),
        ("/oauth2/jwks", public(get(discovery::jwks))),
        (openapi::PATH, public(get(async move || openapi::answer(description.clone())))),
        (authzen::EVALUATION_PATH, only(post(authzen::evaluation))),
        (authzen::EVALUATIONS_PATH, only(post(authzen::evaluations))),
        (authzen::METADATA_PATH, public(get(authzen::metadata))),
        (discovery::OAUTH_PATH, public(get(discovery::oauth))),
        (discovery::RESOURCE_PATH, public(get(discovery::resource))),
        (discovery::OPENID_PATH, public(get(discovery::openid))),
    ]
}

/// Refuses other HTTP methods with a JSON error.
fn only(methods: MethodRouter<Arc<Service>>) -> MethodRouter<Arc<Service>> {
    methods.fallback(async || {
        OAuthError::new(StatusCode::METHOD_NOT_ALLOWED, "invalid_request")
            .describe("this endpoint does not take this method")
    })
}

/// A public document, which web pages of any origin can read.
fn public(methods: MethodRouter<Arc<Service>>) -> MethodRouter<Arc<Service>> {
    only(methods.options(discovery::options)).layer(map_response(discovery::share))
}

async fn unknown() -> OAuthError {
    OAuthError::new(StatusCode::NOT_FOUND, "not_found").describe("there is no such endpoint")
}

/// Answers a request within `timeout`. One layer does everything that all endpoints share, since
/// each axum layer allocates memory for every request.
pub async fn answer(request: Request, next: Next, timeout: Duration) -> Response {
    let mut response = match check(&request) {
        Ok(()) => tokio::time::timeout(timeout, next.run(request))
            .await
            .unwrap_or_else(|_| OAuthError::from(Error::DeadlineExceeded).into_response()),
        Err(refusal) => refusal.into_response(),
    };
    // Keeps browsers from guessing another content type.
    response.headers_mut().insert(header::X_CONTENT_TYPE_OPTIONS, NO_SNIFF);
    response
}

/// Refuses a request that exceeds the memory budgets, has no valid `Host`, or has `keyward-user`.
fn check(request: &Request) -> Result<(), OAuthError> {
    if let Some(permit) = request.extensions().get::<Arc<RequestPermit>>() {
        permit.require()?;
    }
    if !names_one_host(request) {
        return Err(OAuthError::invalid_request("a request must have one Host header, of a host"));
    }
    // The headers of a gateway's request are those of its client.
    let is_gateway = request.uri().path() == gateway::CHECK_PATH;
    if request.headers().contains_key("keyward-user") && !is_gateway {
        return Err(OAuthError::invalid_request(
            "keyward-user is not taken here: these endpoints answer clients, not users",
        ));
    }
    Ok(())
}

/// Whether the request has exactly one valid `Host`, which HTTP/1.1 requires (RFC 9112, section
/// 3.2). HTTP/2 uses `:authority` instead, and HTTP/1.0 needs neither.
pub fn names_one_host<B>(request: &axum::http::Request<B>) -> bool {
    if request.version() != Version::HTTP_11 {
        return true;
    }
    let mut hosts = request.headers().get_all(header::HOST).iter();
    let (Some(host), None) = (hosts.next(), hosts.next()) else { return false };
    host.is_empty()
        || Authority::try_from(host.as_bytes()).is_ok_and(|host| !host.as_str().contains('@'))
}

/// The path of the issuer URL without a trailing slash.
fn issuer_path(issuer: &str) -> String {
    let rest = issuer.split_once("://").map_or(issuer, |(_, rest)| rest);
    let path = rest.find('/').map_or("", |start| &rest[start..]);
    path.trim_end_matches('/').to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn issuer_can_have_a_path() {
        assert_eq!(issuer_path("https://id.example"), "");
        assert_eq!(issuer_path("https://id.example/"), "");
        assert_eq!(issuer_path("https://id.example/keyward/eu"), "/keyward/eu");
    }
}
