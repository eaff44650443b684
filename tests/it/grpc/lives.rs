//! Reused names: data and counts of a deleted resource are not given to a new one with the same
//! name.

use keyward::proto::access::check_access_response::Outcome;
use keyward::proto::admin as pb;
use keyward::proto::admin::credential::Kind;

use crate::harness::{Admin, Backend, Credential, Keyward, RedisServer, on_both_databases};

on_both_databases!(
    new_tenant_does_not_see_the_log_of_its_predecessor,
    new_tenant_and_application_have_unused_limits,
    usage_of_a_deleted_application_is_not_given_to_the_next,
    refusals_of_a_deleted_tenant_are_not_given_to_the_next,
);

const CRM: &str = "tenants/acme/applications/crm";

async fn delete_tenant(admin: &mut Admin) {
    let request = pb::DeleteTenantRequest {
        name: "tenants/acme".to_owned(),
        force: true,
        ..Default::default()
    };
    admin.tenants.delete_tenant(request).await.unwrap();
}

async fn delete_application(admin: &mut Admin) {
    let request = pb::DeleteApplicationRequest { name: CRM.to_owned(), ..Default::default() };
    admin.applications.delete_application(request).await.unwrap();
}

async fn log(caller: &mut Admin, order: &str) -> Vec<pb::AuditEvent> {
    let request = pb::ListAuditEventsRequest {
        parent: "tenants/acme".to_owned(),
        page_size: 1000,
        order_by: order.to_owned(),
        ..Default::default()
    };
    caller.audit.list_audit_events(request).await.unwrap().into_inner().events
}

async fn auditor(admin: &mut Admin, kw: &Keyward) -> Admin {
    admin.role("acme", "auditor", &["audit.view"], &[]).await;
    let eve = admin.user("acme", "eve", &["auditor"]).await;
    let console = "tenants/system/applications/console";
    let (_, credential) = admin.credential(console, Kind::ClientSecret).await;
    Admin::new(kw.grpc(), &credential).await.acting_for(&eve)
}

async fn new_tenant_does_not_see_the_log_of_its_predecessor(backend: Backend) {
    let kw = backend.start().await;
    let mut admin = kw.admin().await;
    admin.console(&kw).await;
    admin.acme().await;
    let mut first = auditor(&mut admin, &kw).await;
    let all = log(&mut admin, "time").await;
    assert_eq!(log(&mut first, "time").await, all, "a first life has nothing before it");
    delete_tenant(&mut admin).await;
    let former = log(&mut admin, "time").await;

    admin.tenant("acme", &["b"]).await;
    let mut eve = auditor(&mut admin, &kw).await;
    let all = log(&mut admin, "time").await;
    assert_eq!(all[..former.len()], former, "operators see every life");
    let mut seen = log(&mut eve, "time").await;
    assert_eq!(seen, all[former.len()..]);
    assert_eq!(seen[0].action, "CreateTenant");
    seen.reverse();
    assert_eq!(log(&mut eve, "").await, seen);
    // Filters and pages do not reach further.
    for (resource, actor) in [(CRM, ""), ("", "tenants/system/applications/admin")] {
        let request = pb::ListAuditEventsRequest {
            parent: "tenants/acme".to_owned(),
            page_size: 1,
            resource: resource.to_owned(),
            actor: actor.to_owned(),
            ..Default::default()
        };
        let mut pages = 0;
        let mut request = Some(request);
        while let Some(page) = request {
            let answer = eve.audit.list_audit_events(page.clone()).await.unwrap().into_inner();
            assert!(answer.events.iter().all(|event| seen.contains(event)), "{:?}", answer.events);
            pages += 1;
            request = Some(answer.next_page_token)
                .filter(|token| !token.is_empty())
                .map(|page_token| pb::ListAuditEventsRequest { page_token, ..page });
        }
        assert!(pages <= seen.len() + 1);
    }
}

/// Uses up the limits of a tenant, of its application and of an endpoint.
async fn use_up(admin: &mut Admin, crm: &Credential, kw: &Keyward) {
    let token = crm.token(&kw.grpc()).await;
    for expected in [Outcome::Allowed, Outcome::Allowed, Outcome::RateLimited] {
        assert_eq!(admin.check(&token, &["a"]).await.outcome(), expected);
    }
}

async fn limited_acme(admin: &mut Admin) -> Credential {
    let (_, crm) = admin.acme().await;
    let two = |requests| {
        let window = Some(prost_types::Duration { seconds: 86_400, nanos: 0 });
        Some(pb::Limits { requests, request_window: window, ..Default::default() })
    };
    let policy = pb::Policy { default_limits: two(2), tenant_limits: two(4), ..Default::default() };
    let tenant =
        pb::Tenant { name: "tenants/acme".to_owned(), policy: Some(policy), ..Default::default() };
    let update_mask = crate::harness::mask(&["policy"]);
    let request = pb::UpdateTenantRequest { tenant: Some(tenant), update_mask };
    admin.tenants.update_tenant(request).await.unwrap();
    crm
}

async fn new_tenant_and_application_have_unused_limits(backend: Backend) {
    let kw = &backend.start().await;
    let mut admin = kw.admin().await;
    let crm = limited_acme(&mut admin).await;
    use_up(&mut admin, &crm, kw).await;
    // A new application with the same name has its own limits. The tenant's counts stay.
    delete_application(&mut admin).await;
    admin.application("acme", "crm", &["a"]).await;
    let (_, crm) = admin.credential(CRM, Kind::ClientSecret).await;
    use_up(&mut admin, &crm, kw).await;
    delete_application(&mut admin).await;
    admin.application("acme", "crm", &["a"]).await;
    let (_, crm) = admin.credential(CRM, Kind::ClientSecret).await;
    let token = crm.token(&kw.grpc()).await;
    let refused = admin.check(&token, &["a"]).await;
    assert_eq!(refused.outcome(), Outcome::RateLimited, "by the tenant's limit");
    // A new tenant with the same name inherits nothing.
    delete_tenant(&mut admin).await;
    let crm = limited_acme(&mut admin).await;
    use_up(&mut admin, &crm, kw).await;
}

/// Sends requests until Redis has this many windows: if it is slow, a server counts by itself.
async fn counted(server: &RedisServer, kw: &Keyward, crm: &Credential, windows: usize) {
    let mut admin = kw.admin().await;
    let token = crm.token(&kw.grpc()).await;
    for _ in 0..200 {
        admin.check(&token, &["a"]).await;
        if server.cli(&["keys", "*windows*"]).lines().filter(|key| !key.is_empty()).count()
            == windows
        {
            return;
        }
    }
    panic!("there are not {windows}: {}", server.cli(&["keys", "*windows*"]));
}

#[tokio::test(flavor = "multi_thread")]
async fn new_tenant_and_application_have_new_windows_in_redis() {
    let redis = RedisServer::start();
    let [kw] = Keyward::replicas(Some(&redis.url()), &[]).await;
    let mut admin = kw.admin().await;
    let crm = limited_acme(&mut admin).await;
    counted(&redis, &kw, &crm, 2).await;
    delete_application(&mut admin).await;
    admin.application("acme", "crm", &["a"]).await;
    let (_, crm) = admin.credential(CRM, Kind::ClientSecret).await;
    counted(&redis, &kw, &crm, 3).await;
    delete_tenant(&mut admin).await;
    let crm = limited_acme(&mut admin).await;
    counted(&redis, &kw, &crm, 5).await;
}

async fn usage_of_a_deleted_application_is_not_given_to_the_next(backend: Backend) {
    let kw = backend.start().await;
    let mut admin = kw.admin().await;
    let (_, crm) = admin.acme().await;
    crm.token(&kw.grpc()).await;
    // The count is not written yet.
    delete_application(&mut admin).await;
    admin.application("acme", "crm", &["a"]).await;
    kw.server().service.usage.write().await.unwrap();
    let request = pb::GetApplicationRequest { name: CRM.to_owned() };
    let read = admin.applications.get_application(request).await.unwrap().into_inner();
    let read = read.application.unwrap();
    assert_eq!((read.last_use_time, read.last_use_address.as_str()), (None, ""));
    let usage = async |admin: &mut Admin| {
        let parent = CRM.to_owned();
        let request = pb::ListApplicationUsageRequest { parent, ..Default::default() };
        admin.applications.list_application_usage(request).await.unwrap().into_inner().days
    };
    assert_eq!(usage(&mut admin).await, []);

    let (_, crm) = admin.credential(CRM, Kind::ClientSecret).await;
    crm.token(&kw.grpc()).await;
    delete_tenant(&mut admin).await;
    admin.acme().await;
    kw.server().service.usage.write().await.unwrap();
    assert_eq!(usage(&mut admin).await, []);
}

async fn refusals_of_a_deleted_tenant_are_not_given_to_the_next(backend: Backend) {
    let kw = backend.start().await;
    let mut admin = kw.admin().await;
    admin.acme().await;
    let console = admin.console(&kw).await;
    let vic = admin.user("acme", "vic", &[]).await;
    let mut vic = console.acting_for(&vic);
    let request = pb::DeleteApplicationRequest { name: CRM.to_owned(), ..Default::default() };
    for _ in 0..5 {
        vic.applications.delete_application(request.clone()).await.unwrap_err();
    }
    kw.advance(1);
    delete_tenant(&mut admin).await;
    kw.advance(1);
    let before = log(&mut admin, "time").await.len();
    admin.tenant("acme", &["a"]).await;
    kw.server().service.refusals.write_all().await.unwrap();
    let events = log(&mut admin, "time").await;
    let reported: Vec<_> = events[before..].iter().map(|event| event.action.as_str()).collect();
    assert_eq!(reported, ["CreateTenant", "CreateScope"], "{events:?}");
}
