//! What a migration is waiting for, and how far it is, as another connection sees it.

use std::pin::pin;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use sqlx::postgres::PgConnectOptions;
use sqlx::{AssertSqlSafe, ConnectOptions, FromRow, PgConnection};
use tokio::time::sleep;

use crate::error::Result;
use crate::store::driver_error::driver_error;
use crate::store::schema::SchemaProgress;

/// How often it looks. Several times within the lock timeout of a migration.
const INTERVAL: Duration = Duration::from_millis(150);

/// Observes the connection that runs a migration.
#[derive(Clone, Copy)]
pub(super) struct Observer<'a> {
    pub(super) server: &'a PgConnectOptions,
    pub(super) progress: &'a SchemaProgress,
    /// The name of the migration.
    pub(super) name: &'a str,
    pub(super) seen: &'a Seen,
}

/// The sessions that held the migration up when it was last observed.
#[derive(Debug, Default)]
pub(super) struct Seen(Mutex<String>);

impl Seen {
    /// `: held by pid 7 …`; empty if none was seen.
    pub(super) fn blockers(&self) -> String {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn set(&self, blockers: String) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = blockers;
    }
}

/// A session that holds a lock.
#[derive(FromRow)]
struct Holder {
    pid: i32,
    name: String,
    state: String,
    seconds: i64,
}

/// The build of an index.
#[derive(FromRow)]
struct IndexBuild {
    phase: String,
    done: i64,
    total: i64,
}

impl Observer<'_> {
    /// Runs the work of a migration on the connection with this `pid`, and reports what it waits for.
    pub(super) async fn during<T>(self, pid: i32, work: impl Future<Output = T>) -> T {
        let mut work = pin!(work);
        tokio::select! {
            done = &mut work => return done,
            // The migration does not depend on the observation.
            _ = self.observe(pid) => {}
        }
        work.await
    }

    /// Ends only if the observation fails.
    async fn observe(self, pid: i32) -> Result<(), sqlx::Error> {
        sleep(INTERVAL).await;
        let mut connection = self.server.connect().await?;
        loop {
            let blockers =
                holders(&mut connection, &format!("unnest(pg_blocking_pids({pid}))")).await?;
            let text = describe(&blockers);
            if !blockers.is_empty() {
                let what = format!("migration {} waits for locks", self.name);
                self.progress.waiting(&what, &text);
                self.seen.set(text);
            } else if let Some(build) = index_build(&mut connection, pid).await? {
                let IndexBuild { phase, done, total } = build;
                let percent = if total > 0 { done.saturating_mul(100) / total } else { 0 };
                let what = format!("migration {} builds an index", self.name);
                self.progress.waiting(&what, &format!(": {phase}, {percent} %"));
            }
            sleep(INTERVAL).await;
        }
    }
}

/// Who has this advisory lock: ` (held by pid 7 …)`, or empty.
pub(super) async fn holder_of_lock(connection: &mut PgConnection, key: i64) -> Result<String> {
    let pids = format!(
        "(select pid from pg_locks where locktype = 'advisory' and granted and objsubid = 1 \
         and database = (select oid from pg_database where datname = current_database()) \
         and (classid::bigint << 32) | objid::bigint = {key})"
    );
    Ok(describe(&holders(connection, &pids).await.map_err(driver_error)?))
}

/// The sessions of some process ids, the oldest transaction first. A role sees only the ids of other
/// roles' sessions, unless it has `pg_read_all_stats`.
async fn holders(connection: &mut PgConnection, pids: &str) -> Result<Vec<Holder>, sqlx::Error> {
    let sql = format!(
        "select a.pid, coalesce(nullif(a.application_name, ''), a.usename::text, '') as name, \
         coalesce(a.state, '') as state, \
         coalesce(extract(epoch from clock_timestamp() - coalesce(a.xact_start, a.query_start)), 0)\
         ::bigint as seconds \
         from {pids} as p (pid) join pg_stat_activity a on a.pid = p.pid order by 4 desc limit 3"
    );
    rows(connection, sql).await
}

async fn index_build(
    connection: &mut PgConnection,
    pid: i32,
) -> Result<Option<IndexBuild>, sqlx::Error> {
    let sql = format!(
        "select phase, greatest(blocks_done, tuples_done) as done, \
         greatest(blocks_total, tuples_total) as total from pg_stat_progress_create_index \
         where pid = {pid}"
    );
    Ok(rows(connection, sql).await?.pop())
}

/// With a simple query: it is one message, so it also works through a pooler.
async fn rows<T>(connection: &mut PgConnection, sql: String) -> Result<Vec<T>, sqlx::Error>
where
    T: for<'r> FromRow<'r, sqlx::postgres::PgRow>,
{
    let rows = sqlx::raw_sql(AssertSqlSafe(sql)).fetch_all(connection).await?;
    rows.iter().map(T::from_row).collect()
}

fn describe(holders: &[Holder]) -> String {
    let each = holders.iter().map(|Holder { pid, name, state, seconds }| {
        let of = [name.as_str(), state.as_str()].into_iter().filter(|text| !text.is_empty());
        let of = of.collect::<Vec<_>>().join(", ");
        let of = if of.is_empty() { of } else { format!(" ({of})") };
        format!("pid {pid}{of} since {seconds} s")
    });
    let each: Vec<_> = each.collect();
    if each.is_empty() { String::new() } else { format!(": held by {}", each.join("; ")) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn holders_are_described_by_what_is_known() {
        let holder = |pid, name: &str, state: &str, seconds| Holder {
            pid,
            name: name.to_owned(),
            state: state.to_owned(),
            seconds,
        };
        assert_eq!(describe(&[]), "");
        let known = holder(7, "pg_dump", "active", 90);
        let unknown = holder(8, "", "", 0);
        assert_eq!(
            describe(&[known, unknown]),
            ": held by pid 7 (pg_dump, active) since 90 s; pid 8 since 0 s"
        );
    }
}
