//! Limits that customers cannot raise: a policy's limits bound those that acting users set.

use keyward::proto::access::CheckAccessRequest;
use keyward::proto::access::check_access_response::Outcome;
use keyward::proto::admin as pb;
use keyward::proto::admin::credential::Kind;
use tonic::Status;

use crate::harness::{Admin, Backend, Keyward, mask, on_both_databases, question, reason};

on_both_databases!(
    users_can_narrow_limits_but_not_raise_them,
    permitted_users_can_raise_limits_up_to_the_maximum,
    narrower_policy_applies_to_existing_applications,
    policy_editors_cannot_raise_its_limits,
    tenant_limits_are_shared_by_all_applications,
    counts_survive_a_restart,
);

const CRM: &str = "tenants/acme/applications/crm";

fn limits(requests: i64, items_per_request: i64) -> pb::Limits {
    pb::Limits { requests, items_per_request, ..Default::default() }
}

async fn set_policy(caller: &mut Admin, policy: pb::Policy) -> Result<pb::Policy, Status> {
    let tenant =
        pb::Tenant { name: "tenants/acme".to_owned(), policy: Some(policy), ..Default::default() };
    let request = pb::UpdateTenantRequest { tenant: Some(tenant), update_mask: mask(&["policy"]) };
    let answer = caller.tenants.update_tenant(request).await?.into_inner();
    Ok(answer.tenant.unwrap().policy.unwrap())
}

async fn create(caller: &mut Admin, id: &str, limits: pb::Limits) -> Result<(), Status> {
    let request = pb::CreateApplicationRequest {
        parent: "tenants/acme".to_owned(),
        application_id: id.to_owned(),
        application: Some(pb::Application {
            display_name: id.to_owned(),
            owner: "tenants/acme".to_owned(),
            scopes: vec!["a".to_owned()],
            limits: Some(limits),
            ..Default::default()
        }),
        ..Default::default()
    };
    caller.applications.create_application(request).await.map(drop)
}

async fn set(caller: &mut Admin, limits: Option<pb::Limits>) -> Result<pb::Application, Status> {
    let application = pb::Application { name: CRM.to_owned(), limits, ..Default::default() };
    let request = pb::UpdateApplicationRequest {
        application: Some(application),
        update_mask: mask(&["limits"]),
    };
    Ok(caller.applications.update_application(request).await?.into_inner().application.unwrap())
}

/// The limits that apply to a token according to a check: requests per seconds, and the maximum
/// items.
async fn in_force(admin: &mut Admin, token: &str) -> (Vec<(i64, i64)>, i64) {
    let request = CheckAccessRequest { peek: true, ..question(token, &["a"]) };
    let answer = admin.access.check_access(request).await.unwrap().into_inner();
    let rates = answer.limits.iter().map(|limit| (limit.limit, limit.window.unwrap().seconds));
    (rates.collect(), answer.max_items)
}

fn lacks(status: &Status, permission: &str) {
    assert_eq!(reason(status), "PERMISSION_DENIED");
    assert!(status.message().contains(permission), "{}", status.message());
}

const EDITOR: [&str; 3] =
    ["applications.view.account", "applications.create.account", "applications.edit.account"];

async fn acting(admin: &mut Admin, kw: &Keyward, id: &str, more: &[&str]) -> Admin {
    let permissions: Vec<_> = EDITOR.iter().chain(more).copied().collect();
    admin.role("acme", id, &permissions, &["*"]).await;
    let user = admin.user("acme", id, &[id]).await;
    let (_, console) =
        admin.credential("tenants/system/applications/console", Kind::ClientSecret).await;
    Admin::new(kw.grpc(), &console).await.acting_for(&user)
}

async fn users_can_narrow_limits_but_not_raise_them(backend: Backend) {
    let kw = backend.start().await;
    let mut admin = kw.admin().await;
    admin.console(&kw).await;
    let (_, crm) = admin.acme().await;
    let token = crm.token(&kw.grpc()).await;
    let policy = pb::Policy { default_limits: Some(limits(40, 1000)), ..Default::default() };
    set_policy(&mut admin, policy.clone()).await.unwrap();
    let mut ann = acting(&mut admin, &kw, "ann", &[]).await;

    let minute = |seconds| Some(prost_types::Duration { seconds, nanos: 0 });
    let faster = pb::Limits { request_window: minute(10), ..limits(7, 0) };
    let observed = pb::Limits { observe_only: true, ..limits(10, 10) };
    let lifting = [limits(0, 0), limits(41, 0), limits(0, 1001), faster, observed];
    for lifting in lifting {
        lacks(&create(&mut ann, "new", lifting).await.unwrap_err(), "limits.edit");
        lacks(&set(&mut ann, Some(lifting)).await.unwrap_err(), "limits.edit");
    }
    assert_eq!(in_force(&mut admin, &token).await, (vec![(40, 60)], 1000));

    // Narrower limits apply, and missing ones are the policy's.
    create(&mut ann, "new", limits(10, 0)).await.unwrap();
    set(&mut ann, Some(limits(10, 0))).await.unwrap();
    assert_eq!(in_force(&mut admin, &token).await, (vec![(10, 60)], 1000));
    set(&mut ann, Some(limits(0, 5))).await.unwrap();
    assert_eq!(in_force(&mut admin, &token).await, (vec![(40, 60)], 5));
    for expected in [Outcome::Allowed, Outcome::TooManyItems] {
        let items = if expected == Outcome::Allowed { 5 } else { 6 };
        let request = CheckAccessRequest { items, ..question(&token, &["a"]) };
        let answer = admin.access.check_access(request).await.unwrap().into_inner();
        assert_eq!(answer.outcome(), expected);
    }
    // If a policy fixes limits, they can only be set at creation, within the same bounds.
    let fixed = pb::Policy { fixed_fields: vec!["limits".to_owned()], ..policy };
    set_policy(&mut admin, fixed).await.unwrap();
    lacks(&create(&mut ann, "fixed", limits(0, 0)).await.unwrap_err(), "limits.edit");
    create(&mut ann, "fixed", limits(40, 1000)).await.unwrap();
}

async fn permitted_users_can_raise_limits_up_to_the_maximum(backend: Backend) {
    let kw = backend.start().await;
    let mut admin = kw.admin().await;
    admin.console(&kw).await;
    let (_, crm) = admin.acme().await;
    let token = crm.token(&kw.grpc()).await;
    let policy = pb::Policy {
        default_limits: Some(limits(40, 1000)),
        max_limits: Some(limits(100, 5000)),
        ..Default::default()
    };
    set_policy(&mut admin, policy.clone()).await.unwrap();
    let mut ann = acting(&mut admin, &kw, "ann", &[]).await;
    let mut lia = acting(&mut admin, &kw, "lia", &["limits.edit"]).await;

    let lifted = set(&mut lia, Some(limits(80, 0))).await.unwrap();
    assert!(lifted.limits_lifted);
    assert_eq!(in_force(&mut admin, &token).await, (vec![(80, 60)], 1000));
    create(&mut lia, "fast", limits(100, 5000)).await.unwrap();
    for beyond in [limits(101, 0), limits(0, 5001), limits(0, 0)] {
        let status = set(&mut lia, Some(beyond)).await.unwrap_err();
        assert_eq!(reason(&status), "POLICY", "{beyond:?}");
        assert!(status.message().contains("max_limits"), "{}", status.message());
        assert_eq!(reason(&create(&mut lia, "faster", beyond).await.unwrap_err()), "POLICY");
    }
    // Another user may keep and narrow them, but not raise them further.
    let rename = pb::UpdateApplicationRequest {
        application: Some(pb::Application { display_name: "Renamed".to_owned(), ..lifted.clone() }),
        update_mask: mask(&["display_name", "limits"]),
    };
    let renamed = pb::UpdateApplicationRequest {
        application: rename.application.map(|of| pb::Application { etag: String::new(), ..of }),
        ..rename
    };
    ann.applications.update_application(renamed).await.unwrap();
    assert!(set(&mut ann, Some(limits(60, 0))).await.unwrap().limits_lifted);
    assert_eq!(in_force(&mut admin, &token).await, (vec![(60, 60)], 1000));
    lacks(&set(&mut ann, Some(limits(61, 0))).await.unwrap_err(), "limits.edit");
    assert!(!set(&mut ann, Some(limits(20, 0))).await.unwrap().limits_lifted);
    lacks(&set(&mut ann, Some(limits(60, 0))).await.unwrap_err(), "limits.edit");
    // The platform can set anything, but the maximum applies when it is used.
    assert!(set(&mut admin, Some(limits(0, 0))).await.unwrap().limits_lifted);
    assert_eq!(in_force(&mut admin, &token).await, (vec![(100, 60)], 5000));
    let free = pb::Policy { max_limits: None, ..policy };
    set_policy(&mut admin, free).await.unwrap();
    assert_eq!(in_force(&mut admin, &token).await, (vec![], 0));
    // Users who may not raise limits cannot create a role that may.
    let request = pb::CreateRoleRequest {
        parent: "tenants/acme".to_owned(),
        role_id: "lifter".to_owned(),
        role: Some(pb::Role { permissions: vec!["limits.edit".to_owned()], ..Default::default() }),
    };
    let mut roman = acting(&mut admin, &kw, "roman", &["roles.edit"]).await;
    lacks(&roman.roles.create_role(request).await.unwrap_err(), "limits.edit");
}

async fn narrower_policy_applies_to_existing_applications(backend: Backend) {
    let kw = backend.start().await;
    let mut admin = kw.admin().await;
    admin.console(&kw).await;
    let (_, crm) = admin.acme().await;
    let token = crm.token(&kw.grpc()).await;
    let policy = |default_limits, max_limits| pb::Policy {
        default_limits: Some(default_limits),
        max_limits,
        ..Default::default()
    };
    set_policy(&mut admin, policy(limits(100, 0), None)).await.unwrap();
    let mut ann = acting(&mut admin, &kw, "ann", &[]).await;
    assert!(!set(&mut ann, Some(limits(80, 0))).await.unwrap().limits_lifted);
    set_policy(&mut admin, policy(limits(40, 9), None)).await.unwrap();
    assert_eq!(in_force(&mut admin, &token).await, (vec![(40, 60)], 9));
    // Raised limits are only bounded by the maximum.
    assert!(set(&mut admin, Some(limits(80, 0))).await.unwrap().limits_lifted);
    assert_eq!(in_force(&mut admin, &token).await, (vec![(80, 60)], 9));
    set_policy(&mut admin, policy(limits(40, 9), Some(limits(50, 5)))).await.unwrap();
    assert_eq!(in_force(&mut admin, &token).await, (vec![(50, 60)], 5));
    // If neither of two rates implies the other, both apply.
    let hour = Some(prost_types::Duration { seconds: 3600, nanos: 0 });
    let hourly = pb::Limits { request_window: hour, ..limits(3, 0) };
    set_policy(&mut admin, policy(hourly, Some(limits(2, 0)))).await.unwrap();
    set(&mut admin, None).await.unwrap();
    assert_eq!(in_force(&mut admin, &token).await, (vec![(3, 3600), (2, 60)], 0));
    let outcome = async |admin: &mut Admin| admin.check(&token, &["a"]).await.outcome();
    for expected in [Outcome::Allowed, Outcome::Allowed, Outcome::RateLimited] {
        assert_eq!(outcome(&mut admin).await, expected);
    }
    kw.advance(62);
    let mut admin = kw.admin().await;
    for expected in [Outcome::Allowed, Outcome::RateLimited] {
        assert_eq!(outcome(&mut admin).await, expected);
    }
}

async fn policy_editors_cannot_raise_its_limits(backend: Backend) {
    let kw = backend.start().await;
    let mut admin = kw.admin().await;
    admin.console(&kw).await;
    admin.acme().await;
    let policy = pb::Policy {
        default_limits: Some(limits(40, 1000)),
        tenant_limits: Some(limits(100, 0)),
        max_limits: Some(limits(60, 1000)),
        ..Default::default()
    };
    let policy = set_policy(&mut admin, policy).await.unwrap();
    let mut pat = acting(&mut admin, &kw, "pat", &["policy.edit"]).await;
    let mut lia = acting(&mut admin, &kw, "lia", &["policy.edit", "limits.edit"]).await;
    let change = |change: &dyn Fn(&mut pb::Policy)| {
        let mut policy = policy.clone();
        change(&mut policy);
        policy
    };
    for lifting in [
        change(&|policy| policy.default_limits = None),
        change(&|policy| policy.default_limits = Some(limits(41, 1000))),
        change(&|policy| policy.default_limits = Some(limits(40, 0))),
    ] {
        lacks(&set_policy(&mut pat, lifting).await.unwrap_err(), "limits.edit");
    }
    for lifting in [
        change(&|policy| policy.tenant_limits = None),
        change(&|policy| policy.tenant_limits = Some(limits(101, 0))),
        change(&|policy| policy.max_limits = None),
        change(&|policy| policy.max_limits = Some(limits(50, 1000))),
    ] {
        for user in [&mut pat, &mut lia] {
            lacks(&set_policy(user, lifting.clone()).await.unwrap_err(), "keyward.admin");
        }
    }
    let beyond = change(&|policy| policy.default_limits = Some(limits(61, 1000)));
    assert_eq!(reason(&set_policy(&mut lia, beyond).await.unwrap_err()), "POLICY");
    let narrower = change(&|policy| {
        policy.default_limits = Some(limits(30, 10));
        policy.tenant_limits = Some(limits(90, 10));
    });
    set_policy(&mut pat, narrower.clone()).await.unwrap();
    let lifted = pb::Policy { default_limits: Some(limits(60, 1000)), ..narrower };
    set_policy(&mut lia, lifted).await.unwrap();
    let observed = pb::Limits { observe_only: true, ..limits(1, 0) };
    let policy = pb::Policy { max_limits: Some(observed), ..Default::default() };
    let status = set_policy(&mut admin, policy).await.unwrap_err();
    assert!(status.message().contains("max_limits.observe_only"), "{}", status.message());
}

async fn tenant_limits_are_shared_by_all_applications(backend: Backend) {
    let kw = backend.start().await;
    let mut admin = kw.admin().await;
    let (_, crm) = admin.acme().await;
    let bi = admin.application("acme", "bi", &["a"]).await;
    let (_, bi) = admin.credential(&bi.name, Kind::ClientSecret).await;
    let policy = pb::Policy {
        default_limits: Some(limits(3, 0)),
        tenant_limits: Some(limits(4, 7)),
        ..Default::default()
    };
    set_policy(&mut admin, policy).await.unwrap();
    set(&mut admin, Some(limits(0, 0))).await.unwrap();
    let mut tokens = Vec::new();
    for client in [&crm, &bi] {
        tokens.push(client.token(&kw.grpc()).await);
    }
    let mut allowed = 0;
    for n in 0..10 {
        let answer = admin.check(&tokens[n % 2], &["a"]).await;
        allowed += usize::from(answer.allowed);
        if !answer.allowed {
            let refusing = answer.limits.iter().filter(|limit| limit.exceeded);
            let names: Vec<_> = refusing.map(|limit| limit.name.as_str()).collect();
            assert_eq!(names, ["tenants/acme"], "whose limit it is");
            assert!(answer.retry_after.is_some_and(|wait| wait.seconds > 0));
        }
    }
    assert_eq!(allowed, 4, "whatever an application may by itself");
    let request = CheckAccessRequest { items: 8, ..question(&tokens[0], &["a"]) };
    let answer = admin.access.check_access(request).await.unwrap().into_inner();
    assert_eq!((answer.outcome(), answer.max_items), (Outcome::TooManyItems, 7));
}

async fn counts_survive_a_restart(backend: Backend) {
    if backend == Backend::Postgres {
        // With PostgreSQL, several servers can share it, so lasting counts are in Redis.
        return;
    }
    let mut kw = backend.start().await;
    let mut admin = kw.admin().await;
    let (_, crm) = admin.acme().await;
    let day = Some(prost_types::Duration { seconds: 86_400, nanos: 0 });
    let daily = pb::Limits { request_window: day, token_window: day, tokens: 2, ..limits(5, 0) };
    let policy = pb::Policy { default_limits: Some(daily), ..Default::default() };
    set_policy(&mut admin, policy).await.unwrap();
    let token = crm.token(&kw.grpc()).await;
    let mut allowed = 0;
    for _ in 0..3 {
        kw.restart().await;
        let mut admin = kw.admin().await;
        for _ in 0..2 {
            allowed += usize::from(admin.check(&token, &["a"]).await.allowed);
        }
    }
    assert_eq!(allowed, 5);
    crm.token(&kw.grpc()).await;
    kw.restart().await;
    let status = crm.exchange(&kw.grpc(), &[], &[]).await.unwrap_err();
    assert_eq!(reason(&status), "RATE_LIMITED");
    // Expired counts are not restored, and their rows are deleted with the next write.
    kw.advance(86_400 + 86_400 / 64);
    kw.restart().await;
    crm.token(&kw.grpc()).await;
    kw.server().service.limits.save().await.unwrap();
    let mut admin = kw.admin().await;
    let token = crm.token(&kw.grpc()).await;
    assert!(admin.check(&token, &["a"]).await.allowed);
}
