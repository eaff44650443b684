//! Token introspection (RFC 7662), with answers as JSON or as signed JWTs (RFC 9701).

use std::sync::Arc;

use axum::extract::State;
use axum::http::{HeaderMap, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde::Serialize;

use super::error::OAuthError;
use super::form::Form;
use super::{client_auth, json};
use crate::domain::{Confirmation, Moment, TokenActor, TokenClaims};
use crate::keys::jwt::Audiences;
use crate::secrets::Secret;
use crate::service::{Service, TokenInfo};

/// The media type of signed answers.
const JWT: &str = "application/token-introspection+jwt";

/// The answer for an active token. For any other token it is exactly `{"active":false}`.
#[derive(Serialize)]
struct Introspection {
    active: bool,
    #[serde(flatten)]
    token: Option<TokenMembers>,
}

#[derive(Serialize)]
struct TokenMembers {
    scope: String,
    client_id: String,
    token_type: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    exp: Option<i64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    iat: Option<i64>,
    sub: String,
    aud: Audiences,
    iss: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    jti: Option<String>,
    tenant: String,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    roles: Vec<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    cnf: Option<Confirmation>,
    #[serde(skip_serializing_if = "Option::is_none")]
    act: Option<Box<TokenActor>>,
    #[serde(flatten)]
    token_claims: TokenClaims,
}

pub(super) async fn introspect(
    State(service): State<Arc<Service>>,
    form: Form,
) -> Result<Response, OAuthError> {
    let credential = client_auth::caller(&form)?;
    // Before a one-time assertion is spent.
    let token = Secret::new(form.required("token")?);
    let caller = client_auth::authenticate(&service, &form, credential).await?;
    let info = service.tokens.introspect(&caller, &token).await?;
    let body = Introspection { active: info.is_some(), token: info.map(TokenMembers::from) };
    if !accepts_jwt(&form.headers) {
        return Ok(json(StatusCode::OK, "no-store", &body));
    }
    let jwt = service.tokens.sign_introspection(&caller, &body).await?;
    let headers = [
        (header::CONTENT_TYPE, HeaderValue::from_static(JWT)),
        (header::CACHE_CONTROL, HeaderValue::from_static("no-store")),
    ];
    Ok((headers, jwt.into_exposed()).into_response())
}

/// Whether the client names the media type of RFC 9701, section 4. A wildcard means JSON.
fn accepts_jwt(headers: &HeaderMap) -> bool {
    let accepted = headers.get_all(header::ACCEPT).iter().filter_map(|value| value.to_str().ok());
    accepted
        .flat_map(|list| list.split(','))
        .any(|one| one.split(';').next().unwrap_or_default().trim().eq_ignore_ascii_case(JWT))
}

impl From<TokenInfo> for TokenMembers {
    fn from(info: TokenInfo) -> Self {
        Self {
            scope: info.scopes.to_string(),
            client_id: info.client_id,
            token_type: Confirmation::token_type(info.confirmation.as_ref()),
            exp: info.expires_at.map(Moment::as_second),
            iat: info.issued_at.map(jiff::Timestamp::as_second),
            sub: info.subject,
            aud: Audiences::new(info.audiences),
            iss: info.issuer,
            jti: info.token_id,
            tenant: info.tenant,
            roles: info.roles,
            cnf: info.confirmation,
            act: info.actor,
            token_claims: info.token_claims,
        }
    }
}
