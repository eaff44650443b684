//! Pages that a part of the name alone decides over, and the index of such parts.

use sqlx::AssertSqlSafe;

use super::order::{NAMES, Order, USES};
use super::{Cursor, Listed, listed, state_name};
use crate::domain::{TenantId, UserId};
use crate::error::Result;
use crate::store::applications::Row;
use crate::store::folding::search_name;
use crate::store::row::micros;
use crate::store::{Session, find_row};

/// How many names are walked whatever matches, and how many if it is not few that match and one of
/// those came: some 0.1 microseconds each, and one that is found by its parts takes some four to
/// ten times as long.
const NAMES_WALKED: [i64; 2] = [1_000, 20_000];

/// How many names match if they are few, so that they are found by their parts at once; and what
/// share of all they are if they are many, so that to walk all names takes less, wherever the
/// matches stand.
const FEW_NAMES: i64 = 2_000;
const MANY_NAMES: i64 = 4;

/// How many parts of a name are looked for: more narrow little, and each costs its time.
const MOST_PARTS: usize = 5;

/// How many names match, and how many there are, as a sample tells it in a millisecond or two: of
/// some pages in PostgreSQL, of rows in SQLite, one from each stretch.
const MATCHED_IN_SQLITE: &str = "\
    with recursive stretches (number, size, last) as ( \
      select first, 1 + (last - first) / 500, last from (select \
        (select min(number) from application_names) as first, \
        (select max(number) from application_names) as last) \
      union all select number + size, size, last from stretches where number + size <= last) \
    select coalesce(sum(s.size * (n.search_name like $6 escape '\\')), 0), \
        coalesce(sum(s.size), 0) \
      from stretches s cross join application_names n \
      where n.number = s.number + abs(random() % s.size) and n.tenant_id = $2";
const MATCHED_IN_POSTGRES: &str = "\
    select cast(count(case when n.search_name like $6 escape '\\' then 1 end) * size as bigint), \
        cast(count(*) * size as bigint) \
      from (select greatest(1, pg_relation_size('application_names') / 8e5) as size) s, \
        application_names n \
        tablesample system (least(100, 8e7 / greatest(1, pg_relation_size('application_names')))) \
      where n.tenant_id = $2 group by size";

impl Session {
    /// The rows of a page, where the name alone decides.
    pub(super) async fn by_name(&mut self, listed: Listed<'_>) -> Result<Vec<Row>> {
        let [a_few, some] = NAMES_WALKED;
        let walked = listed.walked(NAMES);
        let rows = self.of_next_names(listed, a_few).await?;
        if rows.len() == listed.limit || !self.goes_beyond(listed, walked, a_few).await? {
            return Ok(rows);
        }
        let matched = self.either(MATCHED_IN_SQLITE, MATCHED_IN_POSTGRES);
        let matched: Option<(i64, i64)> = listed!(find_row, self, matched, listed, 0)?;
        let (matched, all) = matched.unwrap_or_default();
        // To walk uses takes longer, since each name is looked up.
        if matched > all / MANY_NAMES && !listed.is_by_use() {
            return self.of_next_names(listed, i64::MAX).await;
        }
        // Of many that stand everywhere, some had been among the first.
        if matched > FEW_NAMES && !rows.is_empty() {
            let rows = self.of_next_names(listed, some).await?;
            if rows.len() == listed.limit || !self.goes_beyond(listed, walked, some).await? {
                return Ok(rows);
            }
        }
        let Order { sorted, sorted_after, .. } = listed.order(NAMES);
        let (names, found) = self.names_with_parts();
        let names = if listed.is_by_use() {
            // A limit keeps each use from being looked up more than once.
            let used = USES.column("last_used_at", NAMES);
            format!(
                "(select n.application_id, n.search_name, {used} \
                   from {names} where {found} limit $13) n where true"
            )
        } else {
            format!("{names} where {found}")
        };
        self.of_names(listed, &names, &sorted_after, &sorted).await
    }

    /// Those of the next names of the order that match.
    async fn of_next_names(&mut self, listed: Listed<'_>, most: i64) -> Result<Vec<Row>> {
        let Order { after, by, .. } = listed.order(NAMES);
        let next = listed.next(listed.walked(NAMES), most);
        let names = if listed.is_by_use() {
            let name = NAMES.column("search_name", USES);
            format!("(select l.application_id, l.last_used_at, {name} from {next}) n where true")
        } else {
            format!("{next} where true")
        };
        self.of_names(listed, &names, &after, &by).await
    }

    /// The first of these names, in an order.
    async fn of_names(
        &mut self,
        listed: Listed<'_>,
        names: &str,
        after: &str,
        by: &str,
    ) -> Result<Vec<Row>> {
        let limit = listed.limit;
        let ids = format!(
            "select n.application_id from {names} \
               and n.search_name like $6 escape '\\' and {after} order by {by} limit {limit}"
        );
        self.chosen(listed, &ids, i64::MAX).await
    }

    /// The names that have the parts of the search, and how they are found. That differs: here
    /// alone one SQL is not enough.
    pub(super) fn names_with_parts(&mut self) -> (&'static str, &'static str) {
        const SQLITE: (&str, &str) = (
            "application_parts p cross join application_names n",
            "application_parts match $12 and n.number = p.rowid",
        );
        // What a function returns has the database's collation, not that of the columns.
        const POSTGRES: (&str, &str) = (
            "(select application_id collate \"C\" as application_id, \
               search_name collate \"C\" as search_name, created_at \
               from names_with_parts($12, $13)) n",
            "true",
        );
        self.either(SQLITE, POSTGRES)
    }

    /// What is for the database that this is.
    pub(super) fn either<T>(&self, sqlite: T, postgres: T) -> T {
        if self.is_postgres() { postgres } else { sqlite }
    }
}

/// The pattern for any part; empty for none.
pub(super) fn pattern(search: &str) -> String {
    if search.is_empty() {
        return String::new();
    }
    let mut pattern = "%".to_owned();
    for c in search_name(search).chars() {
        if matches!(c, '%' | '_' | '\\') {
            pattern.push('\\');
        }
        pattern.push(c);
    }
    pattern.push('%');
    pattern
}

/// Parts that every name has in which the search is found, as the index has them: runs of
/// three characters, or the whole of a shorter one.
pub(super) fn parts(tenant: &TenantId, search: &str) -> String {
    let search: Vec<char> = search_name(search).chars().collect();
    if search.is_empty() {
        return String::new();
    }
    let runs: Vec<_> = search.windows(search.len().min(3)).collect();
    // From the first to the last, evenly.
    let count = runs.len().min(MOST_PARTS);
    let chosen = (0..count).map(|n| runs[n * (runs.len() - 1) / (count - 1).max(1)]);
    let parts = chosen.map(|run| {
        let part = format!("{tenant}/{}", run.iter().collect::<String>());
        part.bytes().map(|byte| format!("{byte:02x}")).collect::<Vec<_>>().concat()
    });
    parts.collect::<Vec<_>>().join(" ")
}
