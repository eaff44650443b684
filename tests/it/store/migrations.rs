//! Migrations keep the data of older versions.

use std::fmt::Write;
use std::path::Path;
use std::time::Duration;

use keyward::internals::clock::Clock;
use keyward::internals::domain::{
    Application, ApplicationFilter, ApplicationKey, ApplicationName, ApplicationOrder,
    CredentialName, Federation, Limits, Owners, PageRequest, Registration, ServerKeys, TenantId,
    UserName,
};
use keyward::internals::store::{Database, PoolOptions, Session, Store};
use sqlx::migrate::Migrator;
use sqlx::{AssertSqlSafe, Connection, PgConnection, SqliteConnection};
use tempfile::TempDir;

use crate::harness::{Backend, fresh_database, on_both_databases};

on_both_databases!(
    migration_merges_limits_of_three_columns,
    migration_keeps_names_in_creation_order,
    migration_keeps_the_last_use,
    migration_keeps_who_disabled_a_resource,
    migration_derives_lives_and_lifted_limits_from_log,
    names_of_older_versions_are_folded,
    trigram_index_has_names_of_previous_version,
    signing_keys_of_previous_version_are_kept_and_changed_by_it,
    events_of_previous_version_await_sealing,
    servers_announce_master_keys_after_migration,
    credentials_of_previous_version_are_found_by_their_end,
    credentials_of_previous_version_bind_no_tokens,
    applications_of_previous_version_have_no_lifetime_of_tokens,
    credential_that_previous_version_deletes_is_found_no_more,
);

/// An empty database, and its URL.
pub(super) async fn empty(backend: Backend) -> (TempDir, Database, String) {
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

/// The database with all migrations.
pub(super) async fn migrated(database: &Database) -> Store {
    let options = PoolOptions { max_connections: 2, acquire_timeout: Duration::from_mins(1) };
    Store::open(database, options).await.unwrap()
}

/// Runs the migrations up to a version and then SQL, as a server of that version might have done.
pub(super) async fn at_version(database: &Database, url: &str, version: i64, sql: &str) {
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

/// Runs SQL without a server.
pub(super) async fn run(database: &Database, url: &str, sql: &str) {
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

async fn migration_merges_limits_of_three_columns(backend: Backend) {
    /// The old values in three columns, and the new value in one.
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

/// SQL that creates a tenant.
pub(super) fn tenant(no: &str) -> String {
    format!(
        "insert into tenants (id, display_name, default_audience, additional_audiences, \
           access_token_lifetime_seconds, disabled, epoch, revision, created_at, updated_at) \
           values ('acme', '', 'x', '', 900, {no}, 0, 1, 0, 0); "
    )
}

/// The first page in an order.
pub(super) async fn first_page(
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

async fn migration_keeps_names_in_creation_order(backend: Backend) {
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

async fn migration_keeps_the_last_use(backend: Backend) {
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
    let reported = |one: &Application| {
        let last_use = one.last_use.clone().map(|last| (last.at.as_second(), last.address));
        (one.name.application.to_string(), last_use)
    };
    let expected = [
        ("b".to_owned(), None),
        ("a".to_owned(), Some((3, Some("192.0.2.1".to_owned())))),
        ("c".to_owned(), Some((5, None))),
    ];
    assert_eq!(found.iter().map(reported).collect::<Vec<_>>(), expected);
}

async fn migration_keeps_who_disabled_a_resource(backend: Backend) {
    let (_folder, database, url) = empty(backend).await;
    let sqlite = backend == Backend::Sqlite;
    let (yes, no) = if sqlite { ("1", "0") } else { ("true", "false") };
    let user = "'tenants/acme/users/sam'";
    // The events of each application: the caller, and the previous values.
    let rows = [
        ("platform", vec![("null", "\"false\"", no)], true),
        ("made-so", vec![("null", "null", no)], true),
        ("user", vec![("null", "\"false\"", no), (user, "\"false\"", no)], false),
        ("refused", vec![(user, "\"false\"", no), ("null", "\"false\"", yes)], false),
        ("unknown", vec![], false),
    ];
    let mut sql = tenant(no);
    let mut number = 0;
    let mut event = |sql: &mut String, resource: &str, field: &str, row: (&str, &str, &str)| {
        let (by, before, refused) = row;
        number += 1;
        let changes = format!(r#"[{{"field":"{field}","before":{before},"after":"true"}}]"#);
        write!(
            sql,
            "insert into audit_events (tenant_id, number, at, service, user_name, action, resource, \
               refused, detail, changes) values ('acme', {number}, 0, 's', {by}, 'x', \
               'tenants/acme{resource}', {refused}, '', '{changes}'); "
        )
        .unwrap();
    };
    for (id, events, _) in &rows {
        write!(
            sql,
            "insert into applications (tenant_id, id, display_name, search_name, description, \
               contact_email, disabled, epoch, revision, created_at, updated_at) \
               values ('acme', '{id}', '', '', '', '', {yes}, 0, 1, 0, 0); "
        )
        .unwrap();
        for row in events {
            event(&mut sql, &format!("/applications/{id}"), "disabled", *row);
        }
    }
    let credential = "0".repeat(32);
    write!(
        sql,
        "insert into credentials (id, tenant_id, application_id, kind, display_name, disabled, \
           epoch, revision, created_at, updated_at) values ('{credential}', 'acme', 'user', \
           'api_key', '', {yes}, 0, 1, 0, 0); \
         insert into scopes (tenant_id, name, description, domain, family, disabled, revision, \
           created_at, updated_at) values ('acme', 'a', '', '', '', {yes}, 1, 0, 0); \
         insert into users (tenant_id, id, display_name, disabled, revision, created_at, \
           updated_at) values ('acme', 'bob', '', {yes}, 1, 0, 0); \
         update tenants set api_credentials_disabled = {yes}; "
    )
    .unwrap();
    let by_platform = ("null", "\"false\"", no);
    let name = format!("/applications/user/credentials/{credential}");
    for resource in [name.as_str(), "/scopes/a", "/users/bob"] {
        event(&mut sql, resource, "disabled", by_platform);
    }
    event(&mut sql, "", "policy.api_credentials_disabled", by_platform);
    at_version(&database, &url, 9, &sql).await;

    let mut session = migrated(&database).await.read().await.unwrap();
    for (id, _, expected) in rows {
        let name = ApplicationName::parse(&format!("tenants/acme/applications/{id}")).unwrap();
        let settings = session.find_application(&name).await.unwrap().unwrap().settings;
        assert_eq!((settings.disabled, settings.disabled_by_platform), (true, expected), "{id}");
    }
    let name = CredentialName::parse(&format!("tenants/acme{name}")).unwrap();
    assert!(session.find_credential(&name).await.unwrap().unwrap().settings.disabled_by_platform);
    let acme = TenantId::parse("acme").unwrap();
    let catalogue = session.catalogue(&acme).await.unwrap();
    assert!(catalogue[0].settings.disabled_by_platform);
    let bob = UserName::parse("tenants/acme/users/bob").unwrap();
    assert!(session.find_user(&bob).await.unwrap().unwrap().settings.disabled_by_platform);
    let policy = session.find_tenant(&acme).await.unwrap().unwrap().settings.policy;
    assert!(policy.api_credentials_disabled_by_platform);
}

async fn migration_derives_lives_and_lifted_limits_from_log(backend: Backend) {
    let (_folder, database, url) = empty(backend).await;
    let no = if backend == Backend::Sqlite { "0" } else { "false" };
    let mut sql = tenant(no);
    for id in ["none", "platform", "user", "both", "old"] {
        let limits = if id == "none" { "null" } else { "'requests=9/60'" };
        let row = format!(
            "insert into applications (tenant_id, id, display_name, description, contact_email, \
               disabled, epoch, revision, created_at, updated_at, limits) \
               values ('acme', '{id}', '{id}', '', '', {no}, 0, 1, 0, 0, {limits}); "
        );
        sql.push_str(&row);
    }
    let user = "'tenants/acme/users/ann'";
    let given =
        |user| (user, "UpdateApplication", r#"[{"field":"limits","before":"","after":""}]"#);
    let events = [
        ("null", "CreateTenant", "[]", "tenants/acme"),
        ("null", "DeleteTenant", "[]", "tenants/acme"),
        ("null", "CreateTenant", "[]", "tenants/acme"),
    ];
    let application = |id: &str| format!("tenants/acme/applications/{id}");
    let events =
        events.map(|(user, action, changes, name)| (user, action, changes, name.to_owned()));
    let mut events = events.to_vec();
    for (id, users) in
        [("platform", vec!["null"]), ("user", vec![user]), ("both", vec![user, "null", user])]
    {
        for who in users {
            let (user, action, changes) = given(who);
            events.push((user, action, changes, application(id)));
        }
        // Other changes do not affect limits.
        events.push(("null", "UpdateApplication", r#"[{"field":"disabled"}]"#, application(id)));
    }
    for (number, (user, action, changes, resource)) in (1..).zip(events) {
        let row = format!(
            "insert into audit_events (tenant_id, number, at, service, user_name, action, \
               resource, refused, detail, changes) values ('acme', {number}, 0, 's', {user}, \
               '{action}', '{resource}', {no}, '', '{changes}'); "
        );
        sql.push_str(&row);
    }
    at_version(&database, &url, 9, &sql).await;

    let store = migrated(&database).await;
    let mut session = store.read().await.unwrap();
    let id = TenantId::parse("acme").unwrap();
    assert_eq!(session.find_tenant(&id).await.unwrap().unwrap().life, 3);
    for (id, lifted) in
        [("none", false), ("platform", true), ("user", false), ("both", false), ("old", true)]
    {
        let name = ApplicationName::parse(&application(id)).unwrap();
        let found = session.find_application(&name).await.unwrap().unwrap();
        assert_eq!((found.settings.limits_lifted, found.life), (lifted, 0), "{id}");
    }
}

/// Names from before the migration, and names that an older server writes after it.
async fn names_of_older_versions_are_folded(backend: Backend) {
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
    let fold = async |max: i64| {
        let mut tx = store.begin().await.unwrap();
        let count = tx.fold_names(max).await.unwrap();
        tx.commit().await.unwrap();
        count
    };
    assert_eq!(fold(4).await, 4);
    if backend == Backend::Postgres {
        // Two servers at once: they do not wait for each other, and do not repeat each other's
        // work.
        let other = migrated(&database).await;
        let (mut one, mut two) = (store.begin().await.unwrap(), other.begin().await.unwrap());
        assert_eq!(one.fold_names(2).await.unwrap(), 2);
        assert_eq!(two.fold_names(100).await.unwrap(), 4);
        // A server that stops leaves the rest to the next.
        drop(one);
        two.commit().await.unwrap();
        assert_eq!(fold(100).await, 2);
    }
    while fold(4).await > 0 {}
    assert_eq!((found("STRASSE").await, found("strasse 7").await), (10, 1));
    assert!(!store.read().await.unwrap().has_unfolded_names().await.unwrap());

    // A server of an older version writes at the same time.
    let old = row("new", "ΟΔΥΣΣΕΥΣ", "οδυσσευς")
        + "update applications set display_name = 'Ÿ', search_name = 'ÿ' where id = 's0'; \
           update applications set display_name = 'Plain2', search_name = 'plain2' \
             where id = 's1'; ";
    run(&database, &url, &old).await;
    assert_eq!(fold(100).await, 2);
    assert_eq!((found("ΟΔΥΣ").await, found("STRASSE").await), (1, 8));
    assert_eq!((found("ÿ").await, found("PLAIN2").await, fold(100).await), (1, 1, 0));
}

/// SQL that creates a second tenant, and applications of both.
fn names_of_two_tenants(no: &str) -> String {
    let mut sql = tenant(no) + &tenant(no).replace("'acme'", "'other'");
    for (n, tenant) in ["other", "acme", "other", "acme"].into_iter().enumerate() {
        write!(
            sql,
            "insert into applications (tenant_id, id, display_name, search_name, description, \
               contact_email, disabled, epoch, revision, created_at, updated_at) \
               values ('{tenant}', 'a{n}', 'c_r/m {n}', 'c_r/m {n}', '', '', {no}, 0, 1, 0, 0); "
        )
        .unwrap();
    }
    sql
}

async fn trigram_index_has_names_of_previous_version(backend: Backend) {
    let (_folder, database, url) = empty(backend).await;
    let no = if backend == Backend::Sqlite { "0" } else { "false" };
    at_version(&database, &url, 12, &names_of_two_tenants(no)).await;
    drop(migrated(&database).await);
    let later = "insert into applications (tenant_id, id, display_name, search_name, description, \
        contact_email, disabled, epoch, revision, created_at, updated_at) \
        select tenant_id, 'new', display_name, search_name, '', '', disabled, 0, 1, 0, 0 \
          from applications where id in ('a0', 'a1'); \
        update applications set search_name = 'c_r/m 9' where id = 'new' and tenant_id = 'acme'; \
        delete from applications where id = 'a3'; ";
    // A check constraint fails if the index or the range of a tenant is wrong.
    let check = match backend {
        Backend::Sqlite => {
            "create table found (n integer check (n = 3)); insert into found \
               select count(*) from application_search s join tenants t on t.id = 'other' \
               where s.application_search match '\"c_r\" \"/m \"' \
                 and s.rowid between t.number << 32 and (t.number << 32) + 4294967295; \
             create table outside (n integer check (n = 0)); insert into outside \
               select count(*) from application_names n join tenants t on t.id = n.tenant_id \
               where n.number >> 32 <> t.number; \
             insert into application_search (application_search, rank) \
               values ('integrity-check', 1); "
        }
        Backend::Postgres => {
            "create table found (n integer check (n = 3)); insert into found \
               select count(*) from names_like('other', '%c\\_r/m%', 100); \
             create table renamed (n integer check (n = 1)); insert into renamed \
               select count(*) from names_like('acme', '%r/m 9%', 100); "
        }
    };
    run(&database, &url, &format!("{later}{check}")).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn previous_version_can_search_on_new_postgres_schema() {
    let (_folder, database, url) = empty(Backend::Postgres).await;
    at_version(&database, &url, 12, &names_of_two_tenants("false")).await;
    let hex = |text: &str| {
        let digits = text.bytes().flat_map(|byte| [byte >> 4, byte & 0xf]);
        digits.filter_map(|digit| char::from_digit(digit.into(), 16)).collect::<String>()
    };
    let statement = |runs: &[&str], count: usize| {
        let parts: Vec<_> = runs.iter().map(|run| hex(&format!("acme/{run}"))).collect();
        let parts = parts.join(" ");
        format!(
            "create temp table found (n integer check (n = {count})); insert into found \
             select count(*) from names_with_parts('{parts}', 100); drop table found; "
        )
    };
    // The queries of the previous version: runs of three characters, or a shorter search.
    let queries = [
        statement(&["c_r", "r/m", "m 1"], 1),
        statement(&["c_r", "r/m"], 2),
        statement(&["_"], 2),
        statement(&["c%r"], 0),
        statement(&["r/m", "m 0"], 0),
    ];
    run(&database, &url, &queries.concat()).await;
    drop(migrated(&database).await);
    run(&database, &url, &queries.concat()).await;
}

async fn signing_keys_of_previous_version_are_kept_and_changed_by_it(backend: Backend) {
    let (_folder, database, url) = empty(backend).await;
    let insert = |generation: i64, id: &str| {
        format!(
            "insert into signing_keys (generation, id, algorithm, sealed_private_key, created_at, \
             activates_at) values ({generation}, '{id}', 'ES256', 'sealed', 5, 7); "
        )
    };
    at_version(&database, &url, 14, &insert(1, "old")).await;
    let store = migrated(&database).await;
    // A server of the previous version still runs, and makes another key.
    run(&database, &url, &insert(2, "new")).await;
    let mut session = store.read().await.unwrap();
    for keys in [
        session.list_needed_signing_keys().await.unwrap(),
        session.list_stored_signing_keys().await.unwrap(),
    ] {
        let seen: Vec<_> = keys.iter().map(|key| (key.generation, key.id.as_str())).collect();
        assert_eq!(seen, [(1, "old"), (2, "new")]);
        for key in keys {
            assert_eq!(key.activates_at.as_microsecond(), 7);
            assert_eq!(key.sealed_private_key.as_deref(), Some("sealed"));
            assert!(!key.is_recorded && key.sealed_public_key.is_none());
        }
    }
}

async fn servers_announce_master_keys_after_migration(backend: Backend) {
    let (_folder, database, url) = empty(backend).await;
    at_version(&database, &url, 16, "select 1").await;
    let store = migrated(&database).await;
    let announced = |id: &str, additional: Option<&str>| ServerKeys {
        id: id.to_owned(),
        name: format!("host ({id})"),
        primary: "0a1b2c3d".to_owned(),
        additional: additional.map(str::to_owned),
        seen_at: "2026-06-01T12:00:00.000001Z".parse().unwrap(),
    };
    let (one, other) = (announced("a", None), announced("b", Some("4e5f6a7b")));
    let mut tx = store.begin().await.unwrap();
    for keys in [&other, &one, &one] {
        tx.set_server_keys(keys).await.unwrap();
    }
    tx.commit().await.unwrap();
    let mut session = store.read().await.unwrap();
    let listed = session.list_server_keys(one.seen_at).await.unwrap();
    assert_eq!(listed, [one.clone(), other]);
    let later = one.seen_at + Duration::from_micros(1);
    assert!(session.list_server_keys(later).await.unwrap().is_empty());
}

async fn events_of_previous_version_await_sealing(backend: Backend) {
    let (_folder, database, url) = empty(backend).await;
    let no = if backend == Backend::Sqlite { "0" } else { "false" };
    let mut sql = String::new();
    for tenant in ["a", "deleted", "z"] {
        for number in 1..=3 {
            write!(
                sql,
                "insert into audit_events (tenant_id, number, at, service, action, resource, \
                 refused, detail, changes) values ('{tenant}', {number}, {number}0, 'keyward', \
                 'UpdateTenant', 'tenants/{tenant}', {no}, '', '[]'); "
            )
            .unwrap();
        }
    }
    at_version(&database, &url, 14, &sql).await;
    let store = migrated(&database).await;
    let mut session = store.read_list().await.unwrap();
    let waiting = session.unsealed_tenants("", 100).await.unwrap();
    let names: Vec<_> = waiting.iter().map(TenantId::as_str).collect();
    assert_eq!(names, ["a", "deleted", "z"]);
    assert_eq!(session.unsealed_since().await.unwrap(), Some(10));
}

/// Also that the index has them: otherwise counting them would read all credentials.
async fn credentials_of_previous_version_are_found_by_their_end(backend: Backend) {
    let (_folder, database, url) = empty(backend).await;
    let [no, yes] = if backend == Backend::Sqlite { ["0", "1"] } else { ["false", "true"] };
    let mut sql = tenant(no);
    write!(
        sql,
        "insert into applications (tenant_id, id, display_name, search_name, description, \
           contact_email, disabled, epoch, revision, created_at, updated_at) \
           values ('acme', 'crm', '', '', '', '', {no}, 0, 1, 0, 0); "
    )
    .unwrap();
    let ends = [("null", no), ("10", no), ("20", no), ("25", yes), ("30", no)];
    for (n, (end, disabled)) in ends.into_iter().enumerate() {
        write!(
            sql,
            "insert into credentials (id, tenant_id, application_id, kind, display_name, \
               expires_at, disabled, epoch, revision, created_at, updated_at) \
               values ('{n:032x}', 'acme', 'crm', 'api_key', '', {end}, {disabled}, 0, 1, 0, 0); "
        )
        .unwrap();
    }
    at_version(&database, &url, 16, &sql).await;
    let store = migrated(&database).await;
    let mut session = store.read().await.unwrap();
    let moment = |micros| jiff::Timestamp::from_microsecond(micros).unwrap();
    for (from, to, max, expected) in [(10, 30, 9, 2), (10, 31, 9, 3), (11, 20, 9, 0), (0, 99, 2, 2)]
    {
        let found = session.count_expiring(moment(from), moment(to), max).await.unwrap();
        assert_eq!(found, expected, "from {from} to {to}, at most {max}");
    }

    let select = "select 1 from credentials where expires_at is not null and not disabled \
        and expires_at >= 1 and expires_at < 2 limit 3";
    let plan: Vec<String> = match backend {
        Backend::Sqlite => {
            let mut connection = SqliteConnection::connect(&url).await.unwrap();
            let sql = AssertSqlSafe(format!("explain query plan {select}"));
            let rows: Vec<(i64, i64, i64, String)> =
                sqlx::query_as(sql).fetch_all(&mut connection).await.unwrap();
            rows.into_iter().map(|row| row.3).collect()
        }
        Backend::Postgres => {
            let mut connection = PgConnection::connect(&url).await.unwrap();
            // The table is small.
            sqlx::query("set enable_seqscan = off").execute(&mut connection).await.unwrap();
            let sql = AssertSqlSafe(format!("explain {select}"));
            sqlx::query_scalar(sql).fetch_all(&mut connection).await.unwrap()
        }
    };
    assert!(plan.iter().any(|line| line.contains("credentials_by_end")), "{plan:?}");
}

async fn credentials_of_previous_version_bind_no_tokens(backend: Backend) {
    let (_folder, database, url) = empty(backend).await;
    let no = if backend == Backend::Sqlite { "0" } else { "false" };
    let credential = |n: u8| {
        format!(
            "insert into credentials (id, tenant_id, application_id, kind, display_name, \
               disabled, epoch, revision, created_at, updated_at) \
               values ('{n:032x}', 'acme', 'crm', 'api_key', '', {no}, 0, 1, 0, 0); "
        )
    };
    let application = format!(
        "insert into applications (tenant_id, id, display_name, search_name, description, \
           contact_email, disabled, epoch, revision, created_at, updated_at) \
           values ('acme', 'crm', '', '', '', '', {no}, 0, 1, 0, 0); "
    );
    let sql = [tenant(no), application, credential(1)].concat();
    at_version(&database, &url, 20, &sql).await;
    let store = migrated(&database).await;
    // A server of the version before writes on the new schema.
    run(&database, &url, &credential(2)).await;
    let mut session = store.read().await.unwrap();
    for n in [1, 2] {
        let name = format!("tenants/acme/applications/crm/credentials/{n:032x}");
        let name = CredentialName::parse(&name).unwrap();
        let read = session.find_credential(&name).await.unwrap().unwrap();
        assert!(!read.settings.certificate_bound_tokens);
        assert_eq!(read.settings.registration, None);
    }
}

async fn applications_of_previous_version_have_no_lifetime_of_tokens(backend: Backend) {
    let (_folder, database, url) = empty(backend).await;
    let no = if backend == Backend::Sqlite { "0" } else { "false" };
    let application = |id: &str| {
        format!(
            "insert into applications (tenant_id, id, display_name, search_name, description, \
               contact_email, disabled, epoch, revision, created_at, updated_at) \
               values ('acme', '{id}', '', '', '', '', {no}, 0, 1, 0, 0); "
        )
    };
    let sql = [tenant(no), application("crm")].concat();
    at_version(&database, &url, 25, &sql).await;
    let store = migrated(&database).await;
    // A server of the version before writes on the new schema.
    run(&database, &url, &application("erp")).await;
    let mut session = store.read().await.unwrap();
    for id in ["crm", "erp"] {
        let name = ApplicationName::parse(&format!("tenants/acme/applications/{id}")).unwrap();
        let read = session.find_application(&name).await.unwrap().unwrap();
        assert_eq!(read.settings.access_token_lifetime, None, "{id}");
    }
}

async fn credential_that_previous_version_deletes_is_found_no_more(backend: Backend) {
    let (_folder, database, url) = empty(backend).await;
    let no = if backend == Backend::Sqlite { "0" } else { "false" };
    let rows = format!(
        "{} insert into applications (tenant_id, id, display_name, search_name, description, \
           contact_email, disabled, epoch, revision, created_at, updated_at) \
           values ('acme', 'crm', '', '', '', '', {no}, 0, 1, 0, 0); \
         insert into credentials (id, tenant_id, application_id, kind, display_name, disabled, \
           epoch, revision, created_at, updated_at, registration) \
           values ('{:032x}', 'acme', 'crm', 'public_key', '', {no}, 0, 1, 0, 0, \
             '{{\"public_key\":{{\"jwks_uri\":\"https://crm.example/jwks\"}}}}'); ",
        tenant(no),
        1
    );
    at_version(&database, &url, 25, &rows).await;
    let store = migrated(&database).await;
    let name = format!("tenants/acme/applications/crm/credentials/{:032x}", 1);
    let name = CredentialName::parse(&name).unwrap();
    let mut credential = store.read().await.unwrap().find_credential(&name).await.unwrap().unwrap();
    credential.record.revision = 2;
    credential.settings.registration = Some(Registration::Federated(Federation {
        issuer: "https://issuer.example".to_owned(),
        keys: None,
        subject: "job".to_owned(),
        audiences: Vec::new(),
        claims: Vec::new(),
    }));
    let mut tx = store.begin().await.unwrap();
    assert!(tx.update_credential(&credential).await.unwrap());
    tx.commit().await.unwrap();
    let count = async || {
        let mut session = store.read().await.unwrap();
        let (tenant, token) = (TenantId::parse("acme").unwrap(), ("https://issuer.example", "job"));
        session.federated_credentials(&tenant, token, 9).await.unwrap().len()
    };
    assert_eq!(count().await, 1);
    let delete = format!("delete from credentials where id = '{:032x}';", 1);
    run(&database, &url, &delete).await;
    assert_eq!(count().await, 0);
}
