//! Retention: old events are deleted, and the rest of the chain still verifies.

use std::time::Duration;

use keyward::proto::admin as pb;

use super::{expect, seal, store, tamper, write_events};
use crate::harness::{Backend, on_both_databases, reason};

on_both_databases!(old_events_are_deleted_and_the_chain_still_verifies);

const WEEK: Duration = Duration::from_hours(7 * 24);

async fn old_events_are_deleted_and_the_chain_still_verifies(backend: Backend) {
    let kw = backend.start().await;
    let mut admin = kw.admin().await;
    let store = store(&kw, backend).await;
    for tenant in ["acme", "idle", "hand", "dead"] {
        admin.tenant(tenant, &[]).await;
        write_events(&kw, &store, tenant, 1200).await;
    }
    let request = pb::DeleteTenantRequest { name: "tenants/dead".to_owned(), ..Default::default() };
    admin.tenants.delete_tenant(request).await.unwrap();
    seal(&kw).await;
    let purge = async || kw.server().service.audit.purge(WEEK).await.unwrap();
    assert_eq!(purge().await, 0, "nothing is old");
    kw.advance(8 * 24 * 60 * 60);
    let mut admin = kw.admin().await;
    write_events(&kw, &store, "acme", 5).await;
    write_events(&kw, &store, "hand", 5).await;
    // An old event is deleted by hand: that must not disappear with the others.
    tamper(&kw, "delete from audit_events where tenant_id = 'hand' and number = 700").await;
    seal(&kw).await;
    let deleted = purge().await;
    // All old ones of acme (1201) and idle (1201), and all but the newest of dead (1202).
    assert!(deleted >= 1201 + 1201 + 1201, "{deleted}");
    seal(&kw).await;
    let mut numbers = async |tenant: &str| {
        let request = pb::ListAuditEventsRequest {
            parent: format!("tenants/{tenant}"),
            page_size: 1000,
            order_by: "time".to_owned(),
            ..Default::default()
        };
        let events = admin.audit.list_audit_events(request).await.unwrap().into_inner().events;
        let number = |event: &pb::AuditEvent| -> (i64, String) {
            let number = event.name.rsplit('/').next().unwrap().parse().unwrap();
            (number, event.action.clone())
        };
        events.iter().map(number).collect::<Vec<_>>()
    };
    let acme = numbers("acme").await;
    assert_eq!(acme.first().unwrap().0, 1202);
    let of_purge = |events: &[(i64, String)]| {
        events.iter().filter(|(_, action)| action == "PurgeAuditEvents").count()
    };
    assert_eq!((acme.len(), of_purge(&acme)), (6, 1), "{acme:?}");
    let idle = numbers("idle").await;
    assert_eq!(idle, [(1202, "PurgeAuditEvents".to_owned())]);
    assert_eq!(numbers("dead").await, [(1202, "DeleteTenant".to_owned())]);
    // The log of a deleted tenant ends; that its events were deleted is in the log of the platform.
    assert!(of_purge(&numbers("system").await) >= 1);

    for tenant in ["acme", "idle", "dead", "system"] {
        expect(&kw, &["verify", tenant], 0, "verified").await;
    }
    expect(&kw, &["verify", "acme"], 0, "events up to 1201 were deleted because of their age")
        .await;
    expect(&kw, &["verify", "hand"], 11, "event 700 is missing").await;
    // An export begins with the checkpoint.
    let file = kw.folder().join("acme.jsonl");
    let file = file.to_str().unwrap();
    expect(&kw, &["export", "acme", "--file", file], 0, "6 events exported").await;
    assert!(std::fs::read_to_string(file).unwrap().starts_with("{\"checkpoint\":"));
    expect(&kw, &["verify", "--file", file], 0, "verified").await;

    // A reader that was away for too long gets an error.
    let request = pb::WatchAuditEventsRequest {
        parent: "tenants/acme".to_owned(),
        cursor: "1000".to_owned(),
    };
    let mut stream = admin.audit.watch_audit_events(request).await.unwrap().into_inner();
    assert_eq!(reason(&stream.message().await.unwrap_err()), "CURSOR_TOO_OLD");

    // A second time there is nothing to do, and no event about it.
    assert_eq!(purge().await, 0);
    tamper(&kw, "delete from audit_events where tenant_id = 'acme' and number = 1203").await;
    expect(&kw, &["verify", "acme"], 11, "event 1203 is missing").await;
    tamper(&kw, "delete from audit_checkpoints where tenant_id = 'idle'").await;
    expect(&kw, &["verify", "idle"], 11, "events 1 to 1201 are missing").await;
}
