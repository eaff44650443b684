//! The database server, its schema, and its standbys.

use super::{Finding, compare_clocks, data};
use crate::clock::Clock;
use crate::config::Config;
use crate::error::Result;
use crate::server::cause;
use crate::store::{ConnectionCounts, Database, SchemaState, Session, Standby, Store};

/// A standby that is this far behind loses much in a failover.
const MAX_LAG_SECONDS: i64 = 10;
const MAX_LAG_BYTES: i64 = 64 << 20;

pub(super) async fn findings(config: &Config) -> Vec<Finding> {
    const CHECK: &str = "database";
    let database = &config.database.url;
    if let Database::Sqlite(file) = database
        && !file.exists()
    {
        let found = format!("there is no file {}", file.display());
        return vec![Finding::warning(
            CHECK,
            found,
            "the first start creates it; check data_dir if it exists",
        )];
    }
    let unusable = |why: String| {
        let found = format!("{database} cannot be used: {why}");
        Finding::error(CHECK, found, "start it, or correct database.url")
    };
    let (store, advice) = match Box::pin(Store::inspect(database, config.database.pool)).await {
        Ok(opened) => opened,
        Err(error) => return vec![unusable(cause(error))],
    };
    let read = read(config, &store).await;
    store.close().await;
    let mut all: Vec<_> = advice
        .into_iter()
        .map(|found| Finding::warning("database_settings", found, "change it on the server"))
        .collect();
    match read {
        Ok(findings) => all.extend(findings),
        Err(error) => all.push(unusable(cause(error))),
    }
    all
}

async fn read(config: &Config, store: &Store) -> Result<Vec<Finding>> {
    let mut session = store.read().await?;
    let version = session.software_version().await?;
    let mut all = vec![Finding::ok("database", format!("{}: {version}", config.database.url))];
    if let Some(connections) = session.connections().await? {
        all.push(pool(config, connections));
        all.extend(replication(&session.standbys().await?));
    }
    all.extend(clock(&mut session).await?);
    let schema = session.schema_report().await?.state;
    all.push(describe(schema));
    if matches!(schema, SchemaState::Current(_) | SchemaState::Ahead { .. }) {
        all.extend(data::findings(config, &mut session).await?);
    }
    Ok(all)
}

fn pool(config: &Config, ConnectionCounts { permitted, open }: ConnectionCounts) -> Finding {
    const CHECK: &str = "connections";
    // One more reads the list of revocations.
    let ours = i64::from(config.database.pool.max_connections) + 1;
    let found = format!("{open} of {permitted} connections are open; a server opens up to {ours}");
    if open + ours <= permitted {
        return Finding::ok(CHECK, found);
    }
    Finding::warning(
        CHECK,
        found,
        "raise max_connections of PostgreSQL, lower database.max_connections, or use a pooler (a \
         server that runs already is among the open ones)",
    )
}

fn replication(standbys: &[Standby]) -> Vec<Finding> {
    const CHECK: &str = "replication";
    if standbys.is_empty() {
        return vec![Finding::ok(CHECK, "no standby is connected")];
    }
    let each = standbys.iter().map(|standby| {
        let Standby { name, sync_state, lag_bytes, lag_seconds } = standby;
        let found = format!(
            "the standby {name} ({sync_state}) is {lag_seconds} s and {} MiB behind",
            lag_bytes >> 20
        );
        if *lag_seconds > MAX_LAG_SECONDS || *lag_bytes > MAX_LAG_BYTES {
            let advice = "find out what slows it down: a failover to it loses what it lacks";
            Finding::warning(CHECK, found, advice)
        } else {
            Finding::ok(CHECK, found)
        }
    });
    let mut all: Vec<_> = each.collect();
    if standbys.iter().all(|standby| matches!(standby.sync_state.as_str(), "async" | "potential")) {
        all.push(Finding::warning(
            CHECK,
            "no standby is synchronous",
            "set synchronous_standby_names, otherwise a failover can lose changes that were \
             acknowledged",
        ));
    }
    all
}

async fn clock(session: &mut Session) -> Result<Option<Finding>> {
    let before = Clock::system().now();
    let there = session.time().await?;
    Ok(there.map(|there| compare_clocks("database_clock", "the database", before, there)))
}

fn describe(schema: SchemaState) -> Finding {
    const CHECK: &str = "schema";
    match schema {
        SchemaState::Current(_) => Finding::ok(CHECK, schema.to_string()),
        SchemaState::Empty => Finding::warning(
            CHECK,
            "the database is empty",
            "the first start creates the schema, or `keyward migrate`",
        ),
        SchemaState::Behind { .. } => Finding::warning(
            CHECK,
            schema.to_string(),
            "the next start applies them, or `keyward migrate`; back up before",
        ),
        SchemaState::Ahead { .. } => Finding::warning(
            CHECK,
            schema.to_string(),
            "finish the upgrade: start the newer version here too",
        ),
        SchemaState::TooNew { .. } => Finding::error(
            CHECK,
            schema.to_string(),
            "no server of this version starts: use the version of keyward that migrated it",
        ),
        SchemaState::Different(_) => Finding::error(
            CHECK,
            schema.to_string(),
            "no server of this version starts: use a released version of keyward",
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::server::doctor::Level;

    fn standby(sync_state: &str, lag_bytes: i64, lag_seconds: i64) -> Standby {
        let (name, sync_state) = ("b".to_owned(), sync_state.to_owned());
        Standby { name, sync_state, lag_bytes, lag_seconds }
    }

    #[test]
    fn standbys_that_lag_or_are_asynchronous_are_warnings() {
        let worst = |standbys: &[Standby]| {
            replication(standbys).iter().map(|finding| finding.level).max().unwrap()
        };
        assert_eq!(worst(&[]), Level::Ok);
        assert_eq!(worst(&[standby("sync", 0, 0), standby("async", 0, 0)]), Level::Ok);
        assert_eq!(worst(&[standby("async", 0, 0)]), Level::Warning);
        assert_eq!(worst(&[standby("sync", 0, 11)]), Level::Warning);
        assert_eq!(worst(&[standby("quorum", 1 << 30, 0)]), Level::Warning);
    }

    #[test]
    fn unknown_schema_is_an_error_and_an_old_one_a_warning() {
        assert_eq!(describe(SchemaState::Current(9)).level, Level::Ok);
        assert_eq!(describe(SchemaState::Empty).level, Level::Warning);
        let behind = SchemaState::Behind { version: 8, missing: 1 };
        assert_eq!(describe(behind).level, Level::Warning);
        let ahead = SchemaState::Ahead { version: 10, known: 9 };
        assert_eq!(describe(ahead).level, Level::Warning);
        let too_new = SchemaState::TooNew { version: 99, known: 9, oldest: None };
        assert_eq!(describe(too_new).level, Level::Error);
        assert_eq!(describe(SchemaState::Different(3)).level, Level::Error);
    }
}
