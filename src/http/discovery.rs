//! What clients and verifiers read first: server metadata (RFC 8414, `OpenID` Connect
//! Discovery) and the key set (RFC 7517). They are public, and pages of any origin may read them.

use std::collections::BTreeSet;
use std::sync::Arc;

use axum::extract::State;
use axum::http::{HeaderMap, HeaderName, HeaderValue, StatusCode, header};
use axum::response::Response;
use serde_json::{Value, json};

use super::json as answer;
use crate::service::Service;

/// Where RFC 8414 puts the metadata.
pub(super) const OAUTH_PATH: &str = "/.well-known/oauth-authorization-server";
/// Where `OpenID` Connect Discovery puts it. Many libraries look nowhere else.
pub(super) const OPENID_PATH: &str = "/.well-known/openid-configuration";

/// The five minutes of `KeyRing::JWKS_MAX_AGE`.
const CACHE: &str = "public, max-age=300";

/// The metadata of RFC 8414.
pub(super) async fn oauth(State(service): State<Arc<Service>>) -> Response {
    answer(StatusCode::OK, CACHE, &metadata(&service))
}

/// The same for `OpenID` Connect, with two members that its libraries require. There are no ID
/// tokens and no users to log in here, and so no endpoints for them.
pub(super) async fn openid(State(service): State<Arc<Service>>) -> Response {
    let mut body = metadata(&service);
    // A `sub` is the same for every client.
    body["subject_types_supported"] = json!(["public"]);
    // What the published keys sign: go-oidc accepts only RS256 without this member.
    let algorithms: BTreeSet<_> =
        service.signing.jwks().keys.into_iter().map(|key| key.alg).collect();
    body["id_token_signing_alg_values_supported"] = json!(algorithms);
    answer(StatusCode::OK, CACHE, &body)
}

/// Every URL begins with the issuer as it was configured, whatever host was asked.
fn metadata(service: &Service) -> Value {
    let issuer = service.issuer();
    let base = issuer.trim_end_matches('/');
    let methods = json!(["client_secret_basic", "client_secret_post"]);
    json!({
        "issuer": issuer,
        "token_endpoint": format!("{base}/oauth2/token"),
        "introspection_endpoint": format!("{base}/oauth2/introspect"),
        "revocation_endpoint": format!("{base}/oauth2/revoke"),
        "jwks_uri": format!("{base}/oauth2/jwks"),
        "grant_types_supported": ["client_credentials"],
        // Required, and not to be empty (RFC 8414, sections 2 and 3.2). `none` is the response
        // type by which an authorization request yields neither code nor token, and without an
        // authorization endpoint there are no others.
        "response_types_supported": ["none"],
        "token_endpoint_auth_methods_supported": methods,
        "introspection_endpoint_auth_methods_supported": methods,
        "revocation_endpoint_auth_methods_supported": methods,
    })
}

/// The key set.
pub(super) async fn jwks(State(service): State<Arc<Service>>) -> Response {
    answer(StatusCode::OK, CACHE, &service.signing.jwks())
}

/// Answers which methods there are, also to the preflight request of a browser.
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

/// Lets pages of any origin read an answer. Without credentials: there are none here.
pub(super) async fn share(mut response: Response) -> Response {
    let any = HeaderValue::from_static("*");
    response.headers_mut().insert(header::ACCESS_CONTROL_ALLOW_ORIGIN, any);
    response
}
