//! Token revocation (RFC 7009).

use std::sync::Arc;

use axum::extract::State;
use axum::http::StatusCode;
use axum::response::Response;
use serde_json::json;

use super::client_auth;
use super::error::OAuthError;
use super::form::Form;
use super::json as answer;
use crate::secrets::Secret;
use crate::service::Service;

/// Answers 200 once the token is revoked, and also for an invalid token (RFC 7009, section 2.2). If
/// the database fails, it answers 503. RFC 7009 defines no body, but some clients parse one, so it
/// is an empty JSON object.
pub(super) async fn revoke(
    State(service): State<Arc<Service>>,
    form: Form,
) -> Result<Response, OAuthError> {
    let credential = client_auth::caller(&form)?;
    let caller = client_auth::authenticate(&service, &form, credential).await?;
    let token = Secret::new(form.required("token")?);
    service.tokens.revoke(&caller, &token).await?;
    Ok(answer(StatusCode::OK, "no-store", &json!({})))
}
