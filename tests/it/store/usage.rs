//! Batched writes of usage.

use std::net::IpAddr;

use jiff::Timestamp;
use jiff::civil::date;
use keyward::internals::domain::{Application, Credential, LastUse, Life, UsageDay};
use keyward::internals::store::{CredentialUse, Store};

use super::{acme, application, credential, fresh, now, tenant};
use crate::harness::{Backend, on_both_databases};

on_both_databases!(
    all_uses_of_a_batch_are_written,
    last_use_only_moves_forward,
    counts_add_up_and_skip_deleted_applications,
    writers_of_several_tenants_wait_for_each_other,
);

fn at(second: i64) -> Timestamp {
    Timestamp::from_second(now().as_second() + second).unwrap()
}

/// The first tenant and application with their names.
const FIRST: Life = Life { tenant: 1, application: 0 };

fn used<'a>(credential: &'a Credential, second: i64, address: Option<&str>) -> CredentialUse<'a> {
    let address = address.map(|address| address.parse::<IpAddr>().unwrap());
    CredentialUse { credential: &credential.name, life: FIRST, at: at(second), address }
}

async fn write(store: &Store, uses: &[CredentialUse<'_>]) {
    let mut tx = store.begin().await.unwrap();
    tx.record_last_use(uses, now()).await.unwrap();
    tx.commit().await.unwrap();
}

/// The last use of a credential and of its application: the second, and the address.
async fn last_uses(store: &Store, credential: &Credential) -> [Option<(i64, Option<String>)>; 2] {
    let mut session = store.read().await.unwrap();
    let read = session.find_credential(&credential.name).await.unwrap().unwrap();
    let application = &credential.name.application;
    let application = session.find_application(application).await.unwrap().unwrap();
    let reported = |last: LastUse| (last.at.as_second() - now().as_second(), last.address);
    [read.last_use.map(reported), application.last_use.map(reported)]
}

async fn all_uses_of_a_batch_are_written(backend: Backend) {
    let fresh = fresh(backend).await;
    let mut tx = fresh.store.begin().await.unwrap();
    let mut credentials = Vec::new();
    for (n, id) in ["acme", "evil"].into_iter().enumerate() {
        assert!(tx.insert_tenant(&tenant(id)).await.unwrap());
        for m in 0..3 {
            let application = application(id, &format!("app-{m}"), "");
            assert!(tx.insert_application(&application, None).await.unwrap());
            let made = credential(&application, u8::try_from(10 * n + m).unwrap());
            assert!(tx.insert_credential(&made, None).await.unwrap());
            credentials.push(made);
        }
    }
    tx.commit().await.unwrap();
    let uses: Vec<_> = (0i64..)
        .zip(&credentials)
        .filter(|(n, _)| *n != 4)
        .map(|(n, one)| used(one, n, Some("::1")))
        .collect();
    write(&fresh.store, &uses).await;
    for (n, credential) in (0i64..).zip(&credentials) {
        let expected = (n != 4).then(|| (n, Some("::1".to_owned())));
        assert_eq!(last_uses(&fresh.store, credential).await, [expected.clone(), expected], "{n}");
    }
}

async fn last_use_only_moves_forward(backend: Backend) {
    let (fresh, application) = acme(backend).await;
    let (one, other) = (credential(&application, 1), credential(&application, 2));
    let mut tx = fresh.store.begin().await.unwrap();
    assert!(tx.insert_credential(&one, None).await.unwrap());
    assert!(tx.insert_credential(&other, None).await.unwrap());
    tx.commit().await.unwrap();
    let reported = |second, address: &str| Some((second, Some(address.to_owned())));

    // The later of two uses wins, in either order.
    for (first, second) in [((10, "10.0.0.1"), (5, "10.0.0.2")), ((11, "10.0.0.3"), (12, "::1"))] {
        let uses = [used(&one, first.0, Some(first.1)), used(&other, second.0, Some(second.1))];
        write(&fresh.store, &uses).await;
        let later = first.max(second);
        let application = reported(later.0, later.1);
        let first_uses = [reported(first.0, first.1), application.clone()];
        assert_eq!(last_uses(&fresh.store, &one).await, first_uses);
        assert_eq!(
            last_uses(&fresh.store, &other).await,
            [reported(second.0, second.1), application]
        );
    }
    write(&fresh.store, &[used(&one, 3, Some("10.9.9.9"))]).await;
    assert_eq!(
        last_uses(&fresh.store, &one).await,
        [reported(11, "10.0.0.3"), reported(12, "::1")]
    );
    // Without an address, the last known one stays.
    write(&fresh.store, &[used(&one, 20, None)]).await;
    assert_eq!(
        last_uses(&fresh.store, &one).await,
        [reported(20, "10.0.0.3"), reported(20, "::1")]
    );
}

async fn counts_add_up_and_skip_deleted_applications(backend: Backend) {
    let (fresh, application) = acme(backend).await;
    let (one, gone) = (credential(&application, 1), credential(&application, 2));
    let orphan = credential(&super::application("acme", "never", ""), 3);
    let mut tx = fresh.store.begin().await.unwrap();
    assert!(tx.insert_credential(&one, None).await.unwrap());
    tx.commit().await.unwrap();
    let day = |credential: &Credential, day, exchanges, checks| UsageDay {
        date: date(2026, 6, day),
        credential: credential.name.credential,
        exchanges,
        checks,
    };
    for round in 1..=2 {
        let mut tx = fresh.store.begin().await.unwrap();
        let uses = [used(&one, round, None), used(&gone, 9, None), used(&orphan, 9, None)];
        tx.record_last_use(&uses, now()).await.unwrap();
        let usage = [
            (&application.name, FIRST, day(&one, 1, 1, 10)),
            (&application.name, FIRST, day(&one, 2, 2, 20)),
            (&application.name, FIRST, day(&gone, 1, 3, 30)),
            (&orphan.name.application, FIRST, day(&orphan, 1, 4, 40)),
        ];
        tx.add_usage(&usage).await.unwrap();
        tx.commit().await.unwrap();
    }
    let mut session = fresh.store.read().await.unwrap();
    let days =
        session.list_usage(&application.name, date(2026, 6, 1), date(2026, 6, 30)).await.unwrap();
    // The usage of a deleted credential is shown as long as its application exists.
    assert_eq!(days, [day(&one, 1, 2, 20), day(&gone, 1, 6, 60), day(&one, 2, 4, 40)]);
}

async fn writers_of_several_tenants_wait_for_each_other(backend: Backend) {
    let (fresh, application) = acme(backend).await;
    let mut tx = fresh.store.begin().await.unwrap();
    assert!(tx.insert_tenant(&tenant("evil")).await.unwrap());
    tx.commit().await.unwrap();
    let writers = (0..20).map(|_| {
        let (store, name) = (fresh.store.clone(), application.name.clone());
        tokio::spawn(async move {
            let mut tx = store.begin().await.unwrap();
            tx.lock_tenants(&[&name.tenant, &tenant("evil").id].into()).await.unwrap();
            let before = tx.find_application(&name).await.unwrap().unwrap();
            let settings = before.settings.clone();
            let record = before.record.changed(now());
            let after = Application { record, ..before };
            assert!(tx.update_application(&after, &settings).await.unwrap(), "read under the lock");
            tx.commit().await.unwrap();
        })
    });
    for writer in writers.collect::<Vec<_>>() {
        writer.await.unwrap();
    }
}
