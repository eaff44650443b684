//! Versions of Keyward that use one database: an older one on a newer schema, migrations while
//! servers run, and servers that are replaced one by one.

mod load;
mod migrators;
mod rolling;
mod schema;
mod statements;
mod waiting;

use std::path::Path;
use std::time::Duration;

use keyward::internals::error::Error;
use keyward::internals::store::{
    Database, MigrationMode, PoolOptions, SchemaOptions, SchemaProgress, Store,
};
use sqlx::migrate::{Migration, MigrationType, Migrator};
use sqlx::{AssertSqlSafe, Connection, PgConnection, SqlSafeStr, SqliteConnection};
use tempfile::TempDir;

use crate::harness::{Backend, fresh_database};

const POOL: PoolOptions =
    PoolOptions { max_connections: 3, acquire_timeout: Duration::from_mins(1) };

/// A database of one test.
struct TestDatabase {
    database: Database,
    /// The URL of PostgreSQL, or the path of the file.
    url: String,
    _folder: TempDir,
}

impl TestDatabase {
    /// An empty one.
    async fn empty(backend: Backend) -> Self {
        let folder = TempDir::new().unwrap();
        let file = folder.path().join("keyward.db");
        let (database, url) = match backend {
            Backend::Sqlite => (Database::Sqlite(file.clone()), file.display().to_string()),
            Backend::Postgres => {
                let url = fresh_database().await;
                (Database::parse(&url).unwrap(), url)
            }
        };
        Self { database, url, _folder: folder }
    }

    /// The migrations of this version of Keyward.
    async fn shipped(&self) -> Vec<Migration> {
        let folder = match self.database {
            Database::Sqlite(_) => "migrations/sqlite",
            Database::Postgres(_) => "migrations/postgres",
        };
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join(folder);
        Migrator::new(folder).await.unwrap().migrations.into_owned()
    }

    /// The migrations of a later version of Keyward.
    async fn with_later(&self, later: impl IntoIterator<Item = Migration>) -> Vec<Migration> {
        let mut all = self.shipped().await;
        all.extend(later);
        all
    }

    /// Migrates it as a version with these migrations does.
    async fn migrate(&self, migrations: &[Migration]) -> Result<(), Error> {
        let progress = SchemaProgress::default();
        let max_wait = Duration::from_mins(2);
        self.open(migrations, MigrationMode::Auto, max_wait, &progress).await.map(drop)
    }

    /// Opens it as a version with these migrations does.
    async fn open(
        &self,
        migrations: &[Migration],
        mode: MigrationMode,
        max_wait: Duration,
        progress: &SchemaProgress,
    ) -> Result<Store, Error> {
        let options = SchemaOptions { mode, max_wait };
        Store::open_as_version(&self.database, POOL, options, progress, migrations).await
    }

    /// Runs SQL without Keyward.
    async fn sql(&self, sql: &str) {
        let sql = sqlx::raw_sql(AssertSqlSafe(sql.to_owned()));
        match self.database {
            Database::Sqlite(_) => {
                let mut connection = SqliteConnection::connect(&self.url).await.unwrap();
                sql.execute(&mut connection).await.unwrap();
                connection.close().await.unwrap();
            }
            Database::Postgres(_) => {
                sql.execute(&mut self.connect().await).await.unwrap();
            }
        }
    }

    /// A connection to PostgreSQL.
    async fn connect(&self) -> PgConnection {
        PgConnection::connect(&self.url).await.unwrap()
    }

    /// A number from the database.
    async fn number(&self, sql: &str) -> i64 {
        let sql = AssertSqlSafe(sql.to_owned());
        match self.database {
            Database::Sqlite(_) => {
                let mut connection = SqliteConnection::connect(&self.url).await.unwrap();
                sqlx::query_scalar(sql).fetch_one(&mut connection).await.unwrap()
            }
            Database::Postgres(_) => {
                sqlx::query_scalar(sql).fetch_one(&mut self.connect().await).await.unwrap()
            }
        }
    }

    /// The number of applied migrations.
    async fn applied(&self) -> i64 {
        self.number("select count(*) from _sqlx_migrations where success").await
    }
}

/// The newest of these migrations.
fn newest(migrations: &[Migration]) -> i64 {
    migrations.iter().map(|one| one.version).max().unwrap()
}

/// A migration of a later version. `oldest` is the oldest program that can use the schema after it.
fn later(version: i64, oldest: i64, sql: &str) -> Migration {
    let row = format!(
        "insert into schema_compatibility (migration, oldest_program) values ({version}, {oldest});"
    );
    migration(version, &format!("{sql};\n{row}"), false)
}

fn migration(version: i64, sql: &str, outside_transaction: bool) -> Migration {
    let sql = AssertSqlSafe(sql.to_owned()).into_sql_str();
    let description = format!("later {version}");
    Migration::new(version, description.into(), MigrationType::Simple, sql, outside_transaction)
}

/// Later migrations of PostgreSQL, as the rules permit: tables, columns with a default, triggers, and
/// an index that is built concurrently.
fn expanding(oldest: i64) -> [Migration; 2] {
    let tables = later(
        9001,
        oldest,
        "create table later_things (id bigint not null primary key); \
         alter table applications add column later_note text not null default ''; \
         alter table tenants add column later_count bigint not null default 0; \
         alter table audit_events add column later_note text; \
         create function later_note() returns trigger language plpgsql as $$ begin \
           new.later_note = 'x'; return new; end $$; \
         create trigger later_note before insert on applications \
           for each row execute function later_note()",
    );
    let index = format!(
        "-- no-transaction\n-- oldest-program: {oldest}\n\
         create index concurrently later_by_note on applications (later_note)"
    );
    [tables, migration(9002, &index, true)]
}
