//! Copies of last uses beside the names of applications: searches sort by them, whichever version
//! wrote the use.

use keyward::internals::domain::{Application, ApplicationKey, Credential};
use keyward::internals::store::{CredentialUse, Store};
use tokio::task::JoinSet;

use super::migrations::{at_version, empty, first_page, migrated, run, tenant};
use super::{Fresh, application, credential, fresh, now};
use crate::harness::{Backend, on_both_databases};

on_both_databases!(
    every_write_keeps_copies_of_last_uses,
    search_is_in_order_while_last_uses_are_copied,
    uses_are_written_while_others_are_copied,
);

/// The number of unrelated applications that were never used. The first walk of a search in the
/// order of last use ends among them.
const UNUSED: usize = 1_100;

/// SQL that fails unless each copy is the last use.
const COPIES_ARE_RIGHT: &str = "create table differing (n integer check (n = 0)); \
    insert into differing select count(*) from application_names n \
      left join application_uses l \
        on l.tenant_id = n.tenant_id and l.application_id = n.application_id \
      where n.last_used_at is null or l.last_used_at is null \
        or n.last_used_at <> l.last_used_at; \
    drop table differing; ";

/// A use that a server of the version before writes.
fn use_by_previous_version(id: &str, at: i64) -> String {
    format!(
        "update application_uses set last_used_at = {at}, last_used_address = '::1' \
           where tenant_id = 'acme' and application_id = '{id}' and last_used_at <= {at}; "
    )
}

async fn copy(store: &Store, max: i64) -> usize {
    let mut tx = store.begin().await.unwrap();
    let copied = tx.copy_last_uses(max).await.unwrap();
    tx.commit().await.unwrap();
    copied
}

async fn uncopied(store: &Store) -> i64 {
    store.read().await.unwrap().count_uncopied_last_uses(10_000).await.unwrap()
}

/// The ids that a search finds, in the order of last use.
async fn found(store: &Store, search: &str) -> Vec<String> {
    let mut session = store.read().await.unwrap();
    let found = first_page(&mut session, search, ApplicationKey::LastUseTime, 50).await;
    found.iter().map(|one| one.name.application.to_string()).collect()
}

async fn create(fresh: &Fresh, ids: &[&str]) -> Vec<(Application, Credential)> {
    let mut made = Vec::new();
    let mut tx = fresh.store.begin().await.unwrap();
    assert!(tx.insert_tenant(&super::tenant("acme")).await.unwrap());
    for (n, id) in (0..).zip(ids) {
        let application = application("acme", id, "");
        let credential = credential(&application, n);
        assert!(tx.insert_application(&application, None).await.unwrap());
        assert!(tx.insert_credential(&credential, None).await.unwrap());
        made.push((application, credential));
    }
    tx.commit().await.unwrap();
    made
}

fn used(credential: &Credential, second: i64) -> CredentialUse<'_> {
    let at = jiff::Timestamp::from_second(now().as_second() + second).unwrap();
    let life = keyward::internals::domain::Life { tenant: 1, application: 0 };
    CredentialUse { credential: &credential.name, life, at, address: None }
}

async fn every_write_keeps_copies_of_last_uses(backend: Backend) {
    let fresh = fresh(backend).await;
    let made = create(&fresh, &["a", "b", "c"]).await;
    fresh.sql(COPIES_ARE_RIGHT.to_owned()).await;
    let mut tx = fresh.store.begin().await.unwrap();
    let uses: Vec<_> = (1..).zip(&made).map(|(n, (_, credential))| used(credential, n)).collect();
    tx.record_last_use(&uses, now()).await.unwrap();
    tx.commit().await.unwrap();
    fresh.sql(COPIES_ARE_RIGHT.to_owned()).await;
    let later = now().as_microsecond() + 60_000_000;
    fresh.sql(use_by_previous_version("a", later) + COPIES_ARE_RIGHT).await;

    let (before, _) = &made[1];
    let mut renamed = Application { record: before.record.changed(now()), ..before.clone() };
    "renamed".clone_into(&mut renamed.settings.display_name);
    let mut tx = fresh.store.begin().await.unwrap();
    assert!(tx.update_application(&renamed, &before.settings).await.unwrap());
    tx.delete_application(&made[2].0.name).await.unwrap();
    tx.commit().await.unwrap();
    fresh.sql(COPIES_ARE_RIGHT.to_owned()).await;
}

async fn search_is_in_order_while_last_uses_are_copied(backend: Backend) {
    let (_folder, database, url) = empty(backend).await;
    let no = if backend == Backend::Sqlite { "0" } else { "false" };
    let applications = |prefix: &str, name: &str, count: usize| {
        format!(
            "insert into applications (tenant_id, id, display_name, search_name, description, \
               contact_email, disabled, epoch, revision, created_at, updated_at) \
             with recursive numbers (n) as \
               (select 1 union all select n + 1 from numbers where n < {count}) \
             select 'acme', '{prefix}' || n, '{name}', '{name}', '', '', {no}, 0, 1, 0, 0 \
               from numbers; "
        )
    };
    let mut sql = tenant(no)
        + &applications("a", "wanted", 3)
        + &applications("m", "other", UNUSED)
        + &applications("z", "wanted", 3);
    for (at, id) in (10..).zip(["z2", "a1", "z1", "a3"]) {
        sql.push_str(&use_by_previous_version(id, at));
    }
    at_version(&database, &url, 20, &sql).await;

    let store = migrated(&database).await;
    assert_eq!(uncopied(&store).await, 1_106);
    assert_eq!(found(&store, "wanted").await, ["a2", "z3", "z2", "a1", "z1", "a3"]);
    assert_eq!(copy(&store, 500).await, 500);
    assert_eq!(uncopied(&store).await, 606);
    assert_eq!(found(&store, "wanted").await, ["a2", "z3", "z2", "a1", "z1", "a3"]);
    // One that is copied, and one that is not.
    run(&database, &url, &(use_by_previous_version("a2", 20) + &use_by_previous_version("z2", 21)))
        .await;
    assert_eq!(found(&store, "wanted").await, ["z3", "a1", "z1", "a3", "a2", "z2"]);

    if backend == Backend::Postgres {
        let mut one = store.begin().await.unwrap();
        assert_eq!(one.copy_last_uses(500).await.unwrap(), 500);
        // Another server neither waits nor copies the same.
        assert_eq!(copy(&migrated(&database).await, 500).await, 0);
        // A server that stops leaves its batch to the next.
        drop(one);
    }
    assert_eq!((copy(&store, 500).await, copy(&store, 500).await), (500, 106));
    assert_eq!((uncopied(&store).await, copy(&store, 500).await), (0, 0));
    assert_eq!(found(&store, "wanted").await, ["z3", "a1", "z1", "a3", "a2", "z2"]);
    run(&database, &url, &(applications("zz", "wanted", 1) + COPIES_ARE_RIGHT)).await;
    assert_eq!(uncopied(&store).await, 0, "new applications need no copy");
    assert_eq!(found(&store, "wanted").await, ["z3", "zz1", "a1", "z1", "a3", "a2", "z2"]);
}

async fn uses_are_written_while_others_are_copied(backend: Backend) {
    const ROUNDS: i64 = 20;
    let fresh = fresh(backend).await;
    let ids = ["a", "b", "c", "d", "e", "f", "g", "h"];
    let made = create(&fresh, &ids).await;
    let mut writers = JoinSet::new();
    for backwards in [false, true] {
        let (store, mut made) = (fresh.store.clone(), made.clone());
        if backwards {
            made.reverse();
        }
        writers.spawn(async move {
            for round in 1..=ROUNDS {
                let mut tx = store.begin().await.unwrap();
                let uses: Vec<_> =
                    made.iter().map(|(_, credential)| used(credential, round)).collect();
                let tenant = &made[0].0.name.tenant;
                tx.lock_tenants(&[tenant].into()).await.unwrap();
                tx.record_last_use(&uses, now()).await.unwrap();
                tx.commit().await.unwrap();
            }
        });
    }
    let again = "update tenants set revision = revision; \
        update application_names set last_used_at = null; \
        update copied_last_uses set tenant_id = '', application_id = '', finished = ";
    let no = if backend == Backend::Sqlite { "0" } else { "false" };
    for _ in 0..ROUNDS {
        fresh.sql(format!("{again}{no}")).await;
        while copy(&fresh.store, 3).await > 0 {}
    }
    while let Some(writer) = writers.join_next().await {
        writer.unwrap();
    }
    fresh.sql(COPIES_ARE_RIGHT.to_owned()).await;
}
