//! Migrations of PostgreSQL: several processes at once, killed ones, and sessions in the way.

use std::time::Duration;

use futures_util::future::join_all;
use keyward::internals::store::{MigrationMode, SchemaProgress};
use sqlx::{Connection, Executor, PgConnection};
use tempfile::TempDir;

use super::{TestDatabase, expanding, newest};
use crate::harness::{Backend, in_time, until};
use crate::process::binary::{Finished, keyward};

const INVALID: &str = "select count(*) from pg_index where not indisvalid";
const BUILT: &str = "select count(*) from pg_class where relname = 'later_by_note'";

#[tokio::test(flavor = "multi_thread")]
async fn three_migrators_at_once_apply_each_migration_once() {
    for _ in 0..5 {
        let database = TestDatabase::empty(Backend::Postgres).await;
        let all = database.with_later(expanding(newest(&database.shipped().await))).await;
        let each = join_all((0..3).map(|_| database.migrate(&all)));
        for migrated in in_time("all have migrated", each).await {
            migrated.unwrap();
        }
        assert_eq!(database.applied().await, i64::try_from(all.len()).unwrap());
        assert_eq!(database.number(INVALID).await, 0);
        assert_eq!(database.number(BUILT).await, 1);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn killed_migration_is_finished_by_next_process() {
    let folder = TempDir::new().unwrap();
    let path = folder.path().to_str().unwrap();
    for after in [1, 4, 9, 13] {
        let database = TestDatabase::empty(Backend::Postgres).await;
        let migrate = || keyward(["migrate", "--data-dir", path, "--database-url", &database.url]);
        let mut killed = migrate().stderr(std::process::Stdio::null()).spawn().unwrap();
        let count = format!(
            "select case when to_regclass('_sqlx_migrations') is null then 0 else \
             (xpath('/row/count/text()', query_to_xml('select count(*) from _sqlx_migrations', \
               false, true, '')))[1]::text::bigint end >= {after}"
        );
        let mut observer = database.connect().await;
        until("some migrations are applied", async || {
            let sql = sqlx::AssertSqlSafe(count.clone());
            sqlx::query_scalar::<_, bool>(sql).fetch_one(&mut observer).await.unwrap()
        })
        .await;
        killed.kill().unwrap();
        killed.wait().unwrap();
        Finished::of(&mut migrate()).worked();
        let all = i64::try_from(database.shipped().await.len()).unwrap();
        assert_eq!(database.applied().await, all);
        assert_eq!(database.number(INVALID).await, 0);
    }
}

/// A transaction whose snapshot a concurrent build of an index waits for.
async fn with_snapshot(database: &TestDatabase) -> PgConnection {
    let mut connection = database.connect().await;
    connection
        .execute("begin isolation level repeatable read; select 1 from tenants")
        .await
        .unwrap();
    connection
}

async fn pid(connection: &mut PgConnection) -> i32 {
    sqlx::query_scalar("select pg_backend_pid()").fetch_one(connection).await.unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn invalid_index_of_killed_build_is_replaced() {
    let database = TestDatabase::empty(Backend::Postgres).await;
    let ours = newest(&database.shipped().await);
    database
        .migrate(&database.with_later(expanding(ours).into_iter().take(1)).await)
        .await
        .unwrap();
    let all = database.with_later(expanding(ours)).await;
    let mut holder = with_snapshot(&database).await;
    let holder_pid = pid(&mut holder).await;
    let progress = SchemaProgress::default();
    let build = async {
        let max_wait = Duration::from_mins(2);
        database.open(&all, MigrationMode::Auto, max_wait, &progress).await
    };
    let kill = async {
        // The index exists, and its build waits for the snapshot.
        until("the build waits", async || progress.text().contains(&format!("pid {holder_pid} ")))
            .await;
        let kill = "select count(pg_terminate_backend(pid)) \
            from pg_stat_progress_create_index where datname = current_database()";
        assert_eq!(database.number(kill).await, 1);
    };
    let (killed, ()) = tokio::join!(build, kill);
    killed.unwrap_err();
    assert_eq!((database.number(INVALID).await, database.number(BUILT).await), (1, 1));
    holder.execute("rollback").await.unwrap();
    in_time("the next process builds it", database.migrate(&all)).await.unwrap();
    assert_eq!((database.number(INVALID).await, database.number(BUILT).await), (0, 1));
    assert_eq!(database.applied().await, i64::try_from(all.len()).unwrap());
}

/// A process that was killed after the build has not recorded the migration.
#[tokio::test(flavor = "multi_thread")]
async fn index_that_is_built_already_is_recorded() {
    let database = TestDatabase::empty(Backend::Postgres).await;
    let all = database.with_later(expanding(newest(&database.shipped().await))).await;
    database.migrate(&all[..all.len() - 1]).await.unwrap();
    database.sql("create index later_by_note on applications (later_note)").await;
    database.migrate(&all).await.unwrap();
    assert_eq!(database.applied().await, i64::try_from(all.len()).unwrap());
}

/// While a migration waits for the lock of a table, readers of the table must not queue behind it:
/// here they would wait until the end of a transaction that ends only after them.
#[tokio::test(flavor = "multi_thread")]
async fn readers_pass_a_migration_that_waits_for_a_lock() {
    let database = TestDatabase::empty(Backend::Postgres).await;
    let all = database.with_later(expanding(newest(&database.shipped().await))).await;
    database.migrate(&database.shipped().await).await.unwrap();
    let mut holder = database.connect().await;
    let holder_pid = pid(&mut holder).await;
    let mut tx = holder.begin().await.unwrap();
    tx.execute("select count(*) from applications").await.unwrap();
    let progress = SchemaProgress::default();
    let migrate = async {
        let max_wait = Duration::from_mins(2);
        database.open(&all, MigrationMode::Auto, max_wait, &progress).await.unwrap();
    };
    let read = async {
        let named = format!("waits for locks: held by pid {holder_pid} (");
        until("the holder is named", async || progress.text().contains(&named)).await;
        for _ in 0..20 {
            let read = database.number("select count(*) from applications");
            in_time("a reader passes", read).await;
        }
        assert_eq!(
            database.number("select count(*) from pg_class where relname = 'later_things'").await,
            0
        );
        tx.rollback().await.unwrap();
    };
    tokio::join!(migrate, read);
    assert_eq!(database.applied().await, i64::try_from(all.len()).unwrap());
}

#[tokio::test(flavor = "multi_thread")]
async fn lock_that_stays_held_ends_migration_with_its_holder() {
    let database = TestDatabase::empty(Backend::Postgres).await;
    database.migrate(&database.shipped().await).await.unwrap();
    let all = database.with_later(expanding(newest(&database.shipped().await))).await;
    let mut holder = database.connect().await;
    let holder_pid = pid(&mut holder).await;
    let mut tx = holder.begin().await.unwrap();
    tx.execute("select count(*) from applications").await.unwrap();
    let progress = SchemaProgress::default();
    let max_wait = Duration::from_millis(1);
    let refused = database.open(&all, MigrationMode::Auto, max_wait, &progress).await.unwrap_err();
    let keyward::internals::error::Error::Unavailable(cause) = refused else {
        panic!("{refused:?}")
    };
    let cause = cause.to_string();
    assert!(cause.contains("database.migrate_timeout"), "{cause}");
    assert!(cause.contains(&format!("held by pid {holder_pid} (")), "{cause}");
    tx.rollback().await.unwrap();
    database.migrate(&all).await.unwrap();
}
