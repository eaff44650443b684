//! PostgreSQL is read-only for a while.

use keyward::proto::token::RevokeTokenRequest;
use sqlx::{Connection, PgConnection};
use tonic::Code;

use crate::harness::{Keyward, PostgresServer, reason, until};

async fn ready(kw: &Keyward) -> (u16, String) {
    let answer = reqwest::get(format!("http://{}/readyz", kw.server().ops)).await.unwrap();
    (answer.status().as_u16(), answer.text().await.unwrap())
}

/// Makes a server read-only or not, for existing sessions, too.
async fn read_only(url: &str, on: bool) {
    let mut connection = PgConnection::connect(url).await.unwrap();
    for sql in [
        if on {
            "alter system set default_transaction_read_only = on"
        } else {
            "alter system reset default_transaction_read_only"
        },
        "select pg_reload_conf()",
    ] {
        sqlx::raw_sql(sql).execute(&mut connection).await.unwrap();
    }
}

/// Waits for a status and words of the body: a loaded server can be not ready for another reason.
async fn wait_for_readiness(kw: &Keyward, status: u16, says: &str) {
    until(format!("readiness is {status}, {says}"), async || {
        let (now, body) = ready(kw).await;
        now == status && body.contains(says)
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn read_only_database_only_refuses_writes() {
    let postgres = tokio::task::spawn_blocking(PostgresServer::start).await.unwrap();
    let url = postgres.fresh_database().await;
    let kw = Keyward::start(Some(url.clone()), &[]).await;
    let mut admin = kw.admin().await;
    let (_, crm) = admin.acme().await;
    let token = crm.token(&kw.grpc()).await;
    for _ in 0..2 {
        read_only(&url, true).await;
        wait_for_readiness(&kw, 503, "database: the server is read-only").await;
        let revoke = RevokeTokenRequest { token: token.clone() };
        let status = admin.tokens.revoke_token(revoke).await.unwrap_err();
        assert_eq!((status.code(), reason(&status).as_str()), (Code::Unavailable, "UNAVAILABLE"));
        // The server knows all revocations and clients.
        assert!(!crm.token(&kw.grpc()).await.is_empty());
        assert!(admin.is_active(&token).await);

        read_only(&url, false).await;
        wait_for_readiness(&kw, 200, "ok\n").await;
        admin.application("acme", &format!("a{}", kw.now().as_second()), &["a"]).await;
        kw.advance(1);
    }
    admin.tokens.revoke_token(RevokeTokenRequest { token: token.clone() }).await.unwrap();
    assert!(!admin.is_active(&token).await);
}
