//! Refused attempts: repeating them writes a bounded number of events, and does not affect caches.

use keyward::proto::admin as pb;
use keyward::proto::admin::audit_event::Outcome;
use keyward::proto::admin::credential::Kind;
use keyward::proto::errors::ErrorReason;
use keyward::proto::token::RevokeTokenRequest;

use crate::harness::{Admin, Backend, Keyward, mask, on_both_databases, reason};

on_both_databases!(
    repeated_refusal_is_one_event_and_a_count,
    count_is_written_when_the_server_stops,
    different_refusals_of_one_caller_are_bounded,
    refusals_of_unknown_users_share_one_budget,
    revocation_by_another_tenant_does_and_records_nothing,
    refused_attempt_leaves_cached_clients_warm,
    application_repeated_in_a_batch_is_deleted_once,
);

const CRM: &str = "tenants/acme/applications/crm";
/// The maximum number of different refused attempts of a caller that are recorded in an hour.
const KINDS: usize = 50;

/// The refused attempts in a tenant's log, oldest first.
async fn refusals(admin: &mut Admin, tenant: &str) -> Vec<pb::AuditEvent> {
    let request = pb::ListAuditEventsRequest {
        parent: format!("tenants/{tenant}"),
        page_size: 1000,
        order_by: "time".to_owned(),
        ..Default::default()
    };
    let mut events = admin.audit.list_audit_events(request).await.unwrap().into_inner().events;
    events.retain(|event| event.outcome() == Outcome::Refused);
    events
}

/// A tenant with an application, and its user vic, who may do nothing.
async fn acme_and_vic(kw: &Keyward) -> (Admin, Admin) {
    let mut admin = kw.admin().await;
    admin.acme().await;
    let vic = admin.user("acme", "vic", &[]).await;
    let vic = admin.console(kw).await.acting_for(&vic);
    (admin, vic)
}

async fn delete(caller: &mut Admin, name: &str) -> Result<(), tonic::Status> {
    let request = pb::DeleteApplicationRequest { name: name.to_owned(), ..Default::default() };
    caller.applications.delete_application(request).await.map(drop)
}

async fn batch(caller: &mut Admin, names: &[&str]) -> Vec<ErrorReason> {
    let request = pb::BatchDeleteApplicationsRequest {
        parent: "tenants/acme".to_owned(),
        names: names.iter().map(|name| (*name).to_owned()).collect(),
    };
    let answer = caller.applications.batch_delete_applications(request).await.unwrap();
    let results = answer.into_inner().results;
    assert!(results.iter().map(|result| result.name.as_str()).eq(names.iter().copied()));
    results.iter().map(pb::batch_delete_applications_response::Result::reason).collect()
}

async fn repeated_refusal_is_one_event_and_a_count(backend: Backend) {
    let kw = backend.start().await;
    let (mut admin, mut vic) = acme_and_vic(&kw).await;
    for _ in 0..5 {
        let reasons = batch(&mut vic, &[CRM; 100]).await;
        assert_eq!(reasons, [ErrorReason::PermissionDenied; 100]);
        kw.advance(1);
    }
    let reported = refusals(&mut admin, "acme").await;
    assert_eq!(reported.len(), 1, "{reported:?}");
    assert_eq!(
        (reported[0].user.as_str(), reported[0].resource.as_str()),
        ("tenants/acme/users/vic", CRM)
    );

    // Another reason, resource or user is a different attempt.
    vic.applications
        .update_application(pb::UpdateApplicationRequest {
            application: Some(pb::Application {
                name: CRM.to_owned(),
                disabled: true,
                ..Default::default()
            }),
            update_mask: mask(&["disabled"]),
        })
        .await
        .unwrap_err();
    assert_eq!(refusals(&mut admin, "acme").await.len(), 2);

    kw.advance(600);
    kw.server().service.refusals.write().await.unwrap();
    let reported = refusals(&mut admin, "acme").await;
    assert_eq!(reported.len(), 3, "what was not repeated has no count: {reported:?}");
    let count = &reported[2];
    assert_eq!((count.action.as_str(), count.resource.as_str()), ("DeleteApplication", CRM));
    let sentence = "4 more such attempts have no event of their own, from 2026-06-01T12:00:00Z to \
        2026-06-01T12:00:04Z";
    assert!(count.detail.ends_with(sentence), "{}", count.detail);

    delete(&mut vic, CRM).await.unwrap_err();
    assert_eq!(refusals(&mut admin, "acme").await.len(), 4, "a new time has begun");
}

async fn count_is_written_when_the_server_stops(backend: Backend) {
    let mut kw = backend.start().await;
    let (_, mut vic) = acme_and_vic(&kw).await;
    for _ in 0..3 {
        delete(&mut vic, CRM).await.unwrap_err();
    }
    kw.restart().await;
    let reported = refusals(&mut kw.admin().await, "acme").await;
    assert_eq!(reported.len(), 2);
    assert!(reported[1].detail.contains("2 more such attempts"), "{}", reported[1].detail);
}

async fn different_refusals_of_one_caller_are_bounded(backend: Backend) {
    let kw = backend.start().await;
    let (mut admin, mut vic) = acme_and_vic(&kw).await;
    for n in 0..KINDS + 20 {
        let name = format!("tenants/other/applications/a{n}");
        assert_eq!(reason(&delete(&mut vic, &name).await.unwrap_err()), "NOT_FOUND");
    }
    let reported = refusals(&mut admin, "acme").await;
    assert_eq!(reported.len(), KINDS + 1);
    let last = &reported[KINDS].detail;
    let sentence =
        "more refused attempts of this caller are only counted until 2026-06-01T13:00:00Z";
    assert!(last.ends_with(sentence), "{last}");

    // Another user is a different caller.
    let sam = admin.user("acme", "sam", &[]).await;
    delete(&mut vic.acting_for(&sam), CRM).await.unwrap_err();
    assert_eq!(refusals(&mut admin, "acme").await.len(), KINDS + 2);

    kw.advance(3600);
    kw.server().service.refusals.write().await.unwrap();
    let reported = refusals(&mut kw.admin().await, "acme").await;
    assert_eq!(reported.len(), KINDS + 3);
    let count = &reported[KINDS + 2];
    assert_eq!(count.user, "tenants/acme/users/vic");
    assert!(count.detail.contains("19 more refused attempts"), "{}", count.detail);
}

async fn refusals_of_unknown_users_share_one_budget(backend: Backend) {
    let kw = backend.start().await;
    let (mut admin, vic) = acme_and_vic(&kw).await;
    for n in 0..KINDS + 20 {
        let mut ghost = vic.acting_for(&format!("tenants/acme/users/ghost-{n}"));
        assert_eq!(reason(&delete(&mut ghost, CRM).await.unwrap_err()), "PERMISSION_DENIED");
    }
    assert_eq!(refusals(&mut admin, "acme").await.len(), KINDS + 1);
}

async fn revocation_by_another_tenant_does_and_records_nothing(backend: Backend) {
    let kw = backend.start().await;
    let mut admin = kw.admin().await;
    let (_, crm) = admin.acme().await;
    admin.tenant("evil", &["a"]).await;
    let evil = admin.application("evil", "evil", &["a"]).await.name;
    let (_, key) = admin.credential(&evil, Kind::ApiKey).await;
    let mut evil = Admin::with_token(&kw.grpc(), &key.secret).await;
    let token = crm.token(&kw.grpc()).await;
    for _ in 0..20 {
        let request = RevokeTokenRequest { token: token.clone() };
        evil.tokens.revoke_token(request).await.unwrap();
    }
    let count = refusals(&mut admin, "acme").await.len() + refusals(&mut admin, "evil").await.len();
    assert_eq!(count, 0);
    assert!(admin.is_active(&token).await);
}

/// A change that is only made in the database shows whether a cached client is read again.
async fn refused_attempt_leaves_cached_clients_warm(backend: Backend) {
    let kw = backend.start().await;
    let (mut admin, mut vic) = acme_and_vic(&kw).await;
    let (_, crm) = admin.credential(CRM, Kind::ClientSecret).await;
    let erp = admin.application("acme", "erp", &["a"]).await.name;
    crm.token(&kw.grpc()).await;

    // Attempts on the client's application, and on the whole tenant.
    delete(&mut vic, CRM).await.unwrap_err();
    let request = pb::DeleteTenantRequest { name: "tenants/acme".to_owned(), ..Default::default() };
    vic.tenants.delete_tenant(request).await.unwrap_err();
    kw.sql("update applications set disabled = true where id = 'crm'", None).await.unwrap();
    // A change of another application, after which the log is read.
    let change = |name: &str| {
        let application = pb::Application {
            name: name.to_owned(),
            display_name: "new".to_owned(),
            ..Default::default()
        };
        let request = pb::UpdateApplicationRequest {
            application: Some(application),
            update_mask: mask(&["display_name"]),
        };
        let mut applications = admin.applications.clone();
        async move { applications.update_application(request).await.unwrap() }
    };
    change(&erp).await;
    crm.token(&kw.grpc()).await;
    change(CRM).await;
    let status = crm.exchange(&kw.grpc(), &[], &[]).await.unwrap_err();
    assert_eq!(reason(&status), "INVALID_CLIENT", "now it was read again");
}

async fn application_repeated_in_a_batch_is_deleted_once(backend: Backend) {
    let kw = backend.start().await;
    let (mut admin, _) = acme_and_vic(&kw).await;
    let gone = "tenants/acme/applications/gone";
    let reasons = batch(&mut admin, &[CRM, gone, CRM, gone]).await;
    let (done, missing) = (ErrorReason::Unspecified, ErrorReason::NotFound);
    assert_eq!(reasons, [done, missing, done, missing]);
    let request = pb::ListAuditEventsRequest {
        parent: "tenants/acme".to_owned(),
        action: "DeleteApplication".to_owned(),
        ..Default::default()
    };
    let events = admin.audit.list_audit_events(request).await.unwrap().into_inner().events;
    assert_eq!(events.len(), 1);
}
