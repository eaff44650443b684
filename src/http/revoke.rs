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

/// 200 once the token is refused, and for one that is not good anyway; a fault of the
/// database is 503, never 200. RFC 7009 does not define a body, and some clients parse one: it is
/// an empty JSON object.
pub(super) async fn revoke(
    State(service): State<Arc<Service>>,
    form: Form,
) -> Result<Response, OAuthError> {
    let credential = client_auth::caller(&form)?;
    let caller = service.auth.caller(&form.context(&service), credential).await?;
    let token = Secret::new(form.required("token")?);
    service.tokens.revoke(&caller, &token).await?;
    Ok(answer(StatusCode::OK, "no-store", &json!({})))
}
