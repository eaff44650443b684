//! Pages of lists of applications, found soon among a million of them.
//!
//! A list is walked along the index of its order, which comes upon a page soon if the
//! conditions let much through. If they let little through, an index of one condition tells
//! of all that meets it, and the page is chosen among those. Where the name alone decides,
//! nothing but names is walked or chosen among: they are kept apart too, in rows that are so small
//! that all of them are soon looked at. The last use, which changes all the time, is kept in small
//! rows of its own: where the order asks for it, these are walked, and looked at beside the others.

mod names;
mod order;

use std::fmt::Display;

use jiff::Timestamp;
use sqlx::AssertSqlSafe;

use self::names::{parts, pattern};
use self::order::{Order, ROWS, Table};
use super::applications::{Row, select};
use super::row::micros;
use super::{Session, list_rows, one_value};
use crate::domain::{ApplicationFilter, State, TenantId, UserId};
use crate::error::{Error, Result};

/// What is tried in turn: how many rows are walked for each row of the page, and how many may
/// meet a condition then for the page to be chosen among them. Both cost the same, some
/// microseconds a row. What many meet is as a rule come upon at once; if not, it stands together
/// somewhere further on.
const STAGES: [(usize, i64); 2] = [(20, 3_000), (200, 30_000)];

const SELECT: &str = select!("a.tenant_id = $2 and ");

/// The conditions, as far as they are made; what stands for a condition that is not made
/// is empty or null.
const CONDITIONS: &str = "a.tenant_id = $2 \
     and ((a.owner_user_id is null and $3) or (a.owner_user_id is not null and $4) \
       or a.owner_user_id = $5) \
     and ($6 = '' or a.search_name like $6 escape '\\') \
     and ($7 is null or a.expires_at < $7) \
     and ($8 = '' or $8 = case \
         when a.disabled or (select u.disabled from users u \
           where u.tenant_id = a.tenant_id and u.id = a.owner_user_id) then 'disabled' \
         when a.expires_at <= $9 then 'expired' \
         else 'active' end)";

/// The rows that meet one condition, by an index that has them.
mod by {
    pub(super) const OWNER: &str = "select id from applications where tenant_id = $2 and owner_user_id = $5 \
         union all select id from applications \
           where tenant_id = $2 and owner_user_id is null and $3";
    pub(super) const END: &str =
        "select id from applications where tenant_id = $2 and expires_at < $7";
    pub(super) const EXPIRED: &str =
        "select id from applications where tenant_id = $2 and expires_at <= $9";
    pub(super) const DISABLED: &str = "select id from applications where tenant_id = $2 and disabled \
         union select a.id from users u cross join applications a \
           where u.tenant_id = $2 and u.disabled \
             and a.tenant_id = u.tenant_id and a.owner_user_id = u.id";
}

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

/// Runs a statement over what a list is made of: `$1` to `$13`.
macro_rules! listed {
    ($run:ident, $session:expr, $sql:expr, $listed:expr, $most:expr) => {{
        let (filter, after) = ($listed.filter, $listed.after);
        $run!(
            $session,
            AssertSqlSafe($sql),
            false,
            $listed.tenant.as_str(),
            filter.owners.account,
            filter.owners.users,
            filter.owners.user.as_ref().map_or("", UserId::as_str),
            pattern(&filter.search),
            micros(filter.expire_before),
            filter.state.map_or("", state_name),
            $listed.now.as_microsecond(),
            after.map_or("", |cursor: &Cursor| cursor.key.as_str()),
            after.map_or("", |cursor: &Cursor| cursor.id.as_str()),
            parts($listed.tenant, &filter.search),
            $most
        )
    }};
}
use listed;

impl Session {
    /// The rows of a page.
    pub(super) async fn application_rows(&mut self, listed: Listed<'_>) -> Result<Vec<Row>> {
        if listed.is_all() {
            return self.next_of_all(listed).await;
        }
        if listed.is_by_name_alone() {
            return self.by_name(listed).await;
        }
        for (stretch, few) in STAGES {
            let stretch = stretch * listed.limit;
            let rows = self.in_stretch(listed, stretch).await?;
            if rows.len() == listed.limit
                || !self.goes_beyond(listed, listed.walked(ROWS), stretch).await?
            {
                return Ok(rows);
            }
            for condition in self.conditions(listed) {
                if self.count(listed, &condition, few + 1).await? <= few {
                    // What is added meanwhile is not to push others out.
                    return self.among(listed, &condition, 2 * few).await;
                }
            }
        }
        self.along(listed).await
    }

    /// The conditions that an index is of use for.
    fn conditions(&mut self, listed: Listed<'_>) -> impl Iterator<Item = String> + use<> {
        let (names, found) = self.names_with_parts();
        let parts = format!("select n.application_id as id from {names} where {found}");
        let ApplicationFilter { owners, search, state, expire_before, order: _ } = listed.filter;
        let conditions = [
            (!owners.users).then_some(by::OWNER),
            expire_before.map(|_| by::END),
            state.and_then(|state| match state {
                State::Active => None,
                State::Disabled => Some(by::DISABLED),
                State::Expired => Some(by::EXPIRED),
            }),
        ];
        let parts = (!search.is_empty()).then_some(parts);
        conditions.into_iter().flatten().map(str::to_owned).chain(parts)
    }

    /// The next rows of the order, whatever they are.
    async fn next_of_all(&mut self, listed: Listed<'_>) -> Result<Vec<Row>> {
        let walked = listed.walked(ROWS);
        let (Table { alias, id, .. }, rows) = (walked, listed.next(walked, listed.limit));
        self.chosen(listed, &format!("select {alias}.{id} from {rows}"), 0).await
    }

    /// Along the index of the order, as far as it takes.
    async fn along(&mut self, listed: Listed<'_>) -> Result<Vec<Row>> {
        let walked = listed.walked(ROWS);
        let Order { after, by, .. } = listed.order(walked);
        let Table { name, alias, .. } = walked;
        let ((rows, joined), limit) = (listed.rows_beside_uses(), listed.limit);
        let ids = format!(
            "select a.id from {name} {alias} {rows} \
               where {alias}.tenant_id = $2 and {joined} and {CONDITIONS} and {after} \
               order by {by} limit {limit}"
        );
        self.chosen(listed, &ids, 0).await
    }

    /// Among the next rows of the order, so many. They are taken before any condition is
    /// looked at, so that no planner can think of another way.
    async fn in_stretch(&mut self, listed: Listed<'_>, stretch: usize) -> Result<Vec<Row>> {
        let walked = listed.walked(ROWS);
        let Order { by, .. } = listed.order(walked);
        let (next, limit) = (listed.next(walked, stretch), listed.limit);
        let (rows, joined) = listed.rows_beside_uses();
        let ids = format!(
            "select a.id from {next} {rows} where {joined} and {CONDITIONS} \
               order by {by} limit {limit}"
        );
        self.chosen(listed, &ids, 0).await
    }

    /// Whether a table that has an index in the order has more rows than so many, whatever the
    /// conditions.
    async fn goes_beyond(
        &mut self,
        listed: Listed<'_>,
        table: Table,
        rows: impl Display,
    ) -> Result<bool> {
        let Order { after, by, .. } = listed.order(table);
        let Table { name, alias, .. } = table;
        let sql = format!(
            "select count(*) from (select {alias}.tenant_id from {name} {alias} \
             where {alias}.tenant_id = $2 and {after} order by {by} limit 1 offset {rows}) x"
        );
        let count: i64 = listed!(one_value, self, sql, listed, 0)?;
        Ok(count > 0)
    }

    /// How many rows meet a condition, whatever the others are; counted no further than `most`.
    async fn count(&mut self, listed: Listed<'_>, condition: &str, most: i64) -> Result<i64> {
        let sql = format!("select count(*) from ({condition} limit $13) x");
        listed!(one_value, self, sql, listed, most)
    }

    /// Among the rows that meet a condition, from which alone the way leads to the others. The
    /// order is one that no index has: its index would be walked from the cursor to the end.
    async fn among(&mut self, listed: Listed<'_>, condition: &str, most: i64) -> Result<Vec<Row>> {
        let Order { sorted, sorted_after, .. } = listed.order(listed.walked(ROWS));
        let ((uses, joined), limit) = (listed.uses_beside_rows(), listed.limit);
        let ids = format!(
            "select a.id from ({condition} limit {most}) f cross join applications a {uses} \
               where a.id = f.id and {joined} and {CONDITIONS} and {sorted_after} \
               order by {sorted} limit {limit}"
        );
        self.chosen(listed, &ids, most).await
    }

    /// The whole rows whose ids were chosen. PostgreSQL might choose them anew for each row of the
    /// tenant, did it not have to make an array of them first.
    async fn chosen(&mut self, listed: Listed<'_>, ids: &str, most: i64) -> Result<Vec<Row>> {
        let (before, behind) = self.either(("in (", ")"), ("= any(array(", "))"));
        let order = listed.order_of_rows();
        let sql = format!("{SELECT} a.id {before}{ids}{behind} order by {order}");
        listed!(list_rows, self, sql, listed, most)
    }
}

impl Listed<'_> {
    /// Whether no condition is made.
    fn is_all(self) -> bool {
        self.filter.search.is_empty() && self.asks_for_no_more_than_a_name()
    }

    /// Whether the name alone decides over what is listed.
    fn is_by_name_alone(self) -> bool {
        !self.filter.search.is_empty() && self.asks_for_no_more_than_a_name()
    }

    /// Whether no condition is made but that of the name.
    fn asks_for_no_more_than_a_name(self) -> bool {
        let ApplicationFilter { owners, search: _, state, expire_before, order: _ } = self.filter;
        owners.account && owners.users && state.is_none() && expire_before.is_none()
    }
}

fn state_name(state: State) -> &'static str {
    match state {
        State::Active => "active",
        State::Disabled => "disabled",
        State::Expired => "expired",
    }
}
