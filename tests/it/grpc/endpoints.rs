//! Endpoint rules: they are set by a profile and can be listed.

use keyward::proto::admin as pb;
use keyward::proto::admin::profile_change::Action;
use tonic::Status;
use tonic_types::StatusExt;

use crate::harness::{Admin, Backend, on_both_databases, reason};

on_both_databases!(
    profile_sets_rules_and_is_idempotent,
    profile_without_rules_keeps_existing_rules,
    dry_run_shows_rules_and_changes_none,
    rule_changes_are_in_the_audit_log,
    rules_are_listed_by_path_and_method_in_pages,
    scope_of_a_rule_is_deleted_only_with_force,
    rule_and_scope_are_deleted_together,
    profile_with_five_thousand_rules_is_accepted,
    rule_change_updates_the_tenant_etag,
);

fn rule(text: &str, all_of: &[&str]) -> pb::Endpoint {
    let (method, path) = text.split_once(' ').unwrap();
    pb::Endpoint {
        method: method.to_owned(),
        path: path.to_owned(),
        all_of: all_of.iter().map(|scope| (*scope).to_owned()).collect(),
        ..Default::default()
    }
}

/// A profile with these scopes and rules. `None`: the existing rules.
fn profile(scopes: &[&str], rules: Option<Vec<pb::Endpoint>>) -> pb::ApplyProfileRequest {
    pb::ApplyProfileRequest {
        name: "tenants/acme".to_owned(),
        profile: Some(pb::Profile {
            scopes: scopes
                .iter()
                .map(|name| pb::Scope { name: (*name).to_owned(), ..Default::default() })
                .collect(),
            endpoint_set: rules.map(|endpoints| pb::EndpointSet { endpoints }),
            ..Default::default()
        }),
        ..Default::default()
    }
}

async fn apply(
    admin: &mut Admin,
    request: pb::ApplyProfileRequest,
) -> Result<Vec<(Action, String)>, Status> {
    let changes = admin.tenants.apply_profile(request).await?.into_inner().changes;
    let short = |name: &str| name.replacen("tenants/acme/", "", 1);
    Ok(changes.iter().map(|change| (change.action(), short(&change.resource))).collect())
}

async fn list(caller: &mut Admin) -> Vec<pb::Endpoint> {
    let request = pb::ListEndpointsRequest {
        parent: "tenants/acme".to_owned(),
        page_size: 1000,
        ..Default::default()
    };
    caller.endpoints.list_endpoints(request).await.unwrap().into_inner().endpoints
}

async fn list_all(caller: &mut Admin) -> Vec<pb::Endpoint> {
    let mut request = pb::ListEndpointsRequest {
        parent: "tenants/acme".to_owned(),
        page_size: 1000,
        ..Default::default()
    };
    let mut all = Vec::new();
    loop {
        let page = caller.endpoints.list_endpoints(request.clone()).await.unwrap().into_inner();
        all.extend(page.endpoints);
        if page.next_page_token.is_empty() {
            return all;
        }
        request.page_token = page.next_page_token;
    }
}

async fn delete_scope(admin: &mut Admin, scope: &str, force: bool) -> Result<(), Status> {
    let name = format!("tenants/acme/scopes/{scope}");
    let request = pb::DeleteScopeRequest { name, force, ..Default::default() };
    admin.scopes.delete_scope(request).await.map(drop)
}

fn change(action: Action, resource: &str) -> (Action, String) {
    (action, resource.to_owned())
}

async fn profile_sets_rules_and_is_idempotent(backend: Backend) {
    let kw = backend.start().await;
    let mut admin = kw.admin().await;
    let full = pb::Endpoint {
        any_of: vec!["c".to_owned(), "b".to_owned()],
        limits: Some(pb::Limits {
            requests: 10,
            request_window: Some(prost_types::Duration { seconds: 1, nanos: 0 }),
            items_per_request: 5,
            observe_only: true,
            ..Default::default()
        }),
        description: "Looks at a call".to_owned(),
        ..rule("GET /v1/calls/{id}", &["a"])
    };
    let first = profile(
        &["a", "b", "c"],
        Some(vec![rule("* /v1/**", &[]), full.clone(), rule("POST /v1/calls", &["b", "a"])]),
    );
    let made = [
        change(Action::Create, "tenants/acme"),
        change(Action::Create, "endpoints/* /v1/**"),
        change(Action::Create, "endpoints/POST /v1/calls"),
        change(Action::Create, "endpoints/GET /v1/calls/{id}"),
        change(Action::Create, "scopes/a"),
        change(Action::Create, "scopes/b"),
        change(Action::Create, "scopes/c"),
    ];
    assert_eq!(apply(&mut admin, first.clone()).await.unwrap(), made);
    let sorted = pb::Endpoint { any_of: vec!["b".to_owned(), "c".to_owned()], ..full.clone() };
    let expected = [rule("* /v1/**", &[]), rule("POST /v1/calls", &["a", "b"]), sorted.clone()];
    assert_eq!(list(&mut admin).await, expected);
    assert_eq!(apply(&mut admin, first).await.unwrap(), []);

    // Different names in braces make a different rule, although both match the same requests.
    let second = profile(
        &["a", "b", "c"],
        Some(vec![
            pb::Endpoint { limits: None, ..full },
            rule("POST /v1/calls", &["a"]),
            rule("* /v1/{what}", &["c"]),
        ]),
    );
    let response = admin.tenants.apply_profile(second).await.unwrap().into_inner().changes;
    let reported: Vec<_> = response
        .iter()
        .map(|change| (change.action(), change.resource.as_str(), change.details.join("; ")))
        .collect();
    let limits = "10 requests in 1 s, 5 items in a request, observed only";
    let expected = [
        (Action::Delete, "tenants/acme/endpoints/* /v1/**", String::new()),
        (
            Action::Update,
            "tenants/acme/endpoints/POST /v1/calls",
            "all_of: \"a b\" -> \"a\"".to_owned(),
        ),
        (
            Action::Update,
            "tenants/acme/endpoints/GET /v1/calls/{id}",
            format!("limits: {limits:?} -> \"\""),
        ),
        (Action::Create, "tenants/acme/endpoints/* /v1/{what}", "all_of: \"c\"".to_owned()),
    ];
    assert_eq!(reported, expected);
    let unlimited = pb::Endpoint { limits: None, ..sorted };
    let expected = [rule("POST /v1/calls", &["a"]), unlimited, rule("* /v1/{what}", &["c"])];
    assert_eq!(list(&mut admin).await, expected);
}

async fn profile_without_rules_keeps_existing_rules(backend: Backend) {
    let kw = backend.start().await;
    let mut admin = kw.admin().await;
    let rules = vec![rule("GET /", &["a"])];
    apply(&mut admin, profile(&["a"], Some(rules.clone()))).await.unwrap();
    let changes = apply(&mut admin, profile(&["a", "b"], None)).await.unwrap();
    assert_eq!(changes, [change(Action::Create, "scopes/b")]);
    assert_eq!(list(&mut admin).await, rules);
    // An empty set removes all rules.
    let changes = apply(&mut admin, profile(&["a", "b"], Some(Vec::new()))).await.unwrap();
    assert_eq!(changes, [change(Action::Delete, "endpoints/GET /")]);
    assert_eq!(list(&mut admin).await, []);
}

async fn dry_run_shows_rules_and_changes_none(backend: Backend) {
    let kw = backend.start().await;
    let mut admin = kw.admin().await;
    let before = vec![rule("GET /a", &["a"]), rule("GET /b", &["a"])];
    apply(&mut admin, profile(&["a"], Some(before.clone()))).await.unwrap();
    let after = vec![rule("GET /b", &[]), rule("GET /c", &["a"])];
    let request = profile(&["a"], Some(after.clone()));
    let dry = pb::ApplyProfileRequest { validate_only: true, ..request.clone() };
    let reported = apply(&mut admin, dry).await.unwrap();
    assert_eq!(list(&mut admin).await, before);
    assert_eq!(
        apply(&mut admin, request).await.unwrap(),
        reported,
        "the dry run showed the same changes"
    );
    let actions: Vec<_> = reported.iter().map(|(action, _)| *action).collect();
    assert_eq!(actions, [Action::Delete, Action::Update, Action::Create]);
    assert_eq!(list(&mut admin).await, after);
}

async fn rule_changes_are_in_the_audit_log(backend: Backend) {
    let kw = backend.start().await;
    let mut admin = kw.admin().await;
    for rules in [vec![rule("GET /v1/{id}", &["a"])], vec![rule("GET /v1/{id}", &["b"])], vec![]] {
        apply(&mut admin, profile(&["a", "b"], Some(rules))).await.unwrap();
    }
    let about = |resource: &str, action: &str| pb::ListAuditEventsRequest {
        parent: "tenants/acme".to_owned(),
        resource: resource.to_owned(),
        action: action.to_owned(),
        order_by: "time".to_owned(),
        page_size: 1000,
        ..Default::default()
    };
    let name = "tenants/acme/endpoints/GET /v1/{id}";
    let request = about(name, "");
    let events = admin.audit.list_audit_events(request).await.unwrap().into_inner().events;
    let reported: Vec<_> = events
        .iter()
        .filter(|event| event.resource == name)
        .map(|event| {
            let [change] = &event.changes[..] else { panic!("{event:?}") };
            let change = [&change.field, &change.before, &change.after].map(String::as_str);
            (event.action.as_str(), change)
        })
        .collect();
    let expected = [
        ("CreateEndpoint", ["all_of", "", "a"]),
        ("UpdateEndpoint", ["all_of", "a", "b"]),
        ("DeleteEndpoint", ["all_of", "b", ""]),
    ];
    assert_eq!(reported, expected);
    let request = about("", "UpdateEndpoint");
    let events = admin.audit.list_audit_events(request).await.unwrap().into_inner().events;
    assert_eq!(events.len(), 1);
}

async fn rules_are_listed_by_path_and_method_in_pages(backend: Backend) {
    let kw = backend.start().await;
    let mut admin = kw.admin().await;
    let sorted = [
        "* /",
        "GET /",
        "GET /**",
        "GET /-",
        "* /A",
        "DELETE /a",
        "GET /a",
        "M-SEARCH /a",
        "GET /a/b",
        "GET /a/{id}",
        "GET /ab",
        "* /{x}",
        "GET /{x}",
    ];
    let rules: Vec<_> = sorted.iter().rev().map(|text| rule(text, &[])).collect();
    apply(&mut admin, profile(&["a"], Some(rules))).await.unwrap();
    apply(
        &mut admin,
        pb::ApplyProfileRequest {
            name: "tenants/other".to_owned(),
            ..profile(&[], Some(vec![rule("GET /other", &[])]))
        },
    )
    .await
    .unwrap();
    for page_size in [1, 4, 13, 0] {
        let (mut seen, mut page_token) = (Vec::new(), String::new());
        loop {
            let request = pb::ListEndpointsRequest {
                parent: "tenants/acme".to_owned(),
                page_size,
                page_token,
            };
            let page = admin.endpoints.list_endpoints(request).await.unwrap().into_inner();
            seen.extend(page.endpoints.iter().map(|rule| format!("{} {}", rule.method, rule.path)));
            page_token = page.next_page_token;
            if page_token.is_empty() {
                break;
            }
        }
        assert_eq!(seen, sorted, "{page_size}");
    }
    let request = |parent: &str, page_size, page_token: &str| pb::ListEndpointsRequest {
        parent: parent.to_owned(),
        page_size,
        page_token: page_token.to_owned(),
    };
    let first = admin.endpoints.list_endpoints(request("tenants/acme", 1, "")).await.unwrap();
    let token = first.into_inner().next_page_token;
    for (request, expected) in [
        (request("tenants/other", 1, &token), "INVALID_PAGE_TOKEN"),
        (request("tenants/acme", -1, ""), "INVALID_FIELD"),
        (request("acme", 1, ""), "INVALID_FIELD"),
        (request("tenants/unknown", 1, ""), "NOT_FOUND"),
    ] {
        let status = admin.endpoints.list_endpoints(request).await.unwrap_err();
        assert_eq!(reason(&status), expected);
    }
}

async fn scope_of_a_rule_is_deleted_only_with_force(backend: Backend) {
    let kw = backend.start().await;
    let mut admin = kw.admin().await;
    let any = pb::Endpoint { any_of: vec!["a".to_owned()], ..rule("GET /any", &["b"]) };
    let rules = vec![rule("GET /all", &["a", "b"]), any];
    apply(&mut admin, profile(&["a", "b", "c"], Some(rules.clone()))).await.unwrap();
    admin.application("acme", "crm", &["a"]).await;
    let status = delete_scope(&mut admin, "a", false).await.unwrap_err();
    assert_eq!(reason(&status), "IN_USE");
    let violations = status.get_details_precondition_failure().unwrap().violations;
    let by: Vec<_> = violations.iter().map(|violation| violation.subject.as_str()).collect();
    let expected = [
        "tenants/acme/applications/crm",
        "tenants/acme/endpoints/GET /all",
        "tenants/acme/endpoints/GET /any",
    ];
    assert_eq!(by, expected);
    delete_scope(&mut admin, "c", false).await.unwrap();

    // The same applies to a profile that keeps the rules. A dry run shows it.
    let without = |force, validate_only| pb::ApplyProfileRequest {
        force,
        validate_only,
        ..profile(&["a"], None)
    };
    let status = admin.tenants.apply_profile(without(false, true)).await.unwrap_err();
    assert_eq!(reason(&status), "IN_USE", "a dry run fails as the run would");
    let dry = admin.tenants.apply_profile(without(true, true)).await.unwrap().into_inner();
    let [change] = &dry.changes[..] else { panic!("{dry:?}") };
    assert_eq!((change.action(), change.affected_applications), (Action::Delete, 2));
    let status = admin.tenants.apply_profile(without(false, false)).await.unwrap_err();
    assert_eq!(reason(&status), "IN_USE");
    admin.tenants.apply_profile(without(true, false)).await.unwrap();
    delete_scope(&mut admin, "a", true).await.unwrap();
    assert_eq!(list(&mut admin).await, rules, "they stay, and no request can satisfy them");
    // A profile with these rules cannot omit the scope.
    let status = apply(&mut admin, profile(&[], Some(rules))).await.unwrap_err();
    assert_eq!(reason(&status), "INVALID_FIELD");
}

async fn rule_and_scope_are_deleted_together(backend: Backend) {
    let kw = backend.start().await;
    let mut admin = kw.admin().await;
    let rules = vec![rule("GET /a", &["a"]), rule("GET /b", &["a", "b"])];
    apply(&mut admin, profile(&["a", "b"], Some(rules))).await.unwrap();
    let without_a = profile(&["b"], Some(vec![rule("GET /b", &["b"])]));
    let changes = apply(&mut admin, without_a).await.unwrap();
    let expected = [
        change(Action::Delete, "endpoints/GET /a"),
        change(Action::Update, "endpoints/GET /b"),
        change(Action::Delete, "scopes/a"),
    ];
    assert_eq!(changes, expected);
}

async fn profile_with_five_thousand_rules_is_accepted(backend: Backend) {
    let kw = backend.start().await;
    let mut admin = kw.admin().await;
    let description = "What it is for, at some length. ".repeat(3);
    let of = |count: usize| {
        let rules = (0..count).map(|n| pb::Endpoint {
            description: description.clone(),
            ..rule(&format!("GET /v1/things/{{thing}}/parts/{n}"), &["a"])
        });
        profile(&["a"], Some(rules.collect()))
    };
    // In steps, because each must be done before its deadline on a busy machine.
    assert_eq!(apply(&mut admin, of(1_000)).await.unwrap().len(), 1_002);
    for count in [2_000, 3_000, 4_000, 5_000] {
        assert_eq!(apply(&mut admin, of(count)).await.unwrap().len(), 1_000);
    }
    assert_eq!(list_all(&mut admin).await.len(), 5_000);
    assert_eq!(apply(&mut admin, of(5_000)).await.unwrap(), []);
    let status = apply(&mut admin, of(5_001)).await.unwrap_err();
    assert!(status.message().contains("at most 5000 entries"), "{status}");
}

async fn rule_change_updates_the_tenant_etag(backend: Backend) {
    let kw = backend.start().await;
    let mut admin = kw.admin().await;
    let mut etags = Vec::new();
    for rules in [vec![], vec![rule("GET /", &[])], vec![rule("GET /", &[])], vec![]] {
        apply(&mut admin, profile(&["a"], Some(rules))).await.unwrap();
        let request = pb::GetTenantRequest { name: "tenants/acme".to_owned() };
        let tenant = admin.tenants.get_tenant(request).await.unwrap().into_inner().tenant.unwrap();
        etags.push(tenant.etag);
    }
    assert_ne!(etags[0], etags[1]);
    assert_eq!(etags[1], etags[2], "what is not changed is not");
    assert_ne!(etags[2], etags[3]);
}
