//! The SQL of searches in the audit log. A page must be fast in a log with ten million events.
//!
//! Each condition with an index (resource, actor, action) is a *path* through the log: the numbers of
//! its events, in their order. One path alone stops as soon as the page is full. With several
//! conditions, a page compares the events of the path with the fewest. If all paths are long, the
//! page ends after [`MAX_SCANNED`] events, even if it is not full.

use crate::domain::{AuditFilter, TenantId};

/// How many events one page compares, if there is no path with fewer. They take some 20 ms.
pub(super) const MAX_SCANNED: i64 = 5_000;

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
    /// Whether the resource has so many events below it that they are not a path: their index is in
    /// the order of names.
    pub(super) has_many_below: bool,
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
        let by_resource =
            !self.resource().is_empty() && !self.is_of_tenant() && !self.has_many_below;
        let indexed = [
            (by_resource, Path::Resource),
            (self.filter.actor.is_some(), Path::Actor),
            (self.filter.action.is_some(), Path::Action),
        ];
        let paths: Vec<_> =
            indexed.into_iter().filter(|(is_set, _)| *is_set).map(|(_, path)| path).collect();
        if paths.is_empty() { vec![Path::Number] } else { paths }
    }

    fn is_of_tenant(&self) -> bool {
        self.resource() == self.tenant.name()
    }

    /// Whether all events of this path match, or nearly all.
    pub(super) fn is_decided_by(&self, path: Path) -> bool {
        let has_times = self.filter.start.is_some() || self.filter.end.is_some();
        let has_resource = !self.resource().is_empty();
        let decides_resource =
            path == Path::Resource || (path == Path::Number && self.is_of_tenant());
        !has_times && (!has_resource || decides_resource) && self.paths() == [path]
    }

    /// Whether the path has all events that are not in the chain yet.
    pub(super) fn has_unsealed(&self, path: Path) -> bool {
        match path {
            Path::Number | Path::Actor => false,
            Path::Resource => self.has_one_level(),
            Path::Action => true,
        }
    }

    /// Whether the path of the resource has events in the order of names.
    pub(super) fn has_range(&self) -> bool {
        self.paths().contains(&Path::Resource) && !self.has_one_level()
    }

    /// The statement for the number of events below the resource. It counts up to [`MAX_SCANNED`].
    pub(super) fn count_below() -> String {
        format!(
            "select count(*) from (select 1 from audit_events \
               where tenant_id = $1 and resource >= $6 and resource < $7 limit {MAX_SCANNED}) x \
             where {ALL_PARAMETERS} and $12 = $12"
        )
    }

    /// Whether there is one level at most below the resource: the credentials of an application.
    /// Names of scopes can have slashes.
    fn has_one_level(&self) -> bool {
        let depth = self.resource().split('/').count();
        depth.is_multiple_of(2) && depth > 2 && !self.resource().contains("/scopes/")
    }

    /// The statement for a page of up to `$12` events, all of which are on this path.
    pub(super) fn page_of_path(&self, path: Path) -> String {
        let order = self.order();
        let numbers = self.numbers(path, "$12", &self.conditions());
        format!(
            "select {COLUMNS} from audit_events e \
             where tenant_id = $1 and number in ({numbers}) and {ALL_PARAMETERS} \
             order by number {order} limit $12"
        )
    }

    /// The statement for a page of up to `$12` of the first [`MAX_SCANNED`] events of a path.
    pub(super) fn page_of_scan(&self, path: Path) -> String {
        let (order, conditions) = (self.order(), self.conditions());
        let numbers = self.scanned(path);
        // The rows come in the order of the numbers, so that PostgreSQL stops when the page is full.
        format!(
            "select {COLUMNS} from (select number as scanned from ({numbers}) y) s \
               cross join audit_events e \
             where e.tenant_id = $1 and e.number = s.scanned{conditions} and {ALL_PARAMETERS} \
             order by s.scanned {order} limit $12"
        )
    }

    /// The statement for the number of events on a path, up to [`MAX_SCANNED`], and the last of
    /// them.
    pub(super) fn extent(&self, path: Path) -> String {
        let last = if self.filter.oldest_first { "max" } else { "min" };
        let numbers = self.scanned(path);
        format!(
            "select count(*), coalesce({last}(number), 0) from ({numbers}) y \
             where {ALL_PARAMETERS} and $12 = $12"
        )
    }

    fn scanned(&self, path: Path) -> String {
        let order = self.order();
        let numbers = self.numbers(path, &MAX_SCANNED.to_string(), "");
        format!("select number from ({numbers}) x order by number {order} limit {MAX_SCANNED}")
    }

    /// The conditions of the filter. They are written so that no index fits them, and
    /// the database follows the path.
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
        let mut all = String::new();
        for (_, condition) in conditions.into_iter().filter(|(is_set, _)| *is_set) {
            all.push_str(" and ");
            all.push_str(condition);
        }
        all
    }

    /// The numbers of a path: a union of branches, each of which follows one index in the order of
    /// the numbers. Events of all resources, and those that are not in the chain yet, are compared
    /// with the conditions.
    fn numbers(&self, path: Path, limit: &str, conditions: &str) -> String {
        let order = self.order();
        // SQLite has no statistics, and would use the primary key.
        let hint = |index: &str| {
            if self.is_postgres { String::new() } else { format!(" indexed by {index}") }
        };
        // One lower bound: SQLite would use any of several for its index.
        let from_number = |low: &str, from: &str, by: &str| {
            format!(
                "select number from (select number from {from} \
                   where tenant_id = $1 and number >= {low} and number < $13 and {by} \
                 order by number {order} limit {limit}) x"
            )
        };
        let branch = |from: &str, by: &str| from_number("$2", from, by);
        let by_event =
            |index: &str, by: &str| branch(&format!("audit_events e{}", hint(index)), by);
        let by_resource = |by: &str| by_event("audit_events_by_resource", by);
        // The chain has the columns that the table of events has no index for.
        let by_chain = |index: &str, by: &str| branch(&format!("audit_chain{}", hint(index)), by);
        let unsealed = || from_number("$14", "audit_events e", &format!("true{conditions}"));
        let branches = match path {
            Path::Number => vec![branch("audit_events e", &format!("true{conditions}"))],
            Path::Resource => {
                let mut branches = vec![
                    by_resource("resource = $3"),
                    by_resource("resource = $4"),
                    by_resource("resource = $5"),
                ];
                if self.has_one_level() {
                    branches.push(by_chain("audit_chain_by_parent", "parent = $3"));
                    branches.push(unsealed());
                } else {
                    branches.push(by_resource("resource >= $6 and resource < $7"));
                }
                branches
            }
            Path::Actor => vec![
                by_event("audit_events_by_service", "service = $8"),
                by_event("audit_events_by_user", "user_name = $8"),
            ],
            Path::Action => vec![by_chain("audit_chain_by_action", "action = $9"), unsealed()],
        };
        branches.join(" union ")
    }
}

const COLUMNS: &str = "tenant_id, number, at, service, user_name, source_address, action, \
     resource, refused, detail, changes";

/// PostgreSQL requires that all parameters occur in a statement.
const ALL_PARAMETERS: &str = "$2 = $2 and $3 = $3 and $4 = $4 and $5 = $5 and $6 = $6 and $7 = $7 \
     and $8 = $8 and $9 = $9 and $13 = $13 and coalesce($10, $2) = coalesce($10, $2) \
     and coalesce($11, $14) = coalesce($11, $14)";
