//! The database of a stopped server.

use std::path::Path;

use sqlx::sqlite::{SqliteConnectOptions, SqliteSynchronous};
use sqlx::{
    AssertSqlSafe, ConnectOptions, Connection, PgConnection, SqliteConnection, query, query_scalar,
};

pub(super) enum Database {
    Sqlite(SqliteConnection),
    Postgres(PgConnection),
}

impl Database {
    /// The database at the URL, or in the folder. Writes need no durability, because a failed copy
    /// is repeated.
    pub(super) async fn open(folder: &Path, url: Option<&str>) -> Self {
        if let Some(url) = url {
            let mut database = PgConnection::connect(url).await.unwrap();
            query("set synchronous_commit = off").execute(&mut database).await.unwrap();
            return Self::Postgres(database);
        }
        let file = SqliteConnectOptions::new().filename(folder.join("keyward.db"));
        let options = file.foreign_keys(false).synchronous(SqliteSynchronous::Off);
        Self::Sqlite(options.connect().await.unwrap())
    }

    /// The number of written rows.
    pub(super) async fn execute(&mut self, sql: String) -> u64 {
        let sql = AssertSqlSafe(sql);
        match self {
            Self::Sqlite(on) => query(sql).execute(on).await.unwrap().rows_affected(),
            Self::Postgres(on) => query(sql).execute(on).await.unwrap().rows_affected(),
        }
    }

    pub(super) async fn columns(&mut self, table: &str) -> Vec<String> {
        const SQLITE: &str = "select name from pragma_table_info($1)";
        const POSTGRES: &str = "select cast(column_name as text) from information_schema.columns \
            where table_schema = current_schema() and table_name = $1";
        let columns = match self {
            Self::Sqlite(on) => query_scalar(SQLITE).bind(table).fetch_all(on).await,
            Self::Postgres(on) => query_scalar(POSTGRES).bind(table).fetch_all(on).await,
        };
        columns.unwrap()
    }

    /// What each database does by itself after a while.
    pub(super) async fn tidy(&mut self) {
        match self {
            Self::Sqlite(on) => query("analyze").execute(on).await.map(drop).unwrap(),
            Self::Postgres(on) => query("vacuum analyze").execute(on).await.map(drop).unwrap(),
        }
    }
}
