//! Which versions of Keyward can use a schema.

use std::time::Duration;

use keyward::internals::error::Error;
use keyward::internals::store::{MigrationMode, SchemaProgress, UnsupportedSchema};

use super::{TestDatabase, later, newest};
use crate::harness::{Backend, on_both_databases};
use crate::process::binary::{FREE_PORTS, Finished, Serving, keyward};

on_both_databases!(
    schema_one_version_ahead_is_used_and_kept,
    schema_two_versions_ahead_is_refused_and_kept,
    changed_migration_is_refused,
    check_of_migrations_changes_nothing,
);

/// A release that adds a table, and the one after it.
async fn two_releases_ahead(database: &TestDatabase) -> [sqlx::migrate::Migration; 2] {
    let ours = newest(&database.shipped().await);
    let next = later(9001, ours, "create table later_things (id integer not null primary key)");
    [next, later(9002, 9001, "drop table later_things")]
}

async fn schema_one_version_ahead_is_used_and_kept(backend: Backend) {
    let database = TestDatabase::empty(backend).await;
    let [next, _] = two_releases_ahead(&database).await;
    database.migrate(&database.with_later([next]).await).await.unwrap();
    let applied = database.applied().await;
    for mode in [MigrationMode::Auto, MigrationMode::Wait] {
        let progress = SchemaProgress::default();
        let shipped = database.shipped().await;
        let store = database.open(&shipped, mode, Duration::ZERO, &progress).await.unwrap();
        store.ping().await.unwrap();
        store.close().await;
    }
    assert_eq!(database.applied().await, applied);
}

async fn schema_two_versions_ahead_is_refused_and_kept(backend: Backend) {
    let database = TestDatabase::empty(backend).await;
    let later = two_releases_ahead(&database).await;
    database.migrate(&database.with_later(later).await).await.unwrap();
    let applied = database.applied().await;
    let shipped = database.shipped().await;
    let Err(Error::Internal(cause)) = database.migrate(&shipped).await else {
        panic!("it is used");
    };
    assert!(cause.is::<UnsupportedSchema>());
    let ours = newest(&shipped);
    assert_eq!(
        cause.to_string(),
        format!(
            "schema version 9002 is from a newer version of keyward, and needs one that knows \
             schema version 9001; this one knows versions up to {ours}: use the newer version, or \
             restore a backup; nothing was changed"
        )
    );
    assert_eq!(database.applied().await, applied);
}

/// The checksums of known migrations are compared on a newer schema, too.
async fn changed_migration_is_refused(backend: Backend) {
    let database = TestDatabase::empty(backend).await;
    let [next, _] = two_releases_ahead(&database).await;
    database.migrate(&database.with_later([next]).await).await.unwrap();
    database
        .sql("update _sqlx_migrations set checksum = checksum || checksum where version = 3")
        .await;
    let refusal = database.migrate(&database.shipped().await).await.unwrap_err();
    let Error::Internal(cause) = refusal else { panic!("{refusal:?}") };
    assert!(cause.to_string().starts_with("schema version 3 differs"), "{cause}");
}

/// The flags for a database.
fn flags(database: &TestDatabase, backend: Backend) -> [&str; 2] {
    match backend {
        Backend::Sqlite => ["--data-dir", database.url.strip_suffix("/keyward.db").unwrap()],
        Backend::Postgres => ["--database-url", &database.url],
    }
}

async fn check_of_migrations_changes_nothing(backend: Backend) {
    let database = TestDatabase::empty(backend).await;
    let flags = flags(&database, backend);
    let run = |arguments: &[&str]| {
        let mut command = keyward(["migrate"].iter().chain(&flags).chain(arguments).copied());
        Finished::of(&mut command)
    };
    let empty = run(&["--check"]);
    assert_eq!(empty.code, Some(9), "{empty:?}");
    assert!(empty.stdout.contains("missing: 0001_core"), "{empty:?}");
    assert!(empty.stdout.contains("missing: 0018_schema_compatibility"), "{empty:?}");
    match backend {
        Backend::Sqlite => assert!(!std::path::Path::new(&database.url).exists()),
        Backend::Postgres => {
            let tables = "select count(*) from pg_tables where schemaname = 'public'";
            assert_eq!(database.number(tables).await, 0);
        }
    }
    let migrated = run(&[]);
    assert!(migrated.stderr.contains("applied migration 0001_core in "), "{migrated:?}");
    assert!(migrated.worked().contains("is up to date"));
    let current = run(&["--check"]).worked();
    assert!(current.contains("up to date") && !current.contains("missing"), "{current}");

    let [next, after] = two_releases_ahead(&database).await;
    database.migrate(&database.with_later([next.clone()]).await).await.unwrap();
    assert!(run(&["--check"]).worked().contains("this one knows versions up to"));
    assert!(run(&[]).worked().contains("is up to date"));
    database.migrate(&database.with_later([next, after]).await).await.unwrap();
    for arguments in [&["--check"][..], &[]] {
        let refused = run(arguments);
        assert_eq!(refused.code, Some(8), "{refused:?}");
        assert!(refused.stderr.contains("needs one that knows schema version 9001"), "{refused:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn server_starts_one_version_behind_and_not_two() {
    let database = TestDatabase::empty(Backend::Postgres).await;
    let [next, after] = two_releases_ahead(&database).await;
    database.migrate(&database.with_later([next.clone()]).await).await.unwrap();
    let folder = tempfile::TempDir::new().unwrap();
    let path = folder.path().to_str().unwrap();
    let arguments = ["--data-dir", path, "--database-url", &database.url];
    Serving::start(&arguments).stop("-TERM");
    database.migrate(&database.with_later([next, after]).await).await.unwrap();
    let serve = ["serve"].iter().chain(&FREE_PORTS).chain(&arguments).copied();
    let refused = Finished::of(&mut keyward(serve));
    assert_eq!(refused.code, Some(8), "{refused:?}");
    assert!(refused.stderr.contains("schema version 9002"), "{refused:?}");
}
