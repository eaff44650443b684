//! `Replay` over both databases: a token is accepted once by two replicas, and what the database
//! does not confirm is never accepted, and never called a replay.

use std::cell::Cell;
use std::time::Duration;

use futures_util::future::join_all;
use jiff::Timestamp;
use keyward::internals::clock::Clock;
use keyward::internals::domain::OneTimePurpose::{self, ClientAssertion, DpopProof, SubjectToken};
use keyward::internals::error::{Error, Result};
use keyward::internals::service::{Replay, Spent};
use keyward::internals::store::{Database, PoolOptions, Store};
use proptest::prelude::*;
use proptest::test_runner::{Config, TestRunner};
use tokio::runtime::Handle;

use super::{Fresh, fresh, now, other_store};
use crate::harness::{Backend, PostgresServer, in_time, on_both_databases, until};

on_both_databases!(
    token_is_accepted_once_by_two_replicas,
    ids_of_purposes_and_owners_are_separate,
    waiting_spends_are_written_before_the_end,
    closed_database_is_unavailable,
    token_is_accepted_once_whenever_it_arrives,
);

fn replay(store: &Store) -> Replay {
    Replay::start(store.clone(), Clock::manual(now()))
}

/// Two replicas on one database.
async fn replicas(backend: Backend) -> (Fresh, [Replay; 2]) {
    let fresh = fresh(backend).await;
    let other = other_store(&fresh).await;
    let replicas = [replay(&fresh.store), replay(&other)];
    (fresh, replicas)
}

async fn spend(replay: &Replay, id: &str) -> Result<Spent> {
    replay.spend(DpopProof, "owner", id, now()).await
}

fn count(answers: &[Result<Spent>], wanted: Spent) -> usize {
    answers.iter().filter(|answer| matches!(answer, Ok(spent) if *spent == wanted)).count()
}

async fn token_is_accepted_once_by_two_replicas(backend: Backend) {
    let (_fresh, replicas) = replicas(backend).await;
    // More than one batch, of ten tokens that each replica gets sixty times.
    let spends = (0..600).flat_map(|n| {
        replicas
            .iter()
            .map(move |replica| async move { spend(replica, &(n % 10).to_string()).await })
    });
    let answers = in_time("all answers", join_all(spends)).await;
    assert_eq!(count(&answers, Spent::First), 10);
    assert_eq!(count(&answers, Spent::Again), 1190);
}

async fn ids_of_purposes_and_owners_are_separate(backend: Backend) {
    let (_fresh, [one, other]) = replicas(backend).await;
    let tokens: [(OneTimePurpose, &str, &str); 6] = [
        (ClientAssertion, "a", "id"),
        (SubjectToken, "a", "id"),
        (DpopProof, "a", "id"),
        (DpopProof, "b", "id"),
        (DpopProof, "ai", "d"),
        (DpopProof, "a", "id\0"),
    ];
    for (replica, expected) in [(&one, Spent::First), (&other, Spent::Again)] {
        for (purpose, owner, id) in tokens {
            let spent = replica.spend(purpose, owner, id, now()).await.unwrap();
            assert_eq!(spent, expected, "{purpose:?} {owner} {id:?}");
        }
    }
}

async fn waiting_spends_are_written_before_the_end(backend: Backend) {
    let (_fresh, [one, other]) = replicas(backend).await;
    let ids: Vec<_> = (0..700).map(|id| id.to_string()).collect();
    // The spends are in the queue when the end begins: futures run in this order.
    let spends = join_all(ids.iter().map(|id| spend(&one, id)));
    let (answers, ()) = in_time("the end", futures_util::future::join(spends, one.close())).await;
    assert_eq!(count(&answers, Spent::First), 700);
    assert!(matches!(spend(&one, "late").await, Err(Error::Stopping)));
    let again = join_all(ids.iter().map(|id| spend(&other, id))).await;
    assert_eq!(count(&again, Spent::Again), 700);
    assert_eq!(spend(&other, "late").await.unwrap(), Spent::First);
}

async fn closed_database_is_unavailable(backend: Backend) {
    let (fresh, [one, other]) = replicas(backend).await;
    assert_eq!(spend(&one, "spent").await.unwrap(), Spent::First);
    fresh.store.close().await;
    for id in ["spent", "new"] {
        let answer = spend(&one, id).await;
        assert!(matches!(answer, Err(Error::Unavailable(_))), "{id}: {answer:?}");
    }
    assert_eq!(spend(&other, "new").await.unwrap(), Spent::First);
}

/// The rule of a token: accepted from this long before its `iat` until this long after it.
const AHEAD: i64 = 10;
const MAX_AGE: i64 = 60;

/// For every `iat` and two arrivals, at any two replicas that delete old rows in between.
async fn token_is_accepted_once_whenever_it_arrives(backend: Backend) {
    let fresh = fresh(backend).await;
    let other = other_store(&fresh).await;
    let second = |second: i64| Timestamp::from_second(now().as_second() + second).unwrap();
    let clock = Clock::manual(second(0));
    let replicas = [&fresh.store, &other].map(|store| Replay::start(store.clone(), clock.clone()));
    let runtime = Handle::current();
    let cases = Cell::new(0);
    let arrivals = (-80i64..80, 0i64..160, any::<bool>());
    let config = Config { failure_persistence: None, ..Config::with_cases(96) };
    let run = || {
        TestRunner::new(config).run(&arrivals, |(ahead, pause, same)| {
            cases.set(cases.get() + 1);
            let base = clock.now().as_second() - now().as_second();
            let (iat, id) = (base + ahead, format!("{base} {}", cases.get()));
            let passes = |at: i64| at >= iat - AHEAD && at <= iat + MAX_AGE;
            let until = second(iat + MAX_AGE);
            let arrive = |replica: &Replay| {
                let at = clock.now().as_second() - now().as_second();
                let spend = replica.spend(DpopProof, "owner", &id, until);
                passes(at).then(|| runtime.block_on(spend).unwrap())
            };
            let first = arrive(&replicas[0]);
            clock.advance(Duration::from_secs(pause.unsigned_abs()));
            for replica in &replicas {
                runtime.block_on(replica.purge()).unwrap();
            }
            let second = arrive(&replicas[usize::from(!same)]);
            match (first, second) {
                (Some(first), Some(second)) => {
                    prop_assert_eq!([first, second], [Spent::First, Spent::Again]);
                }
                (one, other) => prop_assert_ne!(one.or(other), Some(Spent::Again)),
            }
            Ok(())
        })
    };
    tokio::task::block_in_place(run).unwrap();
}

/// A store on a PostgreSQL that the test stops and suspends.
async fn own_server() -> (PostgresServer, Store) {
    let server = tokio::task::spawn_blocking(PostgresServer::start).await.unwrap();
    let database = Database::parse(&server.fresh_database().await).unwrap();
    let options = PoolOptions { max_connections: 4, acquire_timeout: Duration::from_secs(1) };
    let store = Store::open(&database, options).await.unwrap();
    (server, store)
}

fn is_unavailable(answer: &Result<Spent>) -> bool {
    matches!(answer, Err(Error::Unavailable(_)))
}

#[tokio::test(flavor = "multi_thread")]
async fn stopped_database_is_unavailable_and_then_decides_again() {
    let (mut server, store) = own_server().await;
    let replay = replay(&store);
    assert_eq!(spend(&replay, "spent").await.unwrap(), Spent::First);
    server.stop();
    for id in ["spent", "new"] {
        let answer = spend(&replay, id).await;
        assert!(is_unavailable(&answer), "{id}: {answer:?}");
    }
    server.start_again();
    until("the database answers", async || spend(&replay, "another").await.is_ok()).await;
    assert_eq!(spend(&replay, "spent").await.unwrap(), Spent::Again);
    assert_eq!(spend(&replay, "new").await.unwrap(), Spent::First, "it was refused before");
}

#[tokio::test(flavor = "multi_thread")]
async fn hanging_database_is_unavailable_and_bounds_the_queue() {
    let (server, store) = own_server().await;
    let replay = replay(&store);
    assert_eq!(spend(&replay, "spent").await.unwrap(), Spent::First);
    server.pause();
    let ids: Vec<_> = (0..6_000).map(|id| id.to_string()).collect();
    let spends = join_all(ids.iter().map(|id| spend(&replay, id)));
    let answers = in_time("all answers", spends).await;
    let overloaded =
        answers.iter().filter(|answer| matches!(answer, Err(Error::Overloaded { .. }))).count();
    let unavailable = answers.iter().filter(|answer| is_unavailable(answer)).count();
    assert_eq!(overloaded + unavailable, ids.len(), "nothing is accepted or called a replay");
    // 4,096 wait, and one batch is being written.
    assert!((4_096..=4_352).contains(&unavailable), "{unavailable}");
    server.resume();
    until("the database answers", async || spend(&replay, "another").await.is_ok()).await;
    assert_eq!(spend(&replay, "spent").await.unwrap(), Spent::Again);
}
