//! The SQL of searches in the audit log. A page must be fast in a log with ten million events.
//!
//! Each condition with an index (resource, actor, action) is a *path* through the log: it follows the
//! index in the order of the numbers, and the other conditions are compared with the events that it
//! finds. One path alone stops as soon as the page is full. With several conditions, a page follows
//! the path with few events. If all have many, the page ends after [`MAX_SCANNED`] of them, even if
//! it is not full.

use crate::domain::{AuditFilter, TenantId};

/// How many events one page looks at, if there is no path with fewer. They take some 30 ms.
pub(super) const MAX_SCANNED: i64 = 10_000;

/// A way to find the events of a search in the order of their numbers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Path {
    /// All events of the tenant.
    Number,
    Resource,
    Actor,
    Action,
}

/// A search. Its statements have the parameters `$1` to `$14`.
pub(super) struct AuditSearch<'a> {
    pub(super) is_postgres: bool,
    pub(super) tenant: &'a TenantId,
    pub(super) filter: &'a AuditFilter,
}

impl AuditSearch<'_> {
    pub(super) fn resource(&self) -> &str {
        self.filter.resource.as_deref().unwrap_or_default()
    }

    fn order(&self) -> &'static str {
        if self.filter.oldest_first { "asc" } else { "desc" }
    }

    /// The paths of the search, at least one.
    pub(super) fn paths(&self) -> Vec<Path> {
        // Nearly all events match their tenant, so that the log itself is the best index.
        let by_resource = !self.resource().is_empty() && self.resource() != self.tenant.name();
        let indexed = [
            (by_resource, Path::Resource),
            (self.filter.actor.is_some(), Path::Actor),
            (self.filter.action.is_some(), Path::Action),
        ];
        let paths: Vec<_> =
            indexed.into_iter().filter(|(is_set, _)| *is_set).map(|(_, path)| path).collect();
        if paths.is_empty() { vec![Path::Number] } else { paths }
    }

    /// Whether the path compares many events that do not match.
    pub(super) fn compares_times(&self) -> bool {
        self.filter.start.is_some() || self.filter.end.is_some()
    }

    /// Whether the path has all events that are not in the chain yet.
    pub(super) fn has_unsealed(&self, path: Path) -> bool {
        match path {
            Path::Number | Path::Actor => false,
            Path::Resource => self.has_one_level(),
            Path::Action => true,
        }
    }

    /// Whether there is one level at most below the resource: the credentials of an application.
    /// Names of scopes can have slashes.
    fn has_one_level(&self) -> bool {
        let depth = self.resource().split('/').count();
        depth.is_multiple_of(2) && depth > 2 && !self.resource().contains("/scopes/")
    }

    /// The statement for the first events of a path, at most `$12`.
    pub(super) fn page(&self, path: Path) -> String {
        let order = self.order();
        let numbers = self.numbers(path, &self.conditions());
        format!(
            "select tenant_id, number, at, service, user_name, source_address, action, resource, \
               refused, detail, changes from audit_events \
             where tenant_id = $1 and number in ({numbers}) and {ALL_PARAMETERS} \
             order by number {order} limit $12"
        )
    }

    /// The statement for the number of events on a path without the other conditions, and the last
    /// of them. It counts up to `$12`.
    pub(super) fn extent(&self, path: Path) -> String {
        let order = self.order();
        let last = if self.filter.oldest_first { "max" } else { "min" };
        let numbers = self.numbers(path, "");
        format!(
            "select count(*), coalesce({last}(number), 0) from \
               (select number from ({numbers}) x order by number {order} limit $12) y \
             where {ALL_PARAMETERS}"
        )
    }

    /// The conditions of the filter. They are written so that no index fits them: SQLite, which has
    /// no statistics, would otherwise prefer one of those to the index of the path.
    fn conditions(&self) -> String {
        let conditions = [
            (
                !self.resource().is_empty(),
                "((e.resource || '') in ($3, $4, $5) \
                  or ((e.resource || '') >= $6 and (e.resource || '') < $7))",
            ),
            (self.filter.actor.is_some(), "((e.service || '') = $8 or (e.user_name || '') = $8)"),
            (self.filter.action.is_some(), "(e.action || '') = $9"),
            (self.filter.start.is_some(), "e.at + 0 >= $10"),
            (self.filter.end.is_some(), "e.at + 0 < $11"),
        ];
        let set = conditions.into_iter().filter(|(is_set, _)| *is_set);
        set.map(|(_, condition)| format!(" and {condition}")).collect()
    }

    /// The numbers of a path: a union of branches, each of which follows one index in the order of
    /// the numbers.
    fn numbers(&self, path: Path, conditions: &str) -> String {
        let order = self.order();
        let branch = |from: &str, table: &str, by: &str| {
            format!(
                "select number from (select {table}.number from {from} \
                   where {table}.tenant_id = $1 and {table}.number < $13 and {by}{conditions} \
                 order by {table}.number {order} limit $12) x"
            )
        };
        // SQLite has no statistics, and would use the primary key.
        let hint = |index: &str| {
            if self.is_postgres { String::new() } else { format!(" indexed by {index}") }
        };
        let by_number = |by: &str| branch("audit_events e", "e", by);
        let by_event = |index: &str, by: &str| {
            let from = format!("audit_events e{}", hint(index));
            branch(&from, "e", &format!("{by} and e.number >= $2"))
        };
        let by_resource = |by: &str| by_event("audit_events_by_resource", by);
        // The chain has the columns that the table of events has no index for.
        let by_chain = |index: &str, by: &str| {
            // SQLite follows the order of a cross join.
            let from = format!("audit_chain c{} cross join audit_events e", hint(index));
            let joined = "e.tenant_id = c.tenant_id and e.number = c.number and c.number >= $2";
            branch(&from, "c", &format!("{by} and {joined}"))
        };
        let unsealed = "e.number >= $14";
        let branches = match path {
            Path::Number => vec![by_number("e.number >= $2")],
            Path::Resource => {
                let mut branches = vec![
                    by_resource("e.resource = $3"),
                    by_resource("e.resource = $4"),
                    by_resource("e.resource = $5"),
                ];
                if self.has_one_level() {
                    branches.push(by_chain("audit_chain_by_parent", "c.parent = $3"));
                    branches.push(by_number(unsealed));
                } else {
                    branches.push(by_resource("e.resource >= $6 and e.resource < $7"));
                }
                branches
            }
            Path::Actor => vec![
                by_event("audit_events_by_service", "e.service = $8"),
                by_event("audit_events_by_user", "e.user_name = $8"),
            ],
            Path::Action => {
                vec![by_chain("audit_chain_by_action", "c.action = $9"), by_number(unsealed)]
            }
        };
        branches.join(" union ")
    }
}

/// PostgreSQL requires that all parameters occur in a statement.
const ALL_PARAMETERS: &str = "$3 = $3 and $4 = $4 and $5 = $5 and $6 = $6 and $7 = $7 and $8 = $8 \
     and $9 = $9 and coalesce($10, $2) = coalesce($10, $2) \
     and coalesce($11, $14) = coalesce($11, $14)";
