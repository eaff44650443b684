//! Token revocation (RFC 7009).

use std::sync::Arc;

use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};

use super::client_auth;
use super::error::OAuthError;
use super::form::Form;
use crate::secrets::Secret;
use crate::service::Service;

/// 200 once the token is refused, and for one that is not good anyway; a fault of the
/// database is 503, never 200.
pub(super) async fn revoke(
    State(service): State<Arc<Service>>,
    form: Form,
) -> Result<Response, OAuthError> {
    let caller = client_auth::caller(&form, &service).await?;
    let token = Secret::new(form.required("token")?);
    service.revoke(&caller, &token).await?;
    Ok((StatusCode::OK, [(header::CACHE_CONTROL, "no-store")]).into_response())
}
