//! The SQL for the order of a list, and the table with its index.

use super::{CONDITIONS, ListQuery};
use crate::domain::{ApplicationFilter, ApplicationKey};

/// The id of an application in `application_names`.
pub(super) const NAME_ID: &str = "n.application_id";

/// The SQL for an order.
pub(super) struct Order {
    /// The condition for rows after the cursor.
    pub(super) after: String,
    /// The columns of `order by`.
    pub(super) by: String,
}

impl ListQuery<'_> {
    pub(super) fn has_search(self) -> bool {
        !self.filter.search.is_empty()
    }

    /// Whether a condition needs the row of the application.
    pub(super) fn has_conditions(self) -> bool {
        let ApplicationFilter { owners, search: _, state, expire_before, order: _ } = self.filter;
        !(owners.account && owners.users) || state.is_some() || expire_before.is_some()
    }

    /// The SQL condition for the filters on the application with this id.
    pub(super) fn conditions(self, id: &str) -> String {
        if !self.has_conditions() {
            return "true".to_owned();
        }
        // A subselect, because the planner may turn a join into one with all applications.
        format!("(select {CONDITIONS} from applications a where a.tenant_id = $2 and a.id = {id})")
    }

    pub(super) fn is_by_use(self) -> bool {
        self.filter.order.key == ApplicationKey::LastUseTime
    }

    /// The table with an index in this order, and its column of application ids.
    pub(super) fn order_table(self) -> (&'static str, &'static str) {
        if self.is_by_use() {
            ("application_uses l", "l.application_id")
        } else {
            ("application_names n", NAME_ID)
        }
    }

    /// The order by the columns of [`ListQuery::order_table`], which its index has.
    pub(super) fn order(self) -> Order {
        let (_, id) = self.order_table();
        self.order_by(id, if self.is_by_use() { "l.last_used_at" } else { self.name_column() })
    }

    /// The order by the columns of the rows of names, for the sort of those that another index
    /// finds.
    pub(super) fn sorted_names(self) -> Order {
        // Null: the last use is not copied yet.
        const COPY: &str = "coalesce(n.last_used_at, (select l.last_used_at \
            from application_uses l where l.tenant_id = $2 and l.application_id = n.application_id))";
        self.order_by(NAME_ID, if self.is_by_use() { COPY } else { self.name_column() })
    }

    /// The column of `application_names` for an order that it has an index for.
    fn name_column(self) -> &'static str {
        match self.filter.order.key {
            ApplicationKey::Name | ApplicationKey::LastUseTime => NAME_ID,
            ApplicationKey::DisplayName => "n.search_name",
            ApplicationKey::CreateTime => "n.created_at",
        }
    }

    fn order_by(self, id: &str, column: &str) -> Order {
        let (beyond, direction) = self.direction();
        // The key of the cursor is bound as text.
        let kind = match self.filter.order.key {
            ApplicationKey::Name => None,
            ApplicationKey::DisplayName => Some("text"),
            ApplicationKey::CreateTime | ApplicationKey::LastUseTime => Some("bigint"),
        };
        let after = match (self.after, kind) {
            (None, _) => "true".to_owned(),
            (Some(_), None) => format!("{column} {beyond} $11"),
            (Some(_), Some(kind)) => {
                format!("({column}, {id}) {beyond} (cast($10 as {kind}), $11)")
            }
        };
        Order { after, by: format!("{column} {direction}, {id} {direction}") }
    }

    fn direction(self) -> (&'static str, &'static str) {
        if self.filter.order.descending { ("<", "desc") } else { (">", "asc") }
    }

    /// The order of the loaded rows, in a form that no index can use.
    pub(super) fn row_order(self) -> String {
        let (_, direction) = self.direction();
        let column = match self.filter.order.key {
            ApplicationKey::Name => "a.id || ''",
            ApplicationKey::DisplayName => "a.search_name || ''",
            ApplicationKey::CreateTime => "a.created_at + 0",
            ApplicationKey::LastUseTime => "last_used_at",
        };
        format!("{column} {direction}, a.id {direction}")
    }
}
