//! Envoy's external authorization (`ext_authz`): `envoy.service.auth.v3.Authorization`. Envoy asks
//! about each request of its clients. A decision is always an answer; an error of the call means that
//! Keyward cannot know, and Envoy's `failure_mode_allow` and `status_on_error` say what follows.

use std::net::IpAddr;

use envoy_types::ext_authz::v3::pb::{
    Address, Authorization, CheckRequest, CheckResponse, DeniedHttpResponse, HeaderAppendAction,
    HeaderValue, HeaderValueOption, HttpResponse, HttpStatus, OkHttpResponse,
};
use envoy_types::pb::envoy::service::auth::v3::attribute_context::{HttpRequest, Peer};
use envoy_types::pb::google::protobuf::value::Kind;
use envoy_types::pb::google::protobuf::{Struct, Value};
use envoy_types::pb::google::rpc;
use tonic::{Code, Request, Response, Status};

use super::Adapter;
use crate::domain::parse_address;
use crate::gateway::{
    DescribedHeaders, DescribedRequest, GatewayOptions, GatewayQuestion, IDENTITY_HEADERS,
    RequestFault, UpstreamCredential, Verdict, is_own_header,
};
use crate::secrets::Secret;

const AUTHORIZATION: &str = "authorization";

#[tonic::async_trait]
impl Authorization for Adapter {
    async fn check(
        &self,
        request: Request<CheckRequest>,
    ) -> Result<Response<CheckResponse>, Status> {
        let caller = self.caller(&request).await?;
        caller.require_verifier()?;
        let attributes = request.into_inner().attributes.unwrap_or_default();
        let http = attributes.request.and_then(|request| request.http).unwrap_or_default();
        let peer = attributes.source.unwrap_or_default();
        let options = &*self.gateways;
        let described = described(&http, &peer);
        let question = described.as_ref().map_err(Clone::clone).and_then(|described| {
            GatewayQuestion::of(described, options, address(&peer), self.service.now())
        });
        let (verdict, token) = match question {
            Err(fault) => (Verdict::refused(&fault, options), None),
            Ok(GatewayQuestion { token, place, question }) => {
                let (access, audience) = (&self.service.access, options.upstream_audience());
                let (answer, upstream) =
                    access.check_for_upstream(&caller, &token, &question, audience).await?;
                (Verdict::of(&answer, place, options), upstream)
            }
        };
        let answer = if verdict.is_allowed() {
            let names =
                described.as_ref().map_or_else(|_| Vec::new(), |it| it.headers.names().collect());
            HttpResponse::OkResponse(allowed(&verdict, token.as_ref(), &names, options))
        } else {
            HttpResponse::DeniedResponse(denied(&verdict))
        };
        let code = if verdict.is_allowed() { Code::Ok } else { Code::PermissionDenied };
        Ok(Response::new(CheckResponse {
            status: Some(rpc::Status { code: code.into(), ..Default::default() }),
            dynamic_metadata: Some(metadata(&verdict)),
            http_response: Some(answer),
        }))
    }
}

/// The request as Envoy describes it. With `encode_raw_headers` each header is as it was sent;
/// otherwise Envoy joins those that are repeated with commas, and replaces bytes that are not UTF-8.
fn described<'a>(
    http: &'a HttpRequest,
    peer: &'a Peer,
) -> Result<DescribedRequest<'a>, RequestFault> {
    let raw = http.header_map.as_ref().map_or(&[][..], |map| &map.headers);
    let headers: DescribedHeaders<'a> = if raw.is_empty() {
        http.headers.iter().map(|(name, value)| (name.as_str(), value.as_bytes())).collect()
    } else {
        raw.iter().map(|header| (header.key.as_str(), value(header))).collect()
    };
    // The path as it was sent, if Envoy says that: it must have no bytes that Envoy replaced.
    let sent = headers.single(":path")?;
    if sent.is_some_and(|sent| sent != http.path) {
        return Err(RequestFault::Ambiguous("the path and :path disagree".to_owned()));
    }
    let certificate = Some(peer.certificate.as_str()).filter(|text| !text.is_empty());
    Ok(DescribedRequest { method: &http.method, target: &http.path, headers, certificate })
}

fn value(header: &HeaderValue) -> &[u8] {
    if header.raw_value.is_empty() { header.value.as_bytes() } else { &header.raw_value }
}

/// The address of Envoy's client.
fn address(peer: &Peer) -> Option<IpAddr> {
    match peer.address.as_ref()?.address.as_ref()? {
        Address::SocketAddress(socket) => parse_address(&socket.address),
        _ => None,
    }
}

/// What the service gets. Envoy removes after it sets, so no name is in both lists.
fn allowed(
    verdict: &Verdict,
    token: Option<&Secret>,
    sent: &[&str],
    options: &GatewayOptions,
) -> OkHttpResponse {
    let known = IDENTITY_HEADERS.into_iter().zip(&verdict.identity);
    let known = known.filter(|(_, value)| !value.is_empty());
    let mut headers: Vec<_> = known.map(|(name, value)| set(name, value.clone())).collect();
    if let Some(token) = token {
        headers.push(set(AUTHORIZATION, format!("Bearer {}", token.expose())));
    }
    let is_set = |name: &str| headers.iter().any(|option| key(option) == name);
    let of_credential = options.credential_headers();
    let of_credential = of_credential.filter(|_| options.upstream != UpstreamCredential::Same);
    let ours = sent.iter().copied().filter(|name| is_own_header(name));
    let all = of_credential.chain(IDENTITY_HEADERS).chain(ours);
    let mut headers_to_remove: Vec<_> =
        all.filter(|name| !is_set(name)).map(ToOwned::to_owned).collect();
    headers_to_remove.sort_unstable();
    headers_to_remove.dedup();
    OkHttpResponse {
        headers,
        headers_to_remove,
        response_headers_to_add: for_client(verdict),
        ..Default::default()
    }
}

fn denied(verdict: &Verdict) -> DeniedHttpResponse {
    let mut headers = for_client(verdict);
    headers.push(set("content-type", "application/json".to_owned()));
    headers.push(set("cache-control", "no-store".to_owned()));
    DeniedHttpResponse {
        status: Some(HttpStatus { code: i32::from(verdict.status) }),
        headers,
        body: verdict.body(),
    }
}

fn for_client(verdict: &Verdict) -> Vec<HeaderValueOption> {
    verdict.client_headers.iter().map(|(name, value)| set(name, value.clone())).collect()
}

/// A header that takes the place of those with its name.
fn set(name: &str, value: String) -> HeaderValueOption {
    HeaderValueOption {
        header: Some(HeaderValue { key: name.to_owned(), value, raw_value: Vec::new() }),
        append_action: HeaderAppendAction::OverwriteIfExistsOrAdd.into(),
        ..Default::default()
    }
}

fn key(option: &HeaderValueOption) -> &str {
    option.header.as_ref().map_or("", |header| &header.key)
}

/// What access logs of Envoy can show, as `%DYNAMIC_METADATA(envoy.filters.http.ext_authz:outcome)%`.
fn metadata(verdict: &Verdict) -> Struct {
    let text = |text: &str| Value { kind: Some(Kind::StringValue(text.to_owned())) };
    let identity = IDENTITY_HEADERS.into_iter().zip(&verdict.identity);
    let known = identity.filter(|(_, value)| !value.is_empty());
    let name = |header: &str| header.trim_start_matches("x-keyward-").replace('-', "_");
    let mut fields: std::collections::HashMap<_, _> =
        known.map(|(header, value)| (name(header), text(value))).collect();
    fields.insert("outcome".to_owned(), text(verdict.outcome));
    Struct { fields }
}
