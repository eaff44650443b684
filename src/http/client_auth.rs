//! Client authentication (RFC 6749, section 2.3): either HTTP Basic or parameters in the body.

use axum::http::header;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;

use super::discovery;
use super::error::OAuthError;
use super::form::Form;
use crate::domain::{Authorization, CredentialId};
use crate::error::Error;
use crate::secrets::Secret;
use crate::service::{Caller, CallerCredential, ClientCredential, Service};

const ASSERTION_TYPE: &str = "urn:ietf:params:oauth:client-assertion-type:jwt-bearer";

/// The credential of a client, from the header or the body.
pub(super) fn client(form: &Form) -> Result<ClientCredential, OAuthError> {
    if form.get("client_assertion").is_some() || form.get("client_assertion_type").is_some() {
        return assertion(form);
    }
    match authorization(form)? {
        Some(Authorization::Basic(encoded)) => basic(form, encoded),
        Some(Authorization::Bearer(_) | Authorization::Dpop(_)) => {
            Err(OAuthError::invalid_request(
                "a client authenticates here with Basic or in the body, not with a token",
            ))
        }
        Some(Authorization::Other) => Err(OAuthError::invalid_request(
            "the Authorization scheme must be Basic, Bearer or DPoP",
        )),
        None => post(form),
    }
}

/// The credential of a caller of introspection or revocation: a client credential, an API key, or
/// an access token for Keyward.
pub(super) fn caller(form: &Form) -> Result<CallerCredential, OAuthError> {
    match authorization(form)? {
        Some(Authorization::Bearer(token)) => Ok(CallerCredential::Bearer(Secret::new(token))),
        Some(Authorization::Dpop(token)) => Ok(CallerCredential::Dpop(Secret::new(token))),
        _ => client(form).map(CallerCredential::Client),
    }
}

/// A JWT as client authentication (RFC 7521, section 4.2).
fn assertion(form: &Form) -> Result<ClientCredential, OAuthError> {
    if form.required("client_assertion_type")? != ASSERTION_TYPE {
        return Err(OAuthError::invalid_request(format!(
            "the only client_assertion_type here is {ASSERTION_TYPE}"
        )));
    }
    let assertion = form.required("client_assertion")?;
    if authorization(form)?.is_some() || form.get("client_secret").is_some() {
        return Err(OAuthError::invalid_request(
            "the client authenticates twice, with an assertion and with a secret; use one",
        ));
    }
    let client_id = form.get("client_id").unwrap_or_default().to_owned();
    Ok(ClientCredential::Assertion { client_id, assertion: Secret::new(assertion) })
}

/// Authenticates a caller of introspection or revocation. The challenge of a refused access token
/// says where the metadata of this resource is.
pub(super) async fn authenticate(
    service: &Service,
    form: &Form,
    credential: CallerCredential,
) -> Result<Caller, OAuthError> {
    let caller = service.auth.caller(&form.context(service), credential).await;
    caller.map_err(|error| {
        OAuthError::from(error).of_resource(&discovery::resource_metadata(service.issuer()))
    })
}

fn basic(form: &Form, encoded: &str) -> Result<ClientCredential, OAuthError> {
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
    // `curl -u KEY:`. No secret is empty, and no API key is a client id.
    if secret.expose().is_empty() && CredentialId::parse(&client_id).is_err() {
        return Ok(ClientCredential::api_key(Secret::new(client_id)));
    }
    Ok(ClientCredential::client_secret(client_id, secret))
}

fn post(form: &Form) -> Result<ClientCredential, OAuthError> {
    match (form.get("client_id"), form.get("client_secret")) {
        (Some(id), Some(secret)) => {
            Ok(ClientCredential::client_secret(id.to_owned(), Secret::new(secret)))
        }
        // Without a secret, the certificate of the connection must prove it (RFC 8705, section 2).
        (Some(id), None) if form.has_certificate() => {
            Ok(ClientCredential::Certificate { client_id: id.to_owned() })
        }
        _ => Err(OAuthError::from(Error::InvalidClient).describe(
            "no client authentication: send Basic, client_id and client_secret in the body, or a \
             client_assertion",
        )),
    }
}

/// The `Authorization` header, if there is one.
fn authorization(form: &Form) -> Result<Option<Authorization<'_>>, OAuthError> {
    let mut headers = form.headers.get_all(header::AUTHORIZATION).iter();
    let Some(value) = headers.next() else {
        return Ok(None);
    };
    let only = value.to_str().ok().filter(|_| headers.next().is_none());
    let parsed = only.and_then(Authorization::parse).ok_or_else(|| {
        OAuthError::invalid_request("the Authorization header is not well-formed, or repeated")
    })?;
    Ok(Some(parsed))
}

/// Decodes the form-encoding of RFC 6749, section 2.3.1. Keyward's ids and secrets have no
/// characters that need encoding, so clients that omit it work too.
fn form_decode(value: &str) -> String {
    // The value is a single string, so `&` and `=` are not separators.
    let value = value.replace('&', "%26").replace('=', "%3D");
    form_urlencoded::parse(value.as_bytes())
        .next()
        .map(|(decoded, _)| decoded.into_owned())
        .unwrap_or_default()
}
