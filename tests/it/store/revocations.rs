//! The revocation list: no gaps and in order, on both databases.

use std::time::Duration;

use jiff::Timestamp;
use keyward::internals::clock::{from_microsecond, later};
use keyward::internals::domain::{ApplicationName, NewRevocation, Revocation, Subject, TenantId};
use keyward::internals::store::{Affected, Store};

use super::{acme, fresh, now, scope};
use crate::harness::{Backend, on_both_databases, pause};

on_both_databases!(
    revocations_are_numbered_without_gaps,
    chunks_have_the_same_revocations,
    uncommitted_revocation_takes_no_number,
    every_affected_application_gets_a_number,
    revocation_is_kept_until_it_expires,
    reader_sees_every_revocation_of_concurrent_writers,
    declaration_raises_epochs_and_revokes_all_tenants,
);

fn tenant(id: &str) -> Subject {
    Subject::Tenant(TenantId::parse(id).unwrap())
}

fn revocation(subject: Subject, epoch: i64, at: Timestamp) -> NewRevocation {
    NewRevocation::older_than(subject, epoch, at)
}

async fn add(store: &Store, new: &[NewRevocation]) -> Vec<Revocation> {
    let mut tx = store.begin().await.unwrap();
    let added = tx.insert_revocations(new, now()).await.unwrap();
    tx.commit().await.unwrap();
    added
}

async fn all(store: &Store) -> Vec<Revocation> {
    let mut session = store.read().await.unwrap();
    let feed = session.revocation_feed().await.unwrap();
    session.list_revocations(0, feed.last_number, i64::MAX).await.unwrap()
}

async fn revocations_are_numbered_without_gaps(backend: Backend) {
    let fresh = fresh(backend).await;
    let one = add(&fresh.store, &[revocation(tenant("a"), 1, now())]).await;
    let two = add(
        &fresh.store,
        &[
            revocation(tenant("b"), 1, now()),
            revocation(Subject::Token("jti".to_owned()), 0, now()),
        ],
    )
    .await;
    let read = all(&fresh.store).await;
    assert_eq!(read, [one, two].concat(), "rows are read as they were written");
    assert_eq!(read.iter().map(|r| r.number).collect::<Vec<_>>(), [1, 2, 3]);
    let mut session = fresh.store.read().await.unwrap();
    assert_eq!(session.revoked_epoch(&tenant("a")).await.unwrap(), 1);
    assert_eq!(session.revoked_epoch(&tenant("c")).await.unwrap(), 0);
    assert_eq!(session.list_revocations(1, 3, 1).await.unwrap()[0].number, 2);
}

async fn chunks_have_the_same_revocations(backend: Backend) {
    let fresh = fresh(backend).await;
    let odd = format!("{:<32}", "1 2, 3");
    let other = format!("é{:<30}", "has 32 bytes");
    let tokens = [
        "0199f5a0c3b97d2e8f4b6a1c5d3e7f90",
        "0199f5a0c3b97d2e8f4b6a1c5d3e7f91",
        &odd,
        "short",
        &other,
        "0199f5a0c3b97d2e8f4b6a1c5d3e7f90",
    ];
    for token in tokens {
        let token = Subject::Token(token.to_owned());
        add(&fresh.store, &[revocation(token, 0, now()), revocation(tenant("a"), 1, now())]).await;
    }
    let expected = all(&fresh.store).await;
    let mut session = fresh.store.read().await.unwrap();
    for max in [1, 2, 3, 5, 100] {
        let (mut read, mut after) = (Vec::new(), 0);
        while let Some(chunk) = session.read_revocations(after, 11, max).await.unwrap() {
            assert!(chunk.last > after && chunk.last - after <= max);
            read.extend(chunk.tokens().map(|token| {
                let token = token.unwrap();
                Revocation {
                    number: token.number,
                    subject: Subject::Token(token.jti.to_owned()),
                    epoch: 0,
                    revoked_at: from_microsecond(token.revoked_at),
                    expires_at: from_microsecond(token.expires_at),
                }
            }));
            after = chunk.last;
            read.extend(chunk.others);
        }
        read.sort_by_key(|row| row.number);
        assert_eq!(read, expected[..11], "in chunks of {max}");
    }
}

async fn uncommitted_revocation_takes_no_number(backend: Backend) {
    let fresh = fresh(backend).await;
    let mut tx = fresh.store.begin().await.unwrap();
    tx.insert_revocations(&[revocation(tenant("a"), 1, now())], now()).await.unwrap();
    drop(tx);
    let added = add(&fresh.store, &[revocation(tenant("b"), 1, now())]).await;
    assert_eq!(added[0].number, 1);
}

async fn every_affected_application_gets_a_number(backend: Backend) {
    let (fresh, application) = acme(backend).await;
    add(&fresh.store, &[revocation(tenant("other"), 1, now())]).await;
    let mut tx = fresh.store.begin().await.unwrap();
    let scope = scope("acme", "b").id;
    let affected = Affected::ApplicationsWithScope(&scope);
    assert_eq!(tx.revoke_affected(affected, now()).await.unwrap(), 1);
    tx.change_affected(affected, now()).await.unwrap();
    tx.commit().await.unwrap();
    let read = all(&fresh.store).await;
    let subject = Subject::Application(ApplicationName { ..application.name.clone() });
    let expected = revocation(subject, application.epoch + 1, now());
    let Revocation { number, subject, epoch, revoked_at, expires_at } = read[1].clone();
    assert_eq!((number, revoked_at), (2, now()));
    assert_eq!(NewRevocation { subject, epoch, expires_at }, expected);
    let mut session = fresh.store.read().await.unwrap();
    let changed = session.find_application(&application.name).await.unwrap().unwrap();
    assert_eq!(changed.epoch, epoch, "new tokens have the epoch of the revocation");
}

async fn revocation_is_kept_until_it_expires(backend: Backend) {
    let fresh = fresh(backend).await;
    let end = later(now(), Duration::from_secs(10));
    let short = NewRevocation { subject: tenant("b"), epoch: 1, expires_at: end };
    add(
        &fresh.store,
        &[revocation(tenant("a"), 1, now()), short, revocation(tenant("c"), 1, now())],
    )
    .await;
    let numbers = async || all(&fresh.store).await.iter().map(|r| r.number).collect::<Vec<_>>();
    let purge = async |at: Timestamp| {
        let mut tx = fresh.store.begin().await.unwrap();
        assert!(tx.purge_revocations(at).await.unwrap());
        tx.commit().await.unwrap();
    };
    purge(now()).await;
    assert_eq!(numbers().await, [1, 2, 3]);
    purge(end).await;
    assert_eq!(numbers().await, [1, 3]);
    let feed = fresh.store.read().await.unwrap().revocation_feed().await.unwrap();
    assert_eq!((feed.last_number, feed.purged_through), (3, 2));
    add(&fresh.store, &[revocation(tenant("d"), 1, now())]).await;
    assert_eq!(numbers().await, [1, 3, 4], "a number is not used twice");
}

async fn declaration_raises_epochs_and_revokes_all_tenants(backend: Backend) {
    let (fresh, application) = acme(backend).await;
    add(&fresh.store, &[revocation(tenant("other"), 1, now())]).await;
    let id = application.name.tenant.clone();
    let before = fresh.store.read().await.unwrap().find_tenant(&id).await.unwrap().unwrap();
    let mut raised = before.epoch;
    for round in 1..=2 {
        let mut tx = fresh.store.begin().await.unwrap();
        let at = later(now(), Duration::from_secs(round));
        tx.raise_all_epochs(at).await.unwrap();
        tx.rename_revocation_feed("declared").await.unwrap();
        assert_eq!(tx.revoke_all_tenants(at).await.unwrap(), 1);
        tx.commit().await.unwrap();
        let mut session = fresh.store.read().await.unwrap();
        let feed = session.revocation_feed().await.unwrap();
        assert_eq!(
            (feed.id.as_str(), feed.last_number),
            ("declared", 1 + i64::try_from(round).unwrap())
        );
        let tenant = session.find_tenant(&id).await.unwrap().unwrap();
        assert!(tenant.epoch > raised + 999_999, "{} after {raised}", tenant.epoch);
        raised = tenant.epoch;
        let changed = session.find_application(&application.name).await.unwrap().unwrap();
        assert!(changed.epoch > application.epoch + 999_999);
        let rows =
            session.list_revocations(feed.last_number - 1, feed.last_number, 9).await.unwrap();
        assert_eq!(rows[0].subject, Subject::Tenant(id.clone()));
        assert_eq!(rows[0].epoch, raised, "older tokens have a smaller epoch");
    }
}

/// Writers hold their transactions for a random time before they commit or roll back.
async fn reader_sees_every_revocation_of_concurrent_writers(backend: Backend) {
    const WRITERS: u64 = 64;
    const EACH: u64 = 5;
    let fresh = fresh(backend).await;
    let mut writers = tokio::task::JoinSet::new();
    for writer in 0..WRITERS {
        let store = fresh.store.clone();
        writers.spawn(async move {
            let mut committed = 0;
            for n in 0..EACH {
                // Any mix of the two numbers keeps writers out of step.
                let dice = (writer * 2_654_435_761 + n * 40_503) >> 3;
                let mut tx = store.begin().await.unwrap();
                let subject = tenant(&format!("t{writer}-{n}"));
                tx.insert_revocations(&[revocation(subject, 1, now())], now()).await.unwrap();
                pause(Duration::from_micros(dice % 3000)).await;
                if dice % 5 != 0 {
                    tx.commit().await.unwrap();
                    committed += 1;
                }
            }
            committed
        });
    }
    let store = fresh.store.clone();
    let (stop, mut stopped) = tokio::sync::watch::channel(false);
    let reader = tokio::spawn(async move {
        let mut seen: Vec<i64> = Vec::new();
        loop {
            let last_round = *stopped.borrow_and_update();
            let mut session = store.read().await.unwrap();
            let feed = session.revocation_feed().await.unwrap();
            let after = seen.last().copied().unwrap_or(0);
            let rows = session.list_revocations(after, feed.last_number, 3).await.unwrap();
            drop(session);
            seen.extend(rows.iter().map(|row| row.number));
            if last_round && rows.is_empty() {
                return seen;
            }
        }
    });
    let committed: i64 = writers.join_all().await.into_iter().sum();
    stop.send(true).unwrap();
    let seen = reader.await.unwrap();
    assert_eq!(seen, (1..=committed).collect::<Vec<_>>(), "each once, in order, none missing");
    assert!(committed > 200 && committed < (WRITERS * EACH).try_into().unwrap());
}
