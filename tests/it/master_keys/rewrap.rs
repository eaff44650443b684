//! Stored values are sealed again.

use keyward::internals::store::{SealedColumn, SealedItem};
use keyward::proto::admin as pb;
use sqlx::{Connection, PgConnection};
use strum::VariantArray;

use super::{
    KeyFiles, NEW, OLD, id, reveal, rewrap, rewrap_all, status, store, uses, viewable_acme,
};
use crate::harness::{Admin, Backend, Credential, Keyward, on_both_databases, reason};

on_both_databases!(
    rewrap_moves_every_value_once,
    rewrap_continues_where_it_was_stopped,
    rewrap_keeps_a_secret_that_was_rotated_meanwhile,
    rewraps_at_once_are_harmless,
    value_of_an_unknown_key_is_left_and_counted,
    every_sealed_column_is_in_the_list,
    rewrap_is_for_the_platform_and_is_audited,
);

/// A server in the step in which it writes with the new key, and its tenant.
async fn in_step_b(backend: Backend) -> (KeyFiles, Keyward, pb::Credential, Credential) {
    let keys = KeyFiles::new();
    let mut kw = keys.start(backend, OLD, None).await;
    let (made, crm) = viewable_acme(&mut kw.admin().await).await;
    kw.restart_with(&keys.settings(NEW, Some(OLD))).await;
    (keys, kw, made, crm)
}

async fn rewrap_moves_every_value_once(backend: Backend) {
    let (_keys, kw, made, crm) = in_step_b(backend).await;
    let mut admin = kw.admin().await;
    let before = uses(&mut admin, OLD).await;
    assert_eq!(before.sealed_values, 5, "a secret, two signing keys and their public keys");
    rewrap_all(&mut admin).await;
    let after = uses(&mut admin, OLD).await;
    assert_eq!((after.sealed_values, after.audit_signatures), (0, 0));
    assert!(uses(&mut admin, NEW).await.sealed_values >= 5);
    assert_eq!(rewrap(&mut admin).await.unwrap(), (0, 0), "there is nothing left to do");
    assert_eq!(reveal(&mut admin, &made.name).await.unwrap(), crm.secret);
}

async fn rewrap_continues_where_it_was_stopped(backend: Backend) {
    // More than one call does.
    const SECRETS: usize = 1050;
    let (_keys, kw, _, crm) = in_step_b(backend).await;
    let copy = format!(
        "insert into secrets (credential_id, version, hash, last_four, sealed, created_at) \
         with recursive n(n) as (select 2 union all select n + 1 from n where n < {}) \
         select credential_id, n, hash, last_four, sealed, created_at from secrets, n \
         where credential_id = '{}' and version = 1",
        SECRETS + 1,
        crm.client_id
    );
    kw.sql(Box::leak(copy.into_boxed_str()), None).await.unwrap();
    let mut admin = kw.admin().await;
    let request = pb::RewrapValuesRequest::default();
    let first = admin.master_keys.rewrap_values(request).await.unwrap().into_inner();
    assert!(!first.next_page_token.is_empty());
    // The copies have a name of another version: they cannot be opened, and are passed over.
    assert_eq!((first.rewrapped, first.skipped), (1, 999));
    let request = pb::RewrapValuesRequest { page_token: first.next_page_token };
    let second = admin.master_keys.rewrap_values(request).await.unwrap().into_inner();
    assert!(second.skipped >= 51, "{second:?}");
    assert!(second.rewrapped >= 2, "signing keys come after secrets");
    let request = pb::RewrapValuesRequest { page_token: "x".to_owned() };
    let refused = admin.master_keys.rewrap_values(request).await.unwrap_err();
    assert_eq!(reason(&refused), "INVALID_PAGE_TOKEN");
}

/// The rewrap has read the row, the secret is rotated, the rewrap goes on.
async fn rewrap_keeps_a_secret_that_was_rotated_meanwhile(backend: Backend) {
    let (_keys, kw, made, crm) = in_step_b(backend).await;
    let mut admin = kw.admin().await;
    let store = store(&kw).await;
    let mut session = store.read().await.unwrap();
    let read = session.list_sealed(SealedColumn::Secrets, &id(NEW), ("", 0), 10).await.unwrap();
    assert_eq!(read.len(), 1);
    let SealedItem::Secret(name, 1) = &read[0].item else { panic!("{read:?}") };
    assert_eq!(name.to_string(), made.name);

    let request = pb::RotateCredentialRequest {
        name: made.name.clone(),
        overlap: Some(prost_types::Duration::default()),
        ..Default::default()
    };
    let rotated = admin.credentials.rotate_credential(request).await.unwrap().into_inner();

    let mut tx = store.begin().await.unwrap();
    assert!(!tx.replace_sealed(&read[0], "undone").await.unwrap(), "it is another value now");
    tx.commit().await.unwrap();
    rewrap_all(&mut admin).await;
    assert_eq!(reveal(&mut admin, &made.name).await.unwrap(), rotated.secret);
    let new = Credential { secret: rotated.secret, ..crm.clone() };
    new.token(&kw.grpc()).await;
    let refused = crm.exchange(&kw.grpc(), &[], &[]).await.unwrap_err();
    assert_eq!(reason(&refused), "INVALID_CLIENT");
}

async fn rewraps_at_once_are_harmless(backend: Backend) {
    let (_keys, kw, made, crm) = in_step_b(backend).await;
    let admin = kw.admin().await;
    let [mut one, mut other] = [admin.clone(), admin.clone()];
    let (one, other) = tokio::join!(rewrap(&mut one), rewrap(&mut other));
    let moved = one.unwrap().0 + other.unwrap().0;
    let mut admin = admin;
    rewrap_all(&mut admin).await;
    assert!(moved <= 3 + 4, "no value moved twice: {moved}");
    assert_eq!(uses(&mut admin, OLD).await.sealed_values, 0);
    assert_eq!(reveal(&mut admin, &made.name).await.unwrap(), crm.secret);
}

/// Another change has the row: the rewrap does not wait for it, and comes back.
#[tokio::test(flavor = "multi_thread")]
async fn rewrap_does_not_wait_for_a_change_of_a_row() {
    let (_keys, kw, made, crm) = in_step_b(Backend::Postgres).await;
    let mut admin = kw.admin().await;
    let mut other = PgConnection::connect(kw.database_url().unwrap()).await.unwrap();
    let mut change = other.begin().await.unwrap();
    sqlx::raw_sql("select 1 from secrets for update").execute(&mut *change).await.unwrap();
    let (_, left) = rewrap(&mut admin).await.unwrap();
    assert!(left >= 1, "the secret is left");
    assert_eq!(uses(&mut admin, OLD).await.sealed_values, 1);
    change.rollback().await.unwrap();
    rewrap_all(&mut admin).await;
    assert_eq!(uses(&mut admin, OLD).await.sealed_values, 0);
    assert_eq!(reveal(&mut admin, &made.name).await.unwrap(), crm.secret);
}

async fn value_of_an_unknown_key_is_left_and_counted(backend: Backend) {
    let (_keys, kw, made, _) = in_step_b(backend).await;
    let mut admin = kw.admin().await;
    kw.sql("update secrets set sealed = 'deadbeef.AAAA' where sealed is not null", None)
        .await
        .unwrap();
    let refused = reveal(&mut admin, &made.name).await.unwrap_err();
    assert_eq!(reason(&refused), "INTERNAL");
    let (moved, left) = rewrap(&mut admin).await.unwrap();
    assert!(moved >= 2 && left >= 1, "{moved} {left}");
    let keys = status(&mut admin).await.master_keys;
    let unknown = keys.iter().find(|key| key.id == "deadbeef").unwrap();
    assert_eq!((unknown.sealed_values, unknown.held, unknown.removable), (1, false, false));
}

/// All columns with text, of all tables of the server.
async fn columns(kw: &Keyward) -> Vec<(String, String)> {
    if let Some(url) = kw.database_url() {
        let mut connection = PgConnection::connect(url).await.unwrap();
        let sql = "select table_name::text, column_name::text from information_schema.columns \
            where table_schema = 'public' and data_type = 'text'";
        return sqlx::query_as(sql).fetch_all(&mut connection).await.unwrap();
    }
    let file = kw.folder().join("keyward.db");
    let mut connection = sqlx::SqliteConnection::connect(file.to_str().unwrap()).await.unwrap();
    let sql = "select m.name, p.name from sqlite_master m, pragma_table_info(m.name) p \
        where m.type = 'table' and lower(p.type) = 'text' and m.sql like '%strict%'";
    sqlx::query_as(sql).fetch_all(&mut connection).await.unwrap()
}

/// The values of a column.
async fn values(kw: &Keyward, table: &str, column: &str) -> Vec<String> {
    let sql = format!("select {column} from {table} where {column} is not null");
    let sql = sqlx::AssertSqlSafe(sql);
    if let Some(url) = kw.database_url() {
        let mut connection = PgConnection::connect(url).await.unwrap();
        return sqlx::query_scalar(sql).fetch_all(&mut connection).await.unwrap();
    }
    let file = kw.folder().join("keyward.db");
    let mut connection = sqlx::SqliteConnection::connect(file.to_str().unwrap()).await.unwrap();
    sqlx::query_scalar(sql).fetch_all(&mut connection).await.unwrap()
}

async fn every_sealed_column_is_in_the_list(backend: Backend) {
    let keys = KeyFiles::new();
    let kw = keys.start(backend, OLD, None).await;
    viewable_acme(&mut kw.admin().await).await;
    let listed: Vec<_> = SealedColumn::VARIANTS.iter().map(|column| column.place()).collect();
    let sealed_with = format!("{}.", id(OLD));
    let mut found = Vec::new();
    for (table, column) in columns(&kw).await {
        let is_listed = listed.contains(&(table.as_str(), column.as_str()));
        let by_name = column.contains("sealed");
        let by_value =
            values(&kw, &table, &column).await.iter().any(|value| value.starts_with(&sealed_with));
        if by_name || by_value {
            assert!(is_listed, "{table}.{column} must be in SealedColumn");
        }
        if by_value {
            found.push((table, column));
        }
    }
    assert_eq!(found.len(), listed.len(), "the server writes all of them: {found:?}");
}

async fn rewrap_is_for_the_platform_and_is_audited(backend: Backend) {
    let (_keys, kw, ..) = in_step_b(backend).await;
    let mut admin = kw.admin().await;
    let application = admin.application("system", "console", &["keyward.manage"]).await;
    let kind = pb::credential::Kind::ClientSecret;
    let (_, console) = admin.credential(&application.name, kind).await;
    let mut console = Admin::new(kw.grpc(), &console).await;
    let refused = rewrap(&mut console).await.unwrap_err();
    assert_eq!(reason(&refused), "PERMISSION_DENIED");
    rewrap(&mut admin).await.unwrap();
    let request = pb::ListAuditEventsRequest {
        parent: "tenants/system".to_owned(),
        action: "RewrapValues".to_owned(),
        ..Default::default()
    };
    let events = admin.audit.list_audit_events(request).await.unwrap().into_inner().events;
    let resource = format!("masterKeys/{}", id(NEW));
    let done = events.iter().filter(|event| event.resource == resource);
    assert!(done.count() >= 1, "{events:?}");
}
