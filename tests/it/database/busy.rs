//! A locked table: requests that need it wait at most until their deadline, and others are served.

use std::time::Duration;

use futures_util::future::join_all;
use keyward::proto::admin::ListApplicationsRequest;
use keyward::proto::admin::credential::Kind;
use keyward::proto::token::RevokeTokenRequest;
use sqlx::{Connection, PgConnection};
use tonic::{Code, Request};

use crate::harness::{Keyward, fresh_database, reason, until};

/// A transaction that locks a table until it is dropped.
async fn locked(url: &str, lock: &'static str) -> PgConnection {
    let mut holder = PgConnection::connect(url).await.unwrap();
    sqlx::raw_sql(lock).execute(&mut holder).await.unwrap();
    holder
}

async fn waiting(observer: &mut PgConnection) -> i64 {
    const SQL: &str = "select count(*) from pg_stat_activity \
        where datname = current_database() and wait_event_type = 'Lock'";
    sqlx::query_scalar(SQL).fetch_one(observer).await.unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn waiting_searches_do_not_block_checks_tokens_and_revocations() {
    let url = fresh_database().await;
    let kw = Keyward::start(Some(url.clone()), &[]).await;
    let mut admin = kw.admin().await;
    let (_, crm) = admin.acme().await;
    let token = crm.token(&kw.grpc()).await;
    let (_, cold) = admin.credential("tenants/acme/applications/crm", Kind::ClientSecret).await;
    let mut observer = PgConnection::connect(&url).await.unwrap();
    let holder = locked(&url, "begin; lock table application_names in access exclusive mode").await;

    let searches = (0..30).map(|_| {
        let mut applications = admin.applications.clone();
        async move {
            let mut request = Request::new(ListApplicationsRequest {
                parent: "tenants/acme".to_owned(),
                search: "crm".to_owned(),
                ..Default::default()
            });
            request.set_timeout(Duration::from_secs(1));
            applications.list_applications(request).await.unwrap_err().code()
        }
    });
    let searches = tokio::spawn(join_all(searches.collect::<Vec<_>>()));
    until("some wait for the lock", async || waiting(&mut observer).await > 0).await;

    // A client that is not cached is loaded and gets a token, and a token is revoked.
    assert!(!cold.token(&kw.grpc()).await.is_empty());
    admin.tokens.revoke_token(RevokeTokenRequest { token: token.clone() }).await.unwrap();
    assert!(!admin.is_active(&token).await);
    for code in searches.await.unwrap() {
        assert!(matches!(code, Code::DeadlineExceeded | Code::Cancelled | Code::Unavailable));
    }
    // The lock is still held. No statement waits for it after its caller has left.
    until("statements end with their requests", async || waiting(&mut observer).await == 0).await;
    drop(holder);
    let request =
        ListApplicationsRequest { parent: "tenants/acme".to_owned(), ..Default::default() };
    until("searches work again", async || {
        admin.applications.list_applications(request.clone()).await.is_ok()
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn lock_timeout_is_unavailable() {
    let url = fresh_database().await;
    let kw = Keyward::start(Some(url.clone()), &[("database.acquire_timeout", "3s")]).await;
    let mut admin = kw.admin().await;
    let (_, crm) = admin.acme().await;
    let token = crm.token(&kw.grpc()).await;
    let holder = locked(&url, "begin; lock table audit_events in access exclusive mode").await;
    let revoke = RevokeTokenRequest { token: token.clone() };
    let status = admin.tokens.revoke_token(revoke.clone()).await.unwrap_err();
    assert_eq!((status.code(), reason(&status).as_str()), (Code::Unavailable, "UNAVAILABLE"));
    drop(holder);
    until("it works again", async || admin.tokens.revoke_token(revoke.clone()).await.is_ok()).await;
    assert!(!admin.is_active(&token).await);
}
