//! Rotation by schedule.

use std::collections::BTreeSet;

use keyward::proto::admin::signing_key::State::{Active, Next, Removed, Retiring};
use sqlx::{Connection, PgConnection};

use super::{DAY, KEPT, NOTICE, events, jwks, list, maintain, rotate, signer, states};
use crate::harness::{Backend, Keyward, on_both_databases, until};

on_both_databases!(
    key_goes_through_every_state_by_schedule,
    key_that_is_overdue_is_replaced_after_its_notice,
    key_that_became_due_while_the_server_was_down_is_published_first,
    key_of_an_older_server_is_recorded_and_rotated,
    without_period_nothing_rotates,
    key_set_stays_bounded,
);

async fn key_goes_through_every_state_by_schedule(backend: Backend) {
    let mut kw = backend.start().await;
    let (_, crm) = kw.admin().await.acme().await;
    let first = signer(&kw, &crm).await;
    let published = jwks(&kw).await;
    assert_eq!((published.len(), states(&kw).await), (2, vec![Next, Active]));
    let second = published.iter().find(|kid| **kid != first).unwrap().clone();
    kw.advance(29 * DAY - 1);
    maintain(&kw).await;
    assert_eq!(list(&mut kw.admin().await).await[0].activate_time, None, "no time is set");

    kw.advance(1);
    maintain(&kw).await;
    kw.restart().await;
    assert_eq!((jwks(&kw).await, states(&kw).await), (published.clone(), vec![Next, Active]));
    kw.advance(DAY - 1);
    assert_eq!(signer(&kw, &crm).await, first, "published, and not used yet");
    let token = crm.token(&kw.grpc()).await;

    kw.advance(1);
    maintain(&kw).await;
    kw.restart().await;
    assert_eq!(signer(&kw, &crm).await, second);
    assert_eq!(states(&kw).await, [Next, Active, Retiring]);
    let published = jwks(&kw).await;
    assert_eq!((published.len(), &published[..2]), (3, [first, second.clone()].as_slice()));
    assert!(kw.admin().await.is_active(&token).await, "a token of the retiring key");

    kw.advance(300);
    maintain(&kw).await;
    assert_eq!(private_keys(&kw).await, 2, "the first private key is erased");
    kw.restart().await;
    assert!(kw.admin().await.is_active(&token).await, "its public key is not");
    assert_eq!(jwks(&kw).await, published);

    kw.advance(KEPT - 300);
    maintain(&kw).await;
    assert_eq!(
        (jwks(&kw).await, states(&kw).await),
        (published.clone(), vec![Next, Active, Retiring])
    );
    kw.advance(1);
    maintain(&kw).await;
    assert_eq!(states(&kw).await, [Next, Active, Removed]);
    kw.restart().await;
    assert_eq!((jwks(&kw).await, signer(&kw, &crm).await), (published[1..].to_vec(), second));
    let actions: Vec<_> =
        events(&mut kw.admin().await).await.into_iter().map(|(action, _)| action).collect();
    let (removed, rotated) = ("RemoveSigningKey", "RotateSigningKey");
    assert_eq!(actions, [removed, removed, rotated, rotated, rotated]);
}

/// The number of private keys in the database.
async fn private_keys(kw: &Keyward) -> i64 {
    const SQL: &str = "select count(*) from signing_keys";
    if let Some(url) = kw.database_url() {
        let mut connection = PgConnection::connect(url).await.unwrap();
        return sqlx::query_scalar(SQL).fetch_one(&mut connection).await.unwrap();
    }
    let file = kw.folder().join("keyward.db");
    let mut connection = sqlx::SqliteConnection::connect(file.to_str().unwrap()).await.unwrap();
    sqlx::query_scalar(SQL).fetch_one(&mut connection).await.unwrap()
}

async fn key_that_is_overdue_is_replaced_after_its_notice(backend: Backend) {
    let mut kw = backend.start().await;
    let (_, crm) = kw.admin().await.acme().await;
    let first = signer(&kw, &crm).await;
    // As a version left it that kept no next key.
    let next = jwks(&kw).await[1].clone();
    kw.sql("delete from signing_keys where generation = 2", None).await.unwrap();
    kw.sql("delete from signing_key_history where generation = 2", None).await.unwrap();
    kw.advance(400 * DAY);
    kw.restart().await;
    assert_ne!(jwks(&kw).await[1], next);
    kw.advance(NOTICE - 1);
    maintain(&kw).await;
    assert_eq!(signer(&kw, &crm).await, first);
    kw.advance(1);
    assert_ne!(signer(&kw, &crm).await, first);
    assert_eq!(states(&kw).await, [Active, Retiring]);
}

/// A server that was down while a key was to be published does not use it before all others have
/// read its time. Verifiers read the set again after that time away, and the key is in it.
async fn key_that_became_due_while_the_server_was_down_is_published_first(backend: Backend) {
    let mut kw = backend.start().await;
    let (_, crm) = kw.admin().await.acme().await;
    let (first, published) = (signer(&kw, &crm).await, jwks(&kw).await);
    kw.advance(400 * DAY);
    kw.restart().await;
    assert_eq!((signer(&kw, &crm).await, jwks(&kw).await), (first.clone(), published.clone()));
    kw.advance(59);
    assert_eq!(signer(&kw, &crm).await, first);
    kw.advance(1);
    assert_eq!(signer(&kw, &crm).await, published[1]);
    // By hand: the next key activates while the server is down.
    kw.advance(NOTICE);
    maintain(&kw).await;
    let published = jwks(&kw).await;
    rotate(&mut kw.admin().await).await.unwrap();
    kw.advance(NOTICE);
    kw.restart().await;
    let signer = signer(&kw, &crm).await;
    assert_eq!(signer, published[2], "it was in the set before");
    assert!(jwks(&kw).await.contains(&signer), "and still is");
}

async fn key_of_an_older_server_is_recorded_and_rotated(backend: Backend) {
    let mut kw = backend.start().await;
    let (_, crm) = kw.admin().await.acme().await;
    let first = signer(&kw, &crm).await;
    // As the migration finds it.
    kw.sql("delete from signing_keys where generation = 2", None).await.unwrap();
    kw.sql("delete from signing_key_history", None).await.unwrap();
    kw.restart().await;
    let published = jwks(&kw).await;
    assert_eq!((published.len(), &published[0]), (2, &first));
    assert_eq!(states(&kw).await, [Next, Active]);
    assert_eq!(events(&mut kw.admin().await).await[1].1, "it was made by an older version");
    kw.advance(31 * DAY);
    maintain(&kw).await;
    kw.advance(59);
    let token = crm.token(&kw.grpc()).await;
    kw.advance(300);
    maintain(&kw).await;
    kw.restart().await;
    assert_eq!(jwks(&kw).await.len(), 3);
    assert!(kw.admin().await.is_active(&token).await);
}

async fn without_period_nothing_rotates(backend: Backend) {
    let kw = backend.start_with(&[("keys.rotation_period", "never")]).await;
    kw.advance(4000 * DAY);
    maintain(&kw).await;
    assert_eq!(states(&kw).await, [Next, Active]);
    assert_eq!(list(&mut kw.admin().await).await[0].activate_time, None);
}

async fn key_set_stays_bounded(backend: Backend) {
    let kw = backend.start_with(&[("keys.rotation_period", "1h")]).await;
    for _ in 0..40 {
        kw.advance(NOTICE);
        maintain(&kw).await;
        assert!(jwks(&kw).await.len() <= 4);
    }
    let states = states(&kw).await;
    assert_eq!(states.iter().filter(|state| **state == Active).count(), 1);
    assert!(states.len() >= 7, "{states:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn rotations_at_once_make_exactly_one_key_and_lose_none() {
    let replicas: [Keyward; 3] = Keyward::replicas(None, &[]).await;
    let mut earlier: BTreeSet<String> = jwks(&replicas[0]).await.into_iter().collect();
    for round in 0..40 {
        // The key before is active and due; those before it are removed.
        replicas[0].advance(29 * DAY + if round == 0 { 0 } else { DAY });
        let barrier = tokio::sync::Barrier::new(replicas.len());
        let run = |kw| {
            let barrier = &barrier;
            async move {
                barrier.wait().await;
                maintain(kw).await;
            }
        };
        tokio::join!(run(&replicas[0]), run(&replicas[1]), run(&replicas[2]));
        let mut sets = Vec::new();
        for kw in &replicas {
            maintain(kw).await;
            sets.push(jwks(kw).await.into_iter().collect::<BTreeSet<_>>());
        }
        assert!(sets.iter().all(|set| *set == sets[0]), "round {round}: {sets:?}");
        let new: Vec<_> = sets[0].difference(&earlier).collect();
        assert_eq!(new.len(), usize::from(round > 0), "round {round}: {sets:?}");
        assert_eq!(
            sets[0].intersection(&earlier).count(),
            if round == 0 { 2 } else { 1 },
            "round {round}"
        );
        earlier.extend(sets[0].clone());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn interrupted_rotation_is_made_by_the_next_try() {
    let [kw] = Keyward::replicas(None, &[]).await;
    let mut other = PgConnection::connect(kw.database_url().unwrap()).await.unwrap();
    // First the next key is planned, then it signs and another one is made.
    for (advanced, after) in [(31 * DAY, vec![Next, Active]), (60, vec![Next, Active, Retiring])] {
        kw.advance(advanced);
        let before = list(&mut kw.admin().await).await;
        // Another transaction holds the table, so the rotation stops after it has begun.
        for table in ["tenants", "signing_key_history", "signing_keys", "audit_events"] {
            sqlx::raw_sql("begin").execute(&mut other).await.unwrap();
            let lock = format!("lock table {table} in share mode");
            sqlx::raw_sql(sqlx::AssertSqlSafe(lock)).execute(&mut other).await.unwrap();
            let interrupted = tokio::select! {
                () = maintain(&kw) => false,
                () = waits_for_lock(&kw) => true,
            };
            assert!(interrupted, "{table}");
            sqlx::raw_sql("rollback").execute(&mut other).await.unwrap();
            kw.server().service.signing.refresh().await.unwrap();
            assert_eq!(list(&mut kw.admin().await).await, before, "{table}: nothing half done");
        }
        maintain(&kw).await;
        assert_ne!(list(&mut kw.admin().await).await, before);
        assert_eq!(states(&kw).await, after);
    }
}

/// Waits until a statement in the database waits for a lock.
async fn waits_for_lock(kw: &Keyward) {
    const SQL: &str = "select count(*) from pg_stat_activity \
        where datname = current_database() and wait_event_type = 'Lock'";
    let mut connection = PgConnection::connect(kw.database_url().unwrap()).await.unwrap();
    until("a statement waits", async || {
        let count: i64 = sqlx::query_scalar(SQL).fetch_one(&mut connection).await.unwrap();
        count > 0
    })
    .await;
}
