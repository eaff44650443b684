//! What gateways ask over HTTP about each request of their clients ("forward auth"): nginx
//! (`auth_request`), Traefik (`forwardAuth`) and Caddy (`forward_auth`). The answer 200 passes the
//! request on; any other goes to the client.

use std::sync::Arc;

use axum::extract::{Request, State};
use axum::http::{HeaderMap, HeaderName, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::any;
use axum::{Extension, Router};

use super::error::OAuthError;
use crate::admission::RequestPermit;
use crate::error::AnswerReason;
use crate::gateway::{
    DescribedHeaders, DescribedRequest, ForwardAuth, GatewayOptions, GatewayQuestion, HeaderFamily,
    IDENTITY_HEADERS, RequestFault, UpstreamCredential, Verdict,
};
use crate::secrets::Secret;
use crate::service::{Caller, Service};

pub(super) const CHECK_PATH: &str = "/gateway/check";

/// The real status of a refusal, where nginx gets 403 for it.
const STATUS: HeaderName = HeaderName::from_static("keyward-status");
/// A cached answer would let everyone in whom the cache does not tell apart.
const NO_STORE: HeaderValue = HeaderValue::from_static("no-store");

/// The route for gateways, if they are configured.
pub(super) fn routes(options: &Arc<GatewayOptions>) -> Router<Arc<Service>> {
    if options.forward_auth.is_none() {
        return Router::new();
    }
    Router::new().route(CHECK_PATH, any(check).layer(Extension(Arc::clone(options))))
}

/// The body of the request is the client's, and is not read.
async fn check(
    State(service): State<Arc<Service>>,
    Extension(options): Extension<Arc<GatewayOptions>>,
    request: Request,
) -> Result<Response, OAuthError> {
    let Some(forward_auth) = &options.forward_auth else { return Err(super::unknown().await) };
    let permit = request.extensions().get::<Arc<RequestPermit>>();
    let gateway = known_gateway(forward_auth, permit.map(Arc::as_ref))?;
    let verdict = match described(forward_auth, request.headers()) {
        Ok(described) => {
            let source = permit.filter(|it| it.address() != it.peer()).map(|it| it.address());
            GatewayQuestion::of(&described, &options, source, service.now())
        }
        Err(fault) => Err(fault),
    };
    let (verdict, token) = match verdict {
        Err(fault) => (Verdict::refused(&fault, &options), None),
        Ok(GatewayQuestion { token, place, question }) => {
            let audience = options.upstream_audience();
            let access = &service.access;
            let (answer, upstream) =
                access.check_for_upstream(&gateway, &token, &question, audience).await?;
            (Verdict::of(&answer, place, &options), upstream)
        }
    };
    Ok(if verdict.is_allowed() {
        allowed(&verdict, token.as_ref(), &options)
    } else {
        refused(&verdict, forward_auth)
    })
}

/// The gateway, known by the address of its connection. No header can change that.
fn known_gateway(
    options: &ForwardAuth,
    permit: Option<&RequestPermit>,
) -> Result<Caller, OAuthError> {
    let Some(permit) = permit.filter(|permit| options.callers.contains(permit.peer())) else {
        return Err(OAuthError::new(StatusCode::FORBIDDEN, "access_denied")
            .describe("the address is none of gateway.callers"));
    };
    if permit.address() == permit.peer() {
        permit.authenticated();
    }
    Ok(Caller::gateway(permit.peer()))
}

/// The request of the client, as the configured headers describe it. The others may be there, but
/// must say the same: a gateway that sets one of them and passes on the other has let the client
/// choose.
fn described<'a>(
    options: &ForwardAuth,
    headers: &'a HeaderMap,
) -> Result<DescribedRequest<'a>, RequestFault> {
    let all: DescribedHeaders<'a> =
        headers.iter().map(|(name, value)| (name.as_str(), value.as_bytes())).collect();
    let [method, target] = family(&all, options.family)?;
    let others = family(&all, options.family.other())?;
    if [method, target].into_iter().zip(others).any(|(own, other)| other.is_some() && other != own)
    {
        let text = "X-Original-* and X-Forwarded-* disagree: the gateway must set or remove both";
        return Err(RequestFault::Ambiguous(text.to_owned()));
    }
    let [method_name, target_name] = options.family.names();
    let missing = |name: &str| RequestFault::Ambiguous(format!("the header {name} is missing"));
    let certificate = options.certificate_header.as_deref();
    Ok(DescribedRequest {
        method: method.ok_or_else(|| missing(method_name))?,
        target: target.ok_or_else(|| missing(target_name))?,
        certificate: certificate.map_or(Ok(None), |name| all.single(name))?,
        headers: all,
    })
}

fn family<'a>(
    headers: &DescribedHeaders<'a>,
    family: HeaderFamily,
) -> Result<[Option<&'a str>; 2], RequestFault> {
    let [method, target] = family.names();
    Ok([headers.single(method)?, headers.single(target)?])
}

/// Each header of ours is there, so that the gateway overwrites what the client sent. Without a
/// value it means that there is none.
fn allowed(verdict: &Verdict, token: Option<&Secret>, options: &GatewayOptions) -> Response {
    let mut response = StatusCode::OK.into_response();
    let headers = response.headers_mut();
    headers.insert(header::CACHE_CONTROL, NO_STORE);
    set_client_headers(headers, verdict);
    for (name, value) in IDENTITY_HEADERS.into_iter().zip(&verdict.identity) {
        let value = HeaderValue::try_from(value).unwrap_or(HeaderValue::from_static(""));
        headers.insert(HeaderName::from_static(name), value);
    }
    if options.upstream != UpstreamCredential::Same {
        for name in options.credential_headers() {
            if let Ok(name) = HeaderName::try_from(name) {
                headers.insert(name, HeaderValue::from_static(""));
            }
        }
    }
    let bearer = token.map(|token| HeaderValue::try_from(format!("Bearer {}", token.expose())));
    if let Some(Ok(mut bearer)) = bearer {
        bearer.set_sensitive(true);
        headers.insert(header::AUTHORIZATION, bearer);
    }
    response
}

fn refused(verdict: &Verdict, options: &ForwardAuth) -> Response {
    let status = StatusCode::from_u16(verdict.status).unwrap_or(StatusCode::FORBIDDEN);
    let passes = matches!(status, StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN);
    let shown = if options.nginx_statuses && !passes { StatusCode::FORBIDDEN } else { status };
    let mut response = (shown, verdict.body()).into_response();
    response.extensions_mut().insert(AnswerReason(verdict.error));
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
    headers.insert(header::CACHE_CONTROL, NO_STORE);
    if options.nginx_statuses {
        headers.insert(STATUS, HeaderValue::from(status.as_u16()));
    }
    set_client_headers(headers, verdict);
    response
}

fn set_client_headers(headers: &mut HeaderMap, verdict: &Verdict) {
    for (name, value) in &verdict.client_headers {
        if let Ok(value) = HeaderValue::try_from(value) {
            headers.insert(HeaderName::from_static(name), value);
        }
    }
}
