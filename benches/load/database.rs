//! The database of a stopped server.

use std::ops::RangeInclusive;
use std::path::Path;

use sqlx::sqlite::{SqliteConnectOptions, SqliteSynchronous};
use sqlx::{
    AssertSqlSafe, ConnectOptions, Connection, PgConnection, SqliteConnection, query, query_as,
    query_scalar,
};

pub(crate) enum Database {
    Sqlite(SqliteConnection),
    Postgres(PgConnection),
}

impl Database {
    /// The database at the URL, or in the folder. Writes need no durability, because a failed copy
    /// is repeated.
    pub(crate) async fn open(folder: &Path, url: Option<&str>) -> Self {
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
    pub(crate) async fn execute(&mut self, sql: String) -> u64 {
        let sql = AssertSqlSafe(sql);
        match self {
            Self::Sqlite(on) => query(sql).execute(on).await.unwrap().rows_affected(),
            Self::Postgres(on) => query(sql).execute(on).await.unwrap().rows_affected(),
        }
    }

    pub(crate) async fn columns(&mut self, table: &str) -> Vec<String> {
        const SQLITE: &str = "select name from pragma_table_info($1)";
        const POSTGRES: &str = "select cast(column_name as text) from information_schema.columns \
            where table_schema = current_schema() and table_name = $1";
        let columns = match self {
            Self::Sqlite(on) => query_scalar(SQLITE).bind(table).fetch_all(on).await,
            Self::Postgres(on) => query_scalar(POSTGRES).bind(table).fetch_all(on).await,
        };
        columns.unwrap()
    }

    /// Copies the rows of a table that fulfil a condition, once for each number `n`, with columns
    /// that differ.
    pub(crate) async fn copy(
        &mut self,
        table: &str,
        originals: &str,
        own: &[(&str, &str)],
        numbers: RangeInclusive<u32>,
    ) {
        let columns = self.columns(table).await;
        let value = |column: &String| {
            let own = own.iter().find(|(name, _)| name == column);
            own.map_or(column.clone(), |(_, value)| (*value).to_owned())
        };
        let values: Vec<_> = columns.iter().map(value).collect();
        let (columns, values) = (columns.join(", "), values.join(", "));
        let (first, last) = numbers.into_inner();
        let wanted = u64::from(last - first + 1);
        let sql = format!(
            "with recursive numbers (n) as \
             (select {first} union all select n + 1 from numbers where n < {last}) \
             insert into {table} ({columns}) \
             select {values} from numbers cross join (select * from {table} where {originals}) x"
        );
        let copied = self.execute(sql).await;
        assert!(copied >= wanted && copied % wanted == 0, "{copied} rows of {table} for {wanted}");
    }

    /// Removes the triggers of a table. Returns the statements that create them again.
    pub(crate) async fn drop_triggers(&mut self, table: &str) -> Vec<String> {
        const SQL: &str =
            "select name, sql from sqlite_master where type = 'trigger' and tbl_name = $1";
        let Self::Sqlite(on) = self else {
            self.execute(format!("alter table {table} disable trigger user")).await;
            return vec![format!("alter table {table} enable trigger user")];
        };
        let triggers: Vec<(String, String)> =
            query_as(SQL).bind(table).fetch_all(on).await.unwrap();
        for (name, _) in &triggers {
            self.execute(format!("drop trigger {name}")).await;
        }
        triggers.into_iter().map(|(_, sql)| sql).collect()
    }

    /// What each database does by itself after a while.
    pub(crate) async fn tidy(&mut self) {
        match self {
            Self::Sqlite(on) => query("analyze").execute(on).await.map(drop).unwrap(),
            Self::Postgres(on) => query("vacuum analyze").execute(on).await.map(drop).unwrap(),
        }
    }
}
