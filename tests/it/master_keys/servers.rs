//! Servers with different keys beside each other.

use keyward::internals::server::ServerError;

use super::{KeyFiles, NEW, OLD, borrowed, id, rewrap, status, viewable_acme};
use crate::harness::{Backend, Keyward, fresh_database, reason, until};

async fn replicas(keys: &KeyFiles, one: (u8, Option<u8>), other: (u8, Option<u8>)) -> [Keyward; 2] {
    let settings = keys.settings(one.0, one.1);
    let first = Keyward::start(Some(fresh_database().await), &borrowed(&settings)).await;
    let own = keys.settings(other.0, other.1);
    let second = first.join_with(&borrowed(&own)).await;
    [first, second]
}

#[tokio::test(flavor = "multi_thread")]
async fn server_is_refused_whose_key_another_server_lacks() {
    let keys = KeyFiles::new();
    let settings = keys.settings(OLD, None);
    let first = Keyward::start(Some(fresh_database().await), &borrowed(&settings)).await;
    let own = keys.settings(NEW, Some(OLD));
    let error = first.refused_to_join_with(&borrowed(&own)).await;
    let ServerError::WrongMasterKey(why) = error else { panic!("{error}") };
    let address = first.grpc().trim_start_matches("http://").to_owned();
    assert!(why.contains(&address), "{why}");
    assert!(why.contains(&format!("does not have master key {}", id(NEW))), "{why}");
    let mut admin = first.admin().await;
    assert_eq!(status(&mut admin).await.servers.len(), 1, "the refused server left nothing");
}

#[tokio::test(flavor = "multi_thread")]
async fn killed_server_counts_for_half_a_minute() {
    let keys = KeyFiles::new();
    let settings = keys.settings(OLD, Some(NEW));
    let first = Keyward::start(Some(fresh_database().await), &borrowed(&settings)).await;
    first
        .sql(
            "insert into server_keys (id, name, primary_key, seen_at) \
             select 'killed', 'killed:1', primary_key, seen_at from server_keys",
            None,
        )
        .await
        .unwrap();
    let own = keys.settings(NEW, Some(OLD));
    let error = first.refused_to_join_with(&borrowed(&own)).await;
    assert!(error.to_string().contains("killed:1"), "{error}");
    let old = "update server_keys set seen_at = seen_at - 31000000 where id = 'killed'";
    first.sql(old, None).await.unwrap();
    first.join_with(&borrowed(&own)).await.admin().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn stopped_server_does_not_count() {
    let keys = KeyFiles::new();
    let [first, second] = replicas(&keys, (OLD, None), (OLD, Some(NEW))).await;
    let own = keys.settings(NEW, Some(OLD));
    second.refused_to_join_with(&borrowed(&own)).await;
    first.stop().await;
    second.join_with(&borrowed(&own)).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn rewrap_is_refused_while_a_server_writes_with_the_old_key() {
    let keys = KeyFiles::new();
    let [first, mut second] = replicas(&keys, (OLD, Some(NEW)), (OLD, Some(NEW))).await;
    let mut admin = first.admin().await;
    viewable_acme(&mut admin).await;
    second.restart_with(&keys.settings(NEW, Some(OLD))).await;
    let mut admin = second.admin().await;
    let refused = rewrap(&mut admin).await.unwrap_err();
    assert_eq!(reason(&refused), "MASTER_KEYS_DIFFER");
    let address = first.grpc().trim_start_matches("http://").to_owned();
    assert!(refused.message().contains(&address), "{}", refused.message());
    assert!(refused.message().contains(&id(OLD)), "{}", refused.message());
    let found = status(&mut admin).await;
    let old = found.master_keys.iter().find(|key| key.id == id(OLD)).unwrap();
    assert!(old.held && !old.primary && !old.removable);
    assert!(old.sealed_values >= 3, "nothing moved: {old:?}");
    let servers: Vec<_> = found.servers.iter().map(|server| &server.primary_key_id).collect();
    assert_eq!(servers, [&id(NEW), &id(OLD)]);
}

#[tokio::test(flavor = "multi_thread")]
async fn running_server_announces_itself_again() {
    let keys = KeyFiles::new();
    let kw = keys.start(Backend::Postgres, OLD, None).await;
    kw.sql("delete from server_keys", None).await.unwrap();
    kw.sql(
        "insert into server_keys (id, name, primary_key, seen_at) values ('old', 'old', 'x', 0)",
        None,
    )
    .await
    .unwrap();
    let mut session = super::store(&kw).await.read().await.unwrap();
    until("the row is there again, and the old one is not", async || {
        let rows = session.list_server_keys(jiff::Timestamp::MIN).await.unwrap();
        rows.len() == 1 && rows[0].primary == id(OLD)
    })
    .await;
}
