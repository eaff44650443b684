//! Discovery documents for clients and verifiers: the server metadata (RFC 8414, `OpenID` Connect
//! Discovery) and the key set (RFC 7517). They are public, and web pages of any origin can read
//! them.

use std::collections::BTreeSet;
use std::sync::Arc;

use axum::Extension;
use axum::extract::State;
use axum::http::{HeaderMap, HeaderName, HeaderValue, StatusCode, header};
use axum::response::Response;
use serde_json::{Value, json};

use super::error::json as answer;
use super::grant_types::GRANT_TYPES;
use super::issuer_path;
use crate::domain::ScopeName;
use crate::service::{ASSERTION_ALGORITHMS, DPOP_ALGORITHMS, Service};

/// The path of the metadata in RFC 8414.
pub(super) const OAUTH_PATH: &str = "/.well-known/oauth-authorization-server";
/// The path in `OpenID` Connect Discovery. Many libraries support only this one.
pub(super) const OPENID_PATH: &str = "/.well-known/openid-configuration";

/// The path of the metadata of a protected resource (RFC 9728).
pub(super) const RESOURCE_PATH: &str = "/.well-known/oauth-protected-resource";

/// The five minutes of `keys::schedule::JWKS_MAX_AGE`.
pub(super) const CACHE: &str = "public, max-age=300";

/// The ways to authenticate with a client certificate that the listener makes possible.
#[derive(Clone, Copy)]
pub(super) struct ListenerMethods(pub(super) &'static [&'static str]);

/// The metadata of RFC 8414.
pub(super) async fn oauth(
    State(service): State<Arc<Service>>,
    Extension(listener): Extension<ListenerMethods>,
) -> Response {
    answer(StatusCode::OK, CACHE, &metadata(&service, listener))
}

/// The metadata for `OpenID` Connect libraries, with two members that they require. Keyward has no
/// ID tokens and no user login, so it lists no endpoints for them.
pub(super) async fn openid(
    State(service): State<Arc<Service>>,
    Extension(listener): Extension<ListenerMethods>,
) -> Response {
    let mut body = metadata(&service, listener);
    // Every client sees the same `sub`.
    body["subject_types_supported"] = json!(["public"]);
    // The algorithms of the published keys. Without this member, go-oidc accepts only RS256.
    body["id_token_signing_alg_values_supported"] = json!(algorithms(&service));
    answer(StatusCode::OK, CACHE, &body)
}

/// The metadata of Keyward as a protected resource (RFC 9728): introspection, revocation and gRPC
/// accept access tokens for the audience `keyward`.
pub(super) async fn resource(State(service): State<Arc<Service>>) -> Response {
    let issuer = service.issuer();
    let body = json!({
        "resource": issuer,
        "resource_name": "Keyward",
        "authorization_servers": [issuer],
        "bearer_methods_supported": ["header"],
        "dpop_signing_alg_values_supported": DPOP_ALGORITHMS,
        "scopes_supported": [ScopeName::ADMIN, ScopeName::MANAGE, ScopeName::VERIFY],
    });
    answer(StatusCode::OK, CACHE, &body)
}

/// The URL of the metadata of Keyward as a protected resource: the well-known part is inserted
/// before the issuer's path.
pub(super) fn resource_metadata(issuer: &str) -> String {
    let path = issuer_path(issuer);
    let host = issuer.trim_end_matches('/').strip_suffix(&path).unwrap_or(issuer);
    format!("{host}{RESOURCE_PATH}{path}")
}

/// The algorithms of the published keys.
fn algorithms(service: &Service) -> BTreeSet<String> {
    service.signing.jwks().keys.into_iter().map(|key| key.alg).collect()
}

/// The shared members. URLs start with the configured issuer, not with the host of the request.
fn metadata(service: &Service, listener: ListenerMethods) -> Value {
    let issuer = service.issuer();
    let base = issuer.trim_end_matches('/');
    let usual = ["client_secret_basic", "client_secret_post", "private_key_jwt"];
    let methods: Vec<_> = usual.iter().chain(listener.0).collect();
    let mut body = json!({
        "issuer": issuer,
        "token_endpoint": format!("{base}/oauth2/token"),
        "introspection_endpoint": format!("{base}/oauth2/introspect"),
        "revocation_endpoint": format!("{base}/oauth2/revoke"),
        "jwks_uri": format!("{base}/oauth2/jwks"),
        "grant_types_supported": GRANT_TYPES,
        // Required and not empty (RFC 8414, sections 2 and 3.2). `none` is the only response type
        // that fits a server without an authorization endpoint: it returns neither code nor token.
        "response_types_supported": ["none"],
        "token_endpoint_auth_methods_supported": methods,
        "dpop_signing_alg_values_supported": DPOP_ALGORITHMS,
        "token_endpoint_auth_signing_alg_values_supported": ASSERTION_ALGORITHMS,
        "introspection_endpoint_auth_methods_supported": methods,
        "introspection_endpoint_auth_signing_alg_values_supported": ASSERTION_ALGORITHMS,
        "revocation_endpoint_auth_methods_supported": methods,
        "revocation_endpoint_auth_signing_alg_values_supported": ASSERTION_ALGORITHMS,
        // Answers as JWTs (RFC 9701, section 7).
        "introspection_signing_alg_values_supported": algorithms(service),
        // RFC 9728, section 4.
        "protected_resources": [issuer],
    });
    if !listener.0.is_empty() {
        // RFC 8705, section 3.3.
        body["tls_client_certificate_bound_access_tokens"] = json!(true);
    }
    body
}

pub(super) async fn jwks(State(service): State<Arc<Service>>) -> Response {
    answer(StatusCode::OK, CACHE, &service.signing.jwks())
}

/// Answers OPTIONS, which includes the preflight requests of browsers.
pub(super) async fn options() -> (StatusCode, HeaderMap) {
    const METHODS: HeaderValue = HeaderValue::from_static("GET, HEAD, OPTIONS");
    let headers: [(HeaderName, HeaderValue); 4] = [
        (header::ALLOW, METHODS),
        (header::ACCESS_CONTROL_ALLOW_METHODS, METHODS),
        (header::ACCESS_CONTROL_ALLOW_HEADERS, HeaderValue::from_static("*")),
        (header::ACCESS_CONTROL_MAX_AGE, HeaderValue::from_static("86400")),
    ];
    (StatusCode::NO_CONTENT, HeaderMap::from_iter(headers))
}

/// Lets web pages of any origin read an answer, without credentials (CORS).
pub(super) async fn share(mut response: Response) -> Response {
    let any = HeaderValue::from_static("*");
    response.headers_mut().insert(header::ACCESS_CONTROL_ALLOW_ORIGIN, any);
    response
}
