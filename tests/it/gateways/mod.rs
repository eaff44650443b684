//! Gateways that ask Keyward about each request of their clients: Envoy over gRPC, others over HTTP.

mod authzen;
mod envoy;
mod envoy_alone;
mod forward_auth;
mod nginx;

use keyward::proto::access;
use keyward::proto::admin as pb;
use keyward::proto::admin::credential::Kind;
use keyward::proto::token::RevokeTokensRequest;

use crate::harness::gateway::RawAnswer;
use crate::harness::{Admin, Backend, Credential, Keyward};

/// Spellings that a gateway and a service could read as different paths, or as none.
const AMBIGUOUS: [&str; 12] = [
    "/public/..;/admin",
    "/admin;x=1/users",
    "/public%2F..%2Fadmin",
    "//admin",
    "/admin%5Cusers",
    "/public/%252e%252e/admin",
    "/public/%2e%2e%2fadmin",
    "/%",
    "/a%zz",
    "/admin%00",
    "/admin%0d%0a",
    "/admin%c0%af",
];

/// A server, and credentials of a tenant with endpoint rules.
struct Scene {
    kw: Keyward,
    admin: Admin,
    crm: Credential,
    /// An API key of the same application, which has the scopes `a` and `b`.
    key: String,
    /// A token of it.
    token: String,
}

/// `GET /v1/calls` and `GET /v1/calls/{id}` need `a`, `/admin` needs `c`, `/public` and `/` need
/// nothing; `/limited` takes two requests a minute, `/batch` ten items in one.
fn rules() -> Vec<pb::Endpoint> {
    let rule = |method: &str, path: &str, scope: &str| pb::Endpoint {
        method: method.to_owned(),
        path: path.to_owned(),
        all_of: [scope].iter().filter(|it| !it.is_empty()).map(|it| (*it).to_owned()).collect(),
        ..Default::default()
    };
    let limits = |requests, items_per_request| {
        Some(pb::Limits { requests, items_per_request, ..Default::default() })
    };
    vec![
        rule("GET", "/v1/calls", "a"),
        rule("GET", "/v1/calls/{id}", "a"),
        rule("*", "/admin", "c"),
        rule("*", "/admin/{part}", "c"),
        rule("*", "/public", ""),
        rule("*", "/public/{part}", ""),
        pb::Endpoint { limits: limits(2, 0), ..rule("GET", "/limited", "a") },
        pb::Endpoint { limits: limits(0, 10), ..rule("GET", "/batch", "a") },
    ]
}

impl Scene {
    async fn start(backend: Backend, settings: &[(&'static str, &str)]) -> Self {
        let kw = backend.start_with(settings).await;
        let mut admin = kw.admin().await;
        let (_, crm) = admin.acme().await;
        let scopes =
            ["a", "b", "c"].map(|name| pb::Scope { name: name.to_owned(), ..Default::default() });
        let profile = pb::Profile {
            scopes: scopes.into(),
            endpoint_set: Some(pb::EndpointSet { endpoints: rules() }),
            ..Default::default()
        };
        let request = pb::ApplyProfileRequest {
            name: "tenants/acme".to_owned(),
            profile: Some(profile),
            ..Default::default()
        };
        admin.tenants.apply_profile(request).await.unwrap();
        let (_, key) = admin.credential("tenants/acme/applications/crm", Kind::ApiKey).await;
        let token = crm.token(&kw.grpc()).await;
        Self { kw, admin, crm, key: key.secret, token }
    }

    /// The port of the HTTP interface.
    fn http(&self) -> u16 {
        self.kw.server().http.port()
    }

    /// Revokes all tokens of the application.
    async fn revoke(&mut self) {
        let name = "tenants/acme/applications/crm".to_owned();
        let request = RevokeTokensRequest { name, reason: "lost".to_owned(), ..Default::default() };
        self.admin.tokens.revoke_tokens(request).await.unwrap();
    }

    fn bearer(&self) -> String {
        format!("Bearer {}", self.token)
    }

    /// How many requests to `/limited` were counted.
    async fn counted(&mut self) -> i64 {
        let endpoint =
            access::RequestedEndpoint { method: "GET".to_owned(), path: "/limited".to_owned() };
        let question = access::CheckAccessRequest {
            token: self.token.clone(),
            requirement: Some(access::check_access_request::Requirement::Endpoint(endpoint)),
            peek: true,
            ..Default::default()
        };
        let answer = self.admin.access.check_access(question).await.unwrap().into_inner();
        let of_requests = answer.limits.iter().find(|limit| limit.window.is_some()).unwrap();
        of_requests.limit - of_requests.remaining
    }
}

/// A client sees a refusal with this status, and no service answered.
#[track_caller]
fn refused(answer: &RawAnswer, status: u16) {
    assert_eq!(answer.status, status, "{answer:?}");
    assert!(!answer.body.contains("HTTP/1.1"), "the service answered: {answer:?}");
}
