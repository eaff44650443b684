//! Pages of lists of applications, found fast among a million of them.
//!
//! A page is looked for in three steps. Its order is walked for a bounded number of rows, which
//! fills the page if many rows match. Otherwise an index finds all that match one condition, if
//! they are few enough to sort: the database's trigram index finds a part of a name. If too many
//! match, or no index serves, the order is walked to its end.
//!
//! Orders and names are kept in small rows of their own (`application_names`), and the last use in
//! others (`application_uses`). The large rows of applications are read only for conditions that
//! need them, and for the rows of the page.

mod order;

use std::fmt::Display;

use jiff::Timestamp;
use sqlx::AssertSqlSafe;

use self::order::Order;
use super::applications::{Row, select};
use super::folding::search_name;
use super::row::micros;
use super::{Session, list_rows, one_value};
use crate::domain::{ApplicationFilter, State, TenantId, UserId};
use crate::error::{Error, Result};

/// How many rows of the order are walked first, where names alone decide: some milliseconds.
const FIRST_NAMES: usize = 10_000;
/// The same where each row is looked up in another table, which costs about ten times as much.
const FIRST_ROWS: usize = 4_000;
/// How many rows an index may find for the page to be sorted out of them: 2 to 4 microseconds
/// each. To walk an order of a million names takes about as long as 50,000 of them.
const MAX_FOUND: i64 = 50_000;
/// A trigram index needs this many characters in a row.
const TRIGRAM: usize = 3;

const SELECT: &str = select!("a.tenant_id = $2 and ");

/// The conditions on the row of an application. What stands for a condition that is not made is
/// empty or null.
const CONDITIONS: &str = "((a.owner_user_id is null and $3) \
       or (a.owner_user_id is not null and $4) or a.owner_user_id = $5) \
     and ($7 is null or a.expires_at < $7) \
     and ($8 = '' or $8 = case \
         when a.disabled or (select u.disabled from users u \
           where u.tenant_id = a.tenant_id and u.id = a.owner_user_id) then 'disabled' \
         when a.expires_at <= $9 then 'expired' \
         else 'active' end)";

/// What is listed, and from where on.
#[derive(Clone, Copy)]
pub(super) struct Listed<'a> {
    pub(super) tenant: &'a TenantId,
    pub(super) filter: &'a ApplicationFilter,
    pub(super) after: Option<&'a Cursor>,
    pub(super) limit: usize,
    pub(super) now: Timestamp,
}

/// A place in a list: the key of a row as the database has it (its id, when the order is by
/// id) and its id.
pub(super) struct Cursor {
    key: String,
    id: String,
}

impl Cursor {
    pub(super) fn parse(cursor: &str) -> Result<Self> {
        let (id, key) = cursor.split_once(' ').ok_or(Error::InvalidPageToken)?;
        Ok(Self { key: key.to_owned(), id: id.to_owned() })
    }
}

/// Names that are found without walking the order: from where, and by which condition.
#[derive(Clone, Copy)]
struct Found {
    from: &'static str,
    by: &'static str,
}

impl Found {
    /// `$13` of these names at most.
    fn names(self) -> String {
        let Self { from, by } = self;
        format!(
            "select n.application_id, n.search_name, n.created_at from {from} where {by} limit $13"
        )
    }
}

/// Names of the applications that an index of `applications` finds.
macro_rules! rows_by {
    ($rows:literal) => {
        Found {
            from: concat!("(", $rows, " limit $13) f cross join application_names n"),
            by: "n.tenant_id = $2 and n.application_id = f.id",
        }
    };
}

const BY_OWNER: Found = rows_by!(
    "select id from applications where tenant_id = $2 and owner_user_id = $5 \
     union all select id from applications where tenant_id = $2 and owner_user_id is null and $3"
);
const BY_END: Found =
    rows_by!("select id from applications where tenant_id = $2 and expires_at < $7");
const EXPIRED: Found =
    rows_by!("select id from applications where tenant_id = $2 and expires_at <= $9");
const DISABLED: Found = rows_by!(
    "select id from applications where tenant_id = $2 and disabled \
     union select a.id from users u cross join applications a \
       where u.tenant_id = $2 and u.disabled \
         and a.tenant_id = u.tenant_id and a.owner_user_id = u.id"
);
/// By the trigrams of a part of the name. A tenant's numbers are one range, so that others'
/// matches are skipped.
const BY_NAME_IN_SQLITE: Found = Found {
    from: "tenants t cross join application_search s cross join application_names n",
    by: "t.id = $2 and s.application_search match $12 \
         and s.rowid between t.number << 32 and (t.number << 32) + 4294967295 \
         and n.number = s.rowid and n.tenant_id = $2",
};
/// What a function returns has the database's collation, not that of the columns.
const BY_NAME_IN_POSTGRES: Found = Found {
    from: "(select application_id collate \"C\" as application_id, \
             search_name collate \"C\" as search_name, created_at \
             from names_like($2, $12, $13)) n",
    by: "true",
};

/// Runs a statement over what a list is made of: `$1` to `$13`.
macro_rules! listed {
    ($run:ident, $session:expr, $sql:expr, $listed:expr) => {{
        let (filter, after) = ($listed.filter, $listed.after);
        let query = $session.index_query(&filter.search);
        $run!(
            $session,
            AssertSqlSafe($sql),
            false,
            $listed.tenant.as_str(),
            filter.owners.account,
            filter.owners.users,
            filter.owners.user.as_ref().map_or("", UserId::as_str),
            search_name(&filter.search),
            micros(filter.expire_before),
            filter.state.map_or("", state_name),
            $listed.now.as_microsecond(),
            after.map_or("", |cursor: &Cursor| cursor.key.as_str()),
            after.map_or("", |cursor: &Cursor| cursor.id.as_str()),
            query.as_str(),
            MAX_FOUND + 1
        )
    }};
}

impl Session {
    /// The rows of a page.
    pub(super) async fn application_rows(&mut self, listed: Listed<'_>) -> Result<Vec<Row>> {
        if !listed.has_search() && !listed.has_conditions() {
            return self.along(listed, None).await;
        }
        let names_decide = !listed.has_conditions() && !listed.is_by_use();
        let first = if names_decide { FIRST_NAMES } else { FIRST_ROWS }.max(2 * listed.limit);
        let rows = self.along(listed, Some(first)).await?;
        if rows.len() == listed.limit || !self.goes_beyond(listed, first).await? {
            return Ok(rows);
        }
        let mut conditions = self.conditions(listed).peekable();
        while let Some(found) = conditions.next() {
            let is_last = conditions.peek().is_none();
            let rows = self.among(listed, found, is_last).await?;
            if is_last || !rows.is_empty() || self.count(listed, found).await? <= MAX_FOUND {
                return Ok(rows);
            }
        }
        self.along(listed, None).await
    }

    /// The conditions that an index serves.
    fn conditions(&self, listed: Listed<'_>) -> impl Iterator<Item = Found> + use<> {
        let ApplicationFilter { owners, search, state, expire_before, order: _ } = listed.filter;
        let by_name = self.either(BY_NAME_IN_SQLITE, BY_NAME_IN_POSTGRES);
        let conditions = [
            self.has_trigram(search).then_some(by_name),
            (!owners.users).then_some(BY_OWNER),
            expire_before.map(|_| BY_END),
            state.and_then(|state| match state {
                State::Active => None,
                State::Disabled => Some(DISABLED),
                State::Expired => Some(EXPIRED),
            }),
        ];
        conditions.into_iter().flatten()
    }

    /// Along the index of the order: within so many rows, or as far as it takes.
    async fn along(&mut self, listed: Listed<'_>, rows: Option<usize>) -> Result<Vec<Row>> {
        let Some(rows) = rows else {
            let looks_up_names = listed.is_by_use() && listed.has_search();
            let ids =
                if looks_up_names { self.sort(listed) } else { self.walk(listed, listed.limit) };
            return self.chosen(listed, "", &ids).await;
        };
        let (table, id) = listed.walked();
        let (_, alias) = table.rsplit_once(' ').unwrap_or_default();
        let Order { after, by } = listed.order(false);
        let (matches, limit) = (self.matches(listed, listed.is_by_use()), listed.limit);
        // The inner limit keeps the planner from choosing another way than this walk.
        let ids = format!(
            "select {id} from (select * from {table} where tenant_id = $2 and {after} \
               order by {by} limit {rows}) {alias} where {matches} order by {by} limit {limit}"
        );
        self.chosen(listed, "", &ids).await
    }

    /// The ids of a page, along the index of the order as far as it takes.
    fn walk(&self, listed: Listed<'_>, limit: impl Display) -> String {
        let (table, id) = listed.walked();
        let Order { after, by } = listed.order(false);
        let matches = self.matches(listed, listed.is_by_use());
        format!(
            "select {id} as id from {table} where tenant_id = $2 and {after} and {matches} \
               order by {by} limit {limit}"
        )
    }

    /// The same by last use among few matches, of which no index tells: to look up the name of each
    /// use would take several times as long as to look at all names.
    fn sort(&self, listed: Listed<'_>) -> String {
        let Order { after, by } = listed.order(true);
        let (matches, limit) = (self.matches(listed, false), listed.limit);
        format!(
            "select l.application_id as id \
               from application_names n cross join application_uses l \
               where n.tenant_id = $2 and l.tenant_id = $2 \
                 and l.application_id = n.application_id and {matches} and {after} \
               order by {by} limit {limit}"
        )
    }

    /// Whether the order has more rows than so many, whatever the conditions.
    async fn goes_beyond(&mut self, listed: Listed<'_>, rows: usize) -> Result<bool> {
        let (table, _) = listed.walked();
        let Order { after, by } = listed.order(false);
        let sql = format!(
            "select count(*) from (select tenant_id from {table} \
             where tenant_id = $2 and {after} order by {by} limit 1 offset {rows}) x"
        );
        let count: i64 = listed!(one_value, self, sql, listed)?;
        Ok(count > 0)
    }

    /// Among the names that are found by one condition, if they are few enough. Otherwise none, or
    /// those of a walk: one statement, since PostgreSQL finds all names before it counts them.
    async fn among(&mut self, listed: Listed<'_>, found: Found, walks: bool) -> Result<Vec<Row>> {
        let with = format!("with found as materialized ({}) ", found.names());
        let Order { after, by } = listed.order(true);
        let (matches, limit) = (self.matches(listed, false), listed.limit);
        let uses = if listed.is_by_use() {
            "cross join application_uses l where l.tenant_id = $2 \
               and l.application_id = n.application_id"
        } else {
            "where true"
        };
        // With a limit of 0 nothing is read.
        let limit_if = |are_few: &str| {
            format!("case when (select count(*) from found) {are_few} $13 then {limit} else 0 end")
        };
        let mut ids = format!(
            "select id from (select n.application_id as id from found n {uses} \
               and {after} and {matches} order by {by} limit {}) x",
            limit_if("<")
        );
        if walks {
            let walk = self.walk(listed, limit_if(">="));
            ids = format!("{ids} union all select id from ({walk}) y");
        }
        self.chosen(listed, &with, &ids).await
    }

    /// How many names are found by one condition, counted no further than one too many.
    async fn count(&mut self, listed: Listed<'_>, found: Found) -> Result<i64> {
        let sql = format!("select count(*) from ({}) x", found.names());
        listed!(one_value, self, sql, listed)
    }

    /// The whole rows whose ids were chosen. PostgreSQL might choose them anew for each row of the
    /// tenant, did it not have to make an array of them first.
    async fn chosen(&mut self, listed: Listed<'_>, with: &str, ids: &str) -> Result<Vec<Row>> {
        let (before, behind) = self.either(("in (", ")"), ("= any(array(", "))"));
        let order = listed.order_of_rows();
        let sql = format!("{with}{SELECT} a.id {before}{ids}{behind} order by {order}");
        listed!(list_rows, self, sql, listed)
    }

    /// The search and the conditions, as a condition on a row of the order, beside which there is
    /// its name, or it is looked up.
    fn matches(&self, listed: Listed<'_>, looks_up_name: bool) -> String {
        let (_, id) = listed.walked();
        let mut all = vec!["true".to_owned()];
        if listed.has_search() {
            let contains = self.contains();
            all.push(if looks_up_name {
                format!(
                    "(select {contains} from application_names n \
                       where n.tenant_id = $2 and n.application_id = {id})"
                )
            } else {
                contains.to_owned()
            });
        }
        if listed.has_conditions() {
            // A subselect: a join might become one with all applications.
            all.push(format!(
                "(select {CONDITIONS} from applications a where a.tenant_id = $2 and a.id = {id})"
            ));
        }
        all.join(" and ")
    }

    /// Whether a name has the part that is searched, in a form that no index serves: the planner
    /// is to walk the order.
    fn contains(&self) -> &'static str {
        self.either("instr(n.search_name, $6) > 0", "textlike(n.search_name, $12)")
    }

    /// Whether the trigram index serves this search. That of PostgreSQL knows only letters and
    /// digits.
    fn has_trigram(&self, search: &str) -> bool {
        let is_indexed = |c: char| !self.is_postgres() || c.is_alphanumeric();
        let search = search_name(search);
        search.split(|c: char| !is_indexed(c)).any(|run| run.chars().count() >= TRIGRAM)
    }

    /// The search as the database takes it: all trigrams for FTS5, a pattern for PostgreSQL.
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

    /// What is for the database that this is.
    fn either<T>(&self, sqlite: T, postgres: T) -> T {
        if self.is_postgres() { postgres } else { sqlite }
    }
}

fn state_name(state: State) -> &'static str {
    match state {
        State::Active => "active",
        State::Disabled => "disabled",
        State::Expired => "expired",
    }
}
