//! What clients and verifiers read before they begin: server metadata (RFC 8414) and
//! the key set (RFC 7517).

use std::sync::Arc;

use axum::extract::State;
use axum::http::StatusCode;
use axum::response::Response;
use serde_json::json;

use super::json as answer;
use crate::service::Service;

/// Where RFC 8414 puts the metadata.
pub(super) const PATH: &str = "/.well-known/oauth-authorization-server";

/// The five minutes of `KeyRing::JWKS_MAX_AGE`.
const CACHE: &str = "public, max-age=300";

/// Every URL begins with the issuer as it was configured, whatever host was asked.
pub(super) async fn metadata(State(service): State<Arc<Service>>) -> Response {
    let issuer = service.issuer();
    let base = issuer.trim_end_matches('/');
    let methods = json!(["client_secret_basic", "client_secret_post"]);
    let body = json!({
        "issuer": issuer,
        "token_endpoint": format!("{base}/oauth2/token"),
        "introspection_endpoint": format!("{base}/oauth2/introspect"),
        "revocation_endpoint": format!("{base}/oauth2/revoke"),
        "jwks_uri": format!("{base}/oauth2/jwks"),
        "grant_types_supported": ["client_credentials"],
        "response_types_supported": [],
        "token_endpoint_auth_methods_supported": methods,
        "introspection_endpoint_auth_methods_supported": methods,
        "revocation_endpoint_auth_methods_supported": methods,
    });
    answer(StatusCode::OK, CACHE, &body)
}

/// The key set.
pub(super) async fn jwks(State(service): State<Arc<Service>>) -> Response {
    answer(StatusCode::OK, CACHE, &service.jwks())
}
