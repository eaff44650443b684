//! What Envoy asks about a request, under a limit, beside `CheckAccess` of the same server.

use std::sync::Arc;

use envoy_types::ext_authz::v3::pb::{CheckRequest, HttpResponse};
use envoy_types::pb::envoy::config::core::v3::{HeaderMap, HeaderValue};
use envoy_types::pb::envoy::service::auth::v3::AttributeContext;
use envoy_types::pb::envoy::service::auth::v3::attribute_context::{HttpRequest, Request};
use envoy_types::pb::envoy::service::auth::v3::authorization_client::AuthorizationClient;
use keyward::proto::access::access_service_client::AccessServiceClient;
use keyward::proto::access::check_access_request::Requirement;
use keyward::proto::access::{CheckAccessRequest, RequestedEndpoint};
use keyward::proto::admin as pb;

use crate::harness::{Authorized, bearer};
use crate::load::{Caller, Measured, Shape};
use crate::report::{Figure, Target};
use crate::rounds::{Side, each, in_turns};
use crate::scene::{SCOPES, Scene};
use crate::settings::{Part, Settings};

const METHOD: &str = "GET";
const PATH: &str = "/v1/calls/17";
/// Headers of a request besides its credential, as browsers and proxies send them.
const HEADERS: [(&str, &str); 6] = [
    (":authority", "api.example.com"),
    (":path", PATH),
    ("accept", "application/json"),
    ("user-agent", "integration/1.0"),
    ("x-forwarded-for", "203.0.113.9"),
    ("x-request-id", "6f1c9a8e-6a3b-4b8e-9d4e-2f0f1c9a8e6a"),
];

pub(super) async fn measure(settings: &Settings) -> Vec<Figure> {
    let mut scene = Scene::new(&[]).await;
    limited_rule(&mut scene).await;
    let token = scene.clients[0].token(&scene.keyward.grpc()).await;
    let verifier = scene.verifier().await;
    let mut figures = Vec::new();
    for shape in [Shape::MANY, Shape::FEW] {
        let (process, grpc) = (scene.keyward.process(), scene.keyward.grpc());
        let connect = async |of_envoy| {
            let mut callers = Vec::with_capacity(shape.callers());
            for _ in 0..shape.connections {
                let channel = bearer(&grpc, &verifier).await;
                let asks = Asks::new(channel, &token, of_envoy);
                callers.extend(std::iter::repeat_n(asks, shape.in_flight));
            }
            callers
        };
        let sides =
            [Side::new(process, connect(true).await), Side::new(process, connect(false).await)];
        let [envoy, check] = in_turns(settings, settings.rounds(), sides).await;
        let name = format!("ext_authz with a limit, {}", shape.title());
        let figure = Figure::new(Part::Gateways, name, "/s", each(&envoy, Measured::rate));
        figures.push(
            figure
                .beside("CheckAccess", each(&check, Measured::rate))
                .target(Target::AtLeast(0.85))
                .note(envoy[0].in_words()),
        );
    }
    figures
}

/// A rule for the path, with a limit that is never reached.
async fn limited_rule(scene: &mut Scene) {
    let limits = pb::Limits { requests: 1_000_000_000, ..Default::default() };
    let rule = pb::Endpoint {
        method: METHOD.to_owned(),
        path: "/v1/calls/{call}".to_owned(),
        all_of: vec![SCOPES[0].to_owned()],
        limits: Some(limits),
        ..Default::default()
    };
    let profile = pb::Profile {
        scopes: SCOPES.map(|name| pb::Scope { name: name.to_owned(), ..Default::default() }).into(),
        endpoint_set: Some(pb::EndpointSet { endpoints: vec![rule] }),
        ..Default::default()
    };
    let request = pb::ApplyProfileRequest {
        name: "tenants/acme".to_owned(),
        profile: Some(profile),
        ..Default::default()
    };
    scene.admin.tenants.apply_profile(request).await.unwrap();
}

/// Asks about one request, again and again.
#[derive(Clone)]
enum Asks {
    Envoy(AuthorizationClient<Authorized>, Arc<CheckRequest>),
    Service(AccessServiceClient<Authorized>, Arc<CheckAccessRequest>),
}

impl Asks {
    fn new(channel: Authorized, token: &str, of_envoy: bool) -> Self {
        if of_envoy {
            return Self::Envoy(AuthorizationClient::new(channel), Arc::new(described(token)));
        }
        let endpoint = RequestedEndpoint { method: METHOD.to_owned(), path: PATH.to_owned() };
        let question = CheckAccessRequest {
            token: token.to_owned(),
            requirement: Some(Requirement::Endpoint(endpoint)),
            ..Default::default()
        };
        Self::Service(AccessServiceClient::new(channel), Arc::new(question))
    }
}

/// The request as Envoy describes it.
fn described(token: &str) -> CheckRequest {
    let authorization = format!("Bearer {token}");
    let all = HEADERS.into_iter().chain([("authorization", authorization.as_str())]);
    let headers = all.map(|(name, value)| HeaderValue {
        key: name.to_owned(),
        value: String::new(),
        raw_value: value.as_bytes().to_vec(),
    });
    let http = HttpRequest {
        method: METHOD.to_owned(),
        path: PATH.to_owned(),
        header_map: Some(HeaderMap { headers: headers.collect() }),
        ..Default::default()
    };
    let request = Some(Request { http: Some(http), ..Default::default() });
    CheckRequest { attributes: Some(AttributeContext { request, ..Default::default() }) }
}

impl Caller for Asks {
    async fn call(&mut self) -> bool {
        match self {
            Self::Envoy(client, request) => {
                let answer = client.check(CheckRequest::clone(request)).await.expect("an answer");
                let answer = answer.into_inner().http_response;
                assert!(matches!(answer, Some(HttpResponse::OkResponse(_))), "{answer:?}");
            }
            Self::Service(client, question) => {
                let question = CheckAccessRequest::clone(question);
                let answer = client.check_access(question).await.expect("an answer").into_inner();
                assert!(answer.allowed, "{answer:?}");
            }
        }
        true
    }
}
