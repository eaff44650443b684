//! What statements say about the order of a list, and along which table it is walked.

use std::fmt::Display;

use super::Listed;
use crate::domain::ApplicationKey;

/// A table that lists are found in, what statements call it, and where it has the ids of
/// applications.
#[derive(Clone, Copy)]
pub(super) struct Table {
    pub(super) name: &'static str,
    pub(super) alias: &'static str,
    pub(super) id: &'static str,
}

pub(super) const ROWS: Table = Table { name: "applications", alias: "a", id: "id" };
pub(super) const NAMES: Table =
    Table { name: "application_names", alias: "n", id: "application_id" };
pub(super) const USES: Table = Table { name: "application_uses", alias: "l", id: "application_id" };

impl Table {
    /// A column, looked up for each row of another table.
    pub(super) fn column(self, column: &str, other: Self) -> String {
        let Self { name, alias, .. } = self;
        let found = self.found_by(other);
        format!("(select {alias}.{column} from {name} {alias} where {found}) as {column}")
    }

    /// How the row of the same application is found by that of another table.
    fn found_by(self, other: Self) -> String {
        let Self { alias, id, .. } = self;
        format!("{alias}.tenant_id = $2 and {alias}.{id} = {}.{}", other.alias, other.id)
    }
}

/// The pieces of a statement that are about the order.
pub(super) struct Order {
    /// Behind the cursor.
    pub(super) after: String,
    pub(super) by: String,
    /// The same order, unknown to any index, and what is behind the cursor in it.
    pub(super) sorted: String,
    pub(super) sorted_after: String,
}

impl Listed<'_> {
    /// Which table has an index in the order: one that has those of all others, or the uses.
    pub(super) fn walked(self, table: Table) -> Table {
        if self.is_by_use() { USES } else { table }
    }

    pub(super) fn is_by_use(self) -> bool {
        self.filter.order.key == ApplicationKey::LastUseTime
    }

    /// The order by a table's columns.
    pub(super) fn order(self, Table { alias, id, .. }: Table) -> Order {
        let (beyond, direction) = self.direction();
        let id = format!("{alias}.{id}");
        // A key is bound as text.
        let (column, kind, unknown) = match self.filter.order.key {
            ApplicationKey::Name => (id.clone(), None, "|| ''"),
            ApplicationKey::DisplayName => (format!("{alias}.search_name"), Some("text"), "|| ''"),
            ApplicationKey::CreateTime => (format!("{alias}.created_at"), Some("bigint"), "+ 0"),
            ApplicationKey::LastUseTime => (format!("{alias}.last_used_at"), Some("bigint"), "+ 0"),
        };
        let after = |column: &str| match (self.after, kind) {
            (None, _) => "true".to_owned(),
            (Some(_), None) => format!("{column} {beyond} $11"),
            (Some(_), Some(kind)) => {
                format!("({column}, {id}) {beyond} (cast($10 as {kind}), $11)")
            }
        };
        let sorted = format!("{column} {unknown}");
        Order {
            after: after(&column),
            by: format!("{column} {direction}, {id} {direction}"),
            sorted_after: after(&sorted),
            sorted: format!("{sorted} {direction}, {id} {direction}"),
        }
    }

    fn direction(self) -> (&'static str, &'static str) {
        if self.filter.order.descending { ("<", "desc") } else { (">", "asc") }
    }

    /// The order of whole rows, unknown to any index.
    pub(super) fn order_of_rows(self) -> String {
        if self.is_by_use() {
            let (_, direction) = self.direction();
            format!("last_used_at {direction}, a.id {direction}")
        } else {
            self.order(ROWS).sorted
        }
    }

    /// So many rows of a table that has an index in the order, the next.
    pub(super) fn next(self, table: Table, rows: impl Display) -> String {
        let Order { after, by, .. } = self.order(table);
        let Table { name, alias, .. } = table;
        format!(
            "(select * from {name} {alias} where {alias}.tenant_id = $2 and {after} \
               order by {by} limit {rows}) {alias}"
        )
    }

    /// Where uses are walked: what brings the rows of applications beside them, and how they are
    /// found.
    pub(super) fn rows_beside_uses(self) -> (String, String) {
        self.beside(ROWS, USES)
    }

    /// Where the order is that of the last use: what brings the uses beside rows, and how they
    /// are found.
    pub(super) fn uses_beside_rows(self) -> (String, String) {
        self.beside(USES, ROWS)
    }

    fn beside(self, table: Table, other: Table) -> (String, String) {
        if !self.is_by_use() {
            return (String::new(), "true".to_owned());
        }
        (format!("cross join {} {}", table.name, table.alias), table.found_by(other))
    }
}
