//! Profiles: a tenant is changed to the state in a file.

use keyward::proto::admin as pb;
use keyward::proto::admin::profile_change::Action;
use tonic_types::StatusExt;

use crate::harness::{Admin, Backend, on_both_databases, reason};

on_both_databases!(
    profile_creates_a_tenant_and_is_idempotent,
    dry_run_shows_everything_and_changes_nothing,
    scope_in_use_is_deleted_only_with_force,
    invalid_profile_changes_nothing,
);

fn scope(name: &str, description: &str) -> pb::Scope {
    pb::Scope { name: name.to_owned(), description: description.to_owned(), ..Default::default() }
}

fn profile(scopes: Vec<pb::Scope>) -> pb::ApplyProfileRequest {
    pb::ApplyProfileRequest {
        name: "tenants/acme".to_owned(),
        profile: Some(pb::Profile {
            display_name: "Acme".to_owned(),
            scopes,
            ..Default::default()
        }),
        ..Default::default()
    }
}

async fn apply(admin: &mut Admin, request: pb::ApplyProfileRequest) -> Vec<(Action, String)> {
    let changes = admin.tenants.apply_profile(request).await.unwrap().into_inner().changes;
    changes.into_iter().map(|change| (change.action(), change.resource)).collect()
}

async fn profile_creates_a_tenant_and_is_idempotent(backend: Backend) {
    let kw = backend.start().await;
    let mut admin = kw.admin().await;
    let first = profile(vec![scope("a", "one"), scope("tenants/acme/scopes/b", "two")]);
    let resource = |name: &str| format!("tenants/acme/scopes/{name}");
    let changes = apply(&mut admin, first.clone()).await;
    let made = [
        (Action::Create, "tenants/acme".to_owned()),
        (Action::Create, resource("a")),
        (Action::Create, resource("b")),
    ];
    assert_eq!(changes, made);
    assert_eq!(apply(&mut admin, first).await, []);

    let second = profile(vec![scope("b", "changed"), scope("c", "three")]);
    let changes = admin.tenants.apply_profile(second).await.unwrap().into_inner().changes;
    assert_eq!(changes[1].details, ["description: \"two\" -> \"changed\""]);
    let changes: Vec<_> = changes.into_iter().map(|c| (c.action(), c.resource)).collect();
    let expected = [
        (Action::Delete, resource("a")),
        (Action::Update, resource("b")),
        (Action::Create, resource("c")),
    ];
    assert_eq!(changes, expected);
}

async fn dry_run_shows_everything_and_changes_nothing(backend: Backend) {
    let kw = backend.start().await;
    let mut admin = kw.admin().await;
    let request = profile(vec![scope("a", "one")]);
    let dry = pb::ApplyProfileRequest { validate_only: true, ..request.clone() };
    let reported = apply(&mut admin, dry.clone()).await;
    assert_eq!(reported.len(), 2);
    assert_eq!(apply(&mut admin, dry).await, reported, "nothing was changed");
    assert_eq!(apply(&mut admin, request).await, reported, "the dry run showed the same changes");
}

async fn scope_in_use_is_deleted_only_with_force(backend: Backend) {
    let kw = backend.start().await;
    let mut admin = kw.admin().await;
    let (_, crm) = admin.acme().await;
    let token = crm.token(&kw.grpc()).await;
    let without_a = profile(vec![scope("b", ""), scope("c", "")]);
    let status = admin.tenants.apply_profile(without_a.clone()).await.unwrap_err();
    assert_eq!(reason(&status), "IN_USE");
    assert!(status.message().contains("tenants/acme/applications/crm: set `force`"), "{status:?}");
    assert!(admin.is_active(&token).await);

    let dry = pb::ApplyProfileRequest { validate_only: true, ..without_a.clone() };
    let predicted = admin.tenants.apply_profile(dry.clone()).await.unwrap_err();
    assert_eq!((reason(&predicted), predicted.message()), (reason(&status), status.message()));
    let dry = pb::ApplyProfileRequest { force: true, ..dry };
    let changes = admin.tenants.apply_profile(dry).await.unwrap().into_inner().changes;
    let deletion = changes.iter().find(|change| change.action() == Action::Delete).unwrap();
    assert_eq!(deletion.affected_applications, 1);

    let forced = pb::ApplyProfileRequest { force: true, ..without_a };
    admin.tenants.apply_profile(forced).await.unwrap();
    assert!(!admin.is_active(&token).await);
    assert_eq!(crm.exchange(&kw.grpc(), &[], &[]).await.unwrap().scopes, ["b"]);
}

async fn invalid_profile_changes_nothing(backend: Backend) {
    let kw = backend.start().await;
    let mut admin = kw.admin().await;
    let faulty = profile(vec![scope("a", ""), scope("b c", ""), scope("a", ""), scope("d", "\n")]);
    let status = admin.tenants.apply_profile(faulty).await.unwrap_err();
    assert_eq!(reason(&status), "INVALID_FIELD");
    let violations = status.get_details_bad_request().unwrap().field_violations;
    let fields: Vec<_> = violations.iter().map(|violation| violation.field.as_str()).collect();
    let expected =
        ["profile.scopes[1].name", "profile.scopes[2].name", "profile.scopes[3].description"];
    assert_eq!(fields, expected);
    let request = pb::GetTenantRequest { name: "tenants/acme".to_owned() };
    assert!(admin.tenants.get_tenant(request).await.is_err());
}
