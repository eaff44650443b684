//! Servers that wait until another process has migrated the schema.

use keyward::internals::clock::Clock;
use keyward::internals::config::{Config, Layers};
use keyward::internals::server::{Server, migrate};
use tempfile::TempDir;

use super::TestDatabase;
use crate::harness::{Backend, free_port, in_time, on_both_databases, until};

on_both_databases!(server_waits_for_schema_and_is_not_ready, wait_for_schema_is_bounded);

const TABLES_OF_SQLITE: &str = "select count(*) from sqlite_master";
const TABLES_OF_POSTGRES: &str = "select count(*) from pg_tables where schemaname = 'public'";

fn config(database: &TestDatabase, folder: &TempDir, ops: u16, timeout: &str) -> Config {
    let url = match &database.database {
        keyward::internals::store::Database::Sqlite(path) => format!("sqlite:{}", path.display()),
        keyward::internals::store::Database::Postgres(_) => database.url.clone(),
    };
    let layers = Layers::default()
        .with_flag("grpc.listen", "test", Some("127.0.0.1:0"))
        .with_flag("http.listen", "test", Some("127.0.0.1:0"))
        .with_flag("ops.listen", "test", Some(format!("127.0.0.1:{ops}")))
        .with_flag("data_dir", "test", Some(folder.path().display()))
        .with_flag("database.url", "test", Some(url))
        .with_flag("database.migrate", "test", Some("wait"))
        .with_flag("database.migrate_timeout", "test", Some(timeout));
    Config::read(layers).unwrap()
}

/// The status and body of an answer; `None` if there is no answer.
async fn get(ops: u16, path: &str) -> Option<(u16, String)> {
    let answer = reqwest::get(format!("http://127.0.0.1:{ops}{path}")).await.ok()?;
    Some((answer.status().as_u16(), answer.text().await.ok()?))
}

async fn server_waits_for_schema_and_is_not_ready(backend: Backend) {
    let database = TestDatabase::empty(backend).await;
    let folder = TempDir::new().unwrap();
    let ops = free_port();
    let config = config(&database, &folder, ops, "10m");
    let start = in_time("the server starts", Server::start(&config, Clock::system()));
    let operate = async {
        let waits = "not ready\nserver: it is starting\nschema: the database has no schema yet: \
            waiting for `keyward migrate`\n";
        until("the server says what it waits for", async || {
            get(ops, "/readyz").await == Some((503, waits.to_owned()))
        })
        .await;
        assert_eq!(get(ops, "/livez").await, Some((200, "ok\n".to_owned())));
        assert_eq!(get(ops, "/metrics").await.unwrap().0, 503);
        migrate(&config).await.unwrap();
    };
    let (server, ()) = tokio::join!(start, operate);
    let server = server.unwrap();
    assert_eq!(get(ops, "/readyz").await.unwrap().0, 200);
    assert_eq!(get(ops, "/metrics").await.unwrap().0, 200);
    server.shutdown().await;
}

async fn wait_for_schema_is_bounded(backend: Backend) {
    let database = TestDatabase::empty(backend).await;
    let folder = TempDir::new().unwrap();
    let ops = free_port();
    let config = config(&database, &folder, ops, "20ms");
    let Err(error) = Server::start(&config, Clock::system()).await else { panic!("it starts") };
    let error = error.to_string();
    assert!(error.contains("no progress within 20ms (database.migrate_timeout)"), "{error}");
    assert!(error.contains("waiting for `keyward migrate`"), "{error}");
    let tables = match backend {
        Backend::Sqlite => TABLES_OF_SQLITE,
        Backend::Postgres => TABLES_OF_POSTGRES,
    };
    assert_eq!(database.number(tables).await, 0);
    // The listener of a server that does not start is closed.
    until("nothing listens", async || get(ops, "/livez").await.is_none()).await;
}
