//! What stood in a database of an older version is there after its migration.

use std::path::Path;
use std::time::Duration;

use keyward::clock::Clock;
use keyward::domain::{
    Application, ApplicationFilter, ApplicationKey, ApplicationName, ApplicationOrder,
    CredentialName, Limits, Owners, PageRequest, TenantId,
};
use keyward::store::{Database, PoolOptions, Session, Store};
use sqlx::migrate::Migrator;
use sqlx::{AssertSqlSafe, Connection, PgConnection, SqliteConnection};
use tempfile::TempDir;

use crate::harness::{Backend, fresh_database, on_both_databases};

on_both_databases!(
    limits_of_three_columns_are_kept_in_one,
    names_are_found_in_the_order_in_which_they_were_made,
    the_last_use_is_kept,
    names_of_versions_before_are_folded_beside_the_requests,
);

/// A database with nothing in it, and its URL for others.
async fn empty(backend: Backend) -> (TempDir, Database, String) {
    let folder = TempDir::new().unwrap();
    let file = folder.path().join("keyward.db");
    match backend {
        Backend::Sqlite => {
            let url = format!("sqlite:{}?mode=rwc", file.display());
            (folder, Database::Sqlite(file), url)
        }
        Backend::Postgres => {
            let url = fresh_database().await;
            (folder, Database::parse(&url).unwrap(), url)
        }
    }
}

/// The database as it is now.
async fn migrated(database: &Database) -> Store {
    let options = PoolOptions { max_connections: 2, acquire_timeout: Duration::from_mins(1) };
    Store::open(database, options).await.unwrap()
}

/// Runs the migrations up to a version, then SQL, as a server of that version might have.
async fn at_version(database: &Database, url: &str, version: i64, sql: &str) {
    let folder = match database {
        Database::Sqlite(_) => "sqlite",
        Database::Postgres(_) => "postgres",
    };
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("migrations").join(folder);
    let all = Migrator::new(folder).await.unwrap();
    let old = all.iter().filter(|migration| migration.version <= version).cloned().collect();
    let old = Migrator::with_migrations(old);
    match database {
        Database::Sqlite(_) => {
            let mut connection = SqliteConnection::connect(url).await.unwrap();
            old.run(&mut connection).await.unwrap();
            connection.close().await.unwrap();
        }
        Database::Postgres(_) => {
            let mut connection = PgConnection::connect(url).await.unwrap();
            old.run(&mut connection).await.unwrap();
        }
    }
    run(database, url, sql).await;
}

/// Runs SQL beside all servers.
async fn run(database: &Database, url: &str, sql: &str) {
    let sql = sqlx::raw_sql(AssertSqlSafe(sql.to_owned()));
    match database {
        Database::Sqlite(_) => {
            let mut connection = SqliteConnection::connect(url).await.unwrap();
            sql.execute(&mut connection).await.unwrap();
            connection.close().await.unwrap();
        }
        Database::Postgres(_) => {
            let mut connection = PgConnection::connect(url).await.unwrap();
            sql.execute(&mut connection).await.unwrap();
        }
    }
}

async fn limits_of_three_columns_are_kept_in_one(backend: Backend) {
    /// What stood in the three columns, and what stands in the one.
    const ROWS: [(&str, Option<&str>); 7] = [
        ("null, null, null", None),
        ("null, 60, null", Some("")),
        ("40, 60, 1000", Some("requests=40/60 items=1000")),
        ("40, 1, null", Some("requests=40/1")),
        ("null, 60, 9", Some("items=9")),
        ("1000000000000, 86400, 1", Some("requests=1000000000000/86400 items=1")),
        ("9223372036854775807, 5, 9223372036854775807", {
            Some("requests=1000000000000/5 items=1000000000000")
        }),
    ];
    let (_folder, database, url) = empty(backend).await;
    let no = if backend == Backend::Sqlite { "0" } else { "false" };
    let mut sql = String::new();
    for (n, (columns, _)) in ROWS.iter().enumerate() {
        let rows = format!(
            "insert into tenants (id, display_name, default_audience, additional_audiences, \
               access_token_lifetime_seconds, disabled, epoch, revision, created_at, updated_at, \
               limit_requests, limit_window_seconds, limit_items) \
               values ('t{n}', '', 'x', '', 900, {no}, 0, 1, 0, 0, {columns}); \
             insert into applications (tenant_id, id, display_name, description, contact_email, \
               disabled, epoch, revision, created_at, updated_at, limit_requests, \
               limit_window_seconds, limit_items) \
               values ('t{n}', 'crm', 'CRM', '', '', {no}, 0, 1, 0, 0, {columns}); \
             insert into credentials (id, tenant_id, application_id, kind, display_name, \
               disabled, epoch, revision, created_at, updated_at) \
               values ('{n:032x}', 't{n}', 'crm', 'api_key', '', {no}, 0, 1, 0, 0); "
        );
        sql.push_str(&rows);
    }
    at_version(&database, &url, 2, &sql).await;

    let store = migrated(&database).await;
    let mut session = store.read().await.unwrap();
    for (n, (columns, written)) in ROWS.iter().enumerate() {
        let expected = written.map(|text| Limits::parse(text).unwrap());
        let id = TenantId::parse(&format!("t{n}")).unwrap();
        let policy = session.find_tenant(&id).await.unwrap().unwrap().settings.policy;
        assert_eq!(policy.default_limits, expected, "{columns}");
        assert_eq!(policy.tenant_limits, None);
        let name = format!("tenants/t{n}/applications/crm");
        let name = ApplicationName::parse(&name).unwrap();
        let application = session.find_application(&name).await.unwrap().unwrap();
        assert_eq!(application.settings.limits, expected, "{columns}");
        let name = CredentialName::parse(&format!("{name}/credentials/{n:032x}")).unwrap();
        let credential = session.find_credential(&name).await.unwrap().unwrap();
        assert_eq!(credential.settings.limits, None);
    }
}

/// SQL that makes a tenant.
fn tenant(no: &str) -> String {
    format!(
        "insert into tenants (id, display_name, default_audience, additional_audiences, \
           access_token_lifetime_seconds, disabled, epoch, revision, created_at, updated_at) \
           values ('acme', '', 'x', '', 900, {no}, 0, 1, 0, 0); "
    )
}

/// What is found first in an order.
async fn first_page(
    session: &mut Session,
    search: &str,
    key: ApplicationKey,
    size: i32,
) -> Vec<Application> {
    let filter = ApplicationFilter {
        owners: Owners { account: true, users: true, user: None },
        search: search.to_owned(),
        order: ApplicationOrder { key, descending: false },
        ..Default::default()
    };
    let (tenant, page) = (TenantId::parse("acme").unwrap(), PageRequest::new(size, None).unwrap());
    let now = Clock::system().now();
    session.list_applications(&tenant, &filter, &page, now).await.unwrap().items
}

async fn names_are_found_in_the_order_in_which_they_were_made(backend: Backend) {
    let (_folder, database, url) = empty(backend).await;
    let no = if backend == Backend::Sqlite { "0" } else { "false" };
    let mut sql = tenant(no);
    for (id, name, created_at) in [("a", "crm", 2), ("b", "one crm", 3), ("c", "crm two", 1)] {
        let row = format!(
            "insert into applications (tenant_id, id, display_name, search_name, description, \
               contact_email, disabled, epoch, revision, created_at, updated_at) \
               values ('acme', '{id}', '{name}', '{name}', '', '', {no}, 0, 1, {created_at}, 0); "
        );
        sql.push_str(&row);
    }
    at_version(&database, &url, 6, &sql).await;

    let mut session = migrated(&database).await.read().await.unwrap();
    let found = first_page(&mut session, "crm", ApplicationKey::CreateTime, 1).await;
    let ids: Vec<_> = found.iter().map(|one| one.name.application.as_str()).collect();
    assert_eq!(ids, ["c"]);
}

async fn the_last_use_is_kept(backend: Backend) {
    let (_folder, database, url) = empty(backend).await;
    let no = if backend == Backend::Sqlite { "0" } else { "false" };
    let mut sql = tenant(no);
    for (id, last_use) in [("a", "3000000, '192.0.2.1'"), ("b", "0, null"), ("c", "5000000, null")]
    {
        let row = format!(
            "insert into applications (tenant_id, id, display_name, search_name, description, \
               contact_email, disabled, epoch, revision, created_at, updated_at, last_used_at, \
               last_used_address) \
               values ('acme', '{id}', '{id}', '{id}', '', '', {no}, 0, 1, 0, 0, {last_use}); "
        );
        sql.push_str(&row);
    }
    at_version(&database, &url, 7, &sql).await;

    let mut session = migrated(&database).await.read().await.unwrap();
    let found = first_page(&mut session, "", ApplicationKey::LastUseTime, 3).await;
    let told = |one: &Application| {
        let last_use = one.last_use.clone().map(|last| (last.at.as_second(), last.address));
        (one.name.application.to_string(), last_use)
    };
    let expected = [
        ("b".to_owned(), None),
        ("a".to_owned(), Some((3, Some("192.0.2.1".to_owned())))),
        ("c".to_owned(), Some((5, None))),
    ];
    assert_eq!(found.iter().map(told).collect::<Vec<_>>(), expected);
}

/// Some by a version without the folding, and some by one that runs beside the new one.
async fn names_of_versions_before_are_folded_beside_the_requests(backend: Backend) {
    let (_folder, database, url) = empty(backend).await;
    let no = if backend == Backend::Sqlite { "0" } else { "false" };
    let row = |id: &str, name: &str, lower: &str| {
        format!(
            "insert into applications (tenant_id, id, display_name, search_name, description, \
               contact_email, disabled, epoch, revision, created_at, updated_at) \
               values ('acme', '{id}', '{name}', '{lower}', '', '', {no}, 0, 1, 0, 0); "
        )
    };
    let mut sql = tenant(no);
    sql.push_str(&row("plain", "Plain", "plain"));
    for n in 0..10 {
        sql.push_str(&row(&format!("s{n}"), &format!("Straße {n}"), &format!("straße {n}")));
    }
    at_version(&database, &url, 9, &sql).await;

    let store = migrated(&database).await;
    let found = async |search: &str| {
        let mut session = store.read().await.unwrap();
        first_page(&mut session, search, ApplicationKey::Name, 100).await.len()
    };
    assert_eq!((found("STRASSE").await, found("PLAIN").await), (0, 1), "not folded yet");
    assert!(store.read().await.unwrap().has_unfolded_names().await.unwrap());
    let fold = async |most: i64| {
        let mut tx = store.begin().await.unwrap();
        let count = tx.fold_names(most).await.unwrap();
        tx.commit().await.unwrap();
        count
    };
    assert_eq!(fold(4).await, 4);
    if backend == Backend::Postgres {
        // Two servers at once: none waits for the other, and none folds what the other does.
        let other = migrated(&database).await;
        let (mut one, mut two) = (store.begin().await.unwrap(), other.begin().await.unwrap());
        assert_eq!(one.fold_names(2).await.unwrap(), 2);
        assert_eq!(two.fold_names(100).await.unwrap(), 4);
        // One that is stopped on the way leaves its part to the next.
        drop(one);
        two.commit().await.unwrap();
        assert_eq!(fold(100).await, 2);
    }
    while fold(4).await > 0 {}
    assert_eq!((found("STRASSE").await, found("strasse 7").await), (10, 1));
    assert!(!store.read().await.unwrap().has_unfolded_names().await.unwrap());

    // What a version before writes meanwhile.
    let old = row("new", "ΟΔΥΣΣΕΥΣ", "οδυσσευς")
        + "update applications set display_name = 'Ÿ', search_name = 'ÿ' where id = 's0'; \
           update applications set display_name = 'Plain2', search_name = 'plain2' \
             where id = 's1'; ";
    run(&database, &url, &old).await;
    assert_eq!(fold(100).await, 2);
    assert_eq!((found("ΟΔΥΣ").await, found("STRASSE").await), (1, 8));
    assert_eq!((found("ÿ").await, found("PLAIN2").await, fold(100).await), (1, 1, 0));
}
