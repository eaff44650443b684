//! Lists of applications with search, filters and orders: the result does not depend on how the
//! database finds the rows.

use std::collections::BTreeSet;
use std::fmt::Write;

use jiff::Timestamp;
use keyward::internals::domain::folding::fold;
use keyward::internals::domain::{
    Application, ApplicationFilter, ApplicationKey, ApplicationOrder, Moment, Owners, PageRequest,
    State, TenantId, UserId,
};
use keyward::internals::store::Session;
use sqlx::{AssertSqlSafe, Connection, PgConnection, SqliteConnection};

use super::{Fresh, application, fresh, now, tenant};
use crate::harness::{Backend, on_both_databases};

on_both_databases!(
    search_finds_exactly_names_that_contain_the_text,
    search_reflects_renames_and_deletions,
    common_text_is_found_after_many_other_names,
    selective_filters_find_the_right_applications,
);

/// More names than the first walk reads before an index is used.
const MANY: usize = 10_010;

/// Names that are difficult for a search.
const NAMES: [&str; 16] = [
    "Zürich CRM",
    "crm of Bern",
    "100% reports_daily",
    "100 reports daily",
    "say \"hello\"",
    "it's (a) test* AND more",
    "back\\slash",
    "日本語の名前",
    "ÅNGSTRÖM",
    "abcabc",
    "abcbca",
    "a",
    "😀😀 emoji",
    "aaa",
    "ΟΔΥΣΣΕΥΣ",
    "Große Straße",
];

const SEARCHES: [&str; 35] = [
    "crm",
    "CRM",
    "ZÜRICH",
    "ü",
    "%",
    "s_d",
    "_",
    "\\",
    "k\\s",
    "\"",
    "\"hello\"",
    "'s (",
    "t* and",
    "*",
    "本",
    "本語",
    "日本語",
    "日本語の名",
    "ångström",
    "😀",
    "😀 e",
    "abc",
    "cab",
    "bcb",
    "abcabc",
    "aa",
    "aaaa",
    "a",
    " ",
    "nothing like it",
    "reports",
    "00% reports_dail",
    "ΟΔΥΣ",
    "STRASSE",
    "SSE S",
];

impl Fresh {
    /// Runs SQL without the store.
    pub(super) async fn sql(&self, sql: String) {
        let sql = AssertSqlSafe(sql);
        if let Some(url) = &self.url {
            let mut connection = PgConnection::connect(url).await.unwrap();
            sqlx::raw_sql(sql).execute(&mut connection).await.unwrap();
        } else {
            let url = format!("sqlite:{}/keyward.db", self.folder.path().display());
            let mut connection = SqliteConnection::connect(&url).await.unwrap();
            sqlx::raw_sql(sql).execute(&mut connection).await.unwrap();
            connection.close().await.unwrap();
        }
    }

    /// Creates a tenant with `size` unrelated applications that come first in every order.
    async fn with_many(&self, id: &str, size: usize) {
        let mut tx = self.store.begin().await.unwrap();
        assert!(tx.insert_tenant(&tenant(id)).await.unwrap());
        tx.commit().await.unwrap();
        self.applications(id, "00", "..", 0, size).await;
    }

    /// Creates numbered applications, the last one first.
    async fn applications(&self, tenant: &str, id: &str, name: &str, at: i64, count: usize) {
        let no = if self.url.is_some() { "false" } else { "0" };
        self.sql(format!(
            "insert into applications (tenant_id, id, display_name, description, contact_email, \
               disabled, epoch, revision, created_at, updated_at, search_name) \
             with recursive numbers (n) as \
               (select {count} union all select n - 1 from numbers where n > 1) \
             select '{tenant}', '{id}-' || n, '{name}' || n, '', '', {no}, 0, 1, {at}, 0, \
               '{name}' || n from numbers; \
             update application_uses set last_used_at = {at} \
               where tenant_id = '{tenant}' and application_id like '{id}-%'"
        ))
        .await;
    }
}

fn all_owners() -> Owners {
    Owners { account: true, users: true, user: None }
}

fn searched(search: &str) -> ApplicationFilter {
    ApplicationFilter { owners: all_owners(), search: search.to_owned(), ..Default::default() }
}

fn orders() -> impl Iterator<Item = ApplicationOrder> {
    use ApplicationKey::{CreateTime, DisplayName, LastUseTime, Name};
    let keys = [Name, DisplayName, CreateTime, LastUseTime];
    keys.into_iter()
        .flat_map(|key| [false, true].map(|descending| ApplicationOrder { key, descending }))
}

/// All pages of a list, with this page size.
async fn listed(
    session: &mut Session,
    tenant: &str,
    filter: &ApplicationFilter,
    size: i32,
) -> Vec<Application> {
    let tenant = TenantId::parse(tenant).unwrap();
    let (mut all, mut after) = (Vec::new(), None);
    loop {
        let page = PageRequest::new(size, after.clone()).unwrap();
        let page = session.list_applications(&tenant, filter, &page, now()).await.unwrap();
        let next = page.next;
        all.extend(page.items);
        assert!(next.is_none() || next != after, "each page moves the cursor");
        assert!(all.len() < 100_000, "the pages end");
        after = next;
        if after.is_none() {
            return all;
        }
    }
}

fn ids(applications: &[Application]) -> Vec<&str> {
    applications.iter().map(|one| one.name.application.as_str()).collect()
}

/// Sorts applications in the simplest way.
fn sort(applications: &mut [Application], order: ApplicationOrder) {
    applications.sort_by_key(|one| {
        let id = one.name.application.to_string();
        let micros = |at: Timestamp| at.as_microsecond();
        match order.key {
            ApplicationKey::Name => (0, String::new(), id),
            ApplicationKey::DisplayName => (0, fold(&one.settings.display_name), id),
            ApplicationKey::CreateTime => (micros(one.record.created_at), String::new(), id),
            ApplicationKey::LastUseTime => {
                (one.last_use.as_ref().map_or(0, |last| micros(last.at)), String::new(), id)
            }
        }
    });
    if order.descending {
        applications.reverse();
    }
}

async fn search_finds_exactly_names_that_contain_the_text(backend: Backend) {
    let fresh = fresh(backend).await;
    fresh.with_many("acme", MANY).await;
    let mut tx = fresh.store.begin().await.unwrap();
    assert!(tx.insert_tenant(&tenant("evil")).await.unwrap());
    for tenant in ["acme", "evil"] {
        for (n, name) in NAMES.into_iter().enumerate() {
            // The id that sorts first by bytes sorts second for people.
            let id = format!("made{}{n}", if n % 2 == 0 { "-" } else { "_" });
            let mut made = application(tenant, &id, "");
            name.clone_into(&mut made.settings.display_name);
            assert!(tx.insert_application(&made, None).await.unwrap());
        }
    }
    tx.commit().await.unwrap();
    let mut session = fresh.store.read().await.unwrap();
    let all = listed(&mut session, "acme", &searched(""), 1000).await;
    assert_eq!(all.len(), MANY + NAMES.len());
    for search in SEARCHES {
        for order in orders() {
            let filter = ApplicationFilter { order, ..searched(search) };
            let has = |one: &&Application| fold(&one.settings.display_name).contains(&fold(search));
            let mut expected: Vec<_> = all.iter().filter(has).cloned().collect();
            sort(&mut expected, order);
            let found = listed(&mut session, "acme", &filter, 1000).await;
            assert_eq!(ids(&found), ids(&expected), "{search} {order}");
            let found = listed(&mut session, "acme", &filter, 5).await;
            assert_eq!(ids(&found), ids(&expected), "{search} {order}, in small pages");
        }
    }
}

async fn search_reflects_renames_and_deletions(backend: Backend) {
    let fresh = fresh(backend).await;
    fresh.with_many("acme", MANY).await;
    let mut made = application("acme", "made", "");
    "first name".clone_into(&mut made.settings.display_name);
    let gone = Application { name: application("acme", "gone", "").name, ..made.clone() };
    let before = made.settings.clone();
    let mut tx = fresh.store.begin().await.unwrap();
    assert!(tx.insert_application(&made, None).await.unwrap());
    assert!(tx.insert_application(&gone, None).await.unwrap());
    tx.commit().await.unwrap();
    let mut session = fresh.store.read().await.unwrap();
    let found = listed(&mut session, "acme", &searched("first"), 2).await;
    assert_eq!(ids(&found), ["gone", "made"]);

    let mut tx = fresh.store.begin().await.unwrap();
    "second name".clone_into(&mut made.settings.display_name);
    made.record = made.record.changed(now());
    assert!(tx.update_application(&made, &before).await.unwrap());
    tx.delete_application(&gone.name).await.unwrap();
    tx.commit().await.unwrap();
    // The creation order has its own index.
    fresh
        .sql(
            "create table other_times (n integer check (n = 0)); insert into other_times \
             select count(*) from application_names n join applications a \
               on a.tenant_id = n.tenant_id and a.id = n.application_id \
             where n.created_at <> a.created_at"
                .to_owned(),
        )
        .await;
    assert!(listed(&mut session, "acme", &searched("first"), 2).await.is_empty());
    let found = listed(&mut session, "acme", &searched("second"), 2).await;
    assert_eq!(ids(&found), ["made"]);

    let mut tx = fresh.store.begin().await.unwrap();
    tx.delete_tenant(&made.name.tenant).await.unwrap();
    tx.commit().await.unwrap();
    // Leftover search data would never be deleted.
    let index_is_as_names = match backend {
        Backend::Sqlite => {
            "; insert into application_search (application_search, rank) values ('integrity-check', 1)"
        }
        Backend::Postgres => "",
    };
    fresh
        .sql(format!(
            "create table left_over (n integer check (n = 0)); insert into left_over \
             select count(*) from application_names{index_is_as_names}"
        ))
        .await;
    fresh.with_many("acme", MANY).await;
    let mut tx = fresh.store.begin().await.unwrap();
    assert!(tx.insert_application(&gone, None).await.unwrap());
    tx.commit().await.unwrap();
    let found = listed(&mut session, "acme", &searched("first"), 2).await;
    assert_eq!(ids(&found), ["gone"], "a new tenant with the same name has no old names");
}

async fn common_text_is_found_after_many_other_names(backend: Backend) {
    let fresh = fresh(backend).await;
    fresh.with_many("acme", MANY).await;
    // One match comes before the unrelated names, and the others after them. Their numbers exceed
    // the limits of the first walks (4,000 and 10,000 rows) and of sorting (50,000 rows).
    fresh.applications("acme", "0", "!xyz uvw rst ", 0, 1).await;
    fresh.applications("acme", "many", "xyz ", 1, 10_100).await;
    fresh.applications("acme", "more", "uvw ", 1, 50_100).await;
    fresh.applications("acme", "some", "rst ", 1, 4_100).await;
    let mut session = fresh.store.read().await.unwrap();
    let tenant = TenantId::parse("acme").unwrap();
    let searches = [("xyz", "many", 10_101), ("uvw", "more", 50_101), ("rst", "some", 4_101)];
    for (search, id, count) in searches {
        let [last, but_one] = if count > 9_999 { [9999, 9998] } else { [999, 998] };
        for order in orders() {
            let filter = ApplicationFilter { order, ..searched(search) };
            let (mut first, mut after) = (Vec::new(), None);
            for _ in 0..2 {
                let page = PageRequest::new(1, after).unwrap();
                let page = session.list_applications(&tenant, &filter, &page, now()).await.unwrap();
                after = page.next;
                first.extend(page.items);
            }
            let expected = if order.descending {
                [format!("{id}-{last}"), format!("{id}-{but_one}")]
            } else {
                ["0-1".to_owned(), format!("{id}-1")]
            };
            assert_eq!(ids(&first), expected, "{search} {order}");
            let all = listed(&mut session, "acme", &filter, 1000).await;
            let each: BTreeSet<_> = ids(&all).into_iter().collect();
            assert_eq!((all.len(), each.len()), (count, count), "{search} {order}");
        }
    }

    // Each indexed condition matches more rows than are sorted, and few rows match all conditions.
    let active = |search| ApplicationFilter { state: Some(State::Active), ..searched(search) };
    let of_account = |search| ApplicationFilter {
        owners: Owners { account: true, users: false, user: None },
        ..searched(search)
    };
    for filter in [active("uvw 50"), of_account("t 41"), of_account("vw"), active("uvw 5010")] {
        let all = listed(&mut session, "acme", &searched(&filter.search), 1000).await;
        for order in orders() {
            let filter = ApplicationFilter { order, ..filter.clone() };
            let mut expected = all.clone();
            sort(&mut expected, order);
            let page = PageRequest::new(30, None).unwrap();
            let page = session.list_applications(&tenant, &filter, &page, now()).await.unwrap();
            let expected = &expected[..expected.len().min(30)];
            assert_eq!(ids(&page.items), ids(expected), "{filter:?}");
        }
    }
}

async fn selective_filters_find_the_right_applications(backend: Backend) {
    let fresh = fresh(backend).await;
    fresh.with_many("acme", MANY).await;
    let (yes, no) = if fresh.url.is_some() { ("true", "false") } else { ("1", "0") };
    let mut sql = format!(
        "insert into users (tenant_id, id, display_name, disabled, revision, created_at, \
           updated_at) values ('acme', 'bob', '', {no}, 1, 0, 0), ('acme', 'eve', '', {yes}, 1, 0, 0);"
    );
    let past = now().as_microsecond() - 1;
    for (n, (owner, disabled, expires_at)) in [
        ("null", no, "null"),
        ("'bob'", no, "null"),
        ("'bob'", yes, "null"),
        ("'bob'", no, "1"),
        ("'eve'", no, "null"),
        ("'eve'", no, "1"),
        ("null", no, &past.to_string()),
        ("null", yes, "1"),
    ]
    .into_iter()
    .enumerate()
    {
        write!(
            sql,
            "insert into applications (tenant_id, id, display_name, description, contact_email, \
               disabled, epoch, revision, created_at, updated_at, search_name, owner_user_id, \
               expires_at) values ('acme', '{n}', 'one', '', '', {disabled}, 0, 1, 9, 0, 'one', \
               {owner}, {expires_at});"
        )
        .unwrap();
    }
    fresh.sql(sql).await;
    let mut session = fresh.store.read().await.unwrap();
    let owners =
        |account, users, user: &str| Owners { account, users, user: UserId::parse(user).ok() };
    let one = || searched("one");
    let state = |state| ApplicationFilter { state: Some(state), ..one() };
    let owned = |owners| ApplicationFilter { owners, ..one() };
    let until = |micros| ApplicationFilter {
        expire_before: Some(Moment::from_microsecond(micros)),
        ..one()
    };
    for (filter, expected) in [
        (owned(owners(false, false, "bob")), "1 2 3"),
        (owned(owners(false, false, "eve")), "4 5"),
        (owned(owners(true, false, "")), "0 6 7"),
        (owned(owners(true, false, "eve")), "0 4 5 6 7"),
        (owned(owners(false, true, "")), "1 2 3 4 5"),
        (state(State::Disabled), "2 4 5 7"),
        (state(State::Expired), "3 6"),
        (state(State::Active), "0 1"),
        (until(2), "3 5 7"),
        (until(past + 1), "3 5 6 7"),
        (ApplicationFilter { state: Some(State::Expired), ..until(2) }, "3"),
        (ApplicationFilter { owners: owners(true, false, ""), ..state(State::Expired) }, "6"),
    ] {
        for order in orders() {
            let filter = ApplicationFilter { order, ..filter.clone() };
            let mut expected: Vec<_> = expected.split(' ').collect();
            if order.descending {
                expected.reverse();
            }
            let found = listed(&mut session, "acme", &filter, 1).await;
            assert_eq!(ids(&found), expected, "{filter:?}");
        }
    }
}
