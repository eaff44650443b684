//! What statements say about the order of a list, and which table has an index in it.

use super::Listed;
use crate::domain::{ApplicationFilter, ApplicationKey};

/// The pieces of a statement that are about the order.
pub(super) struct Order {
    /// Behind the cursor.
    pub(super) after: String,
    pub(super) by: String,
}

impl Listed<'_> {
    pub(super) fn has_search(self) -> bool {
        !self.filter.search.is_empty()
    }

    /// Whether there is a condition that needs the row of the application.
    pub(super) fn has_conditions(self) -> bool {
        let ApplicationFilter { owners, search: _, state, expire_before, order: _ } = self.filter;
        !(owners.account && owners.users) || state.is_some() || expire_before.is_some()
    }

    pub(super) fn is_by_use(self) -> bool {
        self.filter.order.key == ApplicationKey::LastUseTime
    }

    /// The table that has an index in the order, and its column of ids.
    pub(super) fn walked(self) -> (&'static str, &'static str) {
        if self.is_by_use() {
            ("application_uses l", "l.application_id")
        } else {
            ("application_names n", "n.application_id")
        }
    }

    /// The order by the columns of that table. `sorted`: in a form that no index has, which would
    /// be walked from the cursor to the end.
    pub(super) fn order(self, sorted: bool) -> Order {
        let (_, id) = self.walked();
        let (beyond, direction) = self.direction();
        // A key is bound as text.
        let (column, kind) = match self.filter.order.key {
            ApplicationKey::Name => (id, None),
            ApplicationKey::DisplayName => ("n.search_name", Some("text")),
            ApplicationKey::CreateTime => ("n.created_at", Some("bigint")),
            ApplicationKey::LastUseTime if sorted => ("l.last_used_at + 0", Some("bigint")),
            ApplicationKey::LastUseTime => ("l.last_used_at", Some("bigint")),
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

    /// The order of whole rows, in a form that no index has.
    pub(super) fn order_of_rows(self) -> String {
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
