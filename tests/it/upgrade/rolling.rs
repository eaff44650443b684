//! Upgrades of running servers, each a process of its own, under load: no call fails.

use std::collections::BTreeMap;

use tempfile::TempDir;
use tokio::task::block_in_place;

use super::load::{Load, first_credential};
use super::{TestDatabase, expanding, newest};
use crate::harness::{Backend, RedisServer};
use crate::process::binary::{FREE_PORTS, Serving, keyward};

/// A server on this database, with a data folder that all servers share.
fn serve(database: &TestDatabase, redis: &RedisServer, folder: &TempDir) -> Serving {
    let path = folder.path().to_str().unwrap();
    let arguments = ["--data-dir", path, "--database-url", &database.url];
    let arguments = ["serve"].iter().chain(&FREE_PORTS).chain(&arguments).copied();
    let mut command = keyward(arguments);
    command
        .env("KEYWARD_REDIS_URL", redis.url())
        .env("KEYWARD_ISSUER", "https://keyward.test")
        // Longer than the load balancer needs to notice it.
        .env("KEYWARD_LIMITS_DRAIN_TIME", "2s");
    let serving = block_in_place(|| Serving::try_start(&mut command));
    serving.unwrap_or_else(|log| panic!("the server starts: {log}"))
}

#[expect(clippy::print_stdout, reason = "how many calls there were is worth knowing")]
fn none_failed(calls: usize, failed: &BTreeMap<String, usize>) {
    println!("{calls} calls, {} failed", failed.values().sum::<usize>());
    assert!(failed.is_empty(), "of {calls} calls failed: {failed:#?}");
}

/// The servers are those of the older version: they do not know the migrations.
#[tokio::test(flavor = "multi_thread")]
async fn newer_migrations_under_load_fail_no_call_of_older_servers() {
    let (database, folder) =
        (TestDatabase::empty(Backend::Postgres).await, TempDir::new().unwrap());
    let redis = RedisServer::start();
    let one = serve(&database, &redis, &folder);
    let load = Load::start(&one, first_credential(folder.path())).await;
    load.goes_on().await;
    let ours = newest(&database.shipped().await);
    let later = expanding(ours);
    for count in 1..=later.len() {
        let some = later.iter().take(count).cloned();
        database.migrate(&database.with_later(some).await).await.unwrap();
        load.goes_on().await;
    }
    // A server of the older version that restarts meanwhile.
    let other = serve(&database, &redis, &folder);
    load.add(&other).await;
    load.goes_on().await;
    let (calls, failed) = load.stop().await;
    none_failed(calls, &failed);
    let notes = "select count(*) from applications where later_note = 'x'";
    assert!(database.number(notes).await > 0, "the older version writes on the newer schema");
    for server in [one, other] {
        block_in_place(|| server.stop("-TERM"));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn replicas_are_replaced_under_load_without_failed_call() {
    let (database, folder) =
        (TestDatabase::empty(Backend::Postgres).await, TempDir::new().unwrap());
    let redis = RedisServer::start();
    let mut servers = vec![serve(&database, &redis, &folder)];
    let load = Load::start(&servers[0], first_credential(folder.path())).await;
    servers.push(serve(&database, &redis, &folder));
    load.add(&servers[1]).await;
    for _ in 0..2 {
        load.goes_on().await;
        let old = servers.remove(0);
        block_in_place(|| old.stop("-TERM"));
        let new = serve(&database, &redis, &folder);
        load.add(&new).await;
        servers.push(new);
    }
    load.goes_on().await;
    let (calls, failed) = load.stop().await;
    none_failed(calls, &failed);
    for server in servers {
        block_in_place(|| server.stop("-TERM"));
    }
}
