//! The audit log as evidence: the hash chain, signed heads, export, verification and retention.

mod chain;
mod export;
mod filters;
mod retention;
mod watch;

use std::process::Command;
use std::time::Duration;

use jiff::Timestamp;
use keyward::internals::domain::{Actor, AuditEvent, FieldChange, Outcome, TenantId};
use keyward::internals::store::{Database, PoolOptions, Store, Tx};
use keyward::proto::admin as pb;

use crate::harness::{Admin, Backend, Keyward};

/// The server's database.
async fn store(kw: &Keyward, backend: Backend) -> Store {
    let database = match backend {
        Backend::Sqlite => Database::Sqlite(kw.folder().join("keyward.db")),
        Backend::Postgres => Database::parse(&kw.database_as("keyward")).unwrap(),
    };
    let options = PoolOptions { max_connections: 8, acquire_timeout: Duration::from_mins(2) };
    Store::open(&database, options).await.unwrap()
}

fn event(tenant: &str, at: Timestamp, detail: &str) -> AuditEvent {
    AuditEvent {
        tenant: TenantId::parse(tenant).unwrap(),
        number: 0,
        at,
        actor: Actor {
            service: "tenants/system/applications/admin".to_owned(),
            user: None,
            address: Some("127.0.0.1".to_owned()),
        },
        action: "UpdateTenant".to_owned(),
        resource: format!("tenants/{tenant}"),
        outcome: Outcome::Done,
        detail: detail.to_owned(),
        changes: vec![FieldChange::new("display_name", None, Some(detail.to_owned()))],
    }
}

/// A transaction that has locked the tenant.
async fn locked(store: &Store, tenant: &str) -> Tx {
    let mut tx = store.begin().await.unwrap();
    tx.lock_tenant(&TenantId::parse(tenant).unwrap()).await.unwrap().expect("the tenant exists");
    tx
}

/// Writes events, in one transaction.
async fn write(store: &Store, events: &[AuditEvent]) {
    let mut tx = locked(store, events[0].tenant.as_str()).await;
    for event in events {
        tx.insert_audit_event(event).await.unwrap();
    }
    tx.commit().await.unwrap();
}

/// Writes so many events to the log of a tenant.
async fn write_events(kw: &Keyward, store: &Store, tenant: &str, count: usize) {
    let events: Vec<_> =
        (0..count).map(|n| event(tenant, kw.now(), &format!("detail {n}"))).collect();
    write(store, &events).await;
}

/// Adds all events to the chains.
pub(crate) async fn seal(kw: &Keyward) {
    while !kw.server().service.audit.seal().await.unwrap() {}
    // The server's own task may have had the lock.
    loop {
        let logs = logs(&mut kw.admin().await).await;
        let is_sealed = |log: &pb::AuditLog| {
            log.head.as_ref().is_some_and(|head| head.number == log.last_number)
        };
        if logs.iter().all(is_sealed) {
            return;
        }
        kw.server().service.audit.seal().await.unwrap();
    }
}

pub(crate) async fn logs(admin: &mut Admin) -> Vec<pb::AuditLog> {
    let request = pb::ListAuditLogsRequest { page_size: 1000, page_token: String::new() };
    admin.audit.list_audit_logs(request).await.unwrap().into_inner().logs
}

/// Runs SQL with all rights in the database, and without its triggers.
async fn tamper(kw: &Keyward, sql: &str) {
    let sql = if kw.database_url().is_some() {
        format!("set session_replication_role = replica; {sql}")
    } else {
        let triggers = [
            "audit_events_are_not_changed",
            "audit_events_are_not_deleted",
            "audit_chain_is_not_changed",
            "audit_chain_is_not_deleted",
        ];
        let drops = triggers.map(|trigger| format!("drop trigger if exists {trigger};"));
        format!("{} {sql}", drops.concat())
    };
    kw.sql(Box::leak(sql.into_boxed_str()), None).await.unwrap();
}

/// A finished command.
#[derive(Debug)]
pub(crate) struct Ran {
    code: i32,
    pub(crate) out: String,
    err: String,
}

/// Runs `keyward audit` as the administrator.
pub(crate) async fn audit(kw: &Keyward, arguments: &[&str]) -> Ran {
    let mut command = Command::new(env!("CARGO_BIN_EXE_keyward"));
    command
        .arg("audit")
        .args(arguments)
        .env("KEYWARD_SERVER", kw.grpc())
        .env("KEYWARD_CLIENT_ID", &kw.admin_credential().client_id)
        .env("KEYWARD_CLIENT_SECRET", &kw.admin_credential().secret);
    let output = tokio::task::spawn_blocking(move || command.output().unwrap()).await.unwrap();
    Ran {
        code: output.status.code().unwrap(),
        out: String::from_utf8(output.stdout).unwrap(),
        err: String::from_utf8(output.stderr).unwrap(),
    }
}

/// Runs it, and expects this exit code and text.
pub(crate) async fn expect(kw: &Keyward, arguments: &[&str], code: i32, text: &str) {
    let ran = audit(kw, arguments).await;
    assert_eq!(ran.code, code, "{arguments:?}: {ran:?}");
    assert!(ran.out.contains(text) || ran.err.contains(text), "{arguments:?}: {text}: {ran:?}");
}
