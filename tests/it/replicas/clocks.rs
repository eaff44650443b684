//! Wrong clocks: the wrong clock of one server makes no server drop a revocation.

use std::time::Duration;

use keyward::internals::clock::Clock;
use keyward::internals::keys::Claims;
use keyward::proto::token::RevokeTokenRequest;
use sqlx::{Connection, PgConnection};

use super::scene::claims;
use crate::harness::{Admin, Backend, Keyward, fresh_database, on_both_databases};

const HOUR: Duration = Duration::from_hours(1);

on_both_databases!(
    clock_set_ahead_drops_no_revocation_in_force,
    revocation_by_a_slow_clock_is_kept_long_enough,
);

async fn revoke(admin: &mut Admin, token: &str) {
    let request = RevokeTokenRequest { token: token.to_owned() };
    admin.tokens.revoke_token(request).await.unwrap();
}

fn revokes(server: &Keyward, claims: &Claims) -> bool {
    server.server().service.revocations().index().revokes(&claims.revocation_keys())
}

async fn clock_set_ahead_drops_no_revocation_in_force(backend: Backend) {
    let mut kw = backend.start().await;
    let mut admin = kw.admin().await;
    let (_, crm) = admin.acme().await;
    let token = crm.token(&kw.grpc()).await;
    revoke(&mut admin, &token).await;
    kw.clock().set_ahead(HOUR * 3);
    kw.server().service.feeds.purge().await.unwrap();
    kw.clock().set_back(HOUR * 3);
    assert!(!admin.is_active(&token).await, "its time is not over, and it was revoked");
    kw.restart().await;
    assert!(!kw.admin().await.is_active(&token).await, "nor is it gone from the database");
    // It is dropped when that much time has really passed.
    kw.advance(2 * 3600);
    kw.server().service.feeds.purge().await.unwrap();
    assert!(kw.server().service.revocations().index().is_empty());
}

/// A server whose clock is behind creates revocations that end early.
async fn revocation_by_a_slow_clock_is_kept_long_enough(backend: Backend) {
    let kw = backend.start().await;
    let mut admin = kw.admin().await;
    let (_, crm) = admin.acme().await;
    let token = crm.token(&kw.grpc()).await;
    kw.clock().set_back(HOUR);
    // For that clock, the administrator's token is from the future.
    revoke(&mut kw.admin().await, &token).await;
    kw.clock().set_ahead(HOUR);
    // The maximum lifetime of a token.
    kw.advance(3600 - 1);
    kw.server().service.feeds.purge().await.unwrap();
    assert!(revokes(&kw, &claims(&token)));
}

/// A server that starts with a clock ahead cannot detect it by itself, but the database's clock
/// shows it.
#[tokio::test(flavor = "multi_thread")]
async fn server_with_a_fast_clock_purges_by_database_time() {
    let database = fresh_database().await;
    let [kw]: [Keyward; 1] = Keyward::replicas_on(database.clone(), None, &[]).await;
    let right = kw.join_at(Clock::manual(Clock::system().now())).await;
    let mut admin = right.admin().await;
    let (_, crm) = admin.acme().await;
    let token = crm.token(&right.grpc()).await;
    revoke(&mut admin, &token).await;
    let ahead = Clock::manual(Clock::system().now());
    ahead.set_ahead(HOUR * 5);
    let ahead = kw.join_at(ahead).await;
    ahead.server().service.feeds.purge().await.unwrap();
    assert!(revokes(&ahead, &claims(&token)));
    let mut connection = PgConnection::connect(&database).await.unwrap();
    let rows = sqlx::query_scalar("select count(*) from revocations");
    let rows: i64 = rows.fetch_one(&mut connection).await.unwrap();
    assert_eq!(rows, 1);
}
