//! The token endpoint (RFC 6749, section 3.2).

use std::sync::Arc;

use axum::extract::State;
use axum::http::{HeaderValue, StatusCode};
use axum::response::Response;
use serde::Serialize;

use super::error::{DPOP_NONCE, OAuthError};
use super::form::{Form, TokenForm, only_a_form};
use super::grant_types::{GRANT_TYPES, TOKEN_EXCHANGE};
use super::{client_auth, json, rate_limit};
use crate::domain::{Audience, Confirmation, Fault, GrantRequest, ScopeSet, TokenType};
use crate::secrets::Secret;
use crate::service::{ExchangeRequest, GrantType, PresentedToken, Service, TokenRequest};

/// A successful answer (RFC 6749, section 5.1).
#[derive(Serialize)]
struct TokenResponse<'a> {
    access_token: &'a str,
    token_type: &'static str,
    expires_in: u64,
    scope: String,
    /// Only for an exchange, which requires it (RFC 8693, section 2.2.1).
    #[serde(skip_serializing_if = "Option::is_none")]
    issued_token_type: Option<&'static str>,
}

pub(super) async fn token(
    State(service): State<Arc<Service>>,
    form: TokenForm,
) -> Result<Response, OAuthError> {
    let (form, is_json) = match form {
        TokenForm::Form(form) => (form, false),
        TokenForm::Json(form) => (form, true),
    };
    let grant_type = form.required("grant_type")?;
    if is_json && grant_type != TOKEN_EXCHANGE {
        return Err(only_a_form());
    }
    if !GRANT_TYPES.contains(&grant_type) {
        return Err(OAuthError::new(StatusCode::BAD_REQUEST, "unsupported_grant_type")
            .describe(format!("grant_type must be {}", GRANT_TYPES.join(" or "))));
    }
    if form.get("authorization_details").is_some() {
        // Ignoring it would give more than what was asked for.
        return Err(OAuthError::new(StatusCode::BAD_REQUEST, "invalid_authorization_details")
            .describe("authorization_details (RFC 9396) are not supported: use scope"));
    }
    let credential = client_auth::client(&form)?;
    let grant = match grant_type {
        TOKEN_EXCHANGE => GrantType::TokenExchange(Box::new(exchange(&form)?)),
        _ => GrantType::ClientCredentials(wanted(&form)?),
    };
    let context = form.context(&service);
    let token = service.tokens.issue(&context, TokenRequest { credential, grant }).await?;
    let body = TokenResponse {
        access_token: token.access_token.expose(),
        token_type: Confirmation::token_type(token.confirmation.as_ref()),
        expires_in: token.expires_in.as_secs(),
        scope: token.scopes.to_string(),
        issued_token_type: token.issued_type.map(TokenType::uri),
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

/// The parameters of RFC 8693, section 2.1.
fn exchange(form: &Form) -> Result<ExchangeRequest, OAuthError> {
    let subject = presented(form, "subject_token", "subject_token_type")?;
    let actor = match (form.get("actor_token"), form.get("actor_token_type")) {
        (None, None) => None,
        _ => Some(presented(form, "actor_token", "actor_token_type")?),
    };
    let requested = match form.get("requested_token_type") {
        None => TokenType::AccessToken,
        Some(uri) => {
            TokenType::parse_requested(uri).map_err(|fault| fault.of("requested_token_type"))?
        }
    };
    Ok(ExchangeRequest { subject, actor, requested, wanted: wanted(form)? })
}

fn presented(form: &Form, token: &str, token_type: &str) -> Result<PresentedToken, OAuthError> {
    let secret = Secret::new(form.required(token)?);
    let declared =
        TokenType::parse(form.required(token_type)?).map_err(|fault| fault.of(token_type))?;
    Ok(PresentedToken { token: secret, declared })
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
