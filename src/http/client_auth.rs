//! Client authentication (RFC 6749, section 2.3): HTTP Basic, or the body; one of them.

use std::sync::Arc;

use axum::http::header;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;

use super::error::OAuthError;
use super::form::Form;
use crate::domain::Client;
use crate::error::Error;
use crate::secrets::Secret;
use crate::service::{Caller, Proof, Service};

/// How a request proves its client.
pub(super) struct Presented(Proof);

impl Presented {
    /// What the request presents, from the header or the body.
    pub(super) fn in_form(form: &Form) -> Result<Self, OAuthError> {
        if form.get("client_assertion").is_some() || form.get("client_assertion_type").is_some() {
            return Err(OAuthError::invalid_request(
                "client assertions are not supported; use client_secret_basic or client_secret_post",
            ));
        }
        match authorization(form)? {
            Some(Authorization::Basic(basic)) => Self::basic(form, &basic),
            Some(Authorization::Bearer(_)) => Err(OAuthError::invalid_request(
                "a client authenticates here with Basic or in the body, not with Bearer",
            )),
            None => Self::post(form),
        }
    }

    /// Who this proves.
    pub(super) async fn authenticate(
        self,
        service: &Service,
        form: &Form,
    ) -> Result<Arc<Client>, OAuthError> {
        let client = service.authenticate_client(self.0, form.source).await?;
        form.identified(&client);
        Ok(client)
    }

    fn basic(form: &Form, encoded: &str) -> Result<Self, OAuthError> {
        let malformed = || {
            OAuthError::invalid_request(
                "the Authorization header is not well-formed: Basic base64(client_id:client_secret)",
            )
        };
        let decoded = STANDARD.decode(encoded).map_err(|_| malformed())?;
        let decoded = String::from_utf8(decoded).map_err(|_| malformed())?;
        let (id, secret) = decoded.split_once(':').ok_or_else(malformed)?;
        if form.get("client_secret").is_some() {
            return Err(OAuthError::invalid_request(
                "the client authenticates twice, in the header and in the body; use one",
            ));
        }
        let client_id = form_decode(id);
        if form.get("client_id").is_some_and(|other| other != client_id) {
            return Err(OAuthError::invalid_request(
                "client_id in the body is not the one of the Authorization header",
            ));
        }
        let secret = Secret::new(form_decode(secret));
        Ok(Self(Proof::ClientSecret { client_id, secret }))
    }

    fn post(form: &Form) -> Result<Self, OAuthError> {
        let (Some(id), Some(secret)) = (form.get("client_id"), form.get("client_secret")) else {
            return Err(OAuthError::from(Error::InvalidClient).describe(
                "no client authentication: send Basic, or client_id and client_secret in the body",
            ));
        };
        let secret = Secret::new(secret);
        Ok(Self(Proof::ClientSecret { client_id: id.to_owned(), secret }))
    }
}

/// Who calls introspection or revocation: a client, or the bearer of an API key or of
/// an access token for Keyward.
pub(super) async fn caller(form: &Form, service: &Service) -> Result<Caller, OAuthError> {
    if let Some(Authorization::Bearer(token)) = authorization(form)? {
        let caller = service.authenticate_bearer(&token, form.source).await?;
        if let Some(client) = caller.client() {
            form.identified(client);
        }
        return Ok(caller);
    }
    let client = Presented::in_form(form)?.authenticate(service, form).await?;
    Ok(service.client_calls(client, form.source))
}

enum Authorization {
    Basic(String),
    Bearer(Secret),
}

fn authorization(form: &Form) -> Result<Option<Authorization>, OAuthError> {
    let mut headers = form.headers.get_all(header::AUTHORIZATION).iter();
    let Some(value) = headers.next() else {
        return Ok(None);
    };
    let (scheme, rest) = value
        .to_str()
        .ok()
        .filter(|_| headers.next().is_none())
        .and_then(|value| value.split_once(' '))
        .ok_or_else(|| {
            OAuthError::invalid_request("the Authorization header is not well-formed, or repeated")
        })?;
    match scheme.to_ascii_lowercase().as_str() {
        "basic" => Ok(Some(Authorization::Basic(rest.trim().to_owned()))),
        "bearer" => Ok(Some(Authorization::Bearer(Secret::new(rest.trim())))),
        _ => Err(OAuthError::invalid_request("the Authorization scheme must be Basic or Bearer")),
    }
}

/// Undoes the form-encoding of RFC 6749, section 2.3.1. Ids and secrets of ours are the
/// same with and without it, so clients that leave it out are understood too.
fn form_decode(value: &str) -> String {
    // As one name: what separates parameters separates nothing here.
    let value = value.replace('&', "%26").replace('=', "%3D");
    form_urlencoded::parse(value.as_bytes())
        .next()
        .map(|(decoded, _)| decoded.into_owned())
        .unwrap_or_default()
}
