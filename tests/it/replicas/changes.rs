//! Replicas read the changes of others in the change feed.

use std::time::Duration;

use keyward::internals::clock::{Clock, later};
use keyward::internals::store::{Database, PoolOptions, Store};
use keyward::proto::admin as pb;
use keyward::proto::admin::credential::Kind;
use sqlx::{Connection, PgConnection};

use crate::harness::{Keyward, fresh_database, in_time, mask, until};

const STALENESS: Duration = Duration::from_millis(200);
const BOUND: [(&str, &str); 2] =
    [("revocations.poll_interval", "50ms"), ("revocations.max_staleness", "200ms")];

/// Deletes all old rows of the feed, as a server does some time later.
async fn purge(url: &str) {
    let options = PoolOptions { max_connections: 3, acquire_timeout: Duration::from_secs(10) };
    let store = Store::open(&Database::parse(url).unwrap(), options).await.unwrap();
    let end = later(Clock::system().now(), Duration::from_hours(24 * 365 * 100));
    let mut tx = store.begin().await.unwrap();
    assert!(tx.purge_changes(end).await.unwrap());
    tx.commit().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn replica_behind_purged_changes_misses_none() {
    let url = fresh_database().await;
    let [a, c] = Keyward::replicas_on(url.clone(), None, &BOUND).await;
    let mut admin = a.admin().await;
    let (_, crm) = admin.acme().await;
    let scopes = async || crm.exchange(&c.grpc(), &[], &[]).await.unwrap().scopes;
    assert_eq!(scopes().await, ["a", "b"]);

    let application = pb::Application {
        name: "tenants/acme/applications/crm".to_owned(),
        scopes: ["a", "b", "c"].map(ToOwned::to_owned).to_vec(),
        ..Default::default()
    };
    let request = pb::UpdateApplicationRequest {
        application: Some(application),
        update_mask: mask(&["scopes"]),
    };
    admin.applications.update_application(request).await.unwrap();
    admin.application("acme", "erp", &["a"]).await;
    purge(&url).await;
    let mut connection = PgConnection::connect(&url).await.unwrap();
    let left: Vec<String> =
        sqlx::query_scalar("select resource from tenant_changes where tenant_id = 'acme'")
            .fetch_all(&mut connection)
            .await
            .unwrap();
    assert_eq!(left, ["tenants/acme/applications/erp"], "the row of the first change is deleted");

    until("the client is loaded again", async || scopes().await == ["a", "b", "c"]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn shorter_lifetime_of_tokens_reaches_other_replicas() {
    let [a, c] = Keyward::replicas_on(fresh_database().await, None, &BOUND).await;
    let mut admin = a.admin().await;
    let (_, crm) = admin.acme().await;
    let seconds =
        async || crm.exchange(&c.grpc(), &[], &[]).await.unwrap().expires_in.unwrap().seconds;
    assert_eq!(seconds().await, 900);
    let application = pb::Application {
        name: "tenants/acme/applications/crm".to_owned(),
        access_token_lifetime: Some(prost_types::Duration { seconds: 60, nanos: 0 }),
        ..Default::default()
    };
    let request = pb::UpdateApplicationRequest {
        application: Some(application),
        update_mask: mask(&["access_token_lifetime"]),
    };
    admin.applications.update_application(request).await.unwrap();
    until("the client is loaded again", async || seconds().await == 60).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn purge_keeps_clients_of_current_replica_cached() {
    let url = fresh_database().await;
    let [a, c] = Keyward::replicas_on(url.clone(), None, &BOUND).await;
    let mut admin = a.admin().await;
    let (_, crm) = admin.acme().await;
    crm.token(&c.grpc()).await;
    purge(&url).await;
    // Loading the client again would wait for the lock.
    let mut holder = PgConnection::connect(&url).await.unwrap();
    let lock = "begin; lock table credentials in access exclusive mode";
    sqlx::raw_sql(lock).execute(&mut holder).await.unwrap();
    for _ in 0..12 {
        in_time("the cached client is used", crm.token(&c.grpc())).await;
        c.clock().advance(STALENESS / 4);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn tokens_are_issued_while_audit_log_cannot_be_read() {
    let url = fresh_database().await;
    let kw = Keyward::start(Some(url.clone()), &BOUND).await;
    let mut admin = kw.admin().await;
    let (_, crm) = admin.acme().await;
    let (_, cold) = admin.credential("tenants/acme/applications/crm", Kind::ClientSecret).await;
    crm.token(&kw.grpc()).await;
    let mut holder = PgConnection::connect(&url).await.unwrap();
    let lock = "begin; lock table audit_events in access exclusive mode";
    sqlx::raw_sql(lock).execute(&mut holder).await.unwrap();
    in_time("a client that is not cached gets a token", cold.token(&kw.grpc())).await;
    for _ in 0..12 {
        in_time("a cached client gets a token", crm.token(&kw.grpc())).await;
        kw.clock().advance(STALENESS / 4);
    }
}
