//! Prepared statements of PostgreSQL whose result a migration has changed (SQLSTATE 0A000, "cached
//! plan must not change result type").

use std::time::Duration;

use keyward::internals::domain::TenantId;
use keyward::internals::error::Error;
use keyward::internals::store::{Database, PoolOptions, Store};
use keyward::proto::admin as pb;

use sqlx::{Connection, PgConnection};

use crate::harness::{Backend, Keyward, fresh_database};

/// The columns get another type, and another column.
const CHANGES: [&str; 4] = [
    "alter table tenants alter column display_name type varchar(500)",
    "alter table applications alter column display_name type varchar(500)",
    "alter table applications add column later_note text not null default ''",
    "alter table credentials alter column display_name type varchar(500)",
];

/// Calls that read and write these tables.
async fn call(kw: &Keyward, admin: &mut crate::harness::Admin, id: &str) {
    let request = pb::GetTenantRequest { name: "tenants/acme".to_owned() };
    admin.tenants.get_tenant(request).await.unwrap();
    let request =
        pb::ListApplicationsRequest { parent: "tenants/acme".to_owned(), ..Default::default() };
    admin.applications.list_applications(request).await.unwrap();
    let application = admin.application("acme", id, &["a"]).await;
    let kind = pb::credential::Kind::ClientSecret;
    let (_, credential) = admin.credential(&application.name, kind).await;
    let token = credential.token(&kw.grpc()).await;
    assert!(admin.check(&token, &["a"]).await.allowed);
}

#[tokio::test(flavor = "multi_thread")]
async fn calls_go_on_when_a_migration_changes_columns() {
    let kw = Backend::Postgres.start().await;
    let mut admin = kw.admin().await;
    admin.tenant("acme", &["a"]).await;
    // Each connection has prepared the statements.
    for n in 0..20 {
        call(&kw, &mut admin, &format!("before-{n}")).await;
    }
    for (n, change) in CHANGES.into_iter().enumerate() {
        kw.sql(change, None).await.unwrap();
        for m in 0..5 {
            call(&kw, &mut admin, &format!("after-{n}-{m}")).await;
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn transaction_with_outdated_statement_can_be_repeated() {
    let url = fresh_database().await;
    let options = PoolOptions { max_connections: 8, acquire_timeout: Duration::from_mins(1) };
    let store = Store::open(&Database::parse(&url).unwrap(), options).await.unwrap();
    let acme = TenantId::parse("acme").unwrap();
    // Three connections at once, which have all prepared the statement.
    let mut open = Vec::new();
    for _ in 0..3 {
        let mut tx = store.begin().await.unwrap();
        tx.find_tenant(&acme).await.unwrap();
        open.push(tx);
    }
    for tx in open {
        tx.commit().await.unwrap();
    }
    let mut connection = PgConnection::connect(&url).await.unwrap();
    sqlx::raw_sql(CHANGES[0]).execute(&mut connection).await.unwrap();

    let mut tx = store.begin().await.unwrap();
    let failed = tx.find_tenant(&acme).await.unwrap_err();
    assert!(matches!(failed, Error::Unavailable(_)), "a caller may try again: {failed:?}");
    drop(tx);
    // One failure is enough for all connections.
    let mut open = Vec::new();
    for _ in 0..3 {
        let mut tx = store.begin().await.unwrap();
        tx.find_tenant(&acme).await.unwrap();
        open.push(tx);
    }
}
