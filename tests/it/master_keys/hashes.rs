//! Hashes of secrets move to the new pepper as the secrets are used.

use keyward::internals::domain::CredentialId;
use keyward::internals::store::Store;
use keyward::proto::admin as pb;

use super::{KeyFiles, NEW, OLD, borrowed, store, uses, viewable_acme};
use crate::harness::{
    Backend, Credential, Keyward, RedisServer, fresh_database, on_both_databases, reason, until,
};

on_both_databases!(
    hash_moves_when_its_secret_is_used,
    wrong_secret_moves_no_hash,
    hash_of_a_removed_key_matches_nothing,
    hash_is_replaced_only_if_it_is_the_one_that_was_read,
);

async fn hash(store: &Store, client: &Credential) -> String {
    let id = CredentialId::parse(&client.client_id).unwrap();
    let mut session = store.read().await.unwrap();
    session.find_secret_hash(&id, 1).await.unwrap().unwrap()
}

async fn hash_moves_when_its_secret_is_used(backend: Backend) {
    let keys = KeyFiles::new();
    let mut kw = keys.start(backend, OLD, None).await;
    let (_, crm) = viewable_acme(&mut kw.admin().await).await;
    let store = store(&kw).await;
    let before = hash(&store, &crm).await;
    kw.restart_with(&keys.settings(NEW, Some(OLD))).await;
    let mut admin = kw.admin().await;
    until("the administrator's hash has moved", async || {
        uses(&mut admin, OLD).await.secret_hashes == 1
    })
    .await;
    assert_eq!(hash(&store, &crm).await, before, "it was not used");
    crm.token(&kw.grpc()).await;
    until("the hash has moved", async || hash(&store, &crm).await != before).await;
    assert_eq!(uses(&mut admin, NEW).await.secret_hashes, 2);
    super::rewrap_all(&mut admin).await;
    kw.restart_with(&keys.settings(NEW, None)).await;
    crm.token(&kw.grpc()).await;
}

async fn wrong_secret_moves_no_hash(backend: Backend) {
    let keys = KeyFiles::new();
    let mut kw = keys.start(backend, OLD, None).await;
    let (_, crm) = viewable_acme(&mut kw.admin().await).await;
    let (_, other) =
        kw.admin().await.credential(super::CRM, pb::credential::Kind::ClientSecret).await;
    kw.restart_with(&keys.settings(NEW, Some(OLD))).await;
    let store = store(&kw).await;
    let before = hash(&store, &crm).await;
    let wrong = Credential { secret: other.secret.clone(), ..crm.clone() };
    assert!(wrong.exchange(&kw.grpc(), &[], &[]).await.is_err());
    // The queue is in order: when a later one has moved, the earlier one was looked at.
    let moved = hash(&store, &other).await;
    other.token(&kw.grpc()).await;
    until("the other hash has moved", async || hash(&store, &other).await != moved).await;
    assert_eq!(hash(&store, &crm).await, before);
}

async fn hash_of_a_removed_key_matches_nothing(backend: Backend) {
    let keys = KeyFiles::new();
    let mut kw = keys.start(backend, OLD, None).await;
    let (_, crm) = viewable_acme(&mut kw.admin().await).await;
    kw.restart_with(&keys.settings(NEW, Some(OLD))).await;
    let mut admin = kw.admin().await;
    super::rewrap_all(&mut admin).await;
    until("the administrator's hash has moved", async || {
        uses(&mut admin, OLD).await.secret_hashes == 1
    })
    .await;
    kw.restart_with(&keys.settings(NEW, None)).await;
    let refused = crm.exchange(&kw.grpc(), &[], &[]).await.unwrap_err();
    assert_eq!(reason(&refused), "INVALID_CLIENT", "as for any other wrong secret");
    let old = uses(&mut kw.admin().await, OLD).await;
    assert_eq!((old.secret_hashes, old.held, old.removable), (1, false, false));
    // With the key, it works again.
    kw.restart_with(&keys.settings(NEW, Some(OLD))).await;
    crm.token(&kw.grpc()).await;
}

async fn hash_is_replaced_only_if_it_is_the_one_that_was_read(backend: Backend) {
    let kw = backend.start().await;
    let (made, crm) = viewable_acme(&mut kw.admin().await).await;
    let store = store(&kw).await;
    let read = hash(&store, &crm).await;
    let credential = CredentialId::parse(&made.client_id).unwrap();
    for (old, moved) in [("another", false), (read.as_str(), true)] {
        let mut tx = store.begin().await.unwrap();
        let done = tx.replace_secret_hash(&credential, 1, old, "new").await.unwrap();
        tx.commit().await.unwrap();
        assert_eq!(done, moved, "{old}");
    }
    assert_eq!(hash(&store, &crm).await, "new");
}

/// While a server writes with the other key, hashes stay as they are: servers would undo each
/// other's.
#[tokio::test(flavor = "multi_thread")]
async fn hash_stays_while_servers_write_with_different_keys() {
    let keys = KeyFiles::new();
    let settings = keys.settings(OLD, Some(NEW));
    let first = Keyward::start(Some(fresh_database().await), &borrowed(&settings)).await;
    let (_, crm) = viewable_acme(&mut first.admin().await).await;
    let store = store(&first).await;
    let before = hash(&store, &crm).await;
    let second = first.join_with(&borrowed(&keys.settings(NEW, Some(OLD)))).await;
    crm.token(&second.grpc()).await;
    assert!(!second.server().service.master_keys.is_agreed());
    assert_eq!(hash(&store, &crm).await, before);
    first.stop().await;
    second.server().service.master_keys.renew().await.unwrap();
    assert!(second.server().service.master_keys.is_agreed());
    // The secret was cached for an hour only, which a restart ends too.
    let mut second = second;
    second.restart_with(&keys.settings(NEW, Some(OLD))).await;
    crm.token(&second.grpc()).await;
    until("the hash has moved", async || hash(&store, &crm).await != before).await;
}

/// A secret that Redis knows costs no hash, but its stored hash moves.
#[tokio::test(flavor = "multi_thread")]
async fn hash_moves_although_redis_knows_the_secret() {
    let redis = RedisServer::start();
    let url = redis.url();
    let keys = KeyFiles::new();
    let with = |primary, additional| {
        let mut settings = keys.settings(primary, additional);
        settings.push(("redis.url", url.clone()));
        settings
    };
    let start = with(OLD, None);
    let mut kw = Keyward::start(Some(fresh_database().await), &borrowed(&start)).await;
    let (_, crm) = viewable_acme(&mut kw.admin().await).await;
    crm.token(&kw.grpc()).await;
    let store = store(&kw).await;
    let before = hash(&store, &crm).await;
    kw.restart_with(&with(NEW, Some(OLD))).await;
    crm.token(&kw.grpc()).await;
    until("the hash has moved", async || hash(&store, &crm).await != before).await;
    let moved = hash(&store, &crm).await;
    super::rewrap_all(&mut kw.admin().await).await;
    kw.restart_with(&with(NEW, None)).await;
    crm.token(&kw.grpc()).await;
    assert_eq!(hash(&store, &crm).await, moved);
}
