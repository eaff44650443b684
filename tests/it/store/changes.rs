//! The change feed: one row for each change, in the order of commits, on both databases.

use std::time::Duration;

use keyward::internals::clock::later;
use keyward::internals::domain::{Actor, AuditEvent, Outcome, TenantId};
use keyward::internals::store::{Database, PoolOptions, Store, Tx};

use super::{fresh, now, tenant};
use crate::harness::{Backend, on_both_databases};

on_both_databases!(
    feed_has_changes_without_refused_attempts,
    purge_keeps_last_change_of_each_tenant,
    changes_of_one_tenant_wait_for_each_other,
);

fn event(tenant: &str, resource: &str, outcome: Outcome) -> AuditEvent {
    AuditEvent {
        tenant: TenantId::parse(tenant).unwrap(),
        number: 0,
        at: now(),
        actor: Actor { service: "console".to_owned(), user: None, address: None },
        action: "UpdateApplication".to_owned(),
        resource: resource.to_owned(),
        outcome,
        detail: String::new(),
        changes: Vec::new(),
    }
}

/// Adds an event for each of these resources, in one transaction.
async fn change(store: &Store, tenant: &str, resources: &[&str]) {
    let mut tx = locked(store, tenant).await;
    for resource in resources {
        tx.insert_audit_event(&event(tenant, resource, Outcome::Done)).await.unwrap();
    }
    tx.commit().await.unwrap();
}

/// A transaction that has locked the tenant.
async fn locked(store: &Store, tenant: &str) -> Tx {
    let mut tx = store.begin().await.unwrap();
    tx.lock_tenant(&TenantId::parse(tenant).unwrap()).await.unwrap().unwrap();
    tx
}

/// The numbers and resources of the feed, from a number on.
async fn feed(store: &Store, tenant: &str, from: i64) -> Vec<(i64, String)> {
    let mut session = store.read().await.unwrap();
    let tenant = TenantId::parse(tenant).unwrap();
    let changes = session.changes_from(&tenant, from, 100).await.unwrap();
    changes.into_iter().map(|change| (change.number, change.resource)).collect()
}

/// A store with these tenants.
async fn with_tenants(backend: Backend, ids: &[&str]) -> super::Fresh {
    let fresh = fresh(backend).await;
    let mut tx = fresh.store.begin().await.unwrap();
    for id in ids {
        assert!(tx.insert_tenant(&tenant(id)).await.unwrap());
    }
    tx.commit().await.unwrap();
    fresh
}

async fn feed_has_changes_without_refused_attempts(backend: Backend) {
    let fresh = with_tenants(backend, &["acme", "other"]).await;
    let mut tx = locked(&fresh.store, "acme").await;
    for (resource, outcome) in
        [("one", Outcome::Done), ("two", Outcome::Refused), ("three", Outcome::Done)]
    {
        tx.insert_audit_event(&event("acme", resource, outcome)).await.unwrap();
    }
    assert!(feed(&fresh.store, "acme", 0).await.is_empty(), "changes are visible after the commit");
    tx.commit().await.unwrap();
    let [one, three] = [(1, "one".to_owned()), (3, "three".to_owned())];
    assert_eq!(feed(&fresh.store, "acme", 0).await, [one, three.clone()]);
    assert_eq!(feed(&fresh.store, "acme", 2).await, [three]);
    assert!(feed(&fresh.store, "other", 0).await.is_empty());
}

async fn purge_keeps_last_change_of_each_tenant(backend: Backend) {
    let fresh = with_tenants(backend, &["acme", "other"]).await;
    change(&fresh.store, "acme", &["a", "b", "c"]).await;
    change(&fresh.store, "other", &["d"]).await;
    let purge = async |end| {
        let mut tx = fresh.store.begin().await.unwrap();
        assert!(tx.purge_changes(end).await.unwrap(), "one batch deletes all old changes");
        tx.commit().await.unwrap();
    };
    purge(now()).await;
    assert_eq!(feed(&fresh.store, "acme", 0).await.len(), 3, "changes at the end time are kept");
    purge(later(now(), Duration::from_micros(1))).await;
    assert_eq!(feed(&fresh.store, "acme", 0).await, [(3, "c".to_owned())]);
    assert_eq!(feed(&fresh.store, "other", 0).await, [(1, "d".to_owned())]);
    change(&fresh.store, "acme", &["e"]).await;
    assert_eq!(feed(&fresh.store, "acme", 4).await, [(4, "e".to_owned())]);
}

async fn changes_of_one_tenant_wait_for_each_other(backend: Backend) {
    let fresh = with_tenants(backend, &["acme", "other"]).await;
    let mut first = locked(&fresh.store, "acme").await;
    first.insert_audit_event(&event("acme", "first", Outcome::Done)).await.unwrap();
    let other_server = match &fresh.url {
        None => fresh.store.clone(),
        Some(url) => {
            let options =
                PoolOptions { max_connections: 16, acquire_timeout: Duration::from_mins(1) };
            Store::open(&Database::parse(url).unwrap(), options).await.unwrap()
        }
    };
    let store = other_server.clone();
    let second = tokio::spawn(async move { change(&store, "acme", &["second"]).await });
    if backend == Backend::Postgres {
        // Changes of another tenant do not wait.
        change(&other_server, "other", &["third"]).await;
        assert_eq!(feed(&fresh.store, "other", 0).await, [(1, "third".to_owned())]);
    }
    // A reader that saw the second change first would continue after it, and miss the first.
    assert!(feed(&fresh.store, "acme", 0).await.is_empty());
    assert!(!second.is_finished());
    first.commit().await.unwrap();
    second.await.unwrap();
    let both = [(1, "first".to_owned()), (2, "second".to_owned())];
    assert_eq!(feed(&fresh.store, "acme", 0).await, both);
}
