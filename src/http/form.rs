//! The parameters of a request: a form in the body (RFC 6749, appendix B), or, for a token exchange,
//! a JSON object.

use std::fmt;
use std::sync::Arc;

use axum::body::Body;
use axum::extract::{FromRequest, Request};
use axum::http::request::Parts;
use axum::http::{HeaderMap, HeaderName, StatusCode, header};
use http_body_util::BodyExt;
use serde::de::{Error as _, MapAccess, Visitor};
use serde::{Deserialize, Deserializer};

use super::error::OAuthError;
use crate::admission::RequestPermit;
use crate::domain::{ClientCertificate, PresentedProof};
use crate::error::Error;
use crate::service::{RequestContext, Service};

/// The header with a `DPoP` proof (RFC 9449, section 4.1).
const DPOP: HeaderName = HeaderName::from_static("dpop");

const FORM: &str = "application/x-www-form-urlencoded";
const JSON: &str = "application/json";

/// The maximum size of a body.
const MAX_BODY: usize = 64 * 1024;

/// The maximum number of parameters. Requests of all grants need fewer, repetitions included.
const MAX_PARAMETERS: usize = 64;

/// The parameters that may be repeated (RFC 8707, RFC 8693).
const REPEATABLE: [&str; 2] = ["resource", "audience"];

/// Parameters that must not be in a URI, since URIs appear in logs and caches.
const NEVER_IN_URI: [&str; 6] =
    ["client_id", "client_secret", "client_assertion", "token", "subject_token", "actor_token"];

/// The parameters of a form with the headers of its request. It has no `Debug`, since it holds
/// secrets.
pub(super) struct Form {
    pub(super) headers: HeaderMap,
    permit: Option<Arc<RequestPermit>>,
    certificate: Option<ClientCertificate>,
    proof: Option<PresentedProof>,
    parameters: Vec<(String, String)>,
}

impl Form {
    /// The value of a parameter. An empty value counts as absent (RFC 6749, section 3.2).
    pub(super) fn get(&self, name: &str) -> Option<&str> {
        self.all(name).next()
    }

    /// The values of a parameter that may be repeated.
    pub(super) fn all(&self, name: &str) -> impl Iterator<Item = &str> {
        let values = self.parameters.iter().filter(move |(other, _)| other == name);
        values.map(|(_, value)| value.as_str()).filter(|value| !value.is_empty())
    }

    pub(super) fn context(&self, service: &Service) -> RequestContext<'_> {
        RequestContext::new(self.permit.as_deref(), service.now())
            .with_certificate(self.certificate.as_ref())
            .with_proof(self.proof.as_ref())
    }

    /// Whether the client proved to have a certificate.
    pub(super) fn has_certificate(&self) -> bool {
        self.certificate.is_some()
    }

    /// The value of a required parameter.
    pub(super) fn required(&self, name: &str) -> Result<&str, OAuthError> {
        self.get(name)
            .ok_or_else(|| OAuthError::invalid_request(format!("the parameter {name} is missing")))
    }
}

/// The parameters of a token request. RFC 8693 requires a form; the STS client of grpc-go sends a JSON
/// object with the same members.
pub(super) enum TokenForm {
    Form(Form),
    Json(Form),
}

impl FromRequest<Arc<Service>> for TokenForm {
    type Rejection = OAuthError;

    async fn from_request(request: Request, service: &Arc<Service>) -> Result<Self, OAuthError> {
        if !media_type(request.headers()).eq_ignore_ascii_case(JSON) {
            return Form::from_request(request, service).await.map(Self::Form);
        }
        let (head, body) = Form::read(request, service, JSON).await?;
        Ok(Self::Json(Form { parameters: members(&body)?, ..head }))
    }
}

/// The error for JSON where only a form is taken.
pub(super) fn only_a_form() -> OAuthError {
    wrong_type(FORM)
}

fn wrong_type(wanted: &str) -> OAuthError {
    OAuthError::new(StatusCode::UNSUPPORTED_MEDIA_TYPE, "invalid_request")
        .describe(format!("the Content-Type must be {wanted}"))
}

impl FromRequest<Arc<Service>> for Form {
    type Rejection = OAuthError;

    async fn from_request(request: Request, service: &Arc<Service>) -> Result<Self, OAuthError> {
        let (head, body) = Self::read(request, service, FORM).await?;
        Ok(Self { parameters: parameters(&body)?, ..head })
    }
}

impl Form {
    /// The head of a request, without parameters, and its body, which must be of this type.
    pub(super) async fn read(
        request: Request,
        service: &Service,
        media_type: &'static str,
    ) -> Result<(Self, Vec<u8>), OAuthError> {
        let (parts, body) = request.into_parts();
        refuse_credentials_in_uri(parts.uri.query().unwrap_or_default())?;
        require_type(&parts.headers, media_type)?;
        refuse_encoded(&parts.headers)?;
        let permit = parts.extensions.get::<Arc<RequestPermit>>().cloned();
        let certificate = parts.extensions.get::<ClientCertificate>().cloned();
        let proof = proof(&parts, service);
        let body = read(body, permit.as_deref()).await?;
        let parameters = Vec::new();
        Ok((Self { headers: parts.headers, permit, certificate, proof, parameters }, body))
    }
}

/// The `DPoP` proof of a request, if it has one. Its URL is that of the metadata, whatever address the
/// request came to.
fn proof(parts: &Parts, service: &Service) -> Option<PresentedProof> {
    let mut headers = parts.headers.get_all(DPOP).iter();
    let first = headers.next()?;
    let only = headers.next().is_none();
    Some(PresentedProof {
        proof: only.then(|| String::from_utf8_lossy(first.as_bytes()).into_owned()),
        method: parts.method.to_string(),
        // Without the path of the issuer, which the router has removed.
        url: format!("{}{}", service.issuer().trim_end_matches('/'), parts.uri.path()),
    })
}

/// Parameters in the order of the body. Reading stops at the limit, so that many tiny parameters
/// cannot use much memory.
#[derive(Default)]
struct RequestParameters(Vec<(String, String)>);

impl RequestParameters {
    fn add(&mut self, name: String, value: String) -> Result<(), String> {
        let is_known = self.0.iter().any(|(other, _)| *other == name);
        if is_known && !REPEATABLE.contains(&name.as_str()) {
            return Err(format!("the parameter {name} is repeated"));
        }
        if self.0.len() == MAX_PARAMETERS {
            return Err(format!("there are more than {MAX_PARAMETERS} parameters"));
        }
        self.0.push((name, value));
        Ok(())
    }
}

fn parameters(body: &[u8]) -> Result<Vec<(String, String)>, OAuthError> {
    let mut parameters = RequestParameters::default();
    for (name, value) in form_urlencoded::parse(body) {
        let added = parameters.add(name.into_owned(), value.into_owned());
        added.map_err(OAuthError::invalid_request)?;
    }
    Ok(parameters.0)
}

/// The members of a JSON object, which are strings.
fn members(body: &[u8]) -> Result<Vec<(String, String)>, OAuthError> {
    const WRONG: &str = "the body must be a JSON object whose members are strings, each named once";
    let RequestParameters(members) =
        serde_json::from_slice(body).map_err(|_| OAuthError::invalid_request(WRONG))?;
    Ok(members)
}

impl<'de> Deserialize<'de> for RequestParameters {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_map(MembersVisitor)
    }
}

struct MembersVisitor;

impl<'de> Visitor<'de> for MembersVisitor {
    type Value = RequestParameters;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object of strings")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<RequestParameters, A::Error> {
        let mut parameters = RequestParameters::default();
        while let Some((name, value)) = map.next_entry()? {
            parameters.add(name, value).map_err(A::Error::custom)?;
        }
        Ok(parameters)
    }
}

fn refuse_credentials_in_uri(query: &str) -> Result<(), OAuthError> {
    let found = form_urlencoded::parse(query.as_bytes())
        .find(|(name, _)| NEVER_IN_URI.contains(&name.as_ref()));
    match found {
        Some((name, _)) => Err(OAuthError::invalid_request(format!(
            "{name} must not be in the URI; send it in the body"
        ))),
        None => Ok(()),
    }
}

/// The media type of the body, without parameters.
fn media_type(headers: &HeaderMap) -> &str {
    headers
        .get(header::CONTENT_TYPE)
        .and_then(|value| value.to_str().ok())
        .and_then(|value| value.split(';').next())
        .unwrap_or_default()
        .trim()
}

fn require_type(headers: &HeaderMap, wanted: &str) -> Result<(), OAuthError> {
    if media_type(headers).eq_ignore_ascii_case(wanted) {
        return Ok(());
    }
    Err(wrong_type(wanted))
}

/// Refuses a body with a content coding. No client needs to compress a form, and a compressed one
/// would parse as a form without parameters.
fn refuse_encoded(headers: &HeaderMap) -> Result<(), OAuthError> {
    let is_plain = |coding: &str| coding.trim().is_empty() || coding.trim() == "identity";
    let mut codings = headers.get_all(header::CONTENT_ENCODING).iter();
    if codings.all(|value| value.to_str().is_ok_and(|list| list.split(',').all(is_plain))) {
        return Ok(());
    }
    // RFC 9110, section 15.5.16: this header distinguishes it from a wrong Content-Type.
    Err(OAuthError::new(StatusCode::UNSUPPORTED_MEDIA_TYPE, "invalid_request")
        .describe("the body must be sent without a Content-Encoding")
        .accept_encoding("identity"))
}

/// Reads a body. Takes memory from the budgets for each part before it is stored.
async fn read(mut body: Body, permit: Option<&RequestPermit>) -> Result<Vec<u8>, OAuthError> {
    let mut bytes = Vec::new();
    while let Some(frame) = body.frame().await {
        let frame = frame.map_err(|_| OAuthError::invalid_request("the body could not be read"))?;
        let Ok(data) = frame.into_data() else { continue };
        if bytes.len() + data.len() > MAX_BODY {
            return Err(Error::RequestTooLarge { max_bytes: MAX_BODY, form: "" }.into());
        }
        // The body is in memory twice: as it was received, and as parameters.
        permit.map_or(Ok(0), |permit| permit.take(2 * data.len()))?;
        bytes.extend_from_slice(&data);
    }
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parameters_are_bounded_and_unique() {
        let each = |count: usize| {
            let each: Vec<_> = (0..count).map(|n| format!("p{n}=v")).collect();
            each.join("&")
        };
        assert_eq!(parameters(each(MAX_PARAMETERS).as_bytes()).unwrap().len(), MAX_PARAMETERS);
        assert!(parameters(each(MAX_PARAMETERS + 1).as_bytes()).is_err());
        assert!(parameters(b"a=1&b=2&a=3").is_err());
        let repeatable = parameters(b"resource=1&resource=2&a=").unwrap();
        assert_eq!(repeatable.len(), 3);
        assert!(parameters("resource=1&".repeat(100).as_bytes()).is_err());
    }

    #[test]
    fn members_of_json_are_strings_bounded_and_unique() {
        let read = |json: &str| members(json.as_bytes()).ok();
        let pair = |name: &str, value: &str| (name.to_owned(), value.to_owned());
        let both = vec![pair("audience", "a"), pair("scope", "b c")];
        assert_eq!(read(r#"{"audience":"a","scope":"b c"}"#), Some(both));
        assert_eq!(read("{}"), Some(Vec::new()));
        for wrong in [
            "",
            "[]",
            "null",
            r#""text""#,
            r#"{"a":1}"#,
            r#"{"a":null}"#,
            r#"{"a":["b"]}"#,
            r#"{"a":{"b":"c"}}"#,
            r#"{"a":"b","a":"c"}"#,
            r#"{"a":"b"} {}"#,
            r#"{"a":"b""#,
        ] {
            assert_eq!(read(wrong), None, "{wrong}");
        }
        let each = |count: usize| {
            let each: Vec<_> = (0..count).map(|n| format!(r#""p{n}":"v""#)).collect();
            format!("{{{}}}", each.join(","))
        };
        assert_eq!(read(&each(MAX_PARAMETERS)).map(|all| all.len()), Some(MAX_PARAMETERS));
        assert_eq!(read(&each(MAX_PARAMETERS + 1)), None);
    }
}
