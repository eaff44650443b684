//! Database outages: correct errors, and automatic recovery.

use std::time::Duration;

use keyward::internals::domain::TenantId;
use keyward::internals::store::{Database, PoolOptions, Store};
use keyward::proto::admin::ListApplicationUsageRequest;
use keyward::proto::token::{IntrospectTokenRequest, RevokeTokenRequest};
use sqlx::{Connection, Executor, PgConnection};
use tonic::Code;

use crate::harness::{Keyward, Proxy, fresh_database, reason, until};

/// A server whose connections to PostgreSQL can be cut.
async fn start(settings: &[(&'static str, &str)]) -> (Keyward, Proxy) {
    let url = fresh_database().await;
    let (start, database) = url.rsplit_once('/').unwrap();
    let server = start.rsplit_once('@').unwrap().1.parse().unwrap();
    let proxy = Proxy::to(server).await;
    let url = format!("postgres://keyward@{}/{database}", proxy.address);
    let mut all = vec![("database.acquire_timeout", "1s")];
    all.extend(settings);
    (Keyward::start(Some(url), &all).await, proxy)
}

#[tokio::test(flavor = "multi_thread")]
async fn server_runs_without_schema_privileges() {
    let url = fresh_database().await;
    let owner = Keyward::start(Some(url.clone()), &[]).await;
    owner.stop().await;
    let role = format!("role_{}", url.rsplit_once('/').unwrap().1);
    let mut admin = PgConnection::connect(&url).await.unwrap();
    let grant = format!(
        "create role {role} login; revoke create on schema public from public; \
         grant select, insert, update, delete on all tables in schema public to {role}"
    );
    admin.execute(sqlx::AssertSqlSafe(grant)).await.unwrap();
    let options = Database::parse(&url.replace("keyward@", &format!("{role}@"))).unwrap();
    let pool = PoolOptions { max_connections: 2, acquire_timeout: Duration::from_secs(10) };
    let store = Store::open(&options, pool).await.unwrap();
    let system = store.read().await.unwrap().find_tenant(&TenantId::system()).await;
    assert!(system.unwrap().is_some());
}

#[tokio::test(flavor = "multi_thread")]
async fn server_without_database_answers_unavailable() {
    // Data is used up to this age.
    let bound = [("revocations.poll_interval", "100ms"), ("revocations.max_staleness", "500ms")];
    let (kw, mut proxy) = start(&bound).await;
    let mut admin = kw.admin().await;
    let (_, crm) = admin.acme().await;
    let token = crm.token(&kw.grpc()).await;
    proxy.cut().await;
    until("what was read is too old", async || crm.exchange(&kw.grpc(), &[], &[]).await.is_err())
        .await;

    let introspect = IntrospectTokenRequest { token: token.clone() };
    let revoke = RevokeTokenRequest { token: token.clone() };
    let refused = [
        crm.exchange(&kw.grpc(), &[], &[]).await.map(drop),
        admin.tokens.introspect_token(introspect).await.map(drop),
        admin.tokens.revoke_token(revoke).await.map(drop),
    ];
    for call in refused {
        let status = call.unwrap_err();
        assert_eq!((status.code(), reason(&status).as_str()), (Code::Unavailable, "UNAVAILABLE"));
        assert!(
            !status.message().contains("pool"),
            "the message has driver text: {}",
            status.message()
        );
    }
    for path in ["/oauth2/token", "/oauth2/introspect", "/oauth2/revoke"] {
        let form = [("grant_type", "client_credentials"), ("token", token.as_str())];
        let answer = kw.post_as(&crm, path, &form).await;
        assert_eq!(answer.status, 503, "{path}: a fault is never 200");
        assert_eq!(answer.error(), "temporarily_unavailable");
        assert_eq!(answer.header("retry-after"), "1");
    }
    let ready = format!("http://{}/readyz", kw.server().ops);
    assert_eq!(reqwest::get(&ready).await.unwrap().status(), 503);
    let alive = format!("http://{}/livez", kw.server().ops);
    assert_eq!(reqwest::get(&alive).await.unwrap().status(), 200);

    proxy.mend().await;
    assert_eq!(reqwest::get(&ready).await.unwrap().status(), 200);
    assert!(kw.admin().await.is_active(&token).await, "the failed revocation had no effect");
}

#[tokio::test(flavor = "multi_thread")]
async fn usage_counted_during_outage_is_written_afterwards() {
    let (kw, mut proxy) = start(&[]).await;
    let (_, crm) = kw.admin().await.acme().await;
    crm.token(&kw.grpc()).await;
    proxy.cut().await;
    // The server also tries every two seconds. Either attempt writes everything.
    kw.server().service.usage.write().await.ok();
    proxy.mend().await;
    crm.token(&kw.grpc()).await;
    kw.server().service.usage.write().await.unwrap();
    let request = ListApplicationUsageRequest {
        parent: "tenants/acme/applications/crm".to_owned(),
        ..Default::default()
    };
    let mut admin = kw.admin().await;
    let days = admin.applications.list_application_usage(request).await.unwrap().into_inner().days;
    assert_eq!(days[0].exchanges, 2);
}
