//! Endpoint rules of the shipped profiles, checked over the wire.

use keyward::proto::access as pb;
use keyward::proto::access::check_access_request::Requirement;
use keyward::proto::access::check_access_response::Outcome;
use keyward::proto::admin;
use keyward::proto::admin::credential::Kind;

use crate::harness::{Admin, Backend, on_both_databases};

on_both_databases!(
    endpoint_requires_the_scopes_of_its_rule,
    ambiguous_path_is_refused,
    endpoint_limits_apply_per_application,
    vcc_limits_requests_and_items,
    changed_rules_apply_immediately,
);

/// A token of an application of this tenant, with these scopes.
async fn token(admin: &mut Admin, grpc: &str, tenant: &str, id: &str, scopes: &[&str]) -> String {
    let application = admin.application(tenant, id, scopes).await;
    admin.credential(&application.name, Kind::ClientSecret).await.1.token(grpc).await
}

async fn ask(admin: &mut Admin, token: &str, request: &str, items: i64) -> pb::CheckAccessResponse {
    let (method, path) = request.split_once(' ').unwrap();
    let endpoint = pb::RequestedEndpoint { method: method.to_owned(), path: path.to_owned() };
    let request = pb::CheckAccessRequest {
        token: token.to_owned(),
        requirement: Some(Requirement::Endpoint(endpoint)),
        items,
        ..Default::default()
    };
    admin.access.check_access(request).await.unwrap().into_inner()
}

async fn endpoint_requires_the_scopes_of_its_rule(backend: Backend) {
    let kw = backend.start().await;
    kw.apply("voiso").await;
    let mut admin = kw.admin().await;
    let scopes = ["campaigns.read", "users.read"];
    let token = token(&mut admin, &kw.grpc(), "voiso", "bi", &scopes).await;
    for (request, outcome, missing) in [
        ("GET /v4/campaigns", Outcome::Allowed, ""),
        ("GET /v4/campaigns/17?fields=name", Outcome::Allowed, ""),
        ("GET /v4/campaigns/", Outcome::Allowed, ""),
        ("GET /v4/users/ann", Outcome::Allowed, ""),
        ("POST /v4/campaigns", Outcome::InsufficientScope, "campaigns.manage"),
        ("POST /v4/campaigns/17/start", Outcome::InsufficientScope, "campaigns.manage"),
        ("GET /v4/balance", Outcome::InsufficientScope, "billing.balance.read"),
        ("DELETE /v4/campaigns", Outcome::UnknownEndpoint, ""),
        ("GET /v4/campaign", Outcome::UnknownEndpoint, ""),
        ("get /v4/campaigns", Outcome::UnknownEndpoint, ""),
        ("GET /v4/CAMPAIGNS", Outcome::UnknownEndpoint, ""),
        ("GET /", Outcome::UnknownEndpoint, ""),
    ] {
        let answer = ask(&mut admin, &token, request, 0).await;
        assert_eq!(answer.outcome(), outcome, "{request}: {}", answer.message);
        assert_eq!(answer.missing_scopes.join(" "), missing, "{request}");
        assert_eq!(answer.principal.unwrap().application, "tenants/voiso/applications/bi");
    }
    // Another tenant has no rules, so every request is refused.
    admin.tenant("acme", &["a"]).await;
    let other = self::token(&mut admin, &kw.grpc(), "acme", "crm", &["a"]).await;
    let answer = ask(&mut admin, &other, "GET /v4/campaigns", 0).await;
    assert_eq!(answer.outcome(), Outcome::UnknownEndpoint);
}

async fn ambiguous_path_is_refused(backend: Backend) {
    let kw = backend.start().await;
    kw.apply("voiso").await;
    let mut admin = kw.admin().await;
    let token = token(&mut admin, &kw.grpc(), "voiso", "bi", &["campaigns.read"]).await;
    let long = format!("/v4/campaigns/{}", "a".repeat(5000));
    let deep = "/a".repeat(3000);
    for path in [
        "/v4/campaigns/../balance",
        "/v4/campaigns/%2e%2e/balance",
        "/v4/campaigns/.",
        "/v4/campaigns/17%2Fstart",
        "/v4/campaigns/17%5cstart",
        "/v4//campaigns",
        "/v4/campaigns/%",
        "/v4/campaigns/%zz",
        "/v4/campaigns/%252e%252e",
        "/v4/campaigns/17;admin=1",
        "/v4/campaigns/17%00",
        "v4/campaigns",
        "",
        "http://evil.example/v4/campaigns",
        &long,
        &deep,
    ] {
        let answer = ask(&mut admin, &token, &format!("GET {path}"), 0).await;
        assert_eq!(answer.outcome(), Outcome::MalformedPath, "{path}");
        assert!(!answer.allowed && answer.message.contains(": "), "{}", answer.message);
    }
}

async fn endpoint_limits_apply_per_application(backend: Backend) {
    let kw = backend.start().await;
    kw.apply("voiso").await;
    let mut admin = kw.admin().await;
    let scopes = ["reporting.cdrs.read", "campaigns.read"];
    let one = token(&mut admin, &kw.grpc(), "voiso", "one", &scopes).await;
    let other = token(&mut admin, &kw.grpc(), "voiso", "other", &scopes).await;
    for n in 0..12 {
        let answer = ask(&mut admin, &one, "GET /v4/reports/cdrs?day=1", 0).await;
        let expected = if n < 10 { Outcome::Allowed } else { Outcome::RateLimited };
        assert_eq!(answer.outcome(), expected, "{n}");
        let [limit] = &answer.limits[..] else { panic!("{:?}", answer.limits) };
        assert_eq!(limit.limit, 10);
        assert_eq!(limit.name, "GET /v4/reports/cdrs of tenants/voiso/applications/one");
    }
    assert!(ask(&mut admin, &one, "GET /v4/campaigns", 0).await.allowed, "others go on");
    assert!(ask(&mut admin, &other, "GET /v4/reports/cdrs", 0).await.allowed);
}

const CONTACTS: &str = "POST /api/lists/17/contacts";

async fn vcc_limits_requests_and_items(backend: Backend) {
    let kw = backend.start().await;
    kw.apply("vcc").await;
    let mut admin = kw.admin().await;
    let token = token(&mut admin, &kw.grpc(), "vcc", "crm", &["lists:write"]).await;
    let answer = ask(&mut admin, &token, CONTACTS, 1001).await;
    assert_eq!((answer.outcome(), answer.max_items), (Outcome::TooManyItems, 1000));
    let mut allowed = 0;
    for _ in 0..45 {
        allowed += usize::from(ask(&mut admin, &token, CONTACTS, 1000).await.allowed);
    }
    assert_eq!(allowed, 40);
}

async fn changed_rules_apply_immediately(backend: Backend) {
    let kw = backend.start().await;
    let mut admin = kw.admin().await;
    admin.tenant("acme", &["a", "b"]).await;
    let token = token(&mut admin, &kw.grpc(), "acme", "crm", &["a"]).await;
    let scope = |name: &str| admin::Scope { name: name.to_owned(), ..Default::default() };
    for (scopes, outcome) in [
        (vec![], Outcome::Allowed),
        (vec!["b"], Outcome::InsufficientScope),
        (vec!["a"], Outcome::Allowed),
    ] {
        let endpoint = admin::Endpoint {
            method: "GET".to_owned(),
            path: "/v1/{x}".to_owned(),
            all_of: scopes.iter().map(|scope| (*scope).to_owned()).collect(),
            ..Default::default()
        };
        let profile = admin::Profile {
            scopes: vec![scope("a"), scope("b")],
            endpoint_set: Some(admin::EndpointSet { endpoints: vec![endpoint] }),
            ..Default::default()
        };
        let request = admin::ApplyProfileRequest {
            name: "tenants/acme".to_owned(),
            profile: Some(profile),
            ..Default::default()
        };
        admin.tenants.apply_profile(request).await.unwrap();
        let answer = ask(&mut admin, &token, "GET /v1/things", 0).await;
        assert_eq!(answer.outcome(), outcome, "{scopes:?}");
    }
}
