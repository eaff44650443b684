//! Replicas behind PgBouncer in transaction mode, which assigns a connection per transaction:
//! session state does not last from one transaction to the next.

use std::process::Command;
use std::time::Duration;

use futures_util::future::join_all;
use keyward::proto::access::check_access_response::Outcome;
use keyward::proto::admin as pb;
use keyward::proto::admin::credential::Kind;
use keyward::proto::token::{RevokeTokenRequest, RevokeTokensRequest};
use tempfile::TempDir;
use tokio_util::sync::CancellationToken;

use crate::harness::{
    Admin, Keyward, PgBouncer, RedisServer, connections_to, fresh_database, pause, until,
};

/// All tests share the same cores for hashes.
const SETTINGS: [(&str, &str); 3] = [
    ("database.pooler", "transaction"),
    ("secrets.hash_wait", "5m"),
    ("limits.request_timeout", "5m"),
];
/// Concurrent work per replica: more than there are connections.
const AT_ONCE: usize = 6;

/// A PgBouncer, the URL of a database behind it, and its direct URL.
async fn pooled() -> (PgBouncer, String, String) {
    let direct = fresh_database().await;
    let url = direct.clone();
    let bouncer = tokio::task::spawn_blocking(move || PgBouncer::start(&url)).await.unwrap();
    let url = bouncer.url(&direct);
    (bouncer, url, direct)
}

/// Measures the maximum number of connections to a database.
async fn max_connections(database: String, stop: CancellationToken) -> i64 {
    let mut max = 0;
    while !stop.is_cancelled() {
        max = max.max(connections_to(&database).await);
        pause(Duration::from_millis(20)).await;
    }
    max
}

/// Typical work of a tenant's applications and administrators, started at one replica and continued
/// at another.
async fn work(here: &Keyward, there: &Keyward, tenant: String) {
    let (mut admin, mut other) = (here.admin().await, there.admin().await);
    admin.tenant(&tenant, &["a", "b"]).await;
    admin.role(&tenant, "manager", &["applications.view.users"], &["*"]).await;
    admin.user(&tenant, "sam", &["manager"]).await;
    for id in ["crm", "billing", "wallboard"] {
        admin.application(&tenant, id, &["a"]).await;
    }
    let crm = format!("tenants/{tenant}/applications/crm");
    let (credential, secret) = admin.credential(&crm, Kind::ClientSecret).await;
    let (_, key) = other.credential(&crm, Kind::ApiKey).await;

    for n in 0..3 {
        let token = secret.token(&[here, there][n % 2].grpc()).await;
        for (admin, presented) in [(&mut admin, &token), (&mut other, &key.secret)] {
            assert!(admin.check(presented, &["a"]).await.allowed);
            assert!(admin.is_active(presented).await);
        }
        admin.tokens.revoke_token(RevokeTokenRequest { token: token.clone() }).await.unwrap();
        assert_eq!(admin.check(&token, &["a"]).await.outcome(), Outcome::Revoked);
        refused(&mut other, &token).await;
    }

    // Every page of a search, alternating between the replicas.
    let mut found = Vec::new();
    let mut page_token = String::new();
    loop {
        let request = pb::ListApplicationsRequest {
            parent: format!("tenants/{tenant}"),
            page_size: 1,
            page_token,
            search: "i".to_owned(),
            ..Default::default()
        };
        let page = other.applications.list_applications(request).await.unwrap().into_inner();
        found.extend(page.applications.into_iter().map(|application| application.display_name));
        page_token = page.next_page_token;
        if page_token.is_empty() {
            break;
        }
        std::mem::swap(&mut admin, &mut other);
    }
    found.sort();
    assert_eq!(found, ["billing"]);

    let request = pb::RotateCredentialRequest { name: credential.name, ..Default::default() };
    admin.credentials.rotate_credential(request).await.unwrap();
    let token = secret.token(&there.grpc()).await;
    let request = RevokeTokensRequest { name: crm.clone(), ..Default::default() };
    other.tokens.revoke_tokens(request).await.unwrap();
    refused(&mut admin, &token).await;
    let request = pb::DeleteApplicationRequest {
        name: format!("tenants/{tenant}/applications/wallboard"),
        ..Default::default()
    };
    other.applications.delete_application(request).await.unwrap();

    for replica in [here, there] {
        replica.server().service.usage.write().await.unwrap();
    }
    let request = pb::ListApplicationUsageRequest { parent: crm, ..Default::default() };
    let days = admin.applications.list_application_usage(request).await.unwrap().into_inner().days;
    assert_eq!(days.iter().map(|day| day.exchanges).sum::<i64>(), 4);
    assert!(days.iter().all(|day| day.exchanges + day.checks > 0), "{days:?}");
    let request = pb::ListAuditEventsRequest {
        parent: format!("tenants/{tenant}"),
        page_size: 1000,
        ..Default::default()
    };
    let events = admin.audit.list_audit_events(request).await.unwrap().into_inner().events;
    let count = |action: &str| events.iter().filter(|event| event.action == action).count();
    let counts =
        ["CreateApplication", "RevokeToken", "RevokeTokens", "RotateCredential"].map(count);
    assert_eq!(counts, [3, 3, 1, 1], "{events:#?}");
}

/// Waits until a revoked token is refused.
async fn refused(admin: &mut Admin, token: &str) {
    until("a revoked token is refused", async || {
        admin.check(token, &["a"]).await.outcome() == Outcome::Revoked
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn replicas_work_behind_a_transaction_pooler() {
    let (bouncer, url, direct) = pooled().await;
    let redis = RedisServer::start();
    let stop = CancellationToken::new();
    let max = tokio::spawn(max_connections(direct, stop.clone()));
    // The first start migrates the schema through the pooler.
    let replicas: [Keyward; 2] =
        Keyward::replicas_on(url.clone(), Some(&redis.url()), &SETTINGS).await;
    let [a, b] = &replicas;
    let each = (0..AT_ONCE * 2).map(|n| {
        let (here, there) = if n % 2 == 0 { (a, b) } else { (b, a) };
        work(here, there, format!("tenant-{n}"))
    });
    join_all(each).await;
    // A server that starts with a current schema.
    let late = a.join().await;
    work(&late, a, "late".to_owned()).await;
    for replica in [a, b, &late] {
        assert_eq!(replica.ops("/readyz").await, 200);
    }
    stop.cancel();
    let max = max.await.unwrap();
    assert!((1..=PgBouncer::POOL_SIZE).contains(&max), "{max} connections\n{}", bouncer.log());
}

#[tokio::test(flavor = "multi_thread")]
async fn concurrent_migrations_through_a_transaction_pooler_succeed() {
    let (_bouncer, url, _) = pooled().await;
    let migrations = (0..4).map(|_| {
        let folder = TempDir::new().unwrap();
        let mut migrate = Command::new(env!("CARGO_BIN_EXE_keyward"));
        migrate
            .args(["migrate", "--database-url", &url, "--data-dir"])
            .arg(folder.path())
            .env("KEYWARD_DATABASE_POOLER", "transaction");
        tokio::task::spawn_blocking(move || (migrate.output().unwrap(), folder))
    });
    for migration in join_all(migrations).await {
        let (output, _) = migration.unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    }
    Keyward::start(Some(url), &SETTINGS).await.admin().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn transaction_pooler_without_its_setting_is_refused_by_name() {
    let (_bouncer, url, _) = pooled().await;
    let folder = TempDir::new().unwrap();
    let why = Keyward::refused(folder.path(), &[("database.url", &url)]).await.to_string();
    assert!(why.contains("database.pooler"), "{why}");
    // Earlier use with the correct setting does not hide the problem.
    Keyward::start(Some(url.clone()), &SETTINGS).await.stop().await;
    let why = Keyward::refused(folder.path(), &[("database.url", &url)]).await.to_string();
    assert!(why.contains("database.pooler"), "{why}");
}
