//! The HTTP face: OAuth 2.0 as clients in every language speak it. Thin adapters, like the gRPC face,
//! over the same methods of the service.

mod client_auth;
mod discovery;
mod error;
mod form;
mod introspect;
mod rate_limit;
mod revoke;
mod token;

use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::extract::{Request, State};
use axum::http::uri::Authority;
use axum::http::{HeaderValue, StatusCode, Version, header};
use axum::middleware::{Next, from_fn_with_state, map_response};
use axum::response::{IntoResponse, Response};
use axum::routing::{MethodRouter, get, post};
use serde::Serialize;

use crate::admission::RequestPermit;
use crate::error::Error;
use crate::service::Service;
use error::OAuthError;

/// All endpoints, at the root and below the issuer's path if it has one. A request is
/// answered within `timeout`.
pub fn router(service: Arc<Service>, timeout: Duration) -> Router {
    let path = issuer_path(service.issuer());
    let endpoints = Router::new()
        .route("/oauth2/token", only(post(token::token)))
        .route("/oauth2/introspect", only(post(introspect::introspect)))
        .route("/oauth2/revoke", only(post(revoke::revoke)))
        .route("/oauth2/jwks", public(get(discovery::jwks)))
        .route(discovery::OAUTH_PATH, public(get(discovery::oauth)))
        .route(discovery::OPENID_PATH, public(get(discovery::openid)));
    let router = if path.is_empty() {
        endpoints
    } else {
        // RFC 8414 inserts the well-known part before the issuer's path; OpenID Connect and
        // older clients append it.
        endpoints
            .clone()
            .route(&format!("{}{path}", discovery::OAUTH_PATH), public(get(discovery::oauth)))
            .route(&format!("{}{path}", discovery::OPENID_PATH), public(get(discovery::openid)))
            .nest(&path, endpoints)
    };
    router
        .fallback(unknown)
        .layer(from_fn_with_state(timeout, enforce))
        .layer(map_response(guard))
        .with_state(service)
}

/// Only the methods given; others are refused in JSON.
fn only(methods: MethodRouter<Arc<Service>>) -> MethodRouter<Arc<Service>> {
    methods.fallback(async || {
        OAuthError::new(StatusCode::METHOD_NOT_ALLOWED, "invalid_request")
            .describe("this endpoint does not take this method")
    })
}

/// A document for everyone, pages of other origins included.
fn public(methods: MethodRouter<Arc<Service>>) -> MethodRouter<Arc<Service>> {
    only(methods.options(discovery::options)).layer(map_response(discovery::share))
}

async fn unknown() -> OAuthError {
    OAuthError::new(StatusCode::NOT_FOUND, "not_found").describe("there is no such endpoint")
}

/// Refuses a request for which there is no memory, or that names no host. Answers the others within
/// the timeout.
async fn enforce(State(timeout): State<Duration>, request: Request, next: Next) -> Response {
    if let Some(permit) = request.extensions().get::<Arc<RequestPermit>>()
        && let Err(error) = permit.require()
    {
        return OAuthError::from(error).into_response();
    }
    if !names_one_host(&request) {
        return OAuthError::invalid_request("a request must have one Host header, of a host")
            .into_response();
    }
    if request.headers().contains_key("keyward-user") {
        return OAuthError::invalid_request(
            "keyward-user is not taken here: these endpoints answer clients, not users",
        )
        .into_response();
    }
    tokio::time::timeout(timeout, next.run(request))
        .await
        .unwrap_or_else(|_| OAuthError::from(Error::DeadlineExceeded).into_response())
}

/// Whether the request has the one `Host` that HTTP/1.1 requires (RFC 9112, section 3.2). HTTP/2 has
/// `:authority`, and HTTP/1.0 neither.
pub fn names_one_host<B>(request: &axum::http::Request<B>) -> bool {
    if request.version() != Version::HTTP_11 {
        return true;
    }
    let mut hosts = request.headers().get_all(header::HOST).iter();
    let (Some(host), None) = (hosts.next(), hosts.next()) else { return false };
    host.is_empty()
        || Authority::try_from(host.as_bytes()).is_ok_and(|host| !host.as_str().contains('@'))
}

/// Adds the header of every answer: the body is what its content type says.
async fn guard(mut response: Response) -> Response {
    let headers = response.headers_mut();
    headers.insert(header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    response
}

/// The path of the issuer URL, without a slash at its end.
fn issuer_path(issuer: &str) -> String {
    let rest = issuer.split_once("://").map_or(issuer, |(_, rest)| rest);
    let path = rest.find('/').map_or("", |start| &rest[start..]);
    path.trim_end_matches('/').to_owned()
}

/// A JSON answer with its caching rule.
fn json(status: StatusCode, cache_control: &'static str, body: &impl Serialize) -> Response {
    match serde_json::to_vec(body) {
        Ok(body) => (
            status,
            [(header::CONTENT_TYPE, "application/json"), (header::CACHE_CONTROL, cache_control)],
            Body::from(body),
        )
            .into_response(),
        Err(error) => OAuthError::from(Error::Internal(Box::new(error))).into_response(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_issuer_may_have_a_path() {
        assert_eq!(issuer_path("https://id.example"), "");
        assert_eq!(issuer_path("https://id.example/"), "");
        assert_eq!(issuer_path("https://id.example/keyward/eu"), "/keyward/eu");
    }
}
