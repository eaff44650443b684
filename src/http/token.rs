//! The token endpoint (RFC 6749, section 3.2).

use std::sync::Arc;

use axum::extract::State;
use axum::http::{HeaderValue, StatusCode};
use axum::response::Response;
use serde::Serialize;

use super::error::{DPOP_NONCE, OAuthError};
use super::form::Form;
use super::{client_auth, json, rate_limit};
use crate::domain::{Audience, Confirmation, Fault, GrantRequest, ScopeSet};
use crate::service::{GrantType, Service, TokenRequest};

/// A successful answer (RFC 6749, section 5.1). No member is optional.
#[derive(Serialize)]
struct TokenResponse<'a> {
    access_token: &'a str,
    token_type: &'static str,
    expires_in: u64,
    scope: String,
}

pub(super) async fn token(
    State(service): State<Arc<Service>>,
    form: Form,
) -> Result<Response, OAuthError> {
    match form.required("grant_type")? {
        "client_credentials" => {}
        _ => {
            return Err(OAuthError::new(StatusCode::BAD_REQUEST, "unsupported_grant_type")
                .describe("the only grant_type here is client_credentials"));
        }
    }
    if form.get("authorization_details").is_some() {
        // Ignoring it would give more than what was asked for.
        return Err(OAuthError::new(StatusCode::BAD_REQUEST, "invalid_authorization_details")
            .describe("authorization_details (RFC 9396) are not supported: use scope"));
    }
    let credential = client_auth::client(&form)?;
    let grant = GrantType::ClientCredentials(wanted(&form)?);
    let context = form.context(&service);
    let token = service.tokens.issue(&context, TokenRequest { credential, grant }).await?;
    let body = TokenResponse {
        access_token: token.access_token.expose(),
        token_type: Confirmation::token_type(token.confirmation.as_ref()),
        expires_in: token.expires_in.as_secs(),
        scope: token.scopes.to_string(),
    };
    let mut response = json(StatusCode::OK, "no-store", &body);
    rate_limit::set_status(response.headers_mut(), &token.limits);
    if let Some(nonce) = service.auth.next_dpop_nonce(&context)
        && let Ok(nonce) = HeaderValue::try_from(nonce)
    {
        response.headers_mut().insert(DPOP_NONCE, nonce);
    }
    Ok(response)
}

fn wanted(form: &Form) -> Result<GrantRequest, OAuthError> {
    let scopes = match form.get("scope") {
        None => ScopeSet::default(),
        Some(scope) => ScopeSet::parse(scope)
            .and_then(|scopes| {
                // A scope parameter without a scope is malformed (RFC 6749, section 3.3). It must
                // not request all scopes, as a missing parameter does.
                let missing = || Fault::new("must name at least one scope");
                (!scopes.is_empty()).then_some(scopes).ok_or_else(missing)
            })
            .map_err(|fault| {
                OAuthError::new(StatusCode::BAD_REQUEST, "invalid_scope")
                    .describe(format!("scope {}", fault.0))
            })?,
    };
    let audiences = form
        .all("audience")
        .chain(form.all("resource"))
        .map(Audience::parse)
        .collect::<Result<_, _>>()
        .map_err(|fault| {
            OAuthError::new(StatusCode::BAD_REQUEST, "invalid_target")
                .describe(format!("audience or resource {}", fault.0))
        })?;
    Ok(GrantRequest { scopes, audiences })
}
