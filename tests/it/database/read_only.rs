//! PostgreSQL is read-only for a while.

use std::time::Duration;

use keyward::proto::token::RevokeTokenRequest;
use sqlx::{Connection, PgConnection};
use tokio::time::{sleep, timeout};
use tonic::Code;

use crate::harness::{Keyward, PostgresServer, reason};

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

async fn wait_for_readiness(kw: &Keyward, status: u16) -> String {
    let there = async {
        loop {
            let (now, body) = ready(kw).await;
            if now == status {
                return body;
            }
            sleep(Duration::from_millis(20)).await;
        }
    };
    timeout(Duration::from_secs(20), there).await.expect("readiness follows the database")
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
        let body = wait_for_readiness(&kw, 503).await;
        assert!(body.contains("database: the server is read-only"), "{body}");
        let revoke = RevokeTokenRequest { token: token.clone() };
        let status = admin.tokens.revoke_token(revoke).await.unwrap_err();
        assert_eq!((status.code(), reason(&status).as_str()), (Code::Unavailable, "UNAVAILABLE"));
        // The server knows all revocations and clients.
        assert!(!crm.token(&kw.grpc()).await.is_empty());
        assert!(admin.is_active(&token).await);

        read_only(&url, false).await;
        assert!(wait_for_readiness(&kw, 200).await.starts_with("ok\n"));
        admin.application("acme", &format!("a{}", kw.now().as_second()), &["a"]).await;
        kw.advance(1);
    }
    admin.tokens.revoke_token(RevokeTokenRequest { token: token.clone() }).await.unwrap();
    assert!(!admin.is_active(&token).await);
}
