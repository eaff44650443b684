//! Pages of lists of applications. They must be fast in a tenant with a million applications.
//!
//! A page is searched in three steps:
//!
//! 1. Walk the index of the order for a limited number of rows. This fills the page if many rows
//!    match.
//! 2. Otherwise, use another index to find all rows that match one condition, for example the
//!    database's trigram index for a part of a name. If they are few enough, sort them.
//! 3. If too many rows match, or no index has the condition, walk the index of the order to its
//!    end.
//!
//! The small rows of `application_names` have the names and orders. The order of last use has its
//! index in `application_uses`, and a copy of each last use beside the name, for the second step.
//! The large rows of `applications` are read only for conditions that need them, and for the rows of
//! the page.

mod order;

use std::fmt::Display;

use jiff::Timestamp;
use sqlx::AssertSqlSafe;

use self::order::{NAME_ID, Order};
use super::applications::{ApplicationRow, select};
use super::folding::search_name;
use super::row::micros;
use super::{Session, list_rows, one_value};
use crate::domain::{ApplicationFilter, State, TenantId, UserId};
use crate::error::{Error, Result};

/// The number of rows of the first walk if only names decide. It takes a few milliseconds.
const FIRST_WALK_NAMES: usize = 10_000;
/// The number of rows of the first walk if each row needs a lookup in another table, which costs
/// about ten times as much.
const FIRST_WALK_ROWS: usize = 4_000;
/// The number of rows of the first walk in the order of last use, if the trigram index can find the
/// matches afterwards. It fills a page if one row in 20 matches.
const FIRST_WALK_USES: usize = 1_000;
/// The number of rows from an index that are sorted, at 2 to 4 microseconds each. A walk of a
/// million names takes about as long as sorting 50,000 rows.
const MAX_FOUND: i64 = 50_000;
/// The number of consecutive characters that a trigram index needs.
const TRIGRAM: usize = 3;

const SELECT: &str = select!("a.tenant_id = $2 and ");

/// The conditions on the row of an application. The parameter of an unused condition is empty or
/// null.
const CONDITIONS: &str = "((a.owner_user_id is null and $3) \
       or (a.owner_user_id is not null and $4) or a.owner_user_id = $5) \
     and ($7 is null or a.expires_at < $7) \
     and ($8 = '' or $8 = case \
         when a.disabled or (select u.disabled from users u \
           where u.tenant_id = a.tenant_id and u.id = a.owner_user_id) then 'disabled' \
         when a.expires_at <= $9 then 'expired' \
         else 'active' end)";

#[derive(Clone, Copy)]
pub(super) struct ListQuery<'a> {
    pub(super) tenant: &'a TenantId,
    pub(super) filter: &'a ApplicationFilter,
    pub(super) after: Option<&'a PagePosition>,
    pub(super) limit: usize,
    pub(super) now: Timestamp,
}

/// The position after a row in a list: its key in the database and its id. The key is empty if the
/// order is by id.
pub(super) struct PagePosition {
    key: String,
    id: String,
}

impl PagePosition {
    pub(super) fn parse(cursor: &str) -> Result<Self> {
        let (id, key) = cursor.split_once(' ').ok_or(Error::InvalidPageToken)?;
        Ok(Self { key: key.to_owned(), id: id.to_owned() })
    }
}

/// A condition whose rows an index finds without a walk of the order.
#[derive(Clone, Copy)]
struct IndexCondition {
    from: &'static str,
    by: &'static str,
    /// Whether the rows also match the searched text, so that it need not be compared again.
    is_search: bool,
}

impl IndexCondition {
    /// The SQL that selects up to `$13` of the names.
    fn names(self) -> String {
        let Self { from, by, is_search: _ } = self;
        format!(
            "select n.application_id, n.search_name, n.created_at, n.last_used_at \
               from {from} where {by} limit $13"
        )
    }
}

/// A condition with an index of `applications`.
macro_rules! rows_by {
    ($rows:literal) => {
        IndexCondition {
            from: concat!("(", $rows, " limit $13) f cross join application_names n"),
            by: "n.tenant_id = $2 and n.application_id = f.id",
            is_search: false,
        }
    };
}

const BY_OWNER: IndexCondition = rows_by!(
    "select id from applications where tenant_id = $2 and owner_user_id = $5 \
     union all select id from applications where tenant_id = $2 and owner_user_id is null and $3"
);
const BY_EXPIRY: IndexCondition =
    rows_by!("select id from applications where tenant_id = $2 and expires_at < $7");
const EXPIRED: IndexCondition =
    rows_by!("select id from applications where tenant_id = $2 and expires_at <= $9");
const DISABLED: IndexCondition = rows_by!(
    "select id from applications where tenant_id = $2 and disabled \
     union select a.id from users u cross join applications a \
       where u.tenant_id = $2 and u.disabled \
         and a.tenant_id = u.tenant_id and a.owner_user_id = u.id"
);
/// The trigram index of SQLite. The numbers of a tenant are one range, so the index skips matches
/// of other tenants. It finds names that have all trigrams of the text, in any order.
const BY_NAME_IN_SQLITE: IndexCondition = IndexCondition {
    from: "tenants t cross join application_search s cross join application_names n",
    by: "t.id = $2 and s.application_search match $12 \
         and s.rowid between t.number << 32 and (t.number << 32) + 4294967295 \
         and n.number = s.rowid and n.tenant_id = $2",
    is_search: false,
};
/// The trigram index of PostgreSQL. The result of a function has the collation of the database, so
/// the collation of the columns is set again.
const BY_NAME_IN_POSTGRES: IndexCondition = IndexCondition {
    from: "(select application_id collate \"C\" as application_id, \
             search_name collate \"C\" as search_name, created_at, last_used_at \
             from names_and_uses_like($2, $12, $13)) n",
    by: "true",
    is_search: true,
};

/// Runs a statement with the parameters of a list query, `$1` to `$13`.
macro_rules! run_list {
    ($run:ident, $session:expr, $sql:expr, $list:expr) => {{
        let (filter, after) = ($list.filter, $list.after);
        let query = $session.index_query(&filter.search);
        $run!(
            $session,
            AssertSqlSafe($sql),
            false,
            $list.tenant.as_str(),
            filter.owners.account,
            filter.owners.users,
            filter.owners.user.as_ref().map_or("", UserId::as_str),
            search_name(&filter.search),
            micros(filter.expire_before),
            filter.state.map_or("", |state| state.into_str()),
            $list.now.as_microsecond(),
            after.map_or("", |cursor: &PagePosition| cursor.key.as_str()),
            after.map_or("", |cursor: &PagePosition| cursor.id.as_str()),
            query.as_str(),
            MAX_FOUND + 1
        )
    }};
}

impl Session {
    /// The rows of a page. See the description of the module.
    pub(super) async fn application_rows(
        &mut self,
        list: ListQuery<'_>,
    ) -> Result<Vec<ApplicationRow>> {
        if !list.has_search() && !list.has_conditions() {
            return self.walk_order(list, None).await;
        }
        let first = match (list.is_by_use(), list.has_conditions()) {
            (false, false) => FIRST_WALK_NAMES,
            (true, false) if self.has_trigram(&list.filter.search) => FIRST_WALK_USES,
            _ => FIRST_WALK_ROWS,
        };
        let first = first.max(2 * list.limit);
        let rows = self.walk_order(list, Some(first)).await?;
        if rows.len() == list.limit || !self.has_more_than(list, first).await? {
            return Ok(rows);
        }
        let mut conditions = self.index_conditions(list).peekable();
        while let Some(found) = conditions.next() {
            let is_last = conditions.peek().is_none();
            let rows = self.sort_found(list, found, is_last).await?;
            if is_last || !rows.is_empty() || self.count_found(list, found).await? <= MAX_FOUND {
                return Ok(rows);
            }
        }
        self.walk_order(list, None).await
    }

    /// The conditions of the query that have an index.
    fn index_conditions(
        &self,
        list: ListQuery<'_>,
    ) -> impl Iterator<Item = IndexCondition> + use<> {
        let ApplicationFilter { owners, search, state, expire_before, order: _ } = list.filter;
        let by_name = self.for_database(BY_NAME_IN_SQLITE, BY_NAME_IN_POSTGRES);
        let conditions = [
            self.has_trigram(search).then_some(by_name),
            (!owners.users).then_some(BY_OWNER),
            expire_before.map(|_| BY_EXPIRY),
            state.and_then(|state| match state {
                State::Active => None,
                State::Disabled => Some(DISABLED),
                State::Expired => Some(EXPIRED),
            }),
        ];
        conditions.into_iter().flatten()
    }

    /// Walks the index of the order: up to this number of rows, or to its end.
    async fn walk_order(
        &mut self,
        list: ListQuery<'_>,
        rows: Option<usize>,
    ) -> Result<Vec<ApplicationRow>> {
        let Some(rows) = rows else {
            let sorts_names = list.is_by_use() && list.has_search();
            let ids =
                if sorts_names { self.sort_sql(list) } else { self.walk_sql(list, list.limit) };
            return self.load_rows(list, "", &ids).await;
        };
        let (table, id) = list.order_table();
        let (_, alias) = table.rsplit_once(' ').unwrap_or_default();
        let Order { after, by } = list.order();
        let (matches, limit) = (self.matches(list), list.limit);
        // The inner limit makes the planner use the index of the order.
        let ids = format!(
            "select {id} from (select * from {table} where tenant_id = $2 and {after} \
               order by {by} limit {rows}) {alias} where {matches} order by {by} limit {limit}"
        );
        self.load_rows(list, "", &ids).await
    }

    /// The SQL for the ids of a page, with a walk of the index of the order to its end.
    fn walk_sql(&self, list: ListQuery<'_>, limit: impl Display) -> String {
        let (table, id) = list.order_table();
        let Order { after, by } = list.order();
        let matches = self.matches(list);
        format!(
            "select {id} as id from {table} where tenant_id = $2 and {after} and {matches} \
               order by {by} limit {limit}"
        )
    }

    /// The SQL for the ids of a page of a search, in the order of last use. It reads all names and
    /// sorts the matches. A walk that looks up the name of each use takes several times as long.
    fn sort_sql(&self, list: ListQuery<'_>) -> String {
        let Order { after, by } = list.sorted_names();
        let contains = self.contains();
        let conditions = list.conditions(NAME_ID);
        let limit = list.limit;
        format!(
            "select {NAME_ID} as id from application_names n \
               where n.tenant_id = $2 and {contains} and {conditions} and {after} \
               order by {by} limit {limit}"
        )
    }

    /// Whether the order has more than this number of rows, without regard to the conditions.
    async fn has_more_than(&mut self, list: ListQuery<'_>, rows: usize) -> Result<bool> {
        let (table, _) = list.order_table();
        let Order { after, by } = list.order();
        let sql = format!(
            "select count(*) from (select tenant_id from {table} \
             where tenant_id = $2 and {after} order by {by} limit 1 offset {rows}) x"
        );
        let count: i64 = run_list!(one_value, self, sql, list)?;
        Ok(count > 0)
    }

    /// Sorts the rows that an index condition finds, if they are few enough. Otherwise there are no
    /// rows, or with `walks` those of a walk. It is one statement, because PostgreSQL finds all
    /// names before it counts them.
    async fn sort_found(
        &mut self,
        list: ListQuery<'_>,
        found: IndexCondition,
        walks: bool,
    ) -> Result<Vec<ApplicationRow>> {
        let with = format!("with found as materialized ({}) ", found.names());
        let Order { after, by } = list.sorted_names();
        let search = if list.has_search() && !found.is_search { self.contains() } else { "true" };
        let conditions = list.conditions(NAME_ID);
        // With a limit of 0 the database reads no rows.
        let limit = |are_few: &str| {
            let limit = list.limit;
            format!("case when (select count(*) from found) {are_few} $13 then {limit} else 0 end")
        };
        let mut ids = format!(
            "select id from (select {NAME_ID} as id from found n \
               where {search} and {after} and {conditions} order by {by} limit {}) x",
            limit("<")
        );
        if walks {
            let walk = self.walk_sql(list, limit(">="));
            ids = format!("{ids} union all select id from ({walk}) y");
        }
        self.load_rows(list, &with, &ids).await
    }

    /// The number of names that an index condition finds. The count stops above the maximum.
    async fn count_found(&mut self, list: ListQuery<'_>, found: IndexCondition) -> Result<i64> {
        let sql = format!("select count(*) from ({}) x", found.names());
        run_list!(one_value, self, sql, list)
    }

    /// Loads the rows with these ids. For PostgreSQL the ids are an array. Otherwise its planner
    /// may run the subselect again for each row of the tenant.
    async fn load_rows(
        &mut self,
        list: ListQuery<'_>,
        with: &str,
        ids: &str,
    ) -> Result<Vec<ApplicationRow>> {
        let (before, after) = self.for_database(("in (", ")"), ("= any(array(", "))"));
        let order = list.row_order();
        let sql = format!("{with}{SELECT} a.id {before}{ids}{after} order by {order}");
        run_list!(list_rows, self, sql, list)
    }

    /// The SQL condition for the search and the filters on a row of the order. Rows of uses have no
    /// name, so it is looked up.
    fn matches(&self, list: ListQuery<'_>) -> String {
        let (_, id) = list.order_table();
        let mut all = vec!["true".to_owned()];
        if list.has_search() {
            let contains = self.contains();
            all.push(if list.is_by_use() {
                format!(
                    "(select {contains} from application_names n \
                       where n.tenant_id = $2 and n.application_id = {id})"
                )
            } else {
                contains.to_owned()
            });
        }
        all.push(list.conditions(id));
        all.join(" and ")
    }

    /// The SQL condition that a name contains the search. It has a form that no index can use, so
    /// that the planner walks the order.
    fn contains(&self) -> &'static str {
        self.for_database("instr(n.search_name, $6) > 0", "textlike(n.search_name, $12)")
    }

    /// Whether the trigram index can find this search. PostgreSQL's index has only letters and
    /// digits.
    fn has_trigram(&self, search: &str) -> bool {
        let is_indexed = |c: char| !self.is_postgres() || c.is_alphanumeric();
        let search = search_name(search);
        search.split(|c: char| !is_indexed(c)).any(|run| run.chars().count() >= TRIGRAM)
    }

    /// The search for the trigram index: all trigrams for FTS5, a `like` pattern for PostgreSQL.
    fn index_query(&self, search: &str) -> String {
        let search = search_name(search);
        if self.is_postgres() {
            let mut pattern = "%".to_owned();
            for c in search.chars() {
                if matches!(c, '%' | '_' | '\\') {
                    pattern.push('\\');
                }
                pattern.push(c);
            }
            pattern.push('%');
            return pattern;
        }
        let search: Vec<char> = search.chars().collect();
        let quoted = search.windows(TRIGRAM).map(|trigram| {
            let trigram: String = trigram.iter().collect();
            format!("\"{}\"", trigram.replace('"', "\"\""))
        });
        quoted.collect::<Vec<_>>().join(" ")
    }

    /// The value for the database of this session.
    fn for_database<T>(&self, sqlite: T, postgres: T) -> T {
        if self.is_postgres() { postgres } else { sqlite }
    }
}
