//! One-time tokens: each is spent once, whatever replicas do at the same time.

use std::collections::HashSet;
use std::time::Duration;

use futures_util::future::join_all;
use jiff::Timestamp;
use keyward::internals::clock::later;
use keyward::internals::domain::{MAX_CLOCK_LEAD, OneTimeKey, OneTimePurpose, SpentToken};
use keyward::internals::store::Store;

use super::{fresh, now, other_store};
use crate::harness::{Backend, in_time, on_both_databases};

on_both_databases!(
    token_is_spent_once_by_two_replicas,
    equal_tokens_of_one_batch_are_spent_once,
    replicas_that_spend_the_same_tokens_do_not_block_each_other,
    uncommitted_spend_is_no_spend,
    tokens_are_spent_together_only_if_all_are_new,
    only_ended_tokens_are_purged,
);

fn token(id: &(impl ToString + ?Sized), until: Timestamp) -> SpentToken {
    let key = OneTimeKey::new(OneTimePurpose::DpopProof, "owner", &id.to_string());
    SpentToken::new(key, until)
}

fn keys(ids: &[&str]) -> HashSet<OneTimeKey> {
    ids.iter().map(|id| token(*id, now()).key).collect()
}

async fn spend(store: &Store, tokens: &[SpentToken]) -> HashSet<OneTimeKey> {
    let mut tx = store.begin().await.unwrap();
    let first = tx.spend_tokens(tokens).await.unwrap();
    tx.commit().await.unwrap();
    first
}

async fn purge(store: &Store, end: Timestamp) -> bool {
    let mut tx = store.begin().await.unwrap();
    let done = tx.purge_spent_tokens(end).await.unwrap();
    tx.commit().await.unwrap();
    done
}

async fn token_is_spent_once_by_two_replicas(backend: Backend) {
    let fresh = fresh(backend).await;
    let other = other_store(&fresh).await;
    let [a, b, c] = ["a", "b", "c"].map(|id| token(id, now()));
    assert_eq!(spend(&fresh.store, &[b, a]).await, keys(&["a", "b"]));
    assert_eq!(spend(&other, &[a, c, b]).await, keys(&["c"]));
    assert_eq!(spend(&fresh.store, &[c, b, a]).await, keys(&[]));
    assert_eq!(spend(&fresh.store, &[]).await, keys(&[]));
}

async fn equal_tokens_of_one_batch_are_spent_once(backend: Backend) {
    let fresh = fresh(backend).await;
    let [a, b] = ["a", "b"].map(|id| token(id, now()));
    let later = token("a", later(now(), Duration::from_secs(1)));
    assert_eq!(spend(&fresh.store, &[a, b, a, later, a]).await, keys(&["a", "b"]));
    assert_eq!(spend(&fresh.store, &[a, b, later]).await, keys(&[]));
    // The one that is accepted for longest counts: any of them may be the one that was accepted.
    assert!(purge(&fresh.store, later.expires_at).await);
    assert_eq!(spend(&fresh.store, &[a, b]).await, keys(&["b"]));
}

async fn replicas_that_spend_the_same_tokens_do_not_block_each_other(backend: Backend) {
    let fresh = fresh(backend).await;
    let other = other_store(&fresh).await;
    let tokens: Vec<_> = (0..60).map(|id: i32| token(&id, now())).collect();
    let writers = (0..24).map(|n| {
        let store = if n % 2 == 0 { fresh.store.clone() } else { other.clone() };
        let mut mine = tokens.clone();
        mine.rotate_left(n * 7 % 60);
        if n % 3 == 0 {
            mine.reverse();
        }
        tokio::spawn(async move { spend(&store, &mine).await.len() })
    });
    let firsts = in_time("all spends", join_all(writers.collect::<Vec<_>>())).await;
    let firsts: usize = firsts.into_iter().map(Result::unwrap).sum();
    assert_eq!(firsts, tokens.len());
}

async fn uncommitted_spend_is_no_spend(backend: Backend) {
    let fresh = fresh(backend).await;
    let mut tx = fresh.store.begin().await.unwrap();
    assert_eq!(tx.spend_tokens(&[token("a", now())]).await.unwrap(), keys(&["a"]));
    drop(tx);
    assert_eq!(spend(&fresh.store, &[token("a", now())]).await, keys(&["a"]));
}

async fn tokens_are_spent_together_only_if_all_are_new(backend: Backend) {
    let fresh = fresh(backend).await;
    let [a, b, c] = ["a", "b", "c"].map(|id| token(id, now()));
    let spend_new = async |tokens: &[SpentToken]| {
        let mut tx = fresh.store.begin().await.unwrap();
        let all_new = tx.spend_new_tokens(tokens).await.unwrap();
        if all_new {
            tx.commit().await.unwrap();
        }
        all_new
    };
    assert!(spend_new(&[b, a, b]).await);
    assert!(!spend_new(&[c, b]).await);
    assert_eq!(spend(&fresh.store, &[a, b, c]).await, keys(&["c"]));
}

async fn only_ended_tokens_are_purged(backend: Backend) {
    let fresh = fresh(backend).await;
    let ended: Vec<_> = (0..2_500).map(|id: i32| token(&id, now())).collect();
    for batch in ended.chunks(500) {
        assert_eq!(spend(&fresh.store, batch).await.len(), batch.len());
    }
    // A clock that is a minute ahead deletes no token that is still accepted.
    let end = later(now(), Duration::from_secs(MAX_CLOCK_LEAD));
    assert!(purge(&fresh.store, end).await, "nothing has ended");
    assert_eq!(spend(&fresh.store, &ended[..9]).await, keys(&[]));

    let live = token("live", later(now(), Duration::from_micros(1)));
    spend(&fresh.store, &[live]).await;
    let end = later(end, Duration::from_micros(1));
    let mut done = Vec::new();
    for _ in 0..4 {
        done.push(purge(&fresh.store, end).await);
    }
    assert_eq!(done, [false, false, true, true]);
    assert_eq!(spend(&fresh.store, &[live, ended[0]]).await, keys(&["0"]));
}
