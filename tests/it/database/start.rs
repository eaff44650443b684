//! Starts on unsuitable databases, and database URLs in the forms that providers use.

use std::time::Duration;

use keyward::internals::store::{Database, PoolOptions, Store};
use sqlx::{Connection, PgConnection};

use crate::harness::{Keyward, fresh_database};

const POOL: PoolOptions =
    PoolOptions { max_connections: 3, acquire_timeout: Duration::from_secs(10) };

async fn refused(url: &str) -> String {
    let database = Database::parse(url).unwrap();
    match Store::open(&database, POOL).await.unwrap_err() {
        keyward::internals::error::Error::Internal(cause)
        | keyward::internals::error::Error::Unavailable(cause) => cause.to_string(),
        error => panic!("{error:?}"),
    }
}

async fn run(url: &str, sql: String) {
    let mut connection = PgConnection::connect(url).await.unwrap();
    sqlx::raw_sql(sqlx::AssertSqlSafe(sql)).execute(&mut connection).await.unwrap();
}

fn name_of(url: &str) -> &str {
    url.rsplit_once('/').unwrap().1
}

#[tokio::test(flavor = "multi_thread")]
async fn unreadable_migrations_table_is_an_error() {
    let url = fresh_database().await;
    Keyward::start(Some(url.clone()), &[]).await.stop().await;
    let role = format!("reader_{}", name_of(&url));
    run(
        &url,
        format!(
            "create role {role} login; \
             grant select, insert, update, delete on all tables in schema public to {role}; \
             revoke all on _sqlx_migrations from {role}"
        ),
    )
    .await;
    let message = refused(&url.replace("keyward@", &format!("{role}@"))).await;
    assert!(message.contains("permission denied for table _sqlx_migrations"), "{message}");
}

#[tokio::test(flavor = "multi_thread")]
async fn missing_pg_trgm_privilege_is_reported() {
    let url = fresh_database().await;
    let role = format!("migrator_{}", name_of(&url));
    run(&url, format!("create role {role} login; grant create on schema public to {role}")).await;
    let as_role = url.replace("keyward@", &format!("{role}@"));
    let message = refused(&as_role).await;
    assert!(message.contains("the extension pg_trgm is missing"), "{message}");
    assert!(message.contains(&format!("grant create on database {}", name_of(&url))), "{message}");
    run(&url, format!("grant create on database {} to {role}", name_of(&url))).await;
    Keyward::start(Some(as_role), &[]).await.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn start_on_read_only_database_is_refused() {
    let url = fresh_database().await;
    let name = name_of(&url);
    run(&url, format!("alter database {name} set default_transaction_read_only = on")).await;
    let message = refused(&url).await;
    assert!(
        message.contains("the server is read-only (default_transaction_read_only)"),
        "{message}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn database_with_other_encoding_is_refused() {
    let url = fresh_database().await;
    let other = format!("{}_latin", name_of(&url));
    run(
        &url,
        format!("create database {other} template template0 encoding 'SQL_ASCII' locale 'C'"),
    )
    .await;
    let message = refused(&url.replace(name_of(&url), &other)).await;
    assert!(message.contains("its encoding is SQL_ASCII"), "{message}");
}

/// Defaults of a role or database that would weaken a guarantee.
#[tokio::test(flavor = "multi_thread")]
async fn database_defaults_do_not_weaken_a_connection() {
    let url = fresh_database().await;
    let name = name_of(&url);
    for setting in [
        "synchronous_commit = off",
        "default_transaction_isolation = 'serializable'",
        "statement_timeout = '1ms'",
        "lock_timeout = '1ms'",
    ] {
        run(&url, format!("alter database {name} set {setting}")).await;
    }
    let kw = Keyward::start(Some(url), &[]).await;
    let mut admin = kw.admin().await;
    let (_, crm) = admin.acme().await;
    assert!(!crm.token(&kw.grpc()).await.is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn url_with_several_hosts_uses_the_one_that_answers() {
    let url = fresh_database().await;
    let (start, name) = url.rsplit_once('/').unwrap();
    let live = start.rsplit_once('@').unwrap().1;
    let several = format!(
        "postgres://keyward@127.0.0.1:1,{live}/{name}?target_session_attrs=read-write\
         &connect_timeout=5&channel_binding=prefer&application_name=ours"
    );
    let kw = Keyward::start(Some(several), &[]).await;
    let (_, crm) = kw.admin().await.acme().await;
    assert!(!crm.token(&kw.grpc()).await.is_empty());
    let mut observer = PgConnection::connect(&url).await.unwrap();
    let ours: i64 = sqlx::query_scalar(
        "select count(*) from pg_stat_activity \
         where datname = current_database() and application_name = 'ours'",
    )
    .fetch_one(&mut observer)
    .await
    .unwrap();
    assert!(ours > 0);
}
